"""What is recorded of KServe's SDK server."""

from __future__ import annotations

from typing import Any

from runtimes.v2 import record as v2
from runtimes.v2.recorder import Recorder

from kserve_core.protos import messages

inference = messages.inference
MODELS = ["embed", "minilm", "embed_ids", "embed_fp16", "rerank", "rerank_ids", "tiny", "generate", "echo_types"]


def record_kserve(servers: dict[str, Any]) -> Recorder:
    """Asks the open server."""
    plain = servers["plain"]
    record = Recorder("KServe SDK 0.21.0", plain["rest"], plain["grpc"].removeprefix("grpc://"))
    v2.server_and_models(record, MODELS)
    v2.datatypes(record)
    v2.vectors(record)
    v2.errors(record)
    v2.own_errors(record, ["RAISE", "INVALID", "INFERENCE"])
    record.get("model ready, broken", "/v2/models/broken/ready")
    record.post("version of infer", "/v2/models/embed/versions/1/infer", v2.infer(v2.TEXT))
    prompt = {**v2.TEXT, "name": "text_input", "data": ["Say hello."]}
    record.post("infer tiny", "/v2/models/tiny/infer", v2.infer(prompt, parameters={"max_tokens": 5}))
    record.post("generate tiny", "/v2/models/tiny/generate", {"text_input": "Say hello."})
    body = v2.infer(v2.TEXT)
    text = {"content-type": "text/plain"}
    record.post("JSON under another content type", "/v2/models/embed/infer", body, headers=text)
    sized = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}
    raw, headers = v2.binary(v2.infer(sized), v2.elements(b"hello"))
    headers["content-type"] = "application/json"
    record.post("binary under JSON's content type", "/v2/models/embed/infer", raw, headers=headers)
    record.call("stream", "ModelStreamInfer", v2.text_message("tiny", "Say hello."))
    record.call("infer tiny", "ModelInfer", v2.text_message("tiny", "Say hello.", max_tokens=5))
    record.call("config", "ModelConfig", inference.ModelConfigRequest(name="embed"))
    unload, load = inference.KServeRepositoryModelUnloadRequest, inference.KServeRepositoryModelLoadRequest
    other = servers["secure"]["grpc"].removeprefix("grpc://")  # what is unloaded does not come back
    for name in ("embed_int8", "nobody"):
        record.call(f"unload {name}", "RepositoryModelUnload", unload(model_name=name), target=other)
        record.call(f"load {name}", "RepositoryModelLoad", load(model_name=name), target=other)
    secure = {"rest": servers["secure"]["rest"], "ca_cert": servers["ca_cert"]}
    for name in ("embed_states", "nobody"):
        record.post(f"unload {name}", f"/v2/repository/models/{name}/unload", {}, **secure)
        record.post(f"load {name}", f"/v2/repository/models/{name}/load", {}, **secure)
    return record
