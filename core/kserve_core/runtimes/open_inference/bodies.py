"""REST bodies of inference: JSON, and JSON with raw tensors behind it (the binary tensor extension)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kserve_core._json import encode, unexpected, unreadable
from kserve_core.calls import Response
from kserve_core.errors import ConfigurationError, KServeError
from kserve_core.failures import embedded_error
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.errors import Asked, explain
from kserve_core.runtimes.open_inference.parameters import check_tensors, json_value
from kserve_core.runtimes.open_inference.values import InferRequest, InferResult
from kserve_core.tensors import Tensor, tensor_from_json

HEADER_LENGTH = "inference-header-content-length"
"""Says how many bytes of a body are JSON; the rest are raw tensors. Its presence alone tells that there are any."""

LARGE = 64
"""Numbers in a tensor from which on it is sent raw where the server takes that."""

_WHAT = "an inference answer"


@dataclass(frozen=True, slots=True)
class Binary:
    """Whether raw tensors go to the server, and are asked of it."""

    send: bool = False
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body.

    Attributes:
        data: Its bytes.
        headers: The headers that say what it is.
        raw: Whether it holds raw tensors.
    """

    data: bytes
    headers: Mapping[str, str]
    raw: bool = False


_JSON = {"content-type": "application/json"}


def infer_body(request: InferRequest, asked: Asked, *, id: str, binary: Binary) -> Body:
    """Writes a request.

    Args:
        request: The tensors; its parameters have been checked.
        asked: Of whom.
        id: The request's id.
        binary: Whether raw tensors may be used. They are, where JSON cannot hold a tensor or it is large.

    Raises:
        ConfigurationError: If a tensor can be sent in neither form.
    """
    check_tensors(request, asked.dialect)
    parts: list[bytes] = []
    document: dict[str, Any] = {"id": id}
    parameters = dict(request.parameters)
    document["inputs"] = [_input(tensor, parts, asked, send=binary.send) for tensor in request.inputs]
    if binary.ask and asked.dialect.binary_output_request and not request.outputs:
        parameters.setdefault("binary_data_output", True)
    elif outputs := list(_outputs(request, asked, ask=binary.ask)):
        document["outputs"] = outputs
    if parameters:
        document["parameters"] = parameters
    head = encode(document)
    if not parts:
        return Body(head, _JSON)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return Body(b"".join((head, *parts)), headers, raw=True)


def read_infer(asked: Asked, response: Response) -> InferResult:
    """Reads an answer, raw tensors or not.

    Raises:
        BadResponseError: If it is none, or says other sizes than it has.
        KServeError: If it is an error under a status that says success.
    """
    length = response.headers.get(HEADER_LENGTH)
    if length is None:
        raw = load_json(response.body, _WHAT, status=response.status)
        behind = None
    else:
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else -1
        if not 0 < size <= len(response.body):
            raise unexpected(
                _WHAT, f"its header says {length[:40]!r} bytes of JSON, it has {len(response.body)} in all"
            )
        body = memoryview(response.body)
        raw = load_json(body[:size], _WHAT, status=response.status)
        behind = body[size:]
    if isinstance(raw, dict) and not isinstance(raw.get("outputs"), list) and raw.get("error"):
        error = embedded_error(Response(response.status, response.headers, orjson.dumps(raw)), explain=explain(asked))
        if error is not None:
            raise error
    return result_of(raw, behind)


def result_of(raw: Any, behind: memoryview | None = None) -> InferResult:
    """The answer that a decoded JSON object is, with the raw tensors that came behind it.

    Raises:
        BadResponseError: If it is none.
    """
    entries = raw.get("outputs") if isinstance(raw, dict) else None
    if not isinstance(entries, list):
        raise unexpected(_WHAT, "it has no `outputs`")
    outputs: dict[str, Tensor] = {}
    offset = 0
    for entry in entries:
        size = _size(entry)
        # Triton leaves the header out where all its raw tensors are empty.
        left = len(behind) - offset if behind is not None else 0
        if size is None:
            tensor = tensor_from_json(entry, None)
        elif size > left:
            raise unexpected(_WHAT, f"it announces {size} bytes of a tensor where {left} are left")
        else:
            data = memoryview(b"") if behind is None else behind[offset : offset + size]
            tensor = tensor_from_json(entry, data)
            offset += size
        outputs.setdefault(tensor.name, tensor)
    if behind is not None and offset != len(behind):
        raise unexpected(_WHAT, f"{len(behind) - offset} bytes are left behind its tensors")
    parameters = raw.get("parameters")
    return InferResult(
        outputs,
        model=_text(raw.get("model_name")),
        version=_text(raw.get("model_version")),
        id=_text(raw.get("id")),
        parameters=parameters if isinstance(parameters, dict) else {},
    )


def load_json(data: bytes | memoryview, what: str, *, status: int | None = None) -> Any:
    """JSON as the servers write it: Triton puts bytes that are no UTF-8, NaN and Infinity into it as they are.

    Raises:
        BadResponseError: If it is no JSON even so.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    text = bytes(data).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise unreadable(text, what, problem[:200], status=status) from None


def _input(tensor: Tensor, parts: list[bytes], asked: Asked, *, send: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    # A tensor taken from an answer still says how many bytes it had there.
    parameters = {
        name: json_value(name, value, asked.dialect)
        for name, value in tensor.parameters.items()
        if name != "binary_data_size"
    }
    if not (send and tensor.raw is not None and tensor.size >= LARGE):
        try:
            entry["data"] = _json_data(tensor, asked.dialect)
        except ConfigurationError as error:
            if not send:
                raise _needs_grpc(error, asked) from None
    if "data" not in entry:
        data = tensor.raw_bytes()
        parameters["binary_data_size"] = len(data)
        parts.append(data)
    if parameters:
        entry["parameters"] = parameters
    return entry


def _json_data(tensor: Tensor, dialect: Dialect) -> list[Any]:
    data = tensor.json_data(fp16=dialect.json_halves)
    wide = dialect.narrow_json and tensor.datatype in {"INT64", "UINT64"}
    if wide and data and (min(data) < -(2**31) or max(data) >= 2**31):
        msg = f"The tensor {tensor.name!r} has numbers of more than 32 bits, which {dialect.title} takes raw only."
        raise ConfigurationError(msg)
    return data


def _needs_grpc(error: ConfigurationError, asked: Asked) -> KServeError:
    hint = f"{asked.dialect.title} takes no raw tensors over REST. Over gRPC all are raw: protocol='grpc'."
    return ConfigurationError(error.message, hint=hint)


def _outputs(request: InferRequest, asked: Asked, *, ask: bool) -> Iterator[dict[str, Any]]:
    names = request.outputs
    if not names and ask and asked.declared is not None:
        names = [spec.name for spec in asked.declared.outputs]
    for name in names:
        yield {"name": name, "parameters": {"binary_data": True}} if ask else {"name": name}


def _size(entry: Any) -> int | None:
    parameters = entry.get("parameters") if isinstance(entry, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise unexpected(_WHAT, f"it announces {str(size)[:40]!r} bytes of a tensor")
    return size


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def with_headers(body: Body, headers: Mapping[str, str]) -> Body:
    """The body with the user's headers below its own, which say what it is."""
    named = {name.lower(): value for name, value in headers.items()}
    return replace(body, headers={**named, **body.headers})
