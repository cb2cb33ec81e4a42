"""What a real TGIS endpoint refuses, and the errors that become of it."""

from __future__ import annotations

import pytest
from runtimes.processes import free_ports
from runtimes.prompts import ENDLESS, ask

from kserve_core.capabilities import TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    ContextOverflowError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    RequestTooLargeError,
)
from kserve_core.runtimes.caikit import CaikitRuntime


def caught(client, request, kind):
    with pytest.raises(kind) as info:
        client.run(client.runtime.generate(request))
    with pytest.raises(kind) as streamed:
        list(client.stream(client.runtime.stream_generate(request)))
    assert type(info.value) is type(streamed.value) is kind
    assert streamed.value.partial_text == ""
    return info.value


def test_a_prompt_longer_than_the_context(plain):
    error = caught(plain, ask("word " * 9000), ContextOverflowError)
    assert error.status == 400
    assert "4096" in error.server_message
    assert "truncate_prompt_tokens" in error.hint


REFUSED = [
    pytest.param(ask("Hi", params={"max_tokens": 100_000}), "max_new_tokens", id="max_tokens"),
    pytest.param(ask("Hi", params={"adapter_id": "absent"}), "adapter", id="adapter"),
    pytest.param(ask("Hi", params={"prefix_id": "absent"}), "adapter", id="prefix"),
    pytest.param(ask("Hi", extra_body={"decoding": {"repetition_penalty": 3}}), "repetition_penalty", id="penalty"),
    pytest.param(ask("Hi", extra_body={"response": {"token_logprobs": True}}), "token detail", id="details"),
    pytest.param(ask("Hi", extra_body={"stopping": {"stop_sequences": list("abcdefg")}}), "stop sequences", id="stop"),
    pytest.param(ask("Hi", params={"temperature": 1, "typical_p": 0.5}), "logits processors", id="typical_p"),
]


@pytest.mark.parametrize(("request_", "said"), REFUSED)
def test_what_the_server_refuses(plain, request_, said):
    error = caught(plain, request_, InvalidRequestError)
    assert said in error.server_message
    assert error.layer == "runtime"
    assert error.response.headers["grpc-status"] in {"2", "3"}


def test_an_empty_prompt(plain):
    error = caught(plain, TextRequest(prompts=[""], params={"max_tokens": 2}), InvalidRequestError)
    assert not error.retryable


def test_one_bad_prompt_fails_the_batch(plain):
    request = ask("Say hello.", "word " * 9000)
    with pytest.raises(ContextOverflowError):
        plain.run(plain.runtime.generate(request))


def test_a_message_the_server_does_not_take(plain):
    prompt = "x" * (5 << 20)
    error = caught(plain, TextRequest(prompts=[prompt], params={"max_tokens": 2}), RequestTooLargeError)
    assert not error.retryable
    assert prompt[:100] not in str(error)


def test_an_error_names_no_prompt(plain):
    error = caught(plain, ask("my secret plan " * 3000), ContextOverflowError)
    assert "secret" not in str(error) + error.server_message + error.response.text


def test_nobody_listening(connect):
    client = connect(f"grpc://127.0.0.1:{free_ports(1)[0]}", timeout=5)
    error = caught(client, ask("Hi"), EndpointConnectionError)
    assert error.retryable


def test_a_time_budget(connect, servers):
    client = connect(servers["plain"]["base_url"], timeout=0.5)
    with pytest.raises(EndpointTimeoutError):
        client.run(client.runtime.generate(ask("Say hello.", params=ENDLESS)))


def test_rest_spoken_to_a_grpc_port(servers):
    """A user who mixes up the two ports."""
    base_url = servers["plain"]["base_url"].replace("grpc://", "http://")
    client = RuntimeClient(Endpoint.create(base_url, max_retries=0), CaikitRuntime(model="tiny"))
    with pytest.raises(KServeError):
        client.run(client.runtime.generate(ask("Hi")))
    client.close()


def test_grpc_spoken_to_an_http_port(connect, servers):
    client = connect(servers["plain"]["http"].replace("http://", "grpc://"), timeout=10)
    with pytest.raises(KServeError) as info:
        client.run(client.runtime.generate(ask("Hi")))
    assert "gRPC" in str(info.value)
