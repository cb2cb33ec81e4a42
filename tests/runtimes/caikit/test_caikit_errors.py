"""What a real Caikit server refuses, over REST and gRPC, and the errors that become of it."""

from __future__ import annotations

import pytest
from runtimes.processes import free_ports
from runtimes.prompts import ask

from kserve_core.capabilities import EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    RequestTooLargeError,
    ServerError,
)

EMBEDDER = "minilm"


def caught(client, exchange, kind):
    with pytest.raises(kind) as info:
        client.run(exchange)
    assert type(info.value) is kind
    return info.value


def caught_streaming(client, request, kind):
    with pytest.raises(kind) as info:
        list(client.stream(client.runtime.stream_generate(request)))
    assert type(info.value) is kind
    assert info.value.partial_text == ""
    return info.value


def test_an_unknown_model(client):
    error = caught(client, client.runtime.generate(ask("Hi", model="tinny")), ModelNotFoundError)
    assert error.status == 404
    assert "Did you mean 'tiny'?" in error.hint
    assert not error.retryable
    caught_streaming(client, ask("Hi", model="tinny"), ModelNotFoundError)
    caught(client, client.runtime.embed(EmbeddingRequest(texts=["a"], model="absent")), ModelNotFoundError)
    request = RerankRequest(query="a", documents=["b"], model="absent")
    caught(client, client.runtime.rerank(request), ModelNotFoundError)
    caught(client, client.runtime.similarity("a", ["b"], model="absent"), ModelNotFoundError)


def test_no_model_where_there_are_several(connect, client):
    unnamed = connect(client.endpoint.base_url, model=None)
    error = caught(unnamed, unnamed.runtime.generate(ask("Hi")), ConfigurationError)
    for name in ("minilm", "tiny", "unreachable"):
        assert name in error.hint


def test_a_text_longer_than_the_embedding_model_takes(client):
    long = "word " * 1000
    request = EmbeddingRequest(texts=["short", long], model=EMBEDDER)
    error = caught(client, client.runtime.embed(request), ContextOverflowError)
    assert error.status == 400
    assert "index: 1" in error.server_message
    assert error.hint
    rerank = RerankRequest(query="a", documents=[long], model=EMBEDDER)
    caught(client, client.runtime.rerank(rerank), ContextOverflowError)
    caught(client, client.runtime.similarity("a", [long], model=EMBEDDER), ContextOverflowError)


def test_a_prompt_longer_than_the_text_model_takes(client):
    error = caught(client, client.runtime.generate(ask("word " * 9000)), ContextOverflowError)
    assert "4096" in error.server_message
    caught_streaming(client, ask("word " * 9000), ContextOverflowError)


REFUSED = [
    pytest.param(ask("Hi", extra_body={"decoding_method": "BEAM"}), id="decoding_method"),
    pytest.param(ask("Hi", params={"max_tokens": 100_000}), id="max_tokens"),
    pytest.param(ask("Hi", params={"repetition_penalty": 50.0}), id="repetition_penalty"),
    pytest.param(ask("Hi", params={"stop": list("abcdefg")}), id="stop"),
]


@pytest.mark.parametrize("request_", REFUSED)
def test_what_the_server_or_the_one_behind_it_refuses(client, request_):
    error = caught(client, client.runtime.generate(request_), InvalidRequestError)
    assert error.status == 400
    assert error.server_message
    assert not error.retryable
    streamed = caught_streaming(client, request_, InvalidRequestError)
    assert streamed.status == 400


def test_a_parameter_the_server_does_not_have(rest):
    error = caught(rest, rest.runtime.generate(ask("Hi", extra_body={"beams": 4})), InvalidRequestError)
    assert error.status == 422
    assert "beams" in error.message
    streamed = caught_streaming(rest, ask("Hi", extra_body={"beams": 4}), InvalidRequestError)
    assert streamed.status == 422


def test_a_value_of_the_wrong_kind(rest):
    error = caught(rest, rest.runtime.generate(ask("Hi", extra_body={"top_k": "many"})), InvalidRequestError)
    assert error.status == 422
    assert "top_k" in error.message


def test_a_parameter_that_grpc_does_not_have(grpc):
    """There the message has no place for it, so nothing is sent."""
    with pytest.raises(ConfigurationError) as info:
        grpc.run(grpc.runtime.generate(ask("Hi", extra_body={"beams": 4})))
    assert "beams" in str(info.value)


