"""Records what the three servers answer, for the unit tests.

    KSERVE_TEST_TARGETS=targets.json python -m runtimes.v2.record OUT_DIR

The servers are those that `python -m runtimes triton mlserver kserve --serve` has started.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

from runtimes.v2.recorder import Recorder

from kserve_core.protos import messages

inference = messages.inference
INFER = inference.ModelInferRequest
TEXT = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]}
LONG = "word " * 400

# Datatype, name's end, JSON values, their bytes.
VALUES: list[tuple[str, str, Any, bytes]] = [
    ("BOOL", "bool", [True, False], b"\x01\x00"),
    ("INT8", "int8", [-128, 127], struct.pack("<2b", -128, 127)),
    ("INT16", "int16", [-32768, 32767], struct.pack("<2h", -32768, 32767)),
    ("INT32", "int32", [-(2**31), 2**31 - 1], struct.pack("<2i", -(2**31), 2**31 - 1)),
    ("INT64", "int64", [-(2**63), 2**53 + 1], struct.pack("<2q", -(2**63), 2**53 + 1)),
    ("UINT8", "uint8", [0, 255], b"\x00\xff"),
    ("UINT16", "uint16", [0, 65535], struct.pack("<2H", 0, 65535)),
    ("UINT32", "uint32", [0, 2**32 - 1], struct.pack("<2I", 0, 2**32 - 1)),
    ("UINT64", "uint64", [0, 2**64 - 1], struct.pack("<2Q", 0, 2**64 - 1)),
    ("FP16", "fp16", [1.5, -0.25], struct.pack("<2e", 1.5, -0.25)),
    ("BF16", "bf16", [1.5, -0.25], b"\xc0\x3f\x80\xbe"),
    ("FP32", "fp32", [0.1, -1e30], struct.pack("<2f", 0.1, -1e30)),
    ("FP64", "fp64", [0.1, -1e300], struct.pack("<2d", 0.1, -1e300)),
    ("BYTES", "string", ["naïve ☃", ""], struct.pack("<I", 10) + "naïve ☃".encode() + struct.pack("<I", 0)),
]
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    **dict.fromkeys(("FP16", "BF16", "FP32"), "fp32_contents"),
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def infer(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request as JSON."""
    return {"id": "r1", "inputs": list(inputs), **more}


def binary(head: dict[str, Any], *data: bytes) -> tuple[bytes, dict[str, str]]:
    """A request with the binary extension, and its header."""
    text = json.dumps(head).encode()
    return text + b"".join(data), {"inference-header-content-length": str(len(text))}


def elements(*texts: bytes) -> bytes:
    """BYTES elements as they lie in binary data."""
    return b"".join(struct.pack("<I", len(one)) + one for one in texts)


def message(model: str, *, version: str = "", given: Any = (), raw: Any = (), **parameters: Any) -> Any:
    """A request over gRPC: typed tensors as `(name, datatype, shape, values)`, or shapes with raw contents."""
    found = INFER(model_name=model, model_version=version, id="r1")
    for name, datatype, shape, *values in given:
        tensor = found.inputs.add(name=name, datatype=datatype, shape=shape)
        if values:
            contents = [one.encode() if isinstance(one, str) else one for one in values[0]]
            getattr(tensor.contents, CONTENTS[datatype]).extend(contents)
    found.raw_input_contents.extend(raw)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(found.parameters[name], kind, value)
    return found


def text_message(model: str, text: str, **more: Any) -> Any:
    """A request for one text's answer."""
    name = more.pop("name", "text_input")
    given = [(name, "BYTES", [1], [text]), *more.pop("given", ())]
    return message(model, given=given, **more)


