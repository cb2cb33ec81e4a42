"""What a real vLLM refuses, and the errors that become of it."""

from __future__ import annotations

import pytest
from runtimes.processes import free_ports

from kserve_core.capabilities import EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    EndpointConnectionError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    ResponseError,
)


def caught(client, exchange, kind):
    with pytest.raises(kind) as info:
        client.run(exchange)
    error = info.value
    assert type(error) is kind
    assert error.server_message
    return error


def caught_streaming(client, exchange, kind):
    with pytest.raises(kind) as info:
        list(client.stream(exchange))
    assert type(info.value) is kind
    return info.value


def test_an_unknown_model(generator, ask):
    error = caught(generator, generator.runtime.chat(ask("Hi", model="absent")), ModelNotFoundError)
    assert error.status == 404
    assert "tiny" in error.hint
    caught_streaming(generator, generator.runtime.stream_chat(ask("Hi", model="absent")), ModelNotFoundError)
    request = TextRequest(prompts=["Hi"], model="absent")
    caught(generator, generator.runtime.generate(request), ModelNotFoundError)


def test_unknown_models_of_the_other_servers(embedder, reranker):
    caught(embedder, embedder.runtime.embed(EmbeddingRequest(texts=["a"], model="absent")), ModelNotFoundError)
    request = RerankRequest(query="a", documents=["b"], model="absent")
    caught(reranker, reranker.runtime.rerank(request), ModelNotFoundError)


def test_a_prompt_longer_than_the_context(generator, ask):
    error = caught(generator, generator.runtime.chat(ask("word " * 5000)), ContextOverflowError)
    assert error.status == 400
    assert "4096" in error.server_message
    caught_streaming(generator, generator.runtime.stream_chat(ask("word " * 5000)), ContextOverflowError)
    caught(generator, generator.runtime.generate(TextRequest(prompts=["word " * 5000])), ContextOverflowError)


@pytest.mark.parametrize("key", ["wrong", None], ids=["wrong", "missing"])
def test_a_key_that_is_not_accepted(connect, vllm, ask, key):
    client = connect(vllm.chat, api_key=key)
    error = caught(client, client.runtime.chat(ask("Hi")), AuthenticationError)
    assert error.status == 401
    assert error.hint
    caught_streaming(client, client.runtime.stream_chat(ask("Hi")), AuthenticationError)


BAD_FIELDS = [
    {"temperature": 3},
    {"top_p": 0},
    {"stop": ["a"] * 40},
    {"logprobs": True, "top_logprobs": 1000},
    {"logit_bias": {"999999": 1}},
    {"response_format": {"type": "json_schema"}},
    {"tool_choice": "auto"},
    {"max_tokens": "many"},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=lambda fields: next(iter(fields)))
def test_fields_the_server_refuses(generator, ask, fields):
    error = caught(generator, generator.runtime.chat(ask("Hi", extra_body=fields)), InvalidRequestError)
    assert error.status == 400
    assert error.layer == "runtime"
    caught_streaming(generator, generator.runtime.stream_chat(ask("Hi", extra_body=fields)), InvalidRequestError)


def test_an_image_for_a_model_without_eyes(generator, ask):
    request = ask("Hi")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    seen = type(request)(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}, picture]}])
    error = caught(generator, generator.runtime.chat(seen), InvalidRequestError)
    assert "iVBORw0KGgo" not in str(error)


def test_a_server_that_cannot_do_this(generator, embedder, ask):
    with pytest.raises(NotFoundError):
        embedder.run(embedder.runtime.chat(ask("Hi", model=embedder.runtime.model)))
    with pytest.raises(NotFoundError):
        generator.run(generator.runtime.embed(EmbeddingRequest(texts=["a"])))


def test_a_path_that_is_not_there(connect, vllm, ask):
    client = connect(vllm.chat, base_url=vllm.chat["base_url"].replace("/v1", "/nowhere/v1"))
    with pytest.raises(NotFoundError) as info:
        client.run(client.runtime.chat(ask("Hi")))
    assert info.value.status == 404


def test_nobody_listening(connect, vllm, ask):
    client = connect(vllm.chat, base_url=f"http://127.0.0.1:{free_ports(1)[0]}/v1")
    with pytest.raises(EndpointConnectionError):
        client.run(client.runtime.chat(ask("Hi")))


def test_an_error_names_no_prompt(generator, ask):
    with pytest.raises(ResponseError) as info:
        generator.run(generator.runtime.chat(ask("my secret plan", extra_body={"temperature": 9})))
    assert isinstance(info.value, KServeError)
    assert "secret plan" not in str(info.value)
