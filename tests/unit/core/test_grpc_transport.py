"""What a gRPC call sends, when it is sent again, and how its answer is read."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest

from kserve_core.calls import GrpcFailure
from kserve_core.client import RuntimeClient
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    NotReadyError,
    ServerError,
)
from kserve_core.grpc_transport import GrpcTransport
from tests.unit.core.grpc_calls import TOKEN, collect, count, run, transport, words
from tests.unit.core.grpc_scripted import (
    END,
    GrpcServer,
    abort,
    count_call,
    free_port,
    raised,
    stream_call,
    tokens,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# What is sent


def test_call_carries_message_token_and_headers_as_metadata(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server, api_key=TOKEN, default_headers={"X-Team": "blue", "Accept": "application/json"})
        assert run(mode, client, count_call("hi", metadata={"mm-model-id": "minilm"})) == 1
    seen = server.calls[0]
    assert seen.method == "/fmaas.GenerationService/Tokenize"
    assert seen.body == count_call("hi").request.SerializeToString()
    assert seen.metadata.pop("user-agent").startswith("kserve-integrations/")
    assert seen.metadata == {"authorization": f"Bearer {TOKEN}", "x-team": "blue", "mm-model-id": "minilm"}


def test_metadata_of_a_call_wins_over_default_headers(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, default_headers={"X-Id": "default"}), count_call(metadata={"x-id": "own"}))
    assert server.calls[0].metadata["x-id"] == "own"
    assert "authorization" not in server.calls[0].metadata


@pytest.mark.parametrize("headers", [{"x-name": "Jürgen"}, {"x-trace-bin": "00"}, {"grpc-timeout": "1S"}, {"x!": "1"}])
def test_headers_that_metadata_cannot_carry_are_refused_before_anything_is_sent(headers: dict[str, str]) -> None:
    with GrpcServer(count) as server:
        error = raised(lambda: transport(server, default_headers=headers).run(count_call()))
        assert isinstance(error, ConfigurationError)
        assert next(iter(headers)) in error.message
        assert server.calls == []


def test_a_host_header_becomes_the_authority() -> None:
    authorities = []

    def answer(_: bytes, context: Any, __: int) -> bytes:
        authorities.append(context._rpc_event.call_details.host)
        return tokens(1)

    with GrpcServer(answer) as server:
        transport(server, default_headers={"Host": "model.example.com"}).run(count_call())
    assert authorities == [b"model.example.com"]


def test_the_token_never_goes_unencrypted_to_another_host() -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        Endpoint.create("grpc://model.example.com:8033", api_key=TOKEN)
    for url in ("grpc://m-predictor.ns.svc.cluster.local:8033", "grpc://127.0.0.1:8033", "grpcs://model.example.com"):
        assert Endpoint.create(url, api_key=TOKEN).sends_credentials
    assert Endpoint.create("grpc://model.example.com:8033", api_key=TOKEN, allow_insecure_token=True).sends_credentials


def test_urls_and_where_they_connect_to() -> None:
    targets = {
        "grpc://127.0.0.1:8033": "dns:///127.0.0.1:8033",
        "grpcs://model.example.com": "dns:///model.example.com:443",
        "https://model.example.com": "dns:///model.example.com:443",
        "http://[::1]:8085/": "dns:///[::1]:8085",
    }
    for url, target in targets.items():
        assert Endpoint.create(url).grpc_target == target
    assert Endpoint.create("grpcs://m.example.com:8443").base_url == "grpcs://m.example.com:8443"
    with pytest.raises(ConfigurationError, match="path"):
        GrpcTransport(Endpoint.create("https://model.example.com/v1"))
    with pytest.raises(ConfigurationError, match="path"):
        Endpoint.create("grpcs://model.example.com/v1")


def test_a_grpc_url_is_not_used_for_rest() -> None:
    from tests.unit.core.scripted import get

    client = RuntimeClient(Endpoint.create("grpc://127.0.0.1:1"), None)
    with pytest.raises(ConfigurationError, match="REST"):
        client.run(get("/info/models"))


# Tokens


def test_a_refused_token_is_asked_for_once_more(mode: str) -> None:
    given = iter(["old", "new", "newer"])

    def answer(request: bytes, context: Any, number: int) -> Any:
        if dict(context.invocation_metadata())["authorization"] == "Bearer old":
            return abort("UNAUTHENTICATED", "expired")(request, context, number)
        return tokens(7)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server, api_key=lambda: next(given)), count_call()) == 7
    assert [seen.metadata["authorization"] for seen in server.calls] == ["Bearer old", "Bearer new"]


def test_a_fixed_token_is_sent_once(mode: str) -> None:
    with GrpcServer(abort("UNAUTHENTICATED", f"token {TOKEN} is not known")) as server:
        error = raised(lambda: run(mode, transport(server, api_key=TOKEN), count_call()))
    assert isinstance(error, AuthenticationError)
    assert (error.status, error.attempts, error.layer, len(server.calls)) == (401, 1, "auth proxy", 1)
    assert TOKEN not in repr(error.details()) + str(error) + repr(error.__cause__) + repr(error.__context__)
    assert "token *** is not known" in error.message


# Limits


def test_the_time_budget_is_told_to_the_server_and_kept(mode: str) -> None:
    over = threading.Event()

    def answer(_: bytes, __: Any, number: int) -> bytes:
        if number > 1:
            over.wait(60)
        return tokens(1)

    with GrpcServer(answer) as server:
        client = transport(server, timeout=2.0)

        async def main() -> None:
            await client.arun(count_call())
            await client.arun(count_call())

        def work() -> None:
            if mode == "async":
                asyncio.run(main())
            else:
                client.run(count_call())
                client.run(count_call())

        error = raised(work)
        over.set()
    assert isinstance(error, EndpointTimeoutError)
    assert not isinstance(error, EndpointConnectionError)
    assert [0 < seen.seconds_left < 3.0 for seen in server.calls] == [True, True]


def test_a_calls_own_deadline_comes_before_the_budget(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, timeout=1000), replace(count_call(), deadline=Deadline.after(500)))
    assert 0 < server.calls[0].seconds_left < 510  # older gRPC libraries round up


def test_no_time_budget_means_no_deadline(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, timeout=None), count_call())
    assert server.calls[0].seconds_left > 1e9


def test_messages_may_be_larger_than_four_mebibytes(mode: str) -> None:
    def answer(request: bytes, _: Any, __: int) -> bytes:
        return tokens(len(request)) + b"\x0a\x00" * 3_000_000

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call("x" * 6_000_000)) > 6_000_000


# Retries


def test_a_server_that_is_unavailable_is_asked_again(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        return tokens(5) if number == 3 else abort("UNAVAILABLE", "try later")(request, context, number)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call()) == 5
        assert len(server.calls) == 3


@pytest.mark.parametrize(("options", "call"), [({"max_retries": 0}, {}), ({}, {"retry": False})])
def test_a_call_that_is_sent_once_is_sent_once(mode: str, options: dict[str, Any], call: dict[str, Any]) -> None:
    with GrpcServer(abort("UNAVAILABLE", "try later")) as server:
        error = raised(lambda: run(mode, transport(server, **options), count_call(**call)))
    assert isinstance(error, ServerError)
    assert (error.attempts, len(server.calls)) == (1, 1)


def test_what_cannot_work_later_is_not_sent_again(mode: str) -> None:
    with GrpcServer(abort("INVALID_ARGUMENT", "top_p must be > 0")) as server:
        error = raised(lambda: run(mode, transport(server), count_call()))
    assert isinstance(error, InvalidRequestError)
    assert error.message == "INVALID_ARGUMENT: top_p must be > 0"
    assert len(server.calls) == 1


def test_a_model_that_is_being_loaded_is_waited_for(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        return tokens(1) if number == 6 else abort("UNAVAILABLE", "Model m is not ready yet")(request, context, number)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call()) == 1
        assert len(server.calls) == 6


def test_waiting_for_a_model_ends_with_the_time_budget(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        trailing = {"retry_after": "400"} if number == 5 else {}
        return abort("UNAVAILABLE", "Model m is not ready yet", **trailing)(request, context, number)

    with GrpcServer(answer) as server:
        error = raised(lambda: run(mode, transport(server, timeout=300), count_call()))
    assert isinstance(error, NotReadyError)
    assert error.attempts == len(server.calls) == 5


def test_a_refused_connection_is_tried_as_often_as_over_rest(mode: str) -> None:
    endpoint = Endpoint.create(f"grpc://127.0.0.1:{free_port()}", max_retries=3)
    error = raised(lambda: run(mode, GrpcTransport(endpoint), count_call()))
    assert isinstance(error, EndpointConnectionError)
    assert "refused" in error.message
    assert error.attempts == 4


def test_a_server_that_comes_back_is_found_again(mode: str) -> None:
    port = free_port()
    client = GrpcTransport(Endpoint.create(f"grpc://127.0.0.1:{port}", max_retries=40))

    async def both() -> list[int]:
        call = client.run if mode == "sync" else None
        loop = asyncio.get_running_loop()
        results = []
        for _ in range(2):
            with GrpcServer(count, port=port):
                results.append(
                    await (loop.run_in_executor(None, call, count_call()) if call else client.arun(count_call()))
                )
        return results

    assert asyncio.run(both()) == [1, 1]


# Answers


def test_an_answer_of_another_type_is_not_understood(mode: str) -> None:
    with GrpcServer(lambda *_: b"\xff\xff\xff") as server:
        error = raised(lambda: run(mode, transport(server), count_call()))
    assert isinstance(error, BadResponseError)
    assert "/fmaas.GenerationService/Tokenize" in error.message


def test_a_reader_that_fails_is_an_answer_not_understood(mode: str) -> None:
    with GrpcServer(lambda *_: b"") as server:
        assert isinstance(raised(lambda: run(mode, transport(server), count_call())), BadResponseError)


def test_the_runtime_explains_its_own_statuses(mode: str) -> None:
    seen: list[GrpcFailure] = []

    def explain(failure: GrpcFailure) -> KServeError:
        seen.append(failure)
        return InvalidRequestError("explained")

    with GrpcServer(abort("UNKNOWN", "Unexpected <class 'ValueError'>: boom", x_request_id="r-1")) as server:
        error = raised(lambda: run(mode, transport(server), count_call(explain=explain)))
    assert (error.message, error.status, error.request_id) == ("explained", 500, "r-1")
    assert error.server_message == "Unexpected : boom"
    assert (seen[0].code, seen[0].details) == ("UNKNOWN", "Unexpected <class 'ValueError'>: boom")


def test_nothing_of_a_call_is_logged(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), GrpcServer(words("generated text", END)) as server:
        collect(mode, transport(server, api_key=TOKEN), stream_call())
    text = caplog.text
    assert "/fmaas.GenerationService/GenerateStream: OK" in text
    assert not [word for word in (TOKEN, "secret words", "generated text") if word in text]
