"""The Open Inference Protocol side of the stub: models `null-384`, `null-4096`, ... that answer FP32 vectors at once.

Answers are built once for each shape and form (binary REST, JSON REST, raw gRPC), so the client is what gets measured.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson

from kserve_core.protos import messages

PATH = re.compile(rb"^(?:GET|POST) /v2(?:/models/null-(\d+)(/infer|/config|/ready)?)?(?:\?\S*)? ")
ROWS = re.compile(rb'"shape"\s*:\s*\[\s*(\d+)')
BINARY = re.compile(rb'"binary_data(?:_output)?"\s*:\s*true')
SERVER = {"name": "triton", "version": "2.51.0", "extensions": ["binary_tensor_data"]}


@cache
def values(rows: int, dimension: int) -> bytes:
    return array("f", [0.001 * (number % 997) for number in range(dimension)]).tobytes() * rows


@cache
def metadata(dimension: int) -> dict[str, Any]:
    return {
        "name": f"null-{dimension}",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, dimension]}],
    }


def http(body: bytes, extra: str = "", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@cache
def inferred(rows: int, dimension: int, *, binary: bool) -> bytes:
    output: dict[str, Any] = {"name": "embedding", "datatype": "FP32", "shape": [rows, dimension]}
    raw = values(rows, dimension)
    if binary:
        output["parameters"] = {"binary_data_size": len(raw)}
    else:
        output["data"] = array("f", raw).tolist()
    document = orjson.dumps({"model_name": f"null-{dimension}", "model_version": "1", "outputs": [output]})
    if not binary:
        return http(document)
    return http(document + raw, f"Inference-Header-Content-Length: {len(document)}\r\n", "application/octet-stream")


def answer(head: bytes, body: bytes) -> bytes | None:
    """The answer to a request, None if it is not of this protocol."""
    match = PATH.match(head)
    if match is None:
        return None
    dimension, operation = match[1], match[2]
    if dimension is None:
        return http(orjson.dumps(SERVER))
    if operation == b"/infer":
        rows = ROWS.search(body)
        assert rows is not None
        return inferred(int(rows[1]), int(dimension), binary=BINARY.search(body) is not None)
    if operation == b"/config":
        return http(orjson.dumps({"name": f"null-{int(dimension)}", "max_batch_size": 0}))
    return http(orjson.dumps(metadata(int(dimension))))


@cache
def inferred_message(rows: int, dimension: int) -> bytes:
    inference = messages.inference
    output = inference.ModelInferResponse.InferOutputTensor(name="embedding", datatype="FP32", shape=[rows, dimension])
    message = inference.ModelInferResponse(
        model_name=f"null-{dimension}",
        model_version="1",
        outputs=[output],
        raw_output_contents=[values(rows, dimension)],
    )
    return bytes(message.SerializeToString())


def _infer(request: bytes, _: Any) -> bytes:
    message = messages.inference.ModelInferRequest.FromString(request)
    return inferred_message(message.inputs[0].shape[0], int(message.model_name.rpartition("-")[2]))


def _metadata(request: bytes, _: Any) -> bytes:
    inference = messages.inference
    told = metadata(int(inference.ModelMetadataRequest.FromString(request).name.rpartition("-")[2]))
    tensor = inference.ModelMetadataResponse.TensorMetadata
    message = inference.ModelMetadataResponse(
        name=told["name"],
        versions=told["versions"],
        platform=told["platform"],
        inputs=[tensor(**spec) for spec in told["inputs"]],
        outputs=[tensor(**spec) for spec in told["outputs"]],
    )
    return bytes(message.SerializeToString())


def _config(_: bytes, __: Any) -> bytes:
    return b""


def _server(_: bytes, __: Any) -> bytes:
    return bytes(messages.inference.ServerMetadataResponse(**SERVER).SerializeToString())


HANDLERS: dict[str, tuple[Callable[..., Any], bool]] = {
    f"/inference.GRPCInferenceService/{name}": (answer_with, False)
    for name, answer_with in (
        ("ModelInfer", _infer),
        ("ModelMetadata", _metadata),
        ("ModelConfig", _config),
        ("ServerMetadata", _server),
    )
}
