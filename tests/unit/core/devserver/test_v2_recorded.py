"""The development server beside recorded answers of Triton, MLServer and KServe's server: the same requests again.

Statuses, content types, the shapes of bodies and, over REST, the words of errors have to be the same. Numbers and
texts are the models' own and are left aside.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import grpc
import httpx
import pytest

from kserve_core.devserver import DevServer, Model
from tests.unit.core.devserver.v2_wire import M

RECORDED = Path(__file__).parents[1] / "runtimes" / "fixtures" / "v2"

# Requests whose answers depend on how the recorded server was started, or on its models' own ways.
LEFT_OUT = {
    "triton": {
        "config tensorrt_llm",
        "missing input",  # its reranker has a third input
        "fails RAISE",  # a traceback
        "embed_wide, too many",
        "load in default mode",
        "load a broken model",
        "restricted, no token",
        "restricted, wrong token",
        "restricted metadata, no token",
        "restricted metadata, wrong token",
        "generate, number as text",
        "generate, no prompt",
        "generate, max_tokens missing",
    },
    "mlserver": {
        "ready",
        "metadata, version that is a name",
        "version of infer",
        "broken model",
        "fails RAISE",
        "fails NOT_FOUND",
        "quiet: fails RAISE",
        "infer_stream, unknown model",  # these four with debugging on
        "infer_stream, model that does not stream",
        "generate_stream, unknown model",
        "generate_stream, model that does not stream",
        "repository index, broken",
        "repository index",
        "repository index, ready",
    },
    "kserve": {"metadata echo_types", "fails INVALID"},
}


def model(name, *aliases):
    return Model(name=name, aliases=aliases, dimensions=384, max_model_len=256)


MODELS = (
    model("embed", "null_embed"),
    model("embed-truncating", "minilm"),
    model("embed-batch", "embed_wide"),
    model("embed_ids"),
    model("embed-ids-states-int32-types", "embed_states"),
    model("embed_fp16"),
    model("rerank"),
    model("rerank-ids-types", "rerank_ids"),
    model("rerank-ids-types-columns", "rerank_ids_two"),
    model("plain", "generate"),
    model("vllm"),
    model("echo_types"),
    model("versioned"),
    model("fails"),
    model("broken"),
    model("ensemble", "tensorrt_llm"),
    model("hf_text"),
    model("hf-embed", "hf_features"),
)
NAMES = {name for entry in MODELS for name in (entry.name, *entry.aliases)} | {"nobody"}


def recorded(runtime, protocol):
    content = json.loads((RECORDED / runtime / f"{protocol}.json").read_text(encoding="utf-8"))
    return content["exchanges"]


def plain(body):
    """The bytes of a recorded body; None where only their number was kept."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return base64.b64decode(body["base64"]) if "base64" in body else None


