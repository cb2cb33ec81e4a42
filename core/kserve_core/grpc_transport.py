"""Runs calls over gRPC, blocking or from an event loop.

The conversation around a call (tokens, retries, time budget) is `retry.converse`, the same as over HTTP; what is said
in it is `grpc_messages.GrpcSending`. Connections that are refused or break count as retries there too, so gRPC's own
`wait_for_ready` and retries are off: they would hide the reason, and how often a request was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kserve_core.calls import GrpcCall, GrpcStreamCall
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import EndpointConnectionError, KServeError, TLSError
from kserve_core.grpc_channel import AsyncChannel, SyncChannel
from kserve_core.grpc_library import grpc
from kserve_core.grpc_messages import GrpcSending
from kserve_core.grpc_pinning import Pinned
from kserve_core.grpc_streams import AsyncStream, SyncStream, being_cancelled
from kserve_core.retry import Send, StaleConnectionError
from kserve_core.stream_reader import StreamReader
from kserve_core.transport_base import BaseTransport, ProbeMaker

T = TypeVar("T")
S = TypeVar("S", SyncStream, AsyncStream)

TAIL_SECONDS = 0.25
"""How long to wait for a stream's status after the runtime's own end marker."""


@dataclass(slots=True)
class _Opened(Generic[T, S]):
    """A stream whose first pieces have arrived."""

    sending: GrpcSending
    stream: S
    reader: StreamReader[T]
    deadline: Deadline
    pieces: Sequence[T] = ()


class GrpcTransport(BaseTransport[SyncChannel, AsyncChannel]):
    """Sends gRPC calls to one endpoint; safe to share between threads and event loops, and to pickle or fork.

    A channel is made at the first call and kept: one per process for blocking calls, one per event loop for async
    ones. Leaving a stream early cancels its call, so that the server stops generating. A message may have up to
    256 MiB, either way.

    Args:
        endpoint: Where to send.
        probe: Makes the call that asks whether the model is ready, for calls that bring none themselves.

    Raises:
        ConfigurationError: If the endpoint's URL has a path.
    """

    _call_type = GrpcCall

    def __init__(self, endpoint: Endpoint, *, probe: ProbeMaker | None = None) -> None:
        self.target = endpoint.grpc_target
        super().__init__(endpoint, probe=probe)

    def _start(self) -> None:
        super()._start()
        self._pinned = Pinned(self.endpoint)

    def _sending(self, call: GrpcCall[Any] | GrpcStreamCall[Any]) -> GrpcSending:
        return GrpcSending(self.endpoint, call)

    # Streams

    def stream(self, call: GrpcStreamCall[T]) -> Generator[T, None, None]:
        """Sends a call and yields the pieces of its answer as they come; close the generator to stop it.

        Raises:
            KServeError: If there is no answer, it is an error, or it ends before the runtime said it was complete.
        """
        sending = GrpcSending(self.endpoint, call)
        opened: _Opened[T, SyncStream] = self._drive(sending)
        reader = opened.reader
        try:
            reader.rest()
            yield from opened.pieces
            while not reader.ended:
                reader.wait()
                pieces = _next(opened)
                reader.rest()
                yield from pieces
            if reader.decoder.finished:
                opened.stream.hurry(TAIL_SECONDS)
                with suppress(grpc.RpcError, TimeoutError):
                    while opened.stream.read() is not None:
                        pass  # the status, so that the server does not see a call that was cancelled
        finally:
            opened.stream.close()
            sending.ended(reader)

    async def astream(self, call: GrpcStreamCall[T]) -> AsyncGenerator[T, None]:
        """As `stream`, from an event loop."""
        sending = GrpcSending(self.endpoint, call)
        opened: _Opened[T, AsyncStream] = await self._adrive(sending)
        reader = opened.reader
        try:
            reader.rest()
            for piece in opened.pieces:
                yield piece
            while not reader.ended:
                reader.wait()
                pieces = await _anext(opened)
                reader.rest()
                for piece in pieces:
                    yield piece
            if reader.decoder.finished:
                opened.stream.hurry(TAIL_SECONDS)
                with suppress(grpc.RpcError, TimeoutError, KServeError):
                    while await opened.stream.read() is not None:
                        pass
        finally:
            opened.stream.close()
            sending.ended(reader)

    # One attempt

    def _send(self, sending: GrpcSending, action: Send) -> bytes | _Opened[Any, SyncStream]:
        began = time.monotonic()
        metadata, deadline = sending.begin(action)
        channel = self._sync_channel(fresh=action.fresh)
        method = channel.method(sending.call.method, streamed=sending.streamed)
        try:
            if sending.streamed:
                return self._open(sending, method(sending.payload, metadata=metadata), deadline, began)
            data: bytes = method(sending.payload, timeout=_left(deadline), metadata=metadata)
        except grpc.RpcError as exc:
            failed = exc
        except ValueError as exc:  # another thread has closed the channel
            raise StaleConnectionError(_CLOSED) from exc
        else:
            sending.answered("OK", began, len(data))
            return data
        # Not inside the handler: the library's exception must not hang on ours, its text may repeat what was sent.
        raise self._failed(sending, failed, deadline, began, fresh=action.fresh)

    async def _asend(self, sending: GrpcSending, action: Send) -> bytes | _Opened[Any, AsyncStream]:
        began = time.monotonic()
        metadata, deadline = sending.begin(action)
        channel = await self._loop_channel(fresh=action.fresh)
        method = channel.method(sending.call.method, streamed=sending.streamed)
        try:
            if sending.streamed:
                return await self._aopen(sending, method(sending.payload, metadata=metadata), deadline, began)
            data: bytes = await method(sending.payload, timeout=_left(deadline), metadata=metadata)
        except grpc.RpcError as exc:
            failed = exc
        except grpc.aio.UsageError as exc:
            raise StaleConnectionError(_CLOSED) from exc
        except asyncio.CancelledError:
            if being_cancelled() is not False:
                raise
            raise EndpointConnectionError(_CLOSED) from None
        else:
            sending.answered("OK", began, len(data))
            return data
        raise self._failed(sending, failed, deadline, began, fresh=action.fresh)

    def _open(self, sending: GrpcSending, rpc: Any, deadline: Deadline, began: float) -> _Opened[Any, SyncStream]:
        stream = SyncStream(rpc, deadline, self.endpoint.idle_timeout)
        opened = _Opened(sending, stream, sending.reader(deadline), deadline)
        keep = False
        try:
            while not opened.pieces and not opened.reader.ended:
                opened.pieces = _next(opened, first=True)
            keep = True
        finally:
            if not keep:
                stream.close()
        sending.answered("OK", began)
        return opened

    async def _aopen(
        self, sending: GrpcSending, rpc: Any, deadline: Deadline, began: float
    ) -> _Opened[Any, AsyncStream]:
        stream = AsyncStream(rpc, deadline, self.endpoint.idle_timeout)
        opened = _Opened(sending, stream, sending.reader(deadline), deadline)
        keep = False
        try:
            while not opened.pieces and not opened.reader.ended:
                opened.pieces = await _anext(opened, first=True)
            keep = True
        finally:
            if not keep:
                stream.close()
        sending.answered("OK", began)
        return opened

    def _failed(self, sending: GrpcSending, exc: Any, deadline: Deadline, began: float, *, fresh: bool) -> KServeError:
        error = _status_error(sending, exc, deadline)
        sending.answered(exc.code().name, began, 0)
        if isinstance(error, TLSError) and self._pinned.known is not None and not fresh:
            # The server has a new certificate: pin that one, on a new channel.
            self._pinned.forget()
            return StaleConnectionError(error.message, **{**error.details(), "layer": "network"})
        return error

    # Channels

    def _sync_channel(self, *, fresh: bool) -> SyncChannel:
        self._check_process()
        channel = self._pool
        if channel is None or fresh:
            pin = self._pinned.get()
            with self._lock:
                if self._pool is channel or self._pool is None:
                    self._pool = self._new(SyncChannel, pin)
                channel = self._pool
        return channel

    async def _loop_channel(self, *, fresh: bool) -> AsyncChannel:
        self._check_process()
        loop = asyncio.get_running_loop()
        channel = self._loops.get(loop)
        if channel is None or channel.closed or fresh:
            pin = await asyncio.to_thread(self._pinned.get) if self._pinned.needed else None
            with self._lock:
                self._forget_closed_loops()
                current = self._loops.get(loop)
                if current is None or current is channel:
                    current = self._loops[loop] = self._new(AsyncChannel, pin)
                channel = current
            await channel.guard()
        return channel

    def _new(self, kind: Any, pin: Any) -> Any:
        self.endpoint.warn_if_unverified()
        return kind(self.endpoint, pin)


_CLOSED = "The channel was closed while it was used."


def _left(deadline: Deadline) -> float | None:
    left = deadline.left()
    return None if left is None else max(left, 0.001)


def _next(opened: _Opened[T, SyncStream], *, first: bool = False) -> Sequence[T]:
    """The pieces of the next message; none if it completes none."""
    reader = opened.reader
    try:
        data = opened.stream.read()
        if data is None:
            return reader.finish()
        reader.size += len(data)
        return reader.feed(opened.sending.parse(data))
    except Exception as exc:  # noqa: BLE001 - whatever a decoder raises becomes an error of the tree
        cause = exc
    raise _stream_error(opened, cause, first=first)


async def _anext(opened: _Opened[T, AsyncStream], *, first: bool = False) -> Sequence[T]:
    reader = opened.reader
    try:
        data = await opened.stream.read()
        if data is None:
            return reader.finish()
        reader.size += len(data)
        return reader.feed(opened.sending.parse(data))
    except Exception as exc:  # noqa: BLE001 - as above
        cause = exc
    raise _stream_error(opened, cause, first=first)


def _stream_error(opened: _Opened[Any, Any], exc: Exception, *, first: bool) -> Exception:
    if not isinstance(exc, grpc.RpcError):
        error = opened.sending.stream_error(opened.reader, exc, begun=not first)
        if error is not exc and not isinstance(exc, TimeoutError):
            error.__cause__ = exc
        return error
    if first:
        failed: Exception = exc
        return failed  # the whole call did
    error = _status_error(opened.sending, exc, opened.deadline)
    return opened.sending.stream_error(opened.reader, error, begun=True)


def _status_error(sending: GrpcSending, exc: Any, deadline: Deadline) -> KServeError:
    return sending.failed(exc.code().name, exc.details(), exc.trailing_metadata(), deadline)
