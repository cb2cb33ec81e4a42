"""Runs calls over HTTP/1.1, blocking or from an event loop.

The conversation around a call (tokens, retries, time budget) is `retry.converse`, what is said in it
`http_messages.Sending`; here the actions are carried out.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from kserve_core.calls import Call, Response, StreamCall
from kserve_core.drive import adrive, drive
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError
from kserve_core.http_failures import BROKEN, connection_error
from kserve_core.http_messages import Body, Sending, is_stream
from kserve_core.http_pool import AsyncAnswer, AsyncPool, SyncAnswer, SyncPool, proxy_for
from kserve_core.retry import Action, RetryPolicy, Send, converse
from kserve_core.stream_reader import StreamReader

if TYPE_CHECKING:
    from kserve_core.http_proxy import AsyncProxyAnswer, AsyncProxyPool, ProxyAnswer, ProxyPool

T = TypeVar("T")
A = TypeVar("A")

Pool: TypeAlias = "SyncPool | ProxyPool"
LoopPool: TypeAlias = "AsyncPool | AsyncProxyPool"

TAIL_SECONDS = 0.25
"""How long to wait for the end of a stream's body after the runtime's own end marker."""


@dataclass(slots=True)
class _Opened(Generic[T, A]):
    """A stream whose first pieces have arrived."""

    answer: A
    reader: StreamReader[T]
    pieces: Sequence[T] = ()


class HttpTransport:
    """Sends calls to one endpoint; safe to share between threads and event loops, and to pickle or fork.

    Connections are made at the first call and kept: one pool per process for blocking calls, one per event loop for
    async ones. A stream that is left early closes its connection, so that the server stops generating.

    Args:
        endpoint: Where to send.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._policy = RetryPolicy(budget=endpoint.timeout, max_retries=endpoint.max_retries)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPool] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.endpoint,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    # Whole answers

    def run(self, call: Call[T]) -> T:
        """Sends a call and waits for its answer.

        Raises:
            KServeError: If there is no answer, or it is an error, after all attempts.
        """
        sending = Sending(self.endpoint, call)
        return sending.finish(call, self._drive(sending))

    async def arun(self, call: Call[T]) -> T:
        """As `run`, from an event loop."""
        sending = Sending(self.endpoint, call)
        return sending.finish(call, await self._adrive(sending))

    # Streams

    def stream(self, call: StreamCall[T]) -> Generator[T, None, None]:
        """Sends a call and yields the pieces of its answer as they come; close the generator to stop it.

        Raises:
            KServeError: If there is no answer, it is an error, or it ends before the runtime said it was complete.
        """
        opened: _Opened[T, SyncAnswer] = self._drive(Sending(self.endpoint, call))
        reader = opened.reader
        try:
            yield from opened.pieces
            reader.wait()
            while not reader.ended:
                pieces = _next(opened)
                if pieces:
                    yield from pieces
                    reader.wait()
            if reader.decoder.finished:
                opened.answer.drain(TAIL_SECONDS)
        finally:
            opened.answer.close()

    async def astream(self, call: StreamCall[T]) -> AsyncGenerator[T, None]:
        """As `stream`, from an event loop."""
        opened: _Opened[T, AsyncAnswer] = await self._adrive(Sending(self.endpoint, call))
        reader = opened.reader
        try:
            for piece in opened.pieces:
                yield piece
            reader.wait()
            while not reader.ended:
                pieces = await _anext(opened)
                if pieces:
                    for piece in pieces:
                        yield piece
                    reader.wait()
            if reader.decoder.finished:
                await opened.answer.drain(TAIL_SECONDS)
        finally:
            await opened.answer.aclose()

    # One attempt

    def _send(self, sending: Sending, action: Send) -> Response | _Opened[Any, SyncAnswer | ProxyAnswer]:
        began = time.monotonic()
        request = sending.request(action)
        answer = None
        keep = False
        try:
            answer = self._sync_pool().send(request)
            status, headers = answer.status, answer.headers
            if sending.streamed and is_stream(status, headers):
                sending.log(status, began)
                opened = _Opened(answer, sending.reader(status, headers, request.deadline))
                while not opened.pieces and not opened.reader.ended:
                    opened.pieces = _next(opened)
                keep = True
                return opened
            body = Body(status, headers, request.deadline)
            while (chunk := answer.read()) is not None:
                if body.add(chunk):
                    break
        except KServeError:
            raise
        except BROKEN as exc:
            raise connection_error(exc, self.endpoint) from exc
        finally:
            if answer is not None and not keep:
                answer.close()
        response = body.response()
        sending.log(status, began, len(response.body))
        return response

    async def _asend(self, sending: Sending, action: Send) -> Response | _Opened[Any, AsyncAnswer | AsyncProxyAnswer]:
        began = time.monotonic()
        request = sending.request(action)
        answer = None
        keep = False
        try:
            answer = await self._loop_pool().send(request)
            status, headers = answer.status, answer.headers
            if sending.streamed and is_stream(status, headers):
                sending.log(status, began)
                opened = _Opened(answer, sending.reader(status, headers, request.deadline))
                while not opened.pieces and not opened.reader.ended:
                    opened.pieces = await _anext(opened)
                keep = True
                return opened
            body = Body(status, headers, request.deadline)
            while (chunk := await answer.read()) is not None:
                if body.add(chunk):
                    break
        except KServeError:
            raise
        except BROKEN as exc:
            raise connection_error(exc, self.endpoint) from exc
        finally:
            if answer is not None and not keep:
                await answer.aclose()
        response = body.response()
        sending.log(status, began, len(response.body))
        return response

    # The conversation

    def _drive(self, sending: Sending) -> Any:
        try:
            return drive(self._talk(sending), self.endpoint.token, lambda action: self._send(sending, action))
        except KServeError as exc:
            sending.complete(exc)
            raise

    async def _adrive(self, sending: Sending) -> Any:
        try:
            return await adrive(self._talk(sending), self.endpoint.token, lambda action: self._asend(sending, action))
        except KServeError as exc:
            sending.complete(exc)
            raise

    def _talk(self, sending: Sending) -> Generator[Action, Any, Any]:
        token = self.endpoint.token
        return converse(
            self._policy,
            judge=sending.judge,
            has_token=token is not None,
            refreshable=token is not None and token.refreshable,
            retry=sending.call.retry,
        )

    # Pools

    def _sync_pool(self) -> Pool:
        if self._pid != os.getpid():
            self._after_fork()
        pool = self._pool
        if pool is None:
            with self._lock:
                pool = self._pool
                if pool is None:
                    pool = self._pool = self._new_pool()
        return pool

    def _new_pool(self) -> Pool:
        self.endpoint.warn_if_unverified()
        proxy = proxy_for(self.endpoint)
        if proxy is None:
            return SyncPool(self.endpoint)
        from kserve_core.http_proxy import ProxyPool

        return ProxyPool(self.endpoint, proxy)

    def _loop_pool(self) -> LoopPool:
        if self._pid != os.getpid():
            self._after_fork()
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            with self._lock:
                for other in [other for other in self._loops if other.is_closed()]:
                    del self._loops[other]
                pool = self._loops[loop] = self._new_loop_pool()
        return pool

    def _new_loop_pool(self) -> LoopPool:
        self.endpoint.warn_if_unverified()
        proxy = proxy_for(self.endpoint)
        if proxy is None:
            return AsyncPool(self.endpoint)
        from kserve_core.http_proxy import AsyncProxyPool

        return AsyncProxyPool(self.endpoint, proxy)

    def _after_fork(self) -> None:
        """The parent's connections are not ours: forget them, and leave them open."""
        _parents.append((self._pool, self._loops))
        self._start()

    def close(self) -> None:
        """Closes the connections of blocking calls; later calls open new ones."""
        if self._pid != os.getpid():
            return
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop and those of blocking calls; later calls open new ones."""
        self.close()
        if self._pid != os.getpid():
            return
        pool = self._loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()


_parents: list[Any] = []
"""What a forked child inherited: closing or collecting it would disturb the parent."""


def _next(opened: _Opened[T, Any]) -> Sequence[T]:
    """The pieces of the next part of the body; none if it completes none."""
    reader = opened.reader
    try:
        chunk = opened.answer.read()
        return reader.finish() if chunk is None else reader.feed(chunk)
    except Exception as exc:  # noqa: BLE001 - whatever a decoder raises becomes an error of the tree
        error = _stream_error(reader, exc)
        raise error from (None if error is exc else exc)


async def _anext(opened: _Opened[T, Any]) -> Sequence[T]:
    reader = opened.reader
    try:
        chunk = await opened.answer.read()
        return reader.finish() if chunk is None else reader.feed(chunk)
    except Exception as exc:  # noqa: BLE001 - as above
        error = _stream_error(reader, exc)
        raise error from (None if error is exc else exc)


def _stream_error(reader: StreamReader[Any], exc: Exception) -> KServeError:
    return reader.failed(exc, timed_out=isinstance(exc, TimeoutError), broken=isinstance(exc, BROKEN))
