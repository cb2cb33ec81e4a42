"""What is recorded of MLServer."""

from __future__ import annotations

from typing import Any

from runtimes.v2 import record as v2
from runtimes.v2.recorder import Recorder
from runtimes.v2.sentences import FAILS_AT_ONCE, FAILS_MIDWAY

from kserve_core.protos import messages

inference = messages.inference
MODELS = ["embed", "minilm", "embed_ids", "embed_fp16", "rerank", "rerank_ids", "tiny", "generate", "versioned"]
REPOSITORY = "/inference.model_repository.ModelRepositoryService/"


def record_mlserver(servers: dict[str, Any]) -> Recorder:
    """Asks the open server everything, and the quiet one about what is not ready."""
    plain = servers["plain"]
    record = Recorder("MLServer 1.7.1", plain["rest"], plain["grpc"].removeprefix("grpc://"))
    v2.server_and_models(record, [*MODELS, "hf_text", "hf_features", "echo_types"])
    record.get("metadata, version that is a name", "/v2/models/embed/versions/v0.1.0")
    v2.datatypes(record, binary_input=False)
    v2.vectors(record)
    v2.errors(record)
    v2.own_errors(record, ["RAISE", "INFERENCE", "NOT_FOUND", "409", "429", "503"])
    record.call("config", "ModelConfig", inference.ModelConfigRequest(name="embed"))
    record.call("repository index, own service", REPOSITORY + "RepositoryIndex", inference.RepositoryIndexRequest())
    record.post("version of infer", "/v2/models/versioned/versions/2/infer", v2.infer(v2.TEXT))
    record.post("embed_fp16", "/v2/models/embed_fp16/infer", v2.infer(v2.TEXT))
    _hugging_face(record)
    _text(record, "", None)
    quiet = servers["quiet"]
    _text(record, "quiet: ", quiet["rest"])
    _not_ready(record, quiet["rest"], quiet["grpc"].removeprefix("grpc://"))
    return record


def _hugging_face(record: Recorder) -> None:
    prompt = {"name": "args", "datatype": "BYTES", "shape": [1], "data": ["Count to ten."]}
    limit = {"name": "max_new_tokens", "datatype": "BYTES", "shape": [1], "data": ["3"]}
    limit["parameters"] = {"content_type": "hg_json"}
    record.post("hf_text", "/v2/models/hf_text/infer", v2.infer(prompt, limit))
    record.call("hf_text", "ModelInfer", v2.text_message("hf_text", "Count to ten.", name="args"))


def _text(record: Recorder, prefix: str, rest: str | None) -> None:
    def ask(name: str, route: str, text: str, model: str = "tiny", **parameters: Any) -> None:
        given = {**v2.TEXT, "name": "text_input", "data": [text]}
        body = v2.infer(given, **({"parameters": parameters} if parameters else {}))
        record.post(prefix + name, f"/v2/models/{model}/{route}", body, rest=rest)

    ask("infer tiny", "infer", "Say hello.", max_tokens=5)
    ask("generate tiny", "generate", "Say hello.")
    for route in ("infer_stream", "generate_stream"):
        ask(f"{route} tiny", route, "Say hello.", max_tokens=5)
        ask(f"{route}, fails at once", route, FAILS_AT_ONCE)
        ask(f"{route}, fails midway", route, FAILS_MIDWAY)
        ask(f"{route}, too long", route, v2.LONG * 20)
        ask(f"{route}, unknown model", route, "Say hello.", model="nobody")
        record.post(f"{prefix}{route}, no inputs", f"/v2/models/tiny/{route}", {"id": "r1"}, rest=rest)
        embed = v2.infer({**v2.TEXT, "shape": [0], "data": []})
        record.post(f"{prefix}{route}, model that does not stream", f"/v2/models/fails/{route}", embed, rest=rest)
    if prefix:
        return
    stream = "ModelStreamInfer"
    record.call("infer tiny", "ModelInfer", v2.text_message("tiny", "Say hello.", max_tokens=5))
    record.call("stream", stream, v2.text_message("tiny", "Say hello.", max_tokens=5))
    record.call("stream, fails at once", stream, v2.text_message("tiny", FAILS_AT_ONCE))
    record.call("stream, fails midway", stream, v2.text_message("tiny", FAILS_MIDWAY))
    record.call("stream, too long", stream, v2.text_message("tiny", v2.LONG * 20))
    record.call("stream, unknown model", stream, v2.text_message("nobody", "Say hello."))
    record.call("stream, model that does not stream", stream, v2.text_message("fails", "OK", name="code"))


def _not_ready(record: Recorder, rest: str, target: str) -> None:
    record.get("ready, a model is not", "/v2/health/ready", rest=rest)
    record.get("live, a model is not ready", "/v2/health/live", rest=rest)
    record.get("model ready, broken", "/v2/models/broken/ready", rest=rest)
    record.get("metadata, broken", "/v2/models/broken", rest=rest)
    record.post("infer, broken", "/v2/models/broken/infer", v2.infer(v2.TEXT), rest=rest)
    record.post("repository index, broken", "/v2/repository/index", {}, rest=rest)
    code = {"name": "code", "datatype": "BYTES", "shape": [1], "data": ["RAISE"]}
    record.post("quiet: fails RAISE", "/v2/models/fails/infer", v2.infer(code), rest=rest)
    record.call("ready, a model is not", "ServerReady", inference.ServerReadyRequest(), target=target)
    record.call("model ready, broken", "ModelReady", inference.ModelReadyRequest(name="broken"), target=target)
    record.call("infer, broken", "ModelInfer", v2.text_message("broken", "hello", name="text"), target=target)
    unload = inference.RepositoryModelUnloadRequest(model_name="null_embed")
    load = inference.RepositoryModelLoadRequest(model_name="null_embed")
    record.post("unload", "/v2/repository/models/null_embed/unload", {}, rest=rest)
    record.get("ready of an unloaded model", "/v2/models/null_embed/ready", rest=rest)
    record.post("infer of an unloaded model", "/v2/models/null_embed/infer", v2.infer(v2.TEXT), rest=rest)
    record.post("load", "/v2/repository/models/null_embed/load", {}, rest=rest)
    record.post("load an unknown model", "/v2/repository/models/nobody/load", {}, rest=rest)
    record.call("unload", "RepositoryModelUnload", unload, target=target)
    record.call("load", "RepositoryModelLoad", load, target=target)
    unknown = inference.RepositoryModelLoadRequest(model_name="nobody")
    record.call("load an unknown model", "RepositoryModelLoad", unknown, target=target)
