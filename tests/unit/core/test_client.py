"""Flows: several calls as one exchange, blocking and async."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from contextvars import ContextVar
from typing import Any

import pytest

from kserve_core.calls import Call, Flow, Given, Parallel, StreamCall
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError, NotFoundError, ServerError
from tests.unit.core.scripted import ServerSide, answer, get, streaming, whole_stream

ENDPOINT = Endpoint.create("http://127.0.0.1:9")
TRACE: ContextVar[str] = ContextVar("trace", default="none")


class FakeTransport:
    """Answers a call with what `respond` makes of its path, and counts."""

    def __init__(self, respond: Callable[[str], Any] = lambda path: path, delay: float = 0.0) -> None:
        self.respond = respond
        self.delay = delay
        self.paths: list[str] = []
        self.active = self.most = 0
        self.cancelled = 0
        self.closed: list[str] = []
        self.lock = threading.Lock()

    def _enter(self, path: str) -> None:
        with self.lock:
            self.paths.append(path)
            self.active += 1
            self.most = max(self.most, self.active)

    def run(self, call: Call[Any]) -> Any:
        self._enter(call.path)
        try:
            time.sleep(self.delay)
            return self.respond(call.path)
        finally:
            with self.lock:
                self.active -= 1

    async def arun(self, call: Call[Any]) -> Any:
        self._enter(call.path)
        try:
            await asyncio.sleep(self.delay)
            return self.respond(call.path)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    def stream(self, call: StreamCall[Any]) -> Generator[Any, None, None]:
        try:
            yield from (f"{call.path}-{number}" for number in range(3))
        finally:
            self.closed.append(call.path)

    async def astream(self, call: StreamCall[Any]) -> AsyncGenerator[Any, None]:
        try:
            for number in range(3):
                yield f"{call.path}-{number}"
        finally:
            self.closed.append(call.path)

    def close(self) -> None:
        self.closed.append("close")

    async def aclose(self) -> None:
        self.closed.append("aclose")


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def run(mode: str, transport: FakeTransport, exchange: Any) -> Any:
    client: RuntimeClient[None] = RuntimeClient(ENDPOINT, None, transport=transport)
    return client.run(exchange) if mode == "sync" else asyncio.run(client.arun(exchange))


def collect(mode: str, transport: FakeTransport, exchange: Any) -> list[Any]:
    client: RuntimeClient[None] = RuntimeClient(ENDPOINT, None, transport=transport)
    if mode == "sync":
        return list(client.stream(exchange))

    async def main() -> list[Any]:
        return [piece async for piece in client.astream(exchange)]

    return asyncio.run(main())


def test_single_call(mode: str) -> None:
    assert run(mode, FakeTransport(), get("/a")) == "/a"


def test_flow_is_sent_results_and_returns_a_value(mode: str) -> None:
    def flow() -> Flow[str]:
        first = yield get("/a")
        second = yield get(f"{first}/b")
        return f"<{second}>"

    transport = FakeTransport()
    assert run(mode, transport, flow()) == "</a/b>"
    assert transport.paths == ["/a", "/a/b"]


def test_flow_without_a_call(mode: str) -> None:
    def flow() -> Flow[str]:
        return "known"
        yield

    transport = FakeTransport()
    assert run(mode, transport, flow()) == "known"
    assert transport.paths == []


def failing(*paths: str, error: type[Exception] = NotFoundError) -> Callable[[str], str]:
    def respond(path: str) -> str:
        if path in paths:
            raise error(path)
        return path

    return respond


def test_flow_may_handle_an_error(mode: str) -> None:
    def flow() -> Flow[str]:
        try:
            return (yield get("/a"))  # type: ignore[no-any-return]
        except NotFoundError:
            return (yield get("/b"))  # type: ignore[no-any-return]

    assert run(mode, FakeTransport(failing("/a")), flow()) == "/b"


def test_error_a_flow_does_not_handle(mode: str) -> None:
    closed: list[int] = []

    def flow() -> Flow[str]:
        try:
            return (yield get("/a"))  # type: ignore[no-any-return]
        finally:
            closed.append(1)

    for error in (NotFoundError, ServerError):
        with pytest.raises(error):
            run(mode, FakeTransport(failing("/a", error=error)), flow())
    assert closed == [1, 1]


def parallel(count: int, limit: int = 8, on_done: Callable[[int], None] | None = None) -> Flow[list[Any]]:
    return (yield Parallel(calls=[get(f"/{number}") for number in range(count)], limit=limit, on_done=on_done))  # type: ignore[no-any-return]


def test_parallel_calls_keep_their_order_and_their_errors(mode: str) -> None:
    done: list[int] = []
    results = run(mode, FakeTransport(failing("/2", "/4"), 0.01), parallel(6, 3, done.append))
    assert [item if isinstance(item, str) else type(item) for item in results] == [
        "/0", "/1", NotFoundError, "/3", NotFoundError, "/5",
    ]  # fmt: skip
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (50, 10), (0, 1)])
def test_parallel_calls_are_bounded(mode: str, limit: int, most: int) -> None:
    transport = FakeTransport(delay=0.03)
    assert run(mode, transport, parallel(10, limit)) == [f"/{number}" for number in range(10)]
    assert transport.most <= most


def test_parallel_calls_are_in_flight_together(mode: str) -> None:
    """Each of three calls is answered only when all three have been sent."""

    class Meeting(FakeTransport):
        def __init__(self) -> None:
            super().__init__()
            self.barrier = threading.Barrier(3)

        def run(self, call: Call[Any]) -> Any:
            self.barrier.wait(10)
            return call.path

        async def arun(self, call: Call[Any]) -> Any:
            self.paths.append(call.path)
            for _ in range(1000):
                if len(self.paths) % 3 == 0:
                    return call.path
                await asyncio.sleep(0.005)
            raise AssertionError

    assert run(mode, Meeting(), parallel(3, 3)) == ["/0", "/1", "/2"]


def test_parallel_calls_see_the_callers_context(mode: str) -> None:
    """A trace's span in a parallel call knows its parent."""
    token = TRACE.set("parent")
    try:
        assert run(mode, FakeTransport(lambda _: TRACE.get()), parallel(3, 3)) == ["parent"] * 3
    finally:
        TRACE.reset(token)


