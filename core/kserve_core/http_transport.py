"""Runs calls over HTTP/1.1, blocking or from an event loop.

The conversation around a call (tokens, retries, time budget) is `retry.converse`, what is said in it
`http_messages.Sending`; here the actions are carried out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from kserve_core.calls import Call, Response, StreamCall
from kserve_core.errors import KServeError
from kserve_core.http_failures import BROKEN, connection_error
from kserve_core.http_messages import Body, Sending, is_stream
from kserve_core.http_pool import AsyncAnswer, AsyncPool, SyncAnswer, SyncPool, proxy_for
from kserve_core.retry import Send
from kserve_core.stream_reader import StreamReader
from kserve_core.transport_base import BaseTransport

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


class HttpTransport(BaseTransport[Pool, LoopPool]):
    """Sends calls to one endpoint; safe to share between threads and event loops, and to pickle or fork.

    Connections are made at the first call and kept: one pool per process for blocking calls, one per event loop for
    async ones. A stream that is left early closes its connection, so that the server stops generating.

    Args:
        endpoint: Where to send.
        probe: Makes the call that asks whether the model is ready, for calls that bring none themselves.
    """

    _call_type = Call

    def _sending(self, call: Call[Any] | StreamCall[Any]) -> Sending:
        return Sending(self.endpoint, call)

    # Streams

    def stream(self, call: StreamCall[T]) -> Generator[T, None, None]:
        """Sends a call and yields the pieces of its answer as they come; close the generator to stop it.

        Raises:
            KServeError: If there is no answer, it is an error, or it ends before the runtime said it was complete.
        """
        sending = Sending(self.endpoint, call)
        opened: _Opened[T, SyncAnswer] = self._drive(sending)
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
            sending.ended(reader)

    async def astream(self, call: StreamCall[T]) -> AsyncGenerator[T, None]:
        """As `stream`, from an event loop."""
        sending = Sending(self.endpoint, call)
        opened: _Opened[T, AsyncAnswer] = await self._adrive(sending)
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
            sending.ended(reader)

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
                sending.answered(status, headers, began)
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
        sending.answered(status, headers, began, len(response.body))
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
                sending.answered(status, headers, began)
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
        sending.answered(status, headers, began, len(response.body))
        return response

    # Pools

    def _sync_pool(self) -> Pool:
        self._check_process()
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
        self._check_process()
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            with self._lock:
                self._forget_closed_loops()
                pool = self._loops[loop] = self._new_loop_pool()
        return pool

    def _new_loop_pool(self) -> LoopPool:
        self.endpoint.warn_if_unverified()
        proxy = proxy_for(self.endpoint)
        if proxy is None:
            return AsyncPool(self.endpoint)
        from kserve_core.http_proxy import AsyncProxyPool

        return AsyncProxyPool(self.endpoint, proxy)


def _next(opened: _Opened[T, Any]) -> Sequence[T]:
    """The pieces of the next part of the body; none if it completes none."""
    reader = opened.reader
    try:
        chunk = opened.answer.read()
        if chunk is None:
            return reader.finish()
        reader.size += len(chunk)
        return reader.feed(chunk)
    except Exception as exc:  # noqa: BLE001 - whatever a decoder raises becomes an error of the tree
        error = _stream_error(reader, exc)
        raise error from (None if error is exc else exc)


async def _anext(opened: _Opened[T, Any]) -> Sequence[T]:
    reader = opened.reader
    try:
        chunk = await opened.answer.read()
        if chunk is None:
            return reader.finish()
        reader.size += len(chunk)
        return reader.feed(chunk)
    except Exception as exc:  # noqa: BLE001 - as above
        error = _stream_error(reader, exc)
        raise error from (None if error is exc else exc)


def _stream_error(reader: StreamReader[Any], exc: Exception) -> KServeError:
    return reader.failed(exc, timed_out=isinstance(exc, TimeoutError), broken=isinstance(exc, BROKEN))
