"""Streams of the HTTP transport."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing, closing

import pytest

from kserve_core.errors import (
    BadResponseError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    ServerError,
    StreamIdleError,
    StreamInterrupted,
)
from tests.unit.core.http_calls import collect, transport
from tests.unit.core.scripted import (
    DONE,
    STREAM_END,
    STREAM_HEAD,
    Close,
    Hold,
    Reset,
    ServerSide,
    answer,
    chunk,
    event,
    streaming,
    whole_stream,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Streams


def test_stream_is_delivered_piece_by_piece(mode: str) -> None:
    """The second event is only sent once the first was received."""
    received = threading.Event()
    steps = [STREAM_HEAD, event("a"), lambda: received.wait(5), event("b"), DONE + STREAM_END]
    with ServerSide(steps) as server:
        used = transport(server)
        if mode == "sync":
            stream = used.stream(streaming())
            assert next(stream) == "a"
            received.set()
            assert list(stream) == ["b"]
        else:

            async def main() -> None:
                stream = used.astream(streaming())
                assert await anext(stream) == "a"
                received.set()
                assert [piece async for piece in stream] == ["b"]

            asyncio.run(main())
    assert server.requests[0].headers["accept"] == "text/event-stream"


def test_leaving_a_stream_early_closes_its_connection(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("a"), event("b"), Hold()]) as server:
        used = transport(server)
        if mode == "sync":
            with closing(used.stream(streaming())) as stream:
                assert next(stream) == "a"
            assert server.client_left.wait(2)
        else:

            async def main() -> None:
                async with aclosing(used.astream(streaming())) as stream:
                    assert await anext(stream) == "a"
                assert await asyncio.to_thread(server.client_left.wait, 2)

            asyncio.run(main())


def test_stream_task_cancelled_between_pieces_closes_its_connection() -> None:
    with ServerSide([STREAM_HEAD, event("a"), Hold()]) as server:
        used = transport(server)

        async def consume() -> None:
            async for _ in used.astream(streaming()):
                pass

        async def main() -> None:
            task = asyncio.ensure_future(consume())
            while not server.requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.client_left.wait, 2)

        asyncio.run(main())


def test_stream_that_never_ends_after_its_end_marker_does_not_hang(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("a"), DONE, Hold()]) as server:
        began = time.monotonic()
        assert collect(mode, transport(server, idle_timeout=60), streaming()) == ["a"]
        assert time.monotonic() - began < 30
        assert server.client_left.wait(2)


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_cut_stream_raises_with_the_text_so_far(mode: str, end: object) -> None:
    with ServerSide([STREAM_HEAD, event("Hel"), event("lo"), 0.05, b"20\r\ndata: {", end]) as server:
        with pytest.raises(StreamInterrupted) as caught:
            collect(mode, transport(server), streaming())
    error = caught.value
    assert error.partial_text == "Hello"
    assert (error.status, error.attempts) == (200, 1)
    assert len(server.requests) == 1


def test_stream_that_ends_without_its_end_marker_raises(mode: str) -> None:
    steps = [STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: req-7\r\n\r\n"), event("Hel"), STREAM_END]
    with ServerSide(steps) as server:
        with pytest.raises(StreamInterrupted) as caught:
            collect(mode, transport(server), streaming())
    assert (caught.value.partial_text, caught.value.request_id) == ("Hel", "req-7")
    assert len(server.requests) == 1


def test_error_event_in_a_stream_is_completed(mode: str) -> None:
    steps = [STREAM_HEAD, event("Hel"), 0.05, chunk(b'data: {"error": "engine died"}\n\n'), DONE, STREAM_END]
    with ServerSide(steps) as server:
        with pytest.raises(KServeError, match="engine died") as caught:
            collect(mode, transport(server), streaming())
    assert (caught.value.partial_text, caught.value.status, caught.value.attempts) == ("Hel", 200, 1)


def test_stream_of_nonsense_is_a_bad_response(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("Hel"), 0.05, chunk(b"data: }{\n\n")]) as server:
        with pytest.raises(BadResponseError) as caught:
            collect(mode, transport(server), streaming())
    assert caught.value.partial_text == "Hel"


def test_stream_broken_before_its_first_piece_is_retried(mode: str) -> None:
    with ServerSide([STREAM_HEAD, Close()], whole_stream("a")) as server:
        assert collect(mode, transport(server), streaming()) == ["a"]
    assert len(server.requests) == 2


def test_silent_stream_raises_although_comments_arrive(mode: str) -> None:
    keepalive = [item for _ in range(20) for item in (chunk(b": ping\n\n"), 0.05)]
    with ServerSide([STREAM_HEAD, event("Hel"), *keepalive, event("lo"), DONE, STREAM_END]) as server:
        with pytest.raises(StreamIdleError) as caught:
            collect(mode, transport(server, idle_timeout=0.2), streaming())
    assert caught.value.partial_text == "Hel"
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, StreamInterrupted)
    assert len(server.requests) == 1


def test_slow_reader_does_not_use_up_the_idle_time() -> None:
    with ServerSide([STREAM_HEAD, event("a"), 0.1, event("b"), DONE, STREAM_END]) as server:
        stream = transport(server, idle_timeout=0.25).stream(streaming())
        assert next(stream) == "a"
        time.sleep(0.4)
        assert list(stream) == ["b"]


def test_slow_first_piece_is_bounded_by_the_budget_not_by_the_idle_time(mode: str) -> None:
    with ServerSide([STREAM_HEAD, 0.3, event("a"), DONE, STREAM_END]) as server:
        assert collect(mode, transport(server, idle_timeout=0.1, timeout=5), streaming()) == ["a"]
    with ServerSide([STREAM_HEAD, Hold()]) as server:
        with pytest.raises(EndpointTimeoutError) as caught:
            collect(mode, transport(server, timeout=1.0), streaming())
        assert not isinstance(caught.value, StreamInterrupted)
        assert server.client_left.wait(2)


def test_error_status_of_a_stream_is_read_like_any_other(mode: str) -> None:
    body = {"error": {"message": "temperature must be non-negative", "code": 400}}
    with ServerSide(answer(400, body)) as server:
        with pytest.raises(InvalidRequestError, match="temperature must be"):
            collect(mode, transport(server), streaming())


def test_json_instead_of_a_stream(mode: str) -> None:
    with ServerSide(answer(200, {"error": "generate expects model to produce exactly 1 response"})) as server:
        with pytest.raises(ServerError, match="exactly 1 response"):
            collect(mode, transport(server), streaming())
    with ServerSide(answer(200, {"details": "Model 'nope' not loaded", "code": 404, "id": "ab"})) as server:
        with pytest.raises(KServeError, match="not loaded") as caught:
            collect(mode, transport(server), streaming())
        assert caught.value.request_id == "ab"
    with ServerSide(answer(200, {"text": "whole answer"})) as server:
        with pytest.raises(BadResponseError, match="no event stream"):
            collect(mode, transport(server), streaming())