def form(value):
    """Names and types of a JSON value; of a list only its first entry."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    if isinstance(value, list):
        return [form(value[0])] if value else []
    return type(value).__name__


def described(status, headers, body):
    """What has to be the same of an answer."""
    packed = headers.get("content-encoding")
    if packed:
        body = zlib.decompress(body, 47)
    size = headers.get("inference-header-content-length")
    try:
        value = json.loads(body[: int(size)] if size else body)
    except ValueError:
        value = None
    same = value if isinstance(value, dict) and {"error", "detail"} & value.keys() else form(value)
    if status >= 400 and isinstance(same, dict) and "tokens is longer" in str(same):
        same = "too long"
    return {
        "status": status,
        "type": headers.get("content-type"),
        "encoding": packed,
        "parted": bool(size),
        "body": same,
    }


@pytest.mark.parametrize("runtime", ["triton", "mlserver", "kserve"])
def test_rest(runtime):
    compared = 0
    different = {}
    with DevServer(runtime=runtime, models=MODELS) as server, httpx.Client(base_url=server.url) as http:
        for name, exchange in recorded(runtime, "http").items():
            request, response = exchange["request"], exchange["response"]
            parts = request["path"].split("/")
            about = parts[parts.index("models") + 1] if "models" in parts[:-1] else None
            body = plain(request["body"])
            if name in LEFT_OUT[runtime] or body is None or (about and about not in NAMES):
                continue
            with http.stream(request["method"], request["path"], content=body, headers=request["headers"]) as found:
                content = b""
                broken = False
                try:
                    for piece in found.iter_raw():
                        content += piece
                except httpx.RemoteProtocolError:
                    broken = True
            compared += 1
            here = described(found.status_code, found.headers, content) | {"broken": broken}
            there = described(response["status"], response["headers"], plain(response["body"]) or b"")
            there["broken"] = bool(response.get("broken_off"))
            if runtime == "mlserver":  # whose versions are configured per model
                for answer in (here, there):
                    if isinstance(answer["body"], dict):
                        answer["body"].pop("model_version", None)
            if here != there:
                different[name] = {"server": there, "here": here}
    assert compared > 80
    assert different == {}


GRPC_LEFT_OUT = {
    "triton": {"restricted, no token", "parameters"},  # the second: the connection was reset
    "mlserver": {"ready", "broken model", "stream, model that does not stream"},
    "kserve": {
        "metadata, version",  # of a model it does not have
        "metadata, unknown version",
        "unknown version",
        "metadata echo_types",
        "fails INFERENCE",
        "unload embed_int8",
        "load embed_int8",
        "unload nobody",
        "load nobody",
    },
}


def told(messages):
    """What has to be the same of gRPC answers: the set fields, and where tensors are."""
    made = []
    for message in messages:
        fields = {}
        for descriptor, value in message.ListFields():
            if descriptor.name == "model_version":
                continue  # on MLServer configured per model
            if descriptor.name == "outputs" and isinstance(message, M.ModelInferResponse):
                fields["outputs"] = [
                    (out.name, out.datatype, len(out.shape), out.HasField("contents"))
                    for out in value
                    if out.name != "params"  # not every echoing model has it
                ]
            elif descriptor.name == "raw_output_contents":
                fields["raw"] = len(value) == len(message.outputs)
            else:
                fields[descriptor.name] = value if descriptor.name in {"ready", "live"} else True
        made.append(fields)
    return made


@pytest.mark.parametrize("runtime", ["triton", "mlserver", "kserve"])
def test_grpc(runtime):
    compared = 0
    different = {}
    with (
        DevServer(runtime=runtime, models=MODELS, v2_grpc=True) as server,
        grpc.insecure_channel(server.v2_grpc_url.removeprefix("grpc://")) as channel,
    ):
        for name, exchange in recorded(runtime, "grpc").items():
            path = exchange["method"]
            method = path.rsplit("/", 1)[1]
            sent = [base64.b64decode(request) for request in exchange["requests"] if request is not None]
            kind = getattr(M, f"{method}Request", None) if method != "ModelStreamInfer" else M.ModelInferRequest
            if kind is None or len(sent) != len(exchange["requests"]) or name in GRPC_LEFT_OUT[runtime]:
                continue
            about = {getattr(kind.FromString(data), field, "") for data in sent for field in ("name", "model_name")}
            if exchange["metadata"] or not about <= NAMES | {""}:
                continue
            answer = getattr(M, f"{method}Response")
            if runtime == "mlserver" and method == "ModelStreamInfer":
                answer = M.ModelInferResponse
            found, code = [], "OK"
            try:
                if method == "ModelStreamInfer":
                    found.extend(channel.stream_stream(path)(iter(sent), timeout=10))
                else:
                    found.append(channel.unary_unary(path)(sent[0], timeout=10))
            except grpc.RpcError as error:
                code = error.code().name
            compared += 1
            here = (code, told(map(answer.FromString, found)))
            real = [answer.FromString(base64.b64decode(response)) for response in exchange["responses"]]
            there = (exchange["code"], told(real))
            if here != there:
                different[name] = {"server": there, "here": here}
    assert compared > 20
    assert different == {}
