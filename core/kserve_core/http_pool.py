"""Connection pools: a request costs the same however many connections there are.

Idle connections are a stack: the one used last is taken first, and only that one is checked. One bounded count says
how many may be open. A connection whose answer was not read to its end is closed, never reused.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial

from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.http1 import DisconnectedError, ProtocolError, ResponseParser
from kserve_core.http_request import DeadConnectionError, PoolTimedOutError, Request, host_header, is_dead
from kserve_core.http_sockets import AsyncStream, SyncStream
from kserve_core.loop_guard import close_with_loop

KEPT_SECONDS = 60.0
"""How long an idle connection is kept."""


class SyncAnswer:
    """An answer whose head was read; close it when done with it."""

    def __init__(self, pool: SyncPool, stream: SyncStream, deadline: Deadline) -> None:
        self._pool: SyncPool | None = pool
        self._stream = stream
        self._deadline = deadline
        self._parser = ResponseParser()
        self._ready = b""

    @property
    def status(self) -> int:
        """The status."""
        return self._parser.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers, by lower-case name."""
        return self._parser.headers

    def read_head(self) -> None:
        """Reads until the head is complete."""
        while not self._parser.status:
            data = self._stream.read(self._deadline)
            if not data:
                self._parser.eof()
            self._ready = self._parser.feed(data)

    def read(self) -> bytes | None:
        """The next part of the body, or None at its end.

        Raises:
            OSError: If the connection breaks (TimeoutError: the deadline passed).
            ProtocolError: If the server does not speak HTTP.
        """
        parser = self._parser
        part, self._ready = self._ready, b""
        while not part and not parser.done:
            data = self._stream.read(self._deadline)
            if data:
                part = parser.feed(data)
            else:
                parser.eof()
        if parser.done:
            self.close()
        return part or None

    def drain(self, seconds: float) -> None:
        """Reads the end of the body if it comes soon, so that the connection can be used again."""
        self._deadline.set(seconds)
        with suppress(OSError, ProtocolError):
            while self.read() is not None and not self._deadline.passed():
                pass

    def close(self) -> None:
        """Gives the connection back if the body was read to its end, and closes it otherwise."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self._stream, reusable=self._parser.done and self._parser.reusable)


class SyncPool:
    """Connections to one endpoint for blocking calls from any thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._host = host_header(endpoint)
        self._tls = endpoint.trust.ssl_context() if endpoint.scheme == "https" else None
        self._slots = threading.BoundedSemaphore(endpoint.max_connections)
        self._idle: deque[tuple[SyncStream, float]] = deque()
        self._closed = False
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: Request) -> SyncAnswer:
        """Sends a request and reads the head of its answer.

        Raises:
            OSError: If that fails; `DeadConnectionError` if a new connection may help.
            ProtocolError: If the server does not speak HTTP.
        """
        parts = request.parts(self._host)
        if not self._slots.acquire(timeout=request.deadline.left()):
            raise PoolTimedOutError
        stream: SyncStream | None = None
        kept = False
        try:
            stream = None if request.fresh else self._take()
            kept = stream is not None
            if stream is None:
                stream = SyncStream.connect(
                    self._endpoint.host, self._endpoint.port, self._tls, request.connect_seconds()
                )
            stream.received = False
            answer = SyncAnswer(self, stream, request.deadline)
            broken: OSError | None = None
            try:
                for part in parts:
                    stream.write(part, request.deadline)
            except TimeoutError:
                raise
            except OSError as exc:
                broken = exc  # the server may have answered before it had read everything
            try:
                answer.read_head()
            except DisconnectedError:
                if broken is not None:
                    raise broken from None
                raise
        except BaseException as exc:
            if stream is not None:
                stream.close()
            self._slots.release()
            if kept and stream is not None and is_dead(exc, received=stream.received):
                raise DeadConnectionError(str(exc)) from exc
            raise
        return answer

    def give_back(self, stream: SyncStream, *, reusable: bool) -> None:
        """Takes a connection back."""
        if reusable and not self._closed:
            self._idle.append((stream, time.monotonic()))
        else:
            stream.close()
        self._slots.release()
        try:
            oldest = self._idle.popleft()
        except IndexError:
            return
        if time.monotonic() - oldest[1] > KEPT_SECONDS:
            oldest[0].close()
        else:
            self._idle.appendleft(oldest)

    def close(self) -> None:
        """Closes the idle connections now, and those in use when they are given back."""
        self._closed = True
        _close_all(self._idle)

    def _take(self) -> SyncStream | None:
        while True:
            try:
                stream, since = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since <= KEPT_SECONDS and not stream.is_stale():
                return stream
            stream.close()