def test_a_task_the_model_does_not_have(client):
    """The server runs whatever the model can do, and calls that a success."""
    error = caught(client, client.runtime.generate(ask("Hi", model=EMBEDDER)), BadResponseError)
    assert EMBEDDER in error.message
    assert error.hint
    error = caught(client, client.runtime.embed(EmbeddingRequest(texts=["a"], model="tiny")), BadResponseError)
    assert "tiny" in error.message
    for exchange in (
        client.runtime.rerank(RerankRequest(query="a", documents=["b"], model="tiny")),
        client.runtime.similarity("a", ["b"], model="tiny"),
    ):
        with pytest.raises(KServeError):
            client.run(exchange)


def test_streaming_from_a_model_that_cannot(client):
    error = caught_streaming(client, ask("Hi", model=EMBEDDER), NotFoundError)
    assert EMBEDDER in error.message


def test_nobody_behind_the_server(client):
    error = caught(client, client.runtime.generate(ask("Hi", model="unreachable")), NotReadyError)
    assert error.status == 501
    assert error.retryable
    assert "TGIS" in error.hint


def test_nobody_behind_a_stream(client):
    with pytest.raises(ServerError) as info:
        list(client.stream(client.runtime.stream_generate(ask("Hi", model="unreachable"))))
    assert info.value.retryable
    assert info.value.partial_text == ""


def test_a_request_larger_than_grpc_takes(grpc):
    request = TextRequest(prompts=["x" * (5 << 20)], params={"max_tokens": 2})
    assert not caught(grpc, grpc.runtime.generate(request), RequestTooLargeError).retryable


def test_the_same_request_over_rest_is_too_long_for_the_model(rest):
    request = TextRequest(prompts=["word " * (1 << 17)], params={"max_tokens": 2})
    caught(rest, rest.runtime.generate(request), ContextOverflowError)


def test_an_answer_larger_than_grpcs_usual_limit(grpc):
    back = {"return_documents": True, "return_text": True}
    documents = ["x" * 2_200_000]  # comes back twice
    request = RerankRequest(query="a", documents=documents, model=EMBEDDER, truncate=-1, extra_body=back)
    assert len(grpc.run(grpc.runtime.rerank(request)).results) == 1


def test_a_path_that_is_not_there(connect, servers):
    client = connect(f"{servers['plain']['rest']}/nowhere")
    error = caught(client, client.runtime.generate(ask("Hi")), NotFoundError)
    assert "route_prefix" in error.hint


def test_errors_name_no_prompt(client):
    secret = "my secret plan "
    for request in (
        ask(secret * 3000),
        ask(secret, model="absent"),
        ask(secret, model="unreachable"),
        ask(secret, extra_body={"decoding_method": "BEAM"}),
    ):
        with pytest.raises(KServeError) as info:
            client.run(client.runtime.generate(request))
        response = info.value.response
        assert "secret" not in str(info.value) + info.value.server_message + (response.text if response else "")


def test_a_refusal_that_echoes_the_prompt(rest):
    """Its body holds what was sent: the prompt, where that is what is wrong."""
    request = ask("Hi", extra_body={"stop_sequences": "my secret plan"})
    with pytest.raises(InvalidRequestError) as info:
        rest.run(rest.runtime.generate(request))
    assert "secret" not in str(info.value) + info.value.server_message + info.value.response.text


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_listening(connect, scheme):
    client = connect(f"{scheme}://127.0.0.1:{free_ports(1)[0]}", timeout=5)
    caught(client, client.runtime.generate(ask("Hi")), EndpointConnectionError)


def test_a_time_budget(connect, client):
    hurried = connect(client.endpoint.base_url, timeout=0.3)
    # The server goes on with a whole answer nobody waits for, so it is not too long a one.
    slow = ask("Say hello.", params={"min_tokens": 400, "max_tokens": 400})
    caught(hurried, hurried.runtime.generate(slow), EndpointTimeoutError)


def test_the_ports_mixed_up(connect, servers):
    client = connect(servers["plain"]["grpc"].replace("grpc://", "http://"), timeout=10)
    with pytest.raises(KServeError):
        client.run(client.runtime.generate(ask("Hi")))
    client = connect(servers["plain"]["rest"].replace("http://", "grpc://"), timeout=10)
    with pytest.raises(KServeError) as info:
        client.run(client.runtime.generate(ask("Hi")))
    assert "gRPC" in str(info.value)
