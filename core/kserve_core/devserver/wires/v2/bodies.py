"""Infer bodies over REST: what is read from a request and how an answer is written."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from kserve_core.devserver.messages import Request
from kserve_core.devserver.wires.v2.errors import UnprocessableError, V2Error
from kserve_core.devserver.wires.v2.request import Answered, Asked
from kserve_core.devserver.wires.v2.tensors import DATATYPES, RAW_ONLY, Tensor, dumps, elements, flat, from_raw
from kserve_core.devserver.wires.v2.ways import Ways

_KNOWN = (
    "'BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64', 'FP16', 'FP32', "
    "'FP64' or 'BYTES'"
)
LENGTH = "inference-header-content-length"


def read(request: Request, ways: Ways, model: str, version: str | None) -> Asked:
    """The infer request of a body.

    Raises:
        V2Error: It is refused, in the server's way.
        UnprocessableError: It does not fit the schema of a FastAPI server.
    """
    text, rest = _parts(request, ways)
    body = _object(text, ways)
    listed = body.get("inputs")
    if not isinstance(listed, list):
        raise _missing_inputs(body, ways)
    asked = Asked(model, version)
    identity = body.get("id")
    asked.id = None if identity is None else str(identity)
    if ways.fastapi and asked.id is None:
        asked.id = str(uuid.uuid4())
    asked.parameters = parameters(body.get("parameters"), ways)
    asked.binary = bool(asked.parameters.get("binary_data_output")) and ways.binary_output
    at = 0
    for entry in listed:
        tensor, used = _input(entry, rest[at:], asked, ways)
        at += used
        asked.inputs[tensor.name] = tensor
    if at != len(rest):
        msg = f"unexpected additional input data for model '{model}'"
        raise V2Error(msg)
    for entry in body.get("outputs") or ():
        wish = (entry.get("parameters") or {}).get("binary_data") if ways.binary_output else None
        asked.outputs[entry["name"]] = None if wish is None else bool(wish)
    return asked


def parameters(given: Any, ways: Ways) -> dict[str, Any]:
    """Request parameters.

    Raises:
        V2Error: One is of a kind the server does not take.
    """
    found = dict(given or {})
    if ways.flat_generate:
        for name, value in found.items():
            if value is None or isinstance(value, list | dict):
                msg = f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
                raise V2Error(msg)
        for name in ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout"):
            found.pop(name, None)
    return found


def write(asked: Asked, answered: Answered, ways: Ways) -> tuple[bytes, int | None]:
    """The body of an answer, and how many of its bytes are JSON if the rest is not.

    Raises:
        V2Error: An output cannot be written as JSON.
    """
    head = describe(asked, ways)
    raw: list[bytes] = []
    outputs = []
    for tensor in answered.outputs:
        wish = asked.outputs.get(tensor.name)
        binary = asked.binary if wish is None else wish
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if ways.fastapi:
            entry = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        added = _added(tensor, ways)
        if binary:
            raw.append(tensor.raw())
            entry["parameters"] = {**added, "binary_data_size": len(raw[-1])}
        else:
            entry = written(entry, tensor, added, ways)
        outputs.append(entry)
    if raw and ways.key == "kserve":
        head = {"id": asked.id, "model_name": asked.model, "model_version": None}
    text = dumps({**head, "outputs": outputs})
    return (text + b"".join(raw), len(text)) if raw else (text, None)


def written(entry: dict[str, Any], tensor: Tensor, added: Mapping[str, Any], ways: Ways) -> dict[str, Any]:
    """An output with its elements as JSON.

    Raises:
        V2Error: JSON has no form for them.
    """
    if tensor.datatype in RAW_ONLY and (ways.key != "mlserver" or tensor.datatype == "BF16"):
        raise half(tensor, ways)
    if ways.key == "kserve":
        return {**entry, "parameters": None, "data": tensor.json_data()}
    if added:
        entry = {**entry, "parameters": dict(added)}
    return {**entry, "data": tensor.json_data()}


def half(tensor: Tensor, ways: Ways) -> V2Error:
    """The refusal to write such an output as JSON."""
    verb, where = ("Sending", f"output {tensor.name}") if ways.key == "kserve" else ("sending", "output")
    kind = tensor.datatype
    error = V2Error(f"{verb} {kind} data via JSON is not supported. Please use the binary data format for {where}")
    error.executed = True
    return error


def describe(asked: Asked, ways: Ways) -> dict[str, Any]:
    """The members of an answer besides its outputs."""
    if ways.key == "mlserver":
        versioned = {} if asked.version is None else {"model_version": asked.version}
        return {"model_name": asked.model, **versioned, "id": asked.id, "parameters": {}}
    if ways.key == "kserve":
        return {"model_name": asked.model, "model_version": None, "id": asked.id, "parameters": None}
    head: dict[str, Any] = {} if asked.id is None else {"id": asked.id}
    return {**head, "model_name": asked.model, "model_version": asked.version}


def _added(tensor: Tensor, ways: Ways) -> dict[str, Any]:
    if ways.key != "mlserver":
        return {}
    return tensor.parameters


def _parts(request: Request, ways: Ways) -> tuple[bytes, bytes]:
    """JSON and raw part of a body."""
    length = request.headers.get(LENGTH)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if ways.key == "kserve":
        if length is None and kind != "application/json":
            msg = "received byte inputs, but the'inference-header-content-length' header is missing."
            raise V2Error(msg)
        if length is not None and kind == "application/json":
            raise _invalid_json(int(length), "Extra data")
    if kind not in {"", "application/json"} and ways.key == "mlserver":
        said = "Input should be a valid dictionary or object to extract fields from"
        kind = "model_attributes_type"
        raise UnprocessableError(kind, ("body",), said, request.body.decode("utf-8", "replace"))
    if length is None or not ways.binary_input:
        return request.body, b""
    if not length.isdigit() or int(length) > len(request.body):
        msg = f"inference header size should be in range (0, {len(request.body)}), got: {length}"
        raise V2Error(msg)
    return request.body[: int(length)], request.body[int(length) :]


def _object(text: bytes, ways: Ways) -> dict[str, Any]:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if ways.key == "mlserver":
            raise _invalid_json(error.pos, error.msg) from error
        if ways.key == "kserve":
            raise _invalid_json(*_stdlib_error(text)) from error
        if ways.key == "openvino":
            msg = "The file is not valid json"
            raise V2Error(msg, status=412) from error
        msg = f"failed to parse the request JSON buffer: Invalid value. at {error.pos}"
        raise V2Error(msg, "INTERNAL") from error
    if isinstance(body, dict):
        return body
    if ways.fastapi:
        kind, said = "model_attributes_type", "Input should be a valid dictionary or object to extract fields from"
        raise UnprocessableError(kind, ("body",), said, body)
    msg = "attempt to access JSON non-object as object"
    raise V2Error(msg, "INTERNAL")


def _stdlib_error(text: bytes) -> tuple[int, str]:
    """Where Python's own reader stops, and what it says: KServe's server uses that one."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos, error.msg
    except UnicodeDecodeError as error:
        return error.start, "Invalid character"
    return 0, "Invalid JSON"


