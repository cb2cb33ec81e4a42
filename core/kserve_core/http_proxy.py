"""The same requests through an egress proxy, which httpx does.

The only module that knows httpx. It is imported when the environment names a proxy for the endpoint.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx

from kserve_core.endpoint import Endpoint
from kserve_core.http1 import DisconnectedError, ProtocolError
from kserve_core.http_pool import KEPT_SECONDS
from kserve_core.http_request import PoolTimedOutError, Request
from kserve_core.http_sockets import ConnectTimedOutError
from kserve_core.loop_guard import close_with_loop


class ProxyAnswer:
    """An answer that came through a proxy, as `http_pool.SyncAnswer`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = iter(cast("Iterator[bytes]", response.stream))
        self.status = response.status_code
        self.headers = _folded(response)

    def read(self) -> bytes | None:
        """The next part of the body, or None at its end."""
        with _plain_errors():
            return next(self._chunks, None)

    def drain(self, seconds: float) -> None:
        """Nothing: a read that has begun cannot be cut short here, so the connection is given up instead."""

    def close(self) -> None:
        """Gives the connection back, or closes it."""
        with _plain_errors():
            self._response.close()


class ProxyPool:
    """Connections through a proxy for blocking calls, as `http_pool.SyncPool`."""

    def __init__(self, endpoint: Endpoint, proxy: str) -> None:
        self._origin = endpoint.origin
        self._transport = httpx.HTTPTransport(**_options(endpoint, proxy))

    def send(self, request: Request) -> ProxyAnswer:
        """Sends a request and reads the head of its answer."""
        with _plain_errors():
            sent = _request(request, self._origin)
            response = self._transport.handle_request(sent)
            _begin_body(request, sent)
            return ProxyAnswer(response)

    def close(self) -> None:
        """Closes all connections."""
        self._transport.close()


class AsyncProxyAnswer:
    """As `ProxyAnswer`, in an event loop."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = aiter(cast("AsyncIterator[bytes]", response.stream))
        self.status = response.status_code
        self.headers = _folded(response)

    async def read(self) -> bytes | None:
        """As `ProxyAnswer.read`."""
        with _plain_errors():
            return await anext(self._chunks, None)

    async def drain(self, seconds: float) -> None:
        """As `ProxyAnswer.drain`."""

    async def aclose(self) -> None:
        """As `ProxyAnswer.close`."""
        with _plain_errors():
            await self._response.aclose()


class AsyncProxyPool:
    """As `ProxyPool`, for one event loop."""

    def __init__(self, endpoint: Endpoint, proxy: str) -> None:
        self._origin = endpoint.origin
        self._transport = httpx.AsyncHTTPTransport(**_options(endpoint, proxy))
        self._guard: AsyncGenerator[None, None] | None = None

    async def send(self, request: Request) -> AsyncProxyAnswer:
        """As `ProxyPool.send`."""
        if self._guard is None:
            self._guard = close_with_loop(weakref.ref(self), self._transport.aclose)
            await self._guard.__anext__()
        with _plain_errors():
            sent = _request(request, self._origin)
            response = await self._transport.handle_async_request(sent)
            _begin_body(request, sent)
            return AsyncProxyAnswer(response)

    def forget_loop(self) -> None:
        """Lets go of the event loop, which has ended."""
        self._guard = None

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._transport.aclose()


def _options(endpoint: Endpoint, proxy: str) -> dict[str, Any]:
    count = endpoint.max_connections
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count, keepalive_expiry=KEPT_SECONDS)
    return {"proxy": proxy, "verify": endpoint.trust.ssl_context(), "trust_env": False, "limits": limits}


def _request(request: Request, origin: str) -> httpx.Request:
    left = request.deadline.left()
    timeout = {"connect": request.connect_seconds(), "read": left, "write": left, "pool": left}
    return httpx.Request(
        request.method,
        origin + request.path,
        headers=request.headers,
        content=request.body,
        extensions={"timeout": timeout},
    )


def _begin_body(request: Request, sent: httpx.Request) -> None:
    """Sets the limit of the body's reads, which httpx fixes when the first of them begins.

    So behind a proxy the idle limit of a stream also holds for its first piece.
    """
    sent.extensions["timeout"]["read"] = request.idle_timeout if request.streamed else request.deadline.left()


def _folded(response: httpx.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.multi_items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns httpx's errors into those that a pool raises."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise ConnectTimedOutError from exc
    except httpx.PoolTimeout as exc:
        raise PoolTimedOutError from exc
    except httpx.TimeoutException as exc:
        raise TimeoutError from exc
    except httpx.RemoteProtocolError as exc:
        raise DisconnectedError(str(exc)) from exc
    except httpx.ProtocolError as exc:
        raise ProtocolError(str(exc)) from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
        raise ConnectionError(str(exc)) from exc
