"""Scripted faults, the log, tokens and TLS over gRPC, as this package's own client meets them."""

from __future__ import annotations

import asyncio

import pytest

from kserve_core.capabilities import TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer, Model
from kserve_core.devserver.__main__ import parser
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    RateLimitError,
    ServerError,
    StreamIdleError,
)
from kserve_core.protos import messages
from kserve_core.runtimes.tgis import TGISRuntime

HELLO = TextRequest(prompts=["Say hello."])
ANSWER = "Hello! How can I help you today?"
GENERATE = "/fmaas.GenerationService/Generate"


@pytest.fixture(scope="module")
def running():
    with DevServer(tgis=True) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.reset()


def client_of(server, **options):
    fields = {"max_retries": 0, "timeout": 10, **options}
    return RuntimeClient(Endpoint.create(server.tgis_url, **fields), TGISRuntime(model="m"))


@pytest.fixture
def client(server):
    made = client_of(server)
    yield made
    made.close()


def whole(client):
    return client.run(client.runtime.generate(HELLO)).generations[0][0].text


def pieces(client):
    return client.stream(client.runtime.stream_generate(HELLO))


def test_the_log_holds_the_request(server, client):
    assert whole(client) == ANSWER
    record = server.requests.last
    assert (record.method, record.path, record.status) == ("GRPC", GENERATE, 0)
    assert record.headers["mm-model-id"] == "m"
    assert messages.fmaas.BatchedGenerationRequest.FromString(record.body).requests[0].text == "Say hello."
    first = record.connection
    whole(client)
    assert server.requests.last.connection == first


def test_the_log_counts_pieces(server, client):
    list(pieces(client))
    record = server.requests.wait(1, closed=True)[0]
    assert record.pieces > 10


def test_a_status_by_name(server, client):
    server.fault(code="INVALID_ARGUMENT", details="max_new_tokens must be <= 7")
    with pytest.raises(InvalidRequestError, match="must be <= 7"):
        whole(client)
    assert server.requests.last.status == 3
    assert whole(client) == ANSWER


def test_only_where_it_is_meant(server, client):
    server.fault(code="INTERNAL", path="GenerateStream")
    assert whole(client) == ANSWER
    with pytest.raises(ServerError):
        list(pieces(client))


def test_overload_is_retried(server):
    client = client_of(server, max_retries=2)
    server.fault(code="RESOURCE_EXHAUSTED", details="Model is overloaded", times=1)
    assert whole(client) == ANSWER
    assert len(server.requests) == 2
    server.fault(code="RESOURCE_EXHAUSTED", details="Model is overloaded", times=9)
    with pytest.raises(RateLimitError):
        whole(client)
    client.close()


def test_a_router_in_front(server, client):
    server.fault(status=503, body="router-page")
    with pytest.raises(KServeError) as caught:
        whole(client)
    assert caught.value.layer == "router"
    assert caught.value.retryable


@pytest.mark.parametrize("cut", ["abrupt", "clean"])
def test_a_cut_stream(server, client, cut):
    server.fault(cut_after=4, cut=cut)
    got = []
    with pytest.raises(KServeError) as caught:
        got.extend(pieces(client))
    text = "".join(chunk.text for chunk in got)
    assert text
    assert ANSWER.startswith(text)
    assert caught.value.partial_text == text
    assert caught.value.retryable
    assert len(server.requests) == 1


def test_an_error_in_the_middle(server, client):
    server.fault(error_after=4)
    with pytest.raises(ServerError, match="EngineCore") as caught:
        list(pieces(client))
    assert ANSWER.startswith(caught.value.partial_text)
    assert caught.value.partial_text


def test_a_piece_that_cannot_be_read(server, client):
    server.fault(malformed_after=3)
    with pytest.raises(BadResponseError):
        list(pieces(client))
    server.fault(malformed_after=0)
    with pytest.raises(BadResponseError):
        whole(client)


