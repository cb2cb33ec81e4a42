"""Plain requests of the Open Inference Protocol, written by hand and not by this package's client."""

from __future__ import annotations

import json
import struct

from kserve_core.protos import messages

SERVICE = "/inference.GRPCInferenceService/"
MODELS = (
    "tiny",
    "tiny-plain",
    "tiny-embedding",
    "tiny-embedding-batch",
    "tiny-embedding-fp16",
    "tiny-embedding-truncating",
    "tiny-embedding-ids",
    "tiny-rerank",
    "tiny-rerank-ids-columns",
    "ensemble",
    "echo",
    "fails",
    "versioned",
    "broken",
)
M = messages.inference
RUNTIMES = ("triton", "mlserver", "kserve", "openvino")


def text(name, *values, column=False):
    shape = [len(values), 1] if column else [len(values)]
    return {"name": name, "datatype": "BYTES", "shape": shape, "data": list(values)}


CAT = {"id": "1", "inputs": [text("text", "a cat", "a dog")]}
EMBED = "/v2/models/tiny-embedding/infer"


def strings(*values):
    """BYTES elements as the binary extension has them."""
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def binary(head, *parts):
    """Body and headers of a binary request."""
    start = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(start)), "content-type": "application/octet-stream"}
    return {"content": start + b"".join(parts), "headers": headers}


def parted(response):
    """JSON and raw part of a binary answer."""
    size = int(response.headers["inference-header-content-length"])
    return json.loads(response.content[:size]), response.content[size:]


def events(response):
    """The JSON of every event of a stream without an end marker."""
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def infer(model, *, id="1", parameters=None, raw=None, **texts):
    """A `ModelInferRequest` of text inputs."""
    request = M.ModelInferRequest(model_name=model, id=id)
    for name, values in texts.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(values)])
        if raw:
            request.raw_input_contents.append(strings(*values))
        else:
            tensor.contents.bytes_contents.extend(value.encode() for value in values)
    for name, value in (parameters or {}).items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request


def said(response):
    """Status and body, JSON where it is."""
    try:
        return response.status_code, response.json()
    except ValueError:
        return response.status_code, response.text
