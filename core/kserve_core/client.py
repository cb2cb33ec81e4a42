"""Runs a runtime's exchanges over a transport: single calls, flows of calls, and calls in parallel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Generic, Protocol, TypeVar, overload

from kserve_core import observe
from kserve_core.calls import Exchange, Flow, Given, GrpcStreamCall, Parallel, StreamCall, StreamExchange
from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError
from kserve_core.streamed import collector_for, refuses_streams, streamable, streamed_exchange
from kserve_core.transports import EndpointTransport
from kserve_core.types import ChatResult, TextResult

R = TypeVar("R")
T = TypeVar("T")


class Transport(Protocol):
    """What carries calls. Each transport takes its own kind of them (`Call` and `StreamCall` over HTTP)."""

    def run(self, call: Any) -> Any:
        """Sends a call and waits for its answer."""

    async def arun(self, call: Any) -> Any:
        """As `run`, from an event loop."""

    def stream(self, call: Any) -> Generator[Any, None, None]:
        """Sends a call and yields the pieces of its answer."""

    def astream(self, call: Any) -> AsyncGenerator[Any, None]:
        """As `stream`, from an event loop."""

    def close(self) -> None:
        """Closes what blocking calls hold open."""

    async def aclose(self) -> None:
        """Closes what this event loop's calls hold open, and what blocking calls do."""