def server_and_models(record: Recorder, models: list[str]) -> None:
    """What every server is asked about itself and its models."""
    for name, path in (
        ("server metadata", "/v2"),
        ("server metadata, slash", "/v2/"),
        ("live", "/v2/health/live"),
        ("ready", "/v2/health/ready"),
        ("model list", "/v2/models"),
        ("unknown route", "/v2/nowhere"),
        ("metadata, unknown model", "/v2/models/nobody"),
        ("metadata, unknown version", "/v2/models/versioned/versions/9"),
        ("metadata, version that is no number", "/v2/models/versioned/versions/x"),
        ("metadata, version", "/v2/models/versioned/versions/2"),
        ("model ready", "/v2/models/embed/ready"),
        ("model ready, unknown", "/v2/models/nobody/ready"),
        ("model ready, version", "/v2/models/versioned/versions/2/ready"),
        ("model ready, unknown version", "/v2/models/versioned/versions/9/ready"),
        ("infer by GET", "/v2/models/embed/infer"),
    ):
        record.get(name, path)
    record.post("repository index", "/v2/repository/index", {})
    record.post("repository index, ready", "/v2/repository/index", {"ready": True})
    record.call("live", "ServerLive", inference.ServerLiveRequest())
    record.call("ready", "ServerReady", inference.ServerReadyRequest())
    record.call("server metadata", "ServerMetadata", inference.ServerMetadataRequest())
    record.call("repository index", "RepositoryIndex", inference.RepositoryIndexRequest())
    record.call("model ready", "ModelReady", inference.ModelReadyRequest(name="embed"))
    record.call("model ready, unknown", "ModelReady", inference.ModelReadyRequest(name="nobody"))
    metadata = inference.ModelMetadataRequest
    record.call("metadata, unknown model", "ModelMetadata", metadata(name="nobody"))
    record.call("metadata, unknown version", "ModelMetadata", metadata(name="versioned", version="9"))
    record.call("metadata, version", "ModelMetadata", metadata(name="versioned", version="2"))
    for model in models:
        record.get(f"metadata {model}", f"/v2/models/{model}")
        record.call(f"metadata {model}", "ModelMetadata", metadata(name=model))


def datatypes(record: Recorder, *, binary_input: bool = True) -> None:
    """Every datatype there and back, in every form."""
    path = "/v2/models/echo_types/infer"
    for datatype, end, values, data in VALUES:
        tensor = {"name": f"in_{end}", "datatype": datatype, "shape": [2]}
        output = {"name": f"out_{end}", "parameters": {"binary_data": True}}
        record.post(f"{datatype} JSON", path, infer({**tensor, "data": values}))
        record.post(f"{datatype} JSON, binary out", path, infer({**tensor, "data": values}, outputs=[output]))
        described = {**tensor, "parameters": {"binary_data_size": len(data)}}
        if binary_input:
            for name, outputs in (("binary", [{"name": f"out_{end}"}]), ("binary, binary out", [output])):
                body, headers = binary(infer(described, outputs=outputs), data)
                record.post(f"{datatype} {name}", path, body, headers=headers)
        given = [(tensor["name"], datatype, [2], values)]
        record.call(f"{datatype} typed", "ModelInfer", message("echo_types", given=given))
        record.call(f"{datatype} raw", "ModelInfer", message("echo_types", given=[given[0][:3]], raw=[data]))
    body, headers = binary(infer({**TEXT, "data": None, "parameters": {"binary_data_size": 9}}), elements(b"hello"))
    if not binary_input:
        record.post("binary input", "/v2/models/embed/infer", body, headers=headers)


def vectors(record: Recorder) -> None:
    """Embeddings, scores and the errors a request can bring about."""
    embed, rerank = "/v2/models/embed/infer", "/v2/models/rerank/infer"
    two = {**TEXT, "shape": [2], "data": ["hello", "wörld ☃"]}
    wish = [{"name": "embedding", "parameters": {"binary_data": True}}]
    record.post("embed", embed, infer(two))
    record.post("embed, binary out", embed, infer(two, outputs=wish))
    record.post("embed, binary_data_output", embed, infer(two, parameters={"binary_data_output": True}))
    record.post("embed, no texts", embed, infer({**TEXT, "shape": [0], "data": []}))
    record.post("embed, no id", embed, {"inputs": [TEXT]})
    record.post("embed, too long", embed, infer({**TEXT, "data": [LONG]}))
    record.post("embed, gzip", embed, infer(two, outputs=wish), headers={"accept-encoding": "gzip"})
    pair = [
        {"name": "query", "datatype": "BYTES", "shape": [2], "data": ["When does the train leave?"] * 2},
        {"name": "passage", "datatype": "BYTES", "shape": [2], "data": ["Cats purr.", "The train leaves at noon."]},
    ]
    record.post("rerank", rerank, infer(*pair))
    record.call("embed typed", "ModelInfer", text_message("embed", "hello", name="text"))
    raw = message("embed", given=[("text", "BYTES", [1])], raw=[elements(b"hello")])
    record.call("embed raw", "ModelInfer", raw)
    raw.inputs[0].contents.bytes_contents.append(b"hello")
    record.call("embed typed and raw", "ModelInfer", raw)
    record.call("embed, too long", "ModelInfer", text_message("embed", LONG, name="text"))
    record.call("embed, no texts", "ModelInfer", message("embed", given=[("text", "BYTES", [0])], raw=[b""]))
    for name, shape, data in (
        ("rerank_ids", "INT64", [101, 3899, 102, 3899, 102]),
        ("rerank_ids_two", "INT64", [101, 3899, 102, 3899, 102]),
    ):
        rows = {"input_ids": data, "attention_mask": [1] * 5, "token_type_ids": [0, 0, 0, 1, 1]}
        inputs = [{"name": one, "datatype": shape, "shape": [1, 5], "data": row} for one, row in rows.items()]
        record.post(name, f"/v2/models/{name}/infer", infer(*inputs))


