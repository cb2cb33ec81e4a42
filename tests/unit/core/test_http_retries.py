"""When the HTTP transport sends again, and what token it sends."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    EndpointConnectionError,
    KServeError,
    NameResolutionError,
    NotReadyError,
    RateLimitError,
    ServerError,
)
from kserve_core.http_transport import HttpTransport
from tests.unit.core.http_calls import TOKEN, collect, run, transport
from tests.unit.core.scripted import (
    ROUTER_PAGE,
    Close,
    ServerSide,
    answer,
    get,
    post,
    streaming,
    whole_stream,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Retries and the time budget


def test_overloaded_server_is_asked_again(mode: str) -> None:
    with ServerSide(answer(503, {"error": "busy"}), answer(502, b"", None), answer(body={"ok": 1})) as server:
        assert run(mode, transport(server), post()) == {"ok": 1}
    assert len(server.requests) == 3
    assert len({seen.body for seen in server.requests}) == 1


def test_retries_are_bounded_and_counted(mode: str) -> None:
    with ServerSide(answer(503, {"error": "busy"})) as server:
        with pytest.raises(ServerError) as caught:
            run(mode, transport(server, max_retries=3), post())
    assert caught.value.attempts == len(server.requests) == 4
    assert "requests sent: 4" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(503, ROUTER_PAGE, "text/html"), NotReadyError),
        (answer(429, {"error": "slow down"}), RateLimitError),
        (answer(400, {"error": "Model m is not ready yet."}), NotReadyError),
        ([Close()], EndpointConnectionError),
        (answer(401, {"error": "Unauthorized"}), AuthenticationError),
    ],
)
def test_max_retries_zero_sends_exactly_once(mode: str, script: Any, error: type[KServeError], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with ServerSide(script) as server:
        with pytest.raises(error) as caught:
            run(mode, transport(server, max_retries=0, api_key=token), post())
    assert caught.value.attempts == len(server.requests) == 1


def test_plain_failures_are_not_retried(mode: str) -> None:
    with ServerSide(
        answer(400, {"error": "bad"}), answer(500, {"error": "worse"}), answer(404, {"detail": "x"})
    ) as server:
        used = transport(server)
        for _ in range(3):
            with pytest.raises(KServeError) as caught:
                run(mode, used, post())
            assert caught.value.attempts == 1
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "cold",
    [
        answer(503, ROUTER_PAGE, "text/html"),
        answer(400, {"error": "Model m is not ready yet."}),
        answer(
            504,
            b"<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>",
            "text/html",
        ),
        answer(504, b"activator request timeout", "text/plain"),
        answer(503, b"no healthy upstream", "text/plain"),
    ],
)
def test_cold_start_is_waited_out_beyond_max_retries(mode: str, cold: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with ServerSide(*[cold] * 5, answer(body={"ok": 1})) as server, caplog.at_level(logging.INFO, "kserve_core"):
        assert run(mode, transport(server, max_retries=1), post()) == {"ok": 1}
    assert len(server.requests) == 6
    assert any("not ready" in record.getMessage() for record in caplog.records)
    assert "secret words" not in caplog.text


def test_cold_start_of_a_stream_is_waited_out(mode: str) -> None:
    with ServerSide(*[answer(503, ROUTER_PAGE, "text/html")] * 4, whole_stream("a")) as server:
        assert collect(mode, transport(server), streaming()) == ["a"]
    assert len(server.requests) == 5


def test_cold_start_longer_than_the_budget(mode: str) -> None:
    cold = answer(503, ROUTER_PAGE, "text/html")
    last = answer(503, ROUTER_PAGE, "text/html", {"Retry-After": "400"})
    with ServerSide(cold, cold, cold, cold, last) as server:
        with pytest.raises(NotReadyError) as caught:
            run(mode, transport(server, timeout=300), post())
    assert caught.value.attempts == len(server.requests) == 5
    assert caught.value.layer == "router"
    assert "timeout" in caught.value.hint


def test_retry_after_is_honored(mode: str) -> None:
    with ServerSide(answer(429, b"", None, {"Retry-After": "0.3"}), answer(body={"ok": 1})) as server:
        assert run(mode, transport(server), post()) == {"ok": 1}
    assert server.requests[1].at - server.requests[0].at >= 0.29


def test_retry_after_beyond_the_budget_is_not_waited_for(mode: str) -> None:
    with ServerSide(answer(429, b"", None, {"Retry-After": "3600"})) as server:
        with pytest.raises(RateLimitError) as caught:
            run(mode, transport(server), post())
    assert caught.value.retry_after == 3600
    assert caught.value.attempts == len(server.requests) == 1


def test_refused_connection(mode: str) -> None:
    with ServerSide(answer()) as server:
        url = server.url
    with pytest.raises(EndpointConnectionError, match="refused") as caught:
        run(mode, HttpTransport(Endpoint.create(url)), get())
    assert caught.value.attempts == 3
    assert caught.value.layer == "network"


def test_refused_connection_of_a_host_with_several_addresses(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerSide(answer()) as server:
        port = server.port
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    with pytest.raises(EndpointConnectionError, match="refused"):
        run(mode, HttpTransport(Endpoint.create("http://localhost", max_retries=0)), get())


def test_unknown_host_is_not_retried(mode: str) -> None:
    with pytest.raises(NameResolutionError, match=r"model\.invalid") as caught:
        run(mode, HttpTransport(Endpoint.create("http://model.invalid")), get())
    assert caught.value.attempts == 1


def test_call_that_must_be_sent_once_is(mode: str) -> None:
    with ServerSide(answer(503, ROUTER_PAGE, "text/html")) as server:
        with pytest.raises(NotReadyError):
            run(mode, transport(server), post(retry=False))
        with pytest.raises(NotReadyError):
            collect(mode, transport(server), streaming(retry=False))
    assert len(server.requests) == 2


# Tokens


def test_rotated_token_file_is_picked_up_after_a_401(mode: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    def rotate() -> None:
        token.write_text("new\n")

    refused = answer(401, {"error": "Unauthorized"})
    with ServerSide([rotate, refused], answer(body={"ok": 1})) as server:
        assert run(mode, transport(server, api_key=token), post()) == {"ok": 1}
    assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer old", "Bearer new"]


def test_refused_token_is_refreshed_once_only(mode: str) -> None:
    asked: list[int] = []

    def source() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    with ServerSide(answer(401, {"error": "Unauthorized"})) as server:
        with pytest.raises(AuthenticationError) as caught:
            run(mode, transport(server, api_key=source), post())
    assert caught.value.attempts == len(server.requests) == 2
    assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer token-1", "Bearer token-2"]
    assert "refused" in caught.value.hint


def test_text_token_is_not_sent_again(mode: str) -> None:
    with ServerSide(answer(401, {"error": "Unauthorized"})) as server:
        with pytest.raises(AuthenticationError):
            run(mode, transport(server, api_key=TOKEN), post())
    assert len(server.requests) == 1


def test_coroutine_function_as_token_works_blocking_and_async(mode: str) -> None:
    async def source() -> str:
        await asyncio.sleep(0)
        return "from-coroutine"

    with ServerSide(answer()) as server:
        run(mode, transport(server, api_key=source), post())
    assert server.requests[0].headers["authorization"] == "Bearer from-coroutine"


def test_blocking_call_inside_a_running_loop_can_use_a_coroutine_token() -> None:
    async def source() -> str:
        return "from-coroutine"

    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server, api_key=source)

        async def main() -> Any:
            return used.run(post())

        assert asyncio.run(main()) == {"ok": 1}
