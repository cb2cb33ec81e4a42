"""One HTTP/1.1 connection: h11 reads requests, answers are written by hand.

Nothing between a handler and the socket tidies up, so any byte-level fault can be produced.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import h11

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_numbers = itertools.count(1)

Handle = Callable[["h11.Request", bytes, "Connection"], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The status line and headers of an answer, as bytes."""
    lines = [_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")


def date() -> str:
    """The current time as the `date` header wants it."""
    return formatdate(usegmt=True)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """Reads requests one after the other and hands each to `handle` in a task of its own.

    The task is cancelled when the client goes away.
    """

    def __init__(self, handle: Handle, members: set[Connection]) -> None:
        self.number = next(_numbers)
        self.keep_alive = True
        self._handle = handle
        self._members = members
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go, without Nagle's delay."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Stop working on an answer nobody waits for."""
        self.lost = True
        self._members.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Read on, unless an answer is being written: requests are taken one at a time."""
        self._parser.receive_data(data)
        if self._task is None:
            self._advance()

    def eof_received(self) -> bool:
        """A client that stops sending has left."""
        return False

    # -- reading

    def _advance(self) -> None:
        try:
            while True:
                event = self._parser.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body = event, []
                    if self._parser.they_are_waiting_for_100_continue:
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif isinstance(event, h11.Data):
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._start()
                    return
                else:
                    return
        except h11.RemoteProtocolError:
            text = b"Invalid HTTP request received."
            self.write(
                head(
                    400,
                    {
                        "content-type": "text/plain; charset=utf-8",
                        "content-length": str(len(text)),
                        "connection": "close",
                    },
                )
                + text
            )
            self.close()

    def _start(self) -> None:
        request = cast("h11.Request", self._request)
        connection = {v.strip().lower() for k, v in request.headers if k == b"connection"}
        self.keep_alive = b"close" not in connection and (request.http_version >= b"1.1" or b"keep-alive" in connection)
        self._task = asyncio.get_running_loop().create_task(self._run(request, b"".join(self._body)))

    async def _run(self, request: h11.Request, body: bytes) -> None:
        try:
            await self._handle(request, body, self)
        finally:
            self._task = None
        if self.lost:
            return
        if not self.keep_alive:
            self.close()
            return
        rest, closed = self._parser.trailing_data
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
        if rest:
            self._parser.receive_data(rest)
            self._advance()
        elif closed:
            self.close()

    # -- writing

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket at once."""
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Let other tasks run; wait while the client reads too slowly."""
        if self._writable.is_set():
            await asyncio.sleep(0)
        else:
            await self._writable.wait()

    def close(self) -> None:
        """Send what is buffered, then close (a FIN)."""
        self.keep_alive = False
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Break the connection the hard way (a RST): the client sees a reset, not an end."""
        self.keep_alive = False
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.lost = True
        self._transport.abort()