def errors(record: Recorder) -> None:
    """Every row of what may go wrong with a request."""
    embed = "/v2/models/embed/infer"
    rows: dict[str, tuple[str, Any]] = {
        "unknown model": ("/v2/models/nobody/infer", infer(TEXT)),
        "unknown version": ("/v2/models/versioned/versions/9/infer", infer(TEXT)),
        "broken model": ("/v2/models/broken/infer", infer(TEXT)),
        "wrong count": (embed, infer({**TEXT, "shape": [2]})),
        "wrong datatype": (embed, infer({"name": "text", "datatype": "FP32", "shape": [1], "data": [1.0]})),
        "unknown datatype": (embed, infer({**TEXT, "datatype": "STRING"})),
        "unknown input": (embed, infer({**TEXT, "name": "txt"})),
        "extra input": (embed, infer(TEXT, {**TEXT, "name": "more"})),
        "missing input": ("/v2/models/rerank/infer", infer({**TEXT, "name": "query"})),
        "unknown output": (embed, infer(TEXT, outputs=[{"name": "nothing"}])),
        "no inputs": (embed, {"id": "r1"}),
        "empty inputs": (embed, {"id": "r1", "inputs": []}),
        "malformed JSON": (embed, b'{"inputs": ['),
    }
    for name, (path, body) in rows.items():
        headers = {"content-type": "application/json"} if isinstance(body, bytes) else None
        record.post(name, path, body, headers=headers)
    grpc_rows = {
        "unknown model": text_message("nobody", "hello", name="text"),
        "unknown version": text_message("versioned", "hello", name="text", version="9"),
        "broken model": text_message("broken", "hello", name="text"),
        "wrong count": message("embed", given=[("text", "BYTES", [2], ["hello"])]),
        "wrong datatype": message("embed", given=[("text", "FP32", [1], [1.0])]),
        "unknown datatype": message("embed", given=[("text", "STRING", [1])], raw=[b"\0\0\0\0"]),
        "unknown input": text_message("embed", "hello", name="txt"),
        "missing input": text_message("rerank", "hello", name="query"),
        "cut raw bytes": message("embed_ids", given=[(n, "INT64", [1, 3]) for n in IDS], raw=[b"\1" * 20] * 2),
    }
    for name, one in grpc_rows.items():
        record.call(name, "ModelInfer", one)


IDS = ("input_ids", "attention_mask")


def own_errors(record: Recorder, codes: list[str]) -> None:
    """The errors a model answers of its own."""
    for code in codes:
        tensor = {"name": "code", "datatype": "BYTES", "shape": [1], "data": [code]}
        record.post(f"fails {code}", "/v2/models/fails/infer", infer(tensor))
        record.call(f"fails {code}", "ModelInfer", text_message("fails", code, name="code"))


def main() -> None:
    """Records all three."""
    from runtimes.v2.record_kserve import record_kserve
    from runtimes.v2.record_mlserver import record_mlserver
    from runtimes.v2.record_triton import record_triton

    out = Path(sys.argv[1])
    targets = json.loads(Path(os.environ["KSERVE_TEST_TARGETS"]).read_text(encoding="utf-8"))
    for name, record in (("triton", record_triton), ("mlserver", record_mlserver), ("kserve", record_kserve)):
        record(targets[name]["servers"]).write(out / name)
        print(name)


if __name__ == "__main__":
    main()
