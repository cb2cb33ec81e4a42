"""OpenVINO's tensor API, by the real servers that are most like it: Triton and KServe's SDK."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from runtimes.v2.clients import pairs, reference, servers_of

from kserve_core.capabilities import EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    ContextOverflowError,
    InvalidRequestError,
    ModelNotFoundError,
    NotReadyError,
    UnsupportedParameterError,
)
from kserve_core.runtimes.open_inference.values import InferRequest
from kserve_core.runtimes.openvino import OpenVINORuntime
from kserve_core.tensors import Tensor

ALL = pairs("triton", "kserve")
TRITON = pairs("triton")
DOCUMENTS = ["Cats purr at night.", "The train leaves at noon.", "Bread is baked at dawn."]


@pytest.fixture(scope="module")
def connect() -> Iterator[Callable[..., RuntimeClient[OpenVINORuntime]]]:
    """Makes clients and closes them at the end: `connect("triton", "rest", model=..., api="v2")`."""
    made: list[RuntimeClient[OpenVINORuntime]] = []

    def connect(key: str, protocol: str, **given: Any) -> RuntimeClient[OpenVINORuntime]:
        endpoint = Endpoint.create(servers_of(key)["plain"][protocol], max_retries=0, timeout=60)
        made.append(RuntimeClient(endpoint, OpenVINORuntime(protocol=protocol, **given)))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def embed(client, texts, **more):
    client.run(client.runtime.resolve_model())
    return client.run(client.runtime.embed(EmbeddingRequest(texts=texts, **more))).embeddings


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


@pytest.mark.parametrize("where", ALL)
@pytest.mark.parametrize("model", ["minilm", "embed", "embed_fp16", "embed_ids", "embed_states"])
def test_vectors_are_those_of_the_reference(connect, where, model):
    ids = {"tokenizer": servers_of(where[0])["tokenizer"]} if model in {"embed_ids", "embed_states"} else {}
    client = connect(*where, model=model, normalize=True, **ids)
    expected = reference()
    for one, other in zip(embed(client, expected["texts"]), expected["vectors"], strict=True):
        assert cosine(one, other) > 0.9999


@pytest.mark.parametrize("where", ALL)
def test_which_api_serves_a_model_is_found_out(connect, where):
    client = connect(*where, model="minilm")
    assert len(embed(client, ["a", "b"])) == 2
    assert client.runtime._api_of("minilm") == "v2"


@pytest.mark.parametrize("where", ALL)
def test_rankings(connect, where):
    def ranked(model, **options):
        client = connect(*where, model=model, **options)
        request = RerankRequest(query="When does the train leave?", documents=DOCUMENTS)
        return [one.index for one in client.run(client.runtime.rerank(request)).results]

    tokenizer = servers_of(where[0])["tokenizer"]
    texts, ids = ranked("rerank"), ranked("rerank_ids", tokenizer=tokenizer, api="v2")
    assert texts[0] == ids[0] == 1
    assert sorted(texts) == sorted(ids) == [0, 1, 2]


@pytest.mark.parametrize("where", ALL)
def test_texts_that_are_too_long(connect, where):
    client = connect(*where, model="minilm", api="v2") if where[1] == "rest" else connect(*where, model="minilm")
    with pytest.raises(ContextOverflowError):
        embed(client, ["short", "word " * 400])
    assert len(embed(client, ["short", "word " * 400], truncate=-1)) == 2


@pytest.mark.parametrize("where", ALL)
def test_raw_tensors_there_and_back(connect, where):
    """FP16 has no JSON form: it comes back only if it was asked for as bytes."""
    client = connect(*where, model="echo_types")
    sent = Tensor.of("in_fp16", [0.5, -2.0], datatype="FP16")
    request = InferRequest(inputs=[sent], outputs=["out_fp16"], model="echo_types")
    found = client.run(client.runtime.tensors.infer(request)).outputs["out_fp16"]
    assert (found.datatype, found.shape) == ("FP16", (2,))
    assert found.raw_bytes() == sent.raw_bytes()


@pytest.mark.parametrize("where", TRITON)
def test_versions(connect, where):
    client = connect(*where, model="versioned", model_version=2)
    request = InferRequest(inputs=[Tensor.of("text", ["a"])], model="versioned", version="2")
    found = client.run(client.runtime.tensors.infer(request)).outputs["text_output"]
    assert found.texts() == ["v2:a"]
    unknown = InferRequest(inputs=[Tensor.of("text", ["a"])], model="versioned", version="9")
    with pytest.raises(ModelNotFoundError):
        client.run(client.runtime.tensors.infer(unknown))


@pytest.mark.parametrize("where", ALL)
def test_mistakes(connect, where):
    client = connect(*where, model="minilm")
    client.run(client.runtime.resolve_model())
    strange = InferRequest(inputs=[Tensor.of("txt", ["a"])], model="minilm")
    with pytest.raises(InvalidRequestError) as caught:
        client.run(client.runtime.tensors.infer(strange))
    assert "text BYTES" in caught.value.hint or "text" in caught.value.server_message
    request = InferRequest(inputs=[Tensor.of("text", ["a"])], model="nobody")
    with pytest.raises(ModelNotFoundError):
        client.run(client.runtime.tensors.infer(request))


@pytest.mark.parametrize("where", TRITON)
def test_a_model_that_failed_to_load(connect, where):
    client = connect(*where, model="broken")
    request = InferRequest(inputs=[Tensor.of("x", [1.0], datatype="FP32")], model="broken")
    with pytest.raises(NotReadyError):
        client.run(client.runtime.tensors.infer(request))
    assert client.run(client.runtime.tensors.model_ready("broken")) is False


@pytest.mark.parametrize("where", ALL)
def test_text_is_not_generated_by_tensors(connect, where):
    client = connect(*where, model="tiny", **({} if where[1] == "grpc" else {"api": "v2"}))
    with pytest.raises(UnsupportedParameterError, match="/v3"):
        client.run(client.runtime.generate(TextRequest(prompts=["a"])))