class RuntimeClient(Generic[R]):
    """A runtime at an endpoint: the runtime makes exchanges, this runs them.

    Safe to share between threads and event loops; pickles (connections are left behind).

    Args:
        endpoint: Where the runtime is.
        runtime: The codec that makes the exchanges.
        transport: What carries them all; HTTP or gRPC to the endpoint, by the kind of call, unless given.
    """

    def __init__(self, endpoint: Endpoint, runtime: R, *, transport: Transport | None = None) -> None:
        self.endpoint = endpoint
        self.runtime: R = runtime
        if transport is None:
            transport = EndpointTransport(endpoint, probe=getattr(runtime, "probe", None))
        self.transport: Transport = transport
        self._no_streams = False  # whether the endpoint said that it does not stream

    def __repr__(self) -> str:
        return f"RuntimeClient({self.endpoint!r}, {type(self.runtime).__name__})"

    def run(self, exchange: Exchange[T], *, about: Any = None) -> T:
        """Runs an exchange and returns its result.

        Args:
            exchange: The exchange.
            about: For telemetry: the request the exchange is made for (`ChatRequest`, `EmbeddingRequest`, ..., or
                `observe.Named`). Without it the exchange is no operation of its own in traces.

        Raises:
            KServeError: What the exchange's calls raised and its flow did not handle.
        """
        if about is None or observe.active is None:
            return self._run(exchange)
        with observe.active.operation(self, about) as operation:
            return operation.result(self._run(exchange))

    def _run(self, exchange: Exchange[T]) -> T:
        if not isinstance(exchange, Generator):
            return self.transport.run(exchange)  # type: ignore[no-any-return]
        with closing(exchange):
            return self._flow(exchange)

    async def arun(self, exchange: Exchange[T], *, about: Any = None) -> T:
        """As `run`, from an event loop."""
        if about is None or observe.active is None:
            return await self._arun(exchange)
        with observe.active.operation(self, about) as operation:
            return operation.result(await self._arun(exchange))

    async def _arun(self, exchange: Exchange[T]) -> T:
        if not isinstance(exchange, Generator):
            return await self.transport.arun(exchange)  # type: ignore[no-any-return]
        with closing(exchange):
            return await self._aflow(exchange)

    def stream(self, exchange: StreamExchange[T], *, about: Any = None) -> Generator[T, None, None]:
        """Runs an exchange and yields its pieces; close the generator to stop the server. `about` is as in `run`."""
        if about is None or observe.active is None:
            return self._stream(exchange)
        return observe.active.operation(self, about, streamed=True).pieces(self._stream(exchange))

    def _stream(self, exchange: StreamExchange[T]) -> Generator[T, None, None]:
        call: Any = exchange
        if isinstance(exchange, Generator):
            with closing(exchange):
                call = self._flow(exchange)
        if isinstance(call, Given):
            yield from call.pieces
            return
        with closing(self.transport.stream(call)) as pieces:
            yield from pieces

    def astream(self, exchange: StreamExchange[T], *, about: Any = None) -> AsyncGenerator[T, None]:
        """As `stream`, from an event loop."""
        if about is None or observe.active is None:
            return self._astream(exchange)
        return observe.active.operation(self, about, streamed=True).apieces(self._astream(exchange))

    async def _astream(self, exchange: StreamExchange[T]) -> AsyncGenerator[T, None]:
        call: Any = exchange
        if isinstance(exchange, Generator):
            with closing(exchange):
                call = await self._aflow(exchange)
        if isinstance(call, Given):
            for piece in call.pieces:
                yield piece
            return
        async with aclosing(self.transport.astream(call)) as pieces:
            async for piece in pieces:
                yield piece

    @overload
    def answer(self, request: ChatRequest, *, runtime: Any = None, streamed: bool | None = None) -> ChatResult: ...
    @overload
    def answer(self, request: TextRequest, *, runtime: Any = None, streamed: bool | None = None) -> TextResult: ...
    def answer(self, request: Any, *, runtime: Any = None, streamed: bool | None = None) -> Any:
        """Answers a conversation, or completes prompts, and returns the whole answer.

        The answer travels as a stream where that makes no difference to it, so that a proxy does not end a long
        generation for its silence; see `Endpoint.stream_invoke`. With an endpoint that does not stream, it travels
        whole, from then on at once.

        Args:
            request: The conversation or the prompts.
            runtime: What makes the exchanges, if it is not this client's runtime itself (a chat template around it).
            streamed: True or False go before the endpoint's setting. It stays whole if the request cannot be streamed.

        Raises:
            KServeError: If there is no answer, or it is an error.
        """
        runtime = self.runtime if runtime is None else runtime
        if observe.active is None:
            return self._answer(request, runtime, streamed, None)
        with observe.active.operation(self, request) as operation:
            return operation.result(self._answer(request, runtime, streamed, operation))

    def _answer(self, request: Any, runtime: Any, streamed: bool | None, noted: observe.Operation | None) -> Any:
        refused = False
        if self._streams(request, streamed):
            collector: Any = collector_for(request)
            try:
                with closing(self._stream(streamed_exchange(runtime, request))) as pieces:
                    for piece in pieces:
                        if noted is not None:
                            noted.first_piece()
                            noted = None
                        collector.take(piece)
                return collector.result()
            except KServeError as exc:
                if not refuses_streams(exc):
                    raise
                refused = not isinstance(exc, ConfigurationError)
        result = self._run(_whole(runtime, request))
        self._no_streams = self._no_streams or refused
        return result

    @overload
    async def aanswer(
        self, request: ChatRequest, *, runtime: Any = None, streamed: bool | None = None
    ) -> ChatResult: ...
    @overload
    async def aanswer(
        self, request: TextRequest, *, runtime: Any = None, streamed: bool | None = None
    ) -> TextResult: ...
    async def aanswer(self, request: Any, *, runtime: Any = None, streamed: bool | None = None) -> Any:
        """As `answer`, from an event loop."""
        runtime = self.runtime if runtime is None else runtime
        if observe.active is None:
            return await self._aanswer(request, runtime, streamed, None)
        with observe.active.operation(self, request) as operation:
            return operation.result(await self._aanswer(request, runtime, streamed, operation))

    async def _aanswer(self, request: Any, runtime: Any, streamed: bool | None, noted: observe.Operation | None) -> Any:
        refused = False
        if self._streams(request, streamed):
            collector: Any = collector_for(request)
            try:
                async with aclosing(self._astream(streamed_exchange(runtime, request))) as pieces:
                    async for piece in pieces:
                        if noted is not None:
                            noted.first_piece()
                            noted = None
                        collector.take(piece)
                return collector.result()
            except KServeError as exc:
                if not refuses_streams(exc):
                    raise
                refused = not isinstance(exc, ConfigurationError)
        result = await self._arun(_whole(runtime, request))
        self._no_streams = self._no_streams or refused
        return result

    def _streams(self, request: Any, streamed: bool | None) -> bool:
        wanted = self.endpoint.streams_whole_answers and not self._no_streams if streamed is None else streamed
        return wanted and streamable(request)

    def close(self) -> None:
        """Closes the connections of blocking calls."""
        self.transport.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop and of blocking calls."""
        await self.transport.aclose()

    def _flow(self, flow: Flow[T]) -> T:
        error: KServeError | None
        value: Any
        try:
            step = next(flow)
            while True:
                error, value = None, None
                try:
                    value = self._parallel(step) if isinstance(step, Parallel) else self._call(step)
                except KServeError as exc:
                    error = exc
                step = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _aflow(self, flow: Flow[T]) -> T:
        error: KServeError | None
        value: Any
        try:
            step = next(flow)
            while True:
                error, value = None, None
                try:
                    if isinstance(step, Parallel):
                        value = await self._aparallel(step)
                    else:
                        value = await self._acall(step)
                except KServeError as exc:
                    error = exc
                step = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _call(self, call: Any) -> Any:
        """A call's result; a streamed one's is the list of its pieces."""
        if not isinstance(call, (StreamCall, GrpcStreamCall)):
            return self.transport.run(call)
        with closing(self.transport.stream(call)) as pieces:
            return list(pieces)

    async def _acall(self, call: Any) -> Any:
        if not isinstance(call, (StreamCall, GrpcStreamCall)):
            return await self.transport.arun(call)
        async with aclosing(self.transport.astream(call)) as pieces:
            return [piece async for piece in pieces]

    def _parallel(self, step: Parallel[T]) -> list[T | KServeError]:
        """Runs calls in worker threads; an unexpected exception stops those not yet begun."""
        run = self._call if observe.active is None else observe.active.batched(self._call, len(step.calls))

        def work(index: int, call: Any) -> T | KServeError:
            try:
                result: T | KServeError = run(call)
            except KServeError as exc:
                result = exc
            if step.on_done is not None:
                step.on_done(index)
            return result

        workers = max(1, min(step.limit, len(step.calls)))
        if workers == 1:
            return [work(index, call) for index, call in enumerate(step.calls)]
        pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="kserve")
        try:
            # Each in a copy of the caller's context, so that a trace of one knows its parent.
            futures = [
                pool.submit(contextvars.copy_context().run, work, index, call) for index, call in enumerate(step.calls)
            ]
            concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    async def _aparallel(self, step: Parallel[T]) -> list[T | KServeError]:
        """Runs calls in tasks; cancelling this, or an unexpected exception, cancels them all."""
        results: list[Any] = [None] * len(step.calls)
        remaining = iter(enumerate(step.calls))
        run = self._acall if observe.active is None else observe.active.abatched(self._acall, len(step.calls))

        async def work() -> None:
            for index, call in remaining:
                try:
                    results[index] = await run(call)
                except KServeError as exc:
                    results[index] = exc
                if step.on_done is not None:
                    step.on_done(index)

        workers = max(1, min(step.limit, len(step.calls)))
        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return results


def _whole(runtime: Any, request: ChatRequest | TextRequest) -> Exchange[Any]:
    exchange: Exchange[Any]
    exchange = runtime.chat(request) if isinstance(request, ChatRequest) else runtime.generate(request)
    return exchange
