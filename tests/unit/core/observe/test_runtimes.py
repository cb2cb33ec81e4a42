"""The spans of gRPC and of the other runtimes."""

from __future__ import annotations

import pytest

from kserve_core.batching import embed_all
from kserve_core.capabilities import EmbeddingRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer
from kserve_core.endpoint import Endpoint
from kserve_core.inference_client import InferenceClient
from kserve_core.runtimes.caikit import CaikitRuntime
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.runtimes.triton import TritonRuntime
from tests.unit.core.observe.calls import PROMPT
from tests.unit.core.tracing import Kept


@pytest.mark.parametrize("streamed", [False, True])
def test_tgis_over_grpc(server: DevServer, kept: Kept, streamed: bool) -> None:
    used = RuntimeClient(Endpoint.create(server.tgis_url), TGISRuntime(model="dev-model"))
    about = TextRequest(prompts=[PROMPT], params={"max_tokens": 4})
    if streamed:
        list(used.stream(used.runtime.stream_generate(about), about=about))
    else:
        used.run(used.runtime.generate(about), about=about)
    span = kept.one()
    assert span.name == "text_completion dev-model"
    assert span.attributes["gen_ai.provider.name"] == "tgis"
    assert span.attributes["gen_ai.usage.output_tokens"] > 0
    request = list(server.requests)[-1]
    assert f"{span.context.span_id:016x}" in request.headers["traceparent"]
    used.close()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_caikit(kept: Kept, protocol: str) -> None:
    with DevServer(runtime="caikit", caikit_grpc=True, models=("tiny",)) as server:
        url = server.caikit_grpc_url if protocol == "grpc" else server.url
        used = RuntimeClient(Endpoint.create(url), CaikitRuntime(model="tiny", protocol=protocol))
        flow = embed_all(used.runtime, ["a"], model="tiny")
        used.run(flow, about=EmbeddingRequest(texts=["a"], model="tiny"))
        used.close()
        assert any("traceparent" in request.headers for request in server.requests)
    assert (kept.one().name, kept.one().attributes["gen_ai.provider.name"]) == ("embeddings tiny", "caikit")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_triton_and_tensors(kept: Kept, protocol: str) -> None:
    with DevServer(runtime="triton", v2_grpc=True, models=("tiny-embedding",)) as server:
        url = server.v2_grpc_url if protocol == "grpc" else server.url
        used = RuntimeClient(Endpoint.create(url), TritonRuntime(model="tiny-embedding", protocol=protocol))
        about = EmbeddingRequest(texts=["a"])
        used.run(embed_all(used.runtime, ["a"]), about=about)
        used.close()
        with InferenceClient(url, model="tiny-embedding") as tensors:
            tensors.infer({"text": ["a", "b"]})
    embedding, inference = kept.spans
    assert (embedding.name, embedding.attributes["gen_ai.provider.name"]) == ("embeddings tiny-embedding", "triton")
    assert (inference.name, inference.attributes["kserve.request.inputs"]) == ("inference tiny-embedding", 1)