def _invalid_json(position: int, said: str) -> UnprocessableError:
    kind = "json_invalid"
    error = UnprocessableError(kind, ("body", position), "JSON decode error", {})
    error.problems[0]["ctx"] = {"error": said}
    return error


def _missing(where: tuple[str | int, ...], given: Any) -> UnprocessableError:
    kind = "missing"
    return UnprocessableError(kind, where, "Field required", given)


def _missing_inputs(body: dict[str, Any], ways: Ways) -> Exception:
    if ways.key == "kserve":
        error = _missing(("body", "InferenceRequest", "inputs"), body)
        said = "Input should be a valid bytes"
        error.problems.append({"type": "bytes_type", "loc": ["body", "bytes"], "msg": said, "input": body})
        return error
    if ways.fastapi:
        return _missing(("body", "inputs"), body)
    if ways.key == "openvino":
        return V2Error("Invalid JSON structure. Missing inputs in the request")
    return V2Error("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'", "INTERNAL")


def _input(entry: Any, rest: bytes, asked: Asked, ways: Ways) -> tuple[Tensor, int]:
    """One input, and how many raw bytes belong to it."""
    model = asked.model
    try:
        name, datatype, shape = entry["name"], entry["datatype"], [int(size) for size in entry["shape"]]
    except (KeyError, TypeError, ValueError) as error:
        if ways.fastapi:
            raise _missing(("body", "inputs", 0), entry) from error
        msg = f"Unable to parse 'inputs': attempt to access non-existing object member {error}"
        raise V2Error(msg, "INTERNAL" if ways.flat_generate else "INVALID_ARGUMENT") from error
    _check_datatype(datatype, name, entry, ways)
    size = (entry.get("parameters") or {}).get("binary_data_size")
    if "data" not in entry:
        if size is None and ways.key == "openvino" and datatype != "BYTES":
            size = len(from_raw(name, datatype, shape, rest).raw())
        if size is None:
            if ways.fastapi:
                raise _missing(("body", "inputs", 0, "data"), entry)
            msg = f"Unable to parse 'data': attempt to access non-existing object member 'data' of input '{name}'"
            raise V2Error(msg)
        if size > len(rest):
            msg = (
                f"unexpected size for input '{name}', expecting {size - len(rest)} additional bytes for model '{model}'"
            )
            raise V2Error(msg)
        return from_raw(name, datatype, shape, rest[:size]), int(size)
    if datatype in RAW_ONLY and (ways.key != "mlserver"):
        verb = "Sending" if ways.key == "kserve" else "receiving"
        msg = f"{verb} {datatype} data via JSON is not supported. Please use the binary data format for input {name}"
        raise V2Error(msg)
    data = elements(name, datatype, flat(entry["data"]), strict=ways.checks_inputs)
    if len(data) != math.prod(shape) and ways.key != "mlserver":
        if ways.key == "kserve":
            msg = f"ValueError : cannot reshape array of size {len(data)} into shape {tuple(shape)}"
            raise V2Error(msg, "INTERNAL")
        what = "string elements" if datatype == "BYTES" else "elements"
        who = f"[request id: {asked.id or '<id_unknown>'}] "
        msg = (
            f"{who}expected {math.prod(shape)} {what} for inference input '{name}' for model '{model}', got {len(data)}"
        )
        raise V2Error(msg)
    return Tensor(name, datatype, shape, data, dict(entry.get("parameters") or {})), 0


def _check_datatype(datatype: Any, name: str, entry: Any, ways: Ways) -> None:
    known = datatype in DATATYPES and not (datatype == "BF16" and ways.fastapi)
    if known:
        return
    if ways.key == "mlserver":
        kind = "enum"
        error = UnprocessableError(
            kind, ("body", "inputs", 0, "datatype"), f"Input should be {_KNOWN}", entry.get("datatype")
        )
        error.problems[0]["ctx"] = {"expected": _KNOWN}
        raise error
    if ways.key == "kserve":
        msg = "invalid datatype None in the input"
        raise V2Error(msg)
    msg = f"invalid datatype for input {name}"
    raise V2Error(msg)
