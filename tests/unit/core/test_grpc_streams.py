"""Streams of the gRPC transport."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing, closing
from typing import Any

import pytest

from kserve_core.errors import (
    EndpointTimeoutError,
    ServerError,
    StreamIdleError,
    StreamInterrupted,
)
from tests.unit.core.grpc_calls import collect, transport, words
from tests.unit.core.grpc_scripted import (
    END,
    GrpcServer,
    abort,
    count_call,
    piece,
    raised,
    stream_call,
    tokens,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Streams


def test_a_stream_gives_its_pieces(mode: str) -> None:
    with GrpcServer(words("a", "b", "c", END)) as server:
        assert collect(mode, transport(server), stream_call()) == ["a", "b", "c"]
        assert server.ended.wait(5)


def test_a_stream_that_ends_well_is_not_seen_as_cancelled(mode: str) -> None:
    active = []

    def answer(_: bytes, context: Any, __: int) -> Any:
        yield piece("a")
        yield piece(END)
        time.sleep(0.1)
        active.append(context.is_active())

    with GrpcServer(answer) as server:
        assert collect(mode, transport(server), stream_call()) == ["a"]
        assert server.ended.wait(5)
    assert active == [True]


def test_a_stream_without_its_end_marker_is_no_answer(mode: str) -> None:
    with GrpcServer(words("a", "b")) as server:
        error = raised(lambda: collect(mode, transport(server), stream_call()))
    assert isinstance(error, StreamInterrupted)
    assert (error.partial_text, error.attempts, len(server.calls)) == ("ab", 1, 1)


def test_a_status_in_the_middle_carries_the_text_so_far_and_is_not_retried(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        yield piece("half")
        time.sleep(0.05)
        abort("UNAVAILABLE", "The backend went away")(request, context, number)

    with GrpcServer(answer) as server:
        error = raised(lambda: collect(mode, transport(server), stream_call()))
        assert isinstance(error, ServerError)
        assert error.partial_text == "half"
        assert error.server_message == "The backend went away"
        assert len(server.calls) == 1


def test_a_server_that_dies_in_the_middle_interrupts_the_stream(mode: str) -> None:
    with GrpcServer(words("half", 30.0)) as server:
        client = transport(server)
        threading.Timer(0.3, server._server.stop, (0,)).start()
        error = raised(lambda: collect(mode, client, stream_call()))
    assert isinstance(error, StreamInterrupted)
    assert error.partial_text == "half"
    assert not isinstance(error, StreamIdleError)


def test_an_error_before_the_first_message_is_retried(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        if number < 3:
            abort("RESOURCE_EXHAUSTED", "Model is overloaded")(request, context, number)
        yield piece("a")
        yield piece(END)

    with GrpcServer(answer) as server:
        assert collect(mode, transport(server), stream_call()) == ["a"]
        assert len(server.calls) == 3


def test_the_first_message_must_come_within_the_time_budget(mode: str) -> None:
    with GrpcServer(words(3.0, "a", END)) as server:
        error = raised(lambda: collect(mode, transport(server, timeout=1.0), stream_call()))
        assert type(error) is EndpointTimeoutError
        assert server.ended.wait(5)


def test_a_stream_may_take_longer_than_the_time_budget(mode: str) -> None:
    with GrpcServer(words(*["a", 0.3] * 5, END)) as server:
        assert collect(mode, transport(server, timeout=1.0), stream_call()) == ["a"] * 5


def test_a_silent_stream_is_ended(mode: str) -> None:
    with GrpcServer(words("a", 10.0, END)) as server:
        error = raised(lambda: collect(mode, transport(server, idle_timeout=0.3), stream_call()))
        assert isinstance(error, StreamIdleError)
        assert error.partial_text == "a"
        assert server.ended.wait(5)


def test_the_time_a_reader_takes_is_not_silence(mode: str) -> None:
    with GrpcServer(words("a", "b", "c", END)) as server:
        client = transport(server, idle_timeout=0.2)
        if mode == "sync":
            pieces = []
            for text in client.stream(stream_call()):
                time.sleep(0.5)
                pieces.append(text)
        else:

            async def slow() -> list[str]:
                found = []
                async for text in client.astream(stream_call()):
                    await asyncio.sleep(0.5)
                    found.append(text)
                return found

            pieces = asyncio.run(slow())
    assert pieces == ["a", "b", "c"]


def test_leaving_a_stream_cancels_the_call(mode: str) -> None:
    with GrpcServer(words(*["a", 0.01] * 10_000)) as server:
        client = transport(server)
        if mode == "sync":
            with closing(client.stream(stream_call())) as stream:
                assert next(stream) == "a"
                assert not server.ended.is_set()
            assert server.ended.wait(5)
        else:

            async def leave() -> None:
                async with aclosing(client.astream(stream_call())) as stream:
                    assert await stream.__anext__() == "a"
                    assert not server.ended.is_set()
                assert await asyncio.to_thread(server.ended.wait, 5)

            asyncio.run(leave())


@pytest.mark.parametrize("streamed", [True, False])
def test_cancelling_a_task_cancels_the_call(streamed: bool) -> None:
    def slow(_: bytes, __: Any, ___: int) -> bytes:
        time.sleep(3)
        return tokens(1)

    with GrpcServer(words("a", 10.0) if streamed else slow) as server:
        client = transport(server)

        async def cancel() -> None:
            async def work() -> None:
                if streamed:
                    async for _ in client.astream(stream_call()):
                        pass
                else:
                    await client.arun(count_call())

            task = asyncio.ensure_future(work())
            while not server.calls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.ended.wait, 2)

        asyncio.run(cancel())


def test_streams_that_were_left_are_not_watched_any_more() -> None:
    from kserve_core.grpc_streams import WATCHDOG

    with GrpcServer(words(*["a", 0.01] * 1000)) as server:
        client = transport(server)
        for _ in range(10):
            with closing(client.stream(stream_call())) as stream:
                next(stream)
        assert WATCHDOG.watched == 0