def test_silence(server):
    client = client_of(server, idle_timeout=0.2)
    server.fault(idle_after=3)
    with pytest.raises(StreamIdleError):
        list(pieces(client))
    record = server.requests.wait(1, closed=True)[0]
    assert record.cancelled is not None
    client.close()


def test_delay(server):
    client = client_of(server, timeout=0.3)
    server.fault(delay=5)
    with pytest.raises(EndpointTimeoutError):
        whole(client)
    client.close()


def test_a_fault_asked_for_by_the_request(client):
    request = TextRequest(prompts=["a"], headers={"x-devserver-fault": '{"code": "ABORTED"}'})
    with pytest.raises(ServerError):
        client.run(client.runtime.generate(request))
    request = TextRequest(prompts=["a"], headers={"x-devserver-fault": '{"nope": 1}'})
    with pytest.raises(InvalidRequestError, match="nope"):
        client.run(client.runtime.generate(request))


def test_leaving_a_stream_ends_the_call(server):
    with DevServer(tgis=True, pace=0.02) as slow:
        client = client_of(slow)
        stream = pieces(client)
        next(stream)
        stream.close()
        record = slow.requests.wait(1, closed=True)[0]
        assert record.cancelled is not None
        assert record.pieces < 12
        client.close()


async def test_many_calls_at_once_in_an_event_loop(server):
    client = client_of(server)
    texts = await asyncio.gather(*(client.arun(client.runtime.generate(HELLO)) for _ in range(20)))
    assert {result.generations[0][0].text for result in texts} == {ANSWER}
    chunks = [chunk.text async for chunk in client.astream(client.runtime.stream_generate(HELLO))]
    assert "".join(chunks) == ANSWER
    await client.aclose()


def test_a_time_limit_ends_a_slow_stream():
    with DevServer(tgis=True, pace=0.05) as slow:
        client = client_of(slow)
        request = TextRequest(prompts=["Count to ten."], params={"time_limit": 0.12})
        chunks = list(client.stream(client.runtime.stream_generate(request)))
        assert chunks[-1].extra["server_finish_reason"] == "TIME_LIMIT"
        assert chunks[-1].finish_reason == "length"
        client.close()


def test_tokens_are_checked():
    with DevServer(tgis=True, api_key="secret") as guarded:
        client = client_of(guarded, api_key="secret")
        assert whole(client) == ANSWER
        client.close()
        for options in ({}, {"api_key": "wrong"}):
            client = client_of(guarded, **options)
            with pytest.raises(AuthenticationError):
                whole(client)
            client.close()


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(mutual):
    with DevServer(tgis=True, tls=True, mutual_tls=mutual) as secure:
        assert secure.tgis_url.startswith("grpcs://")
        client = client_of(secure, ca_cert=secure.ca_cert, client_cert=secure.client_cert)
        assert whole(client) == ANSWER
        assert client.run(client.runtime.health())
        client.close()


def test_adapters_are_the_models_with_a_parent():
    models = [Model(name="tiny"), Model(name="lora", parent="tiny")]
    with DevServer(tgis=True, models=models) as server:
        client = client_of(server)
        request = TextRequest(prompts=["Say hello."], params={"adapter_id": "lora"})
        assert client.run(client.runtime.generate(request)).generations[0][0].text == ANSWER
        request = TextRequest(prompts=["Say hello."], params={"adapter_id": "other"})
        with pytest.raises(InvalidRequestError, match="other"):
            client.run(client.runtime.generate(request))
        client.close()


def test_without_tgis_there_is_no_url():
    with DevServer() as plain, pytest.raises(RuntimeError, match="without tgis"):
        _ = plain.tgis_url


def test_a_port_that_is_taken():
    with DevServer(tgis=True) as first:
        port = int(first.tgis_url.rpartition(":")[2])
        second = DevServer(tgis=port)
        with pytest.raises(OSError, match="gRPC port"):
            second.start()
        assert "stopped" in repr(second)


def test_the_command_line():
    assert parser().parse_args([]).tgis is False
    assert parser().parse_args(["--tgis"]).tgis == 0
    assert parser().parse_args(["--tgis", "8033"]).tgis == 8033