class AsyncAnswer:
    """As `SyncAnswer`, in an event loop."""

    def __init__(self, pool: AsyncPool, stream: AsyncStream, deadline: Deadline) -> None:
        self._pool: AsyncPool | None = pool
        self._stream = stream
        self._deadline = deadline
        self._parser = ResponseParser()
        self._ready = b""

    @property
    def status(self) -> int:
        """The status."""
        return self._parser.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers, by lower-case name."""
        return self._parser.headers

    async def read_head(self) -> None:
        """Reads until the head is complete."""
        while not self._parser.status:
            data = await self._stream.read(self._deadline)
            if not data:
                self._parser.eof()
            self._ready = self._parser.feed(data)

    async def read(self) -> bytes | None:
        """As `SyncAnswer.read`."""
        parser = self._parser
        part, self._ready = self._ready, b""
        while not part and not parser.done:
            data = await self._stream.read(self._deadline)
            if data:
                part = parser.feed(data)
            else:
                parser.eof()
        if parser.done:
            self.close()
        return part or None

    async def drain(self, seconds: float) -> None:
        """As `SyncAnswer.drain`."""
        self._deadline.set(seconds)
        with suppress(OSError, ProtocolError):
            while await self.read() is not None and not self._deadline.passed():
                pass

    async def aclose(self) -> None:
        """As `SyncAnswer.close`; does not suspend."""
        self.close()

    def close(self) -> None:
        """As `SyncAnswer.close`."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self._stream, reusable=self._parser.done and self._parser.reusable)


class AsyncPool:
    """Connections to one endpoint for the calls of one event loop; closed with the loop, at the latest."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._host = host_header(endpoint)
        self._tls = endpoint.trust.ssl_context() if endpoint.scheme == "https" else None
        self._free = endpoint.max_connections
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle: deque[tuple[AsyncStream, float]] = deque()
        self._guard: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def send(self, request: Request) -> AsyncAnswer:
        """As `SyncPool.send`."""
        parts = request.parts(self._host)
        if self._guard is None:
            self._guard = close_with_loop(weakref.ref(self), partial(_aclose_all, self._idle))
            await self._guard.__anext__()
        await self._acquire(request.deadline.left())
        stream: AsyncStream | None = None
        kept = False
        try:
            stream = None if request.fresh else self._take()
            kept = stream is not None
            if stream is None:
                stream = await AsyncStream.connect(
                    self._endpoint.host, self._endpoint.port, self._tls, request.connect_seconds()
                )
            stream.received = False
            answer = AsyncAnswer(self, stream, request.deadline)
            broken: OSError | None = None
            try:
                for part in parts:
                    await stream.write(part, request.deadline)
            except TimeoutError:
                raise
            except OSError as exc:
                broken = exc  # the server may have answered before it had read everything
            try:
                await answer.read_head()
            except DisconnectedError:
                if broken is not None:
                    raise broken from None
                raise
        except BaseException as exc:
            if stream is not None:
                stream.close()
            self._release()
            if kept and stream is not None and is_dead(exc, received=stream.received):
                raise DeadConnectionError(str(exc)) from exc
            raise
        return answer

    def give_back(self, stream: AsyncStream, *, reusable: bool) -> None:
        """Takes a connection back."""
        now = time.monotonic()
        if reusable and not self._closed:
            self._idle.append((stream, now))
        else:
            stream.close()
        if self._idle and now - self._idle[0][1] > KEPT_SECONDS:
            self._idle.popleft()[0].close()
        self._release()

    async def aclose(self) -> None:
        """As `SyncPool.close`."""
        self._closed = True
        _close_all(self._idle)
        await asyncio.sleep(0)  # lets the event loop close the sockets

    def forget_loop(self) -> None:
        """Lets go of the event loop, which has ended."""
        self._guard = None

    def _take(self) -> AsyncStream | None:
        while self._idle:
            stream, since = self._idle.pop()
            if time.monotonic() - since <= KEPT_SECONDS and not stream.is_stale():
                return stream
            stream.close()
        return None

    async def _acquire(self, seconds: float | None) -> None:
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = None if seconds is None else loop.call_later(seconds, _give_up, waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # the turn came together with a cancellation: pass it on
            else:
                self._waiters.remove(waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _release(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                self._waiters.remove(waiter)
                waiter.set_result(None)
                return
        self._free += 1


def proxy_for(endpoint: Endpoint) -> str | None:
    """The proxy the environment wants used for an endpoint, or None; never one for this machine itself."""
    if endpoint.is_local:
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(endpoint.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(endpoint.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _aclose_all(idle: deque[tuple[AsyncStream, float]]) -> None:
    _close_all(idle)


def _close_all(idle: deque[tuple[SyncStream, float]] | deque[tuple[AsyncStream, float]]) -> None:
    while idle:
        idle.pop()[0].close()


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimedOutError())
