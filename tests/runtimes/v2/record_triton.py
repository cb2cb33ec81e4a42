"""What is recorded of Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from runtimes.v2 import record as v2
from runtimes.v2.catalogue import MODELS
from runtimes.v2.recorder import Recorder
from runtimes.v2.sentences import FAILS_AT_ONCE, FAILS_MIDWAY

from kserve_core.protos import messages

inference = messages.inference
CODES = ["RAISE", "UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS"]
FINAL = {"triton_enable_empty_final_response": True}
ON = ("stream", "BOOL", [1], [True])


def record_triton(servers: dict[str, Any]) -> Recorder:
    """Asks the open server everything, and the others what they are for."""
    plain = servers["plain"]
    record = Recorder("Triton 2.51.0", plain["rest"], plain["grpc"].removeprefix("grpc://"))
    v2.server_and_models(record, list(MODELS))
    for name in ("embed_wide", "tiny", "tensorrt_llm", "embed", "nobody"):
        record.get(f"config {name}", f"/v2/models/{name}/config")
        record.call(f"config {name}", "ModelConfig", inference.ModelConfigRequest(name=name))
    record.get("model ready, broken", "/v2/models/broken/ready")
    record.call("model ready, broken", "ModelReady", inference.ModelReadyRequest(name="broken"))
    v2.datatypes(record)
    v2.vectors(record)
    v2.errors(record)
    v2.own_errors(record, [*CODES, "CANCELLED"])
    _more_tensors(record)
    _generation(record)
    _streams(record)
    _other_servers(record, servers)
    return record


def _more_tensors(record: Recorder) -> None:
    wide, path = "/v2/models/embed_wide/infer", "/v2/models/echo_types/infer"
    record.post("embed_wide, [N]", wide, v2.infer(v2.TEXT))
    record.post("embed_wide, [N,1]", wide, v2.infer({**v2.TEXT, "shape": [1, 1]}))
    record.post("embed_wide, too many", wide, v2.infer({**v2.TEXT, "shape": [65, 1], "data": ["a"] * 65}))
    record.post("version of infer", "/v2/models/versioned/versions/2/infer", v2.infer(v2.TEXT))
    odd = v2.elements(b"\xff\xfe", b"ok")
    tensor = {"name": "in_string", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(odd)}}
    body, headers = v2.binary(v2.infer(tensor, outputs=[{"name": "out_string"}]), odd)
    record.post("bytes that are no text, JSON out", path, body, headers=headers)
    mixed = [{"name": "out_int8", "parameters": {"binary_data": True}}, {"name": "out_fp32"}, {"name": "params"}]
    inputs = [
        {"name": "in_int8", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "in_fp32", "datatype": "FP32", "shape": [1], "data": [0.5]},
    ]
    given = {"text": "a", "number": 1, "yes": True, "part": 0.5, "priority": 1}
    body, headers = v2.binary(v2.infer(*inputs, outputs=mixed, parameters=given), b"\x01\xff")
    record.post("mixed", path, body, headers=headers)
    record.post("mixed, wrong header", path, body, headers={"inference-header-content-length": "7"})
    record.post("mixed, cut", path, body[:-1], headers=headers)
    for name, value in (("list", [1]), ("null", None)):
        small = {"name": "in_int8", "datatype": "INT8", "shape": [1], "data": [1]}
        record.post(f"parameter {name}", path, v2.infer(small, parameters={"x": value}))
    record.post("load in default mode", "/v2/repository/models/versioned/load", {})


def _generation(record: Recorder) -> None:
    base = "/v2/models"
    for model, body in {
        "generate": {"text_input": "Say hello.", "max_tokens": 5, "temperature": 0.0},
        "tiny": {"text_input": "Say hello.", "id": "r1", "stop": ["can"]},
        "vllm": {"text_input": "Say hello.", "sampling_parameters": '{"max_tokens": 20}', "return_finish_reason": True},
        "tensorrt_llm": {"text_input": "Say hello.", "max_tokens": 20, "bad_words": "", "stop_words": ""},
        "nobody": {"text_input": "Say hello."},
    }.items():
        record.post(f"generate {model}", f"{base}/{model}/generate", body)
        streamed = {**body, "stream": True} if model != "generate" else body
        record.post(f"generate_stream {model}", f"{base}/{model}/generate_stream", streamed)
    tiny, embed = f"{base}/tiny/generate", f"{base}/embed/generate"
    for name, path, body in (
        ("generate, more than one answer", tiny, {"text_input": "Say hello.", "stream": True}),
        ("generate, parameters", tiny, {"text_input": "Say hello.", "parameters": {"max_tokens": 3}}),
        ("generate, unknown list", tiny, {"text_input": "Say hello.", "words": ["a"]}),
        ("generate, number as text", tiny, {"text_input": "Say hello.", "max_tokens": "3"}),
        ("generate, no prompt", tiny, {"max_tokens": 3}),
        ("generate, max_tokens missing", f"{base}/tensorrt_llm/generate", {"text_input": "Say hello."}),
        ("generate, too long", tiny, {"text_input": v2.LONG * 20}),
        ("generate, too long, vllm", f"{base}/vllm/generate", {"text_input": v2.LONG * 20}),
        ("generate, fails", tiny, {"text_input": FAILS_AT_ONCE}),
        ("generate embed", embed, {"text": "hello"}),
        ("generate_stream, fails at once", f"{tiny}_stream", {"text_input": FAILS_AT_ONCE, "stream": True}),
        ("generate_stream, fails midway", f"{tiny}_stream", {"text_input": FAILS_MIDWAY, "stream": True}),
        ("generate_stream, stream left out", f"{tiny}_stream", {"text_input": "Say hello."}),
        ("infer of a decoupled model", f"{base}/tiny/infer", v2.infer({**v2.TEXT, "name": "text_input"})),
    ):
        record.post(name, path, body)


def _streams(record: Recorder) -> None:
    hello = v2.text_message("tiny", "Say hello.", given=[ON])
    record.call("infer of a decoupled model", "ModelInfer", hello)
    record.call("stream", "ModelStreamInfer", hello)
    record.call("stream, final", "ModelStreamInfer", v2.text_message("tiny", "Say hello.", given=[ON], **FINAL))
    for name, text in (("fails at once", FAILS_AT_ONCE), ("fails midway", FAILS_MIDWAY), ("too long", v2.LONG * 20)):
        record.call(f"stream, {name}", "ModelStreamInfer", v2.text_message("tiny", text, given=[ON], **FINAL))
    record.call("stream, unknown model", "ModelStreamInfer", v2.text_message("nobody", "Say hello.", given=[ON]))
    record.call("stream, plain model", "ModelStreamInfer", v2.text_message("generate", "Say hello.", **FINAL))
    record.call(
        "parameters",
        "ModelInfer",
        v2.message("echo_types", given=[("in_int8", "INT8", [1], [1])], text="a", number=1, yes=True, part=0.5),
    )


def _other_servers(record: Recorder, servers: dict[str, Any]) -> None:
    rest, target = servers["restricted"]["rest"], servers["restricted"]["grpc"].removeprefix("grpc://")
    bearer = f"Bearer {servers['token']}"
    infer, body = "/v2/models/null_embed/infer", v2.infer({**v2.TEXT, "shape": [0], "data": []})
    for name, headers in (("no token", {}), ("wrong token", {"authorization": "Bearer x"})):
        record.post(f"restricted, {name}", infer, body, rest=rest, headers=headers)
        record.get(f"restricted metadata, {name}", "/v2/models/null_embed", rest=rest, headers=headers)
    record.post("restricted, token", infer, body, rest=rest, headers={"authorization": bearer})
    record.http["restricted, token"]["request"]["headers"]["authorization"] = "Bearer token"
    empty = v2.message("null_embed", given=[("text", "BYTES", [0])], raw=[b""])
    key = "triton-grpc-protocol-authorization"
    record.call("restricted, no token", "ModelInfer", empty, target=target)
    record.call("restricted, bearer", "ModelInfer", empty, target=target, metadata=[("authorization", bearer)])
    record.call("restricted, token", "ModelInfer", empty, target=target, metadata=[(key, bearer)])
    for name in ("restricted, bearer", "restricted, token"):
        record.grpc[name]["metadata"][0][1] = "Bearer token"
    rest = servers["secure"]["rest"]
    models, repository = "/v2/models/versioned", "/v2/repository/models"
    record.post("unload", f"{repository}/versioned/unload", {}, rest=rest)
    record.get("ready of an unloaded model", f"{models}/ready", rest=rest)
    record.get("metadata of an unloaded model", models, rest=rest)
    record.post("infer of an unloaded model", f"{models}/infer", v2.infer(v2.TEXT), rest=rest)
    record.post("load", f"{repository}/versioned/load", {}, rest=rest)
    record.post("load a broken model", f"{repository}/broken/load", {}, rest=rest)
    record.post("load an unknown model", f"{repository}/nobody/load", {}, rest=rest)
    target = servers["secure"]["grpc"].removeprefix("grpcs://")
    secure = {"target": target, "credentials": grpc.ssl_channel_credentials(Path(servers["ca_cert"]).read_bytes())}
    load, unload = inference.RepositoryModelLoadRequest, inference.RepositoryModelUnloadRequest
    record.call("unload", "RepositoryModelUnload", unload(model_name="versioned"), **secure)
    record.call("infer of an unloaded model", "ModelInfer", v2.text_message("versioned", "a", name="text"), **secure)
    record.call("load", "RepositoryModelLoad", load(model_name="versioned"), **secure)
    record.call("load a broken model", "RepositoryModelLoad", load(model_name="broken"), **secure)
    record.call("load an unknown model", "RepositoryModelLoad", load(model_name="nobody"), **secure)