def test_no_parallel_calls_at_all(mode: str) -> None:
    assert run(mode, FakeTransport(), parallel(0)) == []


def test_unexpected_exception_stops_the_rest(mode: str) -> None:
    transport = FakeTransport(failing("/0", error=ZeroDivisionError), 0.01)
    with pytest.raises(ZeroDivisionError):
        run(mode, transport, parallel(50, 2))
    assert len(transport.paths) < 10
    assert transport.active == 0


def test_progress_callback_that_fails_stops_the_rest(mode: str) -> None:
    def on_done(index: int) -> None:
        raise ZeroDivisionError

    transport = FakeTransport(delay=0.01)
    with pytest.raises(ZeroDivisionError):
        run(mode, transport, parallel(50, 2, on_done))
    assert len(transport.paths) < 10


def test_cancelling_cancels_every_call() -> None:
    transport = FakeTransport(delay=10)
    client: RuntimeClient[None] = RuntimeClient(ENDPOINT, None, transport=transport)

    async def main() -> None:
        task = asyncio.ensure_future(client.arun(parallel(20, 4)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.cancelled == 4
        assert len(transport.paths) == 4
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_stream(mode: str) -> None:
    transport = FakeTransport()
    assert collect(mode, transport, streaming("/s")) == ["/s-0", "/s-1", "/s-2"]
    assert transport.closed == ["/s"]


def test_flow_that_ends_in_a_stream(mode: str) -> None:
    def flow() -> Flow[StreamCall[str]]:
        model = yield get("/models")
        return streaming(f"{model}/stream")

    transport = FakeTransport()
    assert collect(mode, transport, flow()) == [f"/models/stream-{number}" for number in range(3)]
    assert transport.paths == ["/models"]


def test_flow_of_a_stream_may_have_the_pieces_already(mode: str) -> None:
    def flow() -> Flow[Given[str]]:
        answer = yield get("/whole")
        return Given([answer, "end"])

    assert collect(mode, FakeTransport(), flow()) == ["/whole", "end"]


def test_flow_may_collect_the_pieces_of_streams(mode: str) -> None:
    def flow() -> Flow[list[Any]]:
        one = yield streaming("/a")
        several = yield Parallel(calls=[streaming("/b"), get("/c")])
        return [one, *several]

    transport = FakeTransport()
    assert run(mode, transport, flow()) == [["/a-0", "/a-1", "/a-2"], ["/b-0", "/b-1", "/b-2"], "/c"]
    assert transport.closed == ["/a", "/b"]


def test_leaving_a_stream_closes_the_transports(mode: str) -> None:
    transport = FakeTransport()
    client: RuntimeClient[None] = RuntimeClient(ENDPOINT, None, transport=transport)
    if mode == "sync":
        with closing(client.stream(streaming("/s"))) as stream:
            next(stream)
        assert transport.closed == ["/s"]
    else:

        async def main() -> None:
            async with aclosing(client.astream(streaming("/s"))) as stream:
                await anext(stream)
            assert transport.closed == ["/s"]

        asyncio.run(main())


def test_close_reaches_the_transport() -> None:
    transport = FakeTransport()
    client: RuntimeClient[None] = RuntimeClient(ENDPOINT, None, transport=transport)
    client.close()
    asyncio.run(client.aclose())
    assert transport.closed == ["close", "aclose"]


def test_client_over_http_pickles_and_shows_no_secret() -> None:
    with ServerSide(answer(body={"data": []}), whole_stream("a", "b")) as server:
        client: RuntimeClient[dict[str, int]] = RuntimeClient(Endpoint.create(server.url, api_key="canary"), {"a": 1})
        assert client.run(get()) == {"data": []}
        copy = pickle.loads(pickle.dumps(client))
        assert list(copy.stream(streaming())) == ["a", "b"]
        assert copy.runtime == {"a": 1}
        assert "canary" not in repr(client)
        client.close()
        copy.close()


def test_errors_of_parallel_calls_over_http_count_their_attempts() -> None:
    with ServerSide(answer(400, {"error": "no"})) as server:
        client: RuntimeClient[None] = RuntimeClient(Endpoint.create(server.url), None)
        results = client.run(parallel(5, 5))
        client.close()
    assert all(isinstance(item, KServeError) and item.attempts == 1 for item in results)
    assert len(server.requests) == 5
