"""TCP and TLS byte streams with deadlines: blocking sockets, and asyncio without layers in between."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import ssl
from contextlib import suppress
from typing import cast

from kserve_core.deadline import Deadline

_READ = 256 * 1024
_PAUSE_AT = 1024 * 1024
_OPTIONS: list[tuple[int, int, int]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),  # so that a silent minute does not kill a connection unnoticed
]
for _name, _value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
    if hasattr(socket, _name):
        _OPTIONS.append((socket.IPPROTO_TCP, getattr(socket, _name), _value))


class ConnectTimedOutError(TimeoutError):
    """No connection within the time for one."""


class SyncStream:
    """A blocking byte stream.

    Attributes:
        received: Whether any byte came since this was last set to False.
    """

    __slots__ = ("_sock", "received")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.received = False

    @classmethod
    def connect(cls, host: str, port: int, tls: ssl.SSLContext | None, seconds: float) -> SyncStream:
        """Opens a stream, trying the host's addresses in turn.

        Raises:
            OSError: If that fails; the last address's error.
        """
        deadline = Deadline.after(seconds)
        sock = _connect_any(host, port, deadline)
        try:
            _tune(sock)
            if tls is not None:
                sock.settimeout(max(deadline.left() or 0.0, 0.001))
                sock = tls.wrap_socket(sock, server_hostname=host.partition("%")[0])
        except TimeoutError as exc:
            sock.close()
            raise ConnectTimedOutError from exc
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes, or none at the end.

        Raises:
            TimeoutError: If the deadline passes.
            OSError: If the connection breaks.
        """
        self._sock.settimeout(_seconds(deadline))
        data = self._sock.recv(_READ)
        if data:
            self.received = True
        return data

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Sends bytes; raises as `read` does."""
        self._sock.settimeout(_seconds(deadline))
        self._sock.sendall(data)

    def is_stale(self) -> bool:
        """Whether an idle connection was closed by the server (or has bytes that nobody asked for)."""
        return self._sock.fileno() < 0 or _readable(self._sock)

    def close(self) -> None:
        """Closes the connection."""
        self._sock.close()


class AsyncStream(asyncio.Protocol):
    """A byte stream of one event loop; the same as `SyncStream` otherwise. Closing it waits for nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.received = False
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._full = False
        self._eof = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._writer: asyncio.Future[bool] | None = None

    @classmethod
    async def connect(cls, host: str, port: int, tls: ssl.SSLContext | None, seconds: float) -> AsyncStream:
        """Opens a stream, trying the host's addresses side by side.

        Raises:
            OSError: If that fails.
        """
        loop = asyncio.get_running_loop()
        stream = cls(loop)
        name = host.partition("%")[0] if tls is not None else None
        try:
            await asyncio.wait_for(
                loop.create_connection(
                    lambda: stream, host, port, ssl=tls, server_hostname=name, happy_eyeballs_delay=0.25
                ),
                seconds,
            )
        except (TimeoutError, asyncio.TimeoutError) as exc:
            stream.close()
            raise ConnectTimedOutError from exc
        except OSError as exc:
            stream.close()
            if exc.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(exc):
                raise ConnectionRefusedError from exc  # several addresses refused, which asyncio puts into one text
            raise
        except BaseException:
            stream.close()
            raise
        return stream

    async def read(self, deadline: Deadline) -> bytes:
        """The next bytes, or none at the end; raises as `SyncStream.read` does."""
        if not self._chunks:
            if not self._eof:
                self._reader = self._loop.create_future()
                await self._wait(self._reader, deadline)
            if not self._chunks:
                if self._error is not None:
                    raise self._error
                return b""
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes, deadline: Deadline) -> None:
        """Sends bytes; raises as `read` does."""
        if self._eof or self._transport is None or self._transport.is_closing():
            msg = "the server closed the connection"
            raise BrokenPipeError(msg)
        self._transport.write(data)
        while self._full and not self._eof:
            self._writer = self._loop.create_future()
            await self._wait(self._writer, deadline)

    def is_stale(self) -> bool:
        """As `SyncStream.is_stale`."""
        return self._eof or bool(self._chunks) or self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _tune(sock)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.received = True
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _PAUSE_AT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """The server closed its side; so do we."""
        self._eof = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._eof = True
        self._error = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room in the send buffer again."""
        self._full = False
        _wake(self._writer)

    async def _wait(self, future: asyncio.Future[bool], deadline: Deadline) -> None:
        left = deadline.left()
        if left is None:
            await future
            return
        timer = self._loop.call_later(left, _resolve, future, False)
        try:
            if not await future:
                raise TimeoutError
        finally:
            timer.cancel()


def _tune(sock: socket.socket) -> None:
    with suppress(OSError):
        for option in _OPTIONS:
            sock.setsockopt(*option)


def _connect_any(host: str, port: int, deadline: Deadline) -> socket.socket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    error: OSError | None = None
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        left = (deadline.left() or 0.0) / (len(addresses) - position)
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(max(left, 0.001))
            sock.connect(address)
        except OSError as exc:
            error = exc
            if sock is not None:
                sock.close()
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return sock
    if isinstance(error, TimeoutError):
        raise ConnectTimedOutError from error
    raise error or OSError("the host has no address")


def _seconds(deadline: Deadline) -> float | None:
    left = deadline.left()
    if left is not None and left <= 0:
        raise TimeoutError
    return left


def _readable(sock: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


def _wake(future: asyncio.Future[bool] | None) -> None:
    if future is not None:
        _resolve(future, True)


def _resolve(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)
