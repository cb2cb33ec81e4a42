"""gRPC channels to one endpoint: their options, their TLS, and how they end."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator
from typing import Any

from kserve_core._version import __version__
from kserve_core.endpoint import Endpoint
from kserve_core.grpc_library import begin, grpc
from kserve_core.grpc_pinning import Pin, readable_key
from kserve_core.http_pool import proxy_for
from kserve_core.loop_guard import close_with_loop

MAX_MESSAGE = 256 * 1024 * 1024
"""The most bytes one message may have, either way. gRPC's own limit for answers, 4 MiB, is about 2,700 embeddings."""
KEEPALIVE_SECONDS = 310.0
"""A call that is silent for so long is checked with a ping. Servers close connections that ping every 5 minutes or more
often, unless told otherwise."""
PING_SECONDS = 20.0
"""How long a ping's answer may take, and how long sent data may stay unacknowledged."""

_FIRST_BACKOFF_MS = 100
_LONGEST_BACKOFF_MS = 1000


def options(endpoint: Endpoint, pin: Pin | None = None) -> list[tuple[str, str | int]]:
    """The channel options for an endpoint.

    Args:
        endpoint: Where the channel goes.
        pin: The server's certificate, if it is trusted without a check.
    """
    found: dict[str, str | int] = {
        "grpc.primary_user_agent": f"kserve-integrations/{__version__}",
        "grpc.max_send_message_length": MAX_MESSAGE,
        "grpc.max_receive_message_length": MAX_MESSAGE,
        "grpc.keepalive_time_ms": int(KEEPALIVE_SECONDS * 1000),
        "grpc.keepalive_timeout_ms": int(PING_SECONDS * 1000),
        # A failed connection is tried again at the pace of `retry`, not at gRPC's own, which goes up to two minutes.
        "grpc.initial_reconnect_backoff_ms": _FIRST_BACKOFF_MS,
        "grpc.max_reconnect_backoff_ms": _LONGEST_BACKOFF_MS,
        "grpc.min_reconnect_backoff_ms": max(1, int(endpoint.connect_timeout * 1000)),  # really the connect timeout
        "grpc.service_config_disable_resolution": 1,  # no retries or limits from DNS records
        "grpc.use_local_subchannel_pool": 1,  # no connection shared with another channel of this process
        # Blocking streams are read in the caller's thread: a quarter less work per message.
        "grpc.experimental.ChannelOptions.SingleThreadedUnaryStream": 1,
    }
    proxy = _proxy(endpoint)
    if proxy is None:
        found["grpc.enable_http_proxy"] = 0
    else:
        found["grpc.http_proxy"] = proxy
    if pin is not None and pin.name is not None:
        found["grpc.ssl_target_name_override"] = pin.name
    host = next((value for name, value in endpoint.headers if name.lower() == "host"), None)
    if host is not None:
        found["grpc.default_authority"] = host
    return list(found.items())


def credentials(endpoint: Endpoint, pin: Pin | None = None) -> Any:
    """The TLS credentials for an endpoint, or None for a plaintext one.

    Raises:
        ConfigurationError: If a certificate or key cannot be read.
    """
    if endpoint.scheme != "https":
        return None
    trust = endpoint.trust
    trust.ssl_context()  # what cannot be read or used is refused as for REST; gRPC would only fail to connect
    roots = trust.roots_pem() if pin is None else pin.pem
    own = trust.client_pem()
    if own is None:
        return grpc.ssl_channel_credentials(roots)
    password = trust.client_cert[2] if trust.client_cert else None
    return grpc.ssl_channel_credentials(roots, readable_key(own[1], password), own[0])


class SyncChannel:
    """A channel for blocking calls, and the methods called over it so far."""

    def __init__(self, endpoint: Endpoint, pin: Pin | None = None) -> None:
        begin("sync")
        tls = credentials(endpoint, pin)
        target, extras = endpoint.grpc_target, options(endpoint, pin)
        self._channel = grpc.secure_channel(target, tls, extras) if tls else grpc.insecure_channel(target, extras)
        self._methods: dict[tuple[str, bool], Any] = {}

    def method(self, name: str, *, streamed: bool) -> Any:
        """What calls a method; takes and gives bytes."""
        key = (name, streamed)
        found = self._methods.get(key)
        if found is None:
            make = self._channel.unary_stream if streamed else self._channel.unary_unary
            found = self._methods[key] = make(name)
        return found

    def close(self) -> None:
        """Closes the connection, and cancels what runs over it."""
        self._channel.close()


class AsyncChannel:
    """A channel for the calls of one event loop; closed with the loop, at the latest."""

    def __init__(self, endpoint: Endpoint, pin: Pin | None = None) -> None:
        begin("aio")
        tls = credentials(endpoint, pin)
        target, extras = endpoint.grpc_target, options(endpoint, pin)
        aio = grpc.aio
        self._channel = aio.secure_channel(target, tls, extras) if tls else aio.insecure_channel(target, extras)
        self._methods: dict[tuple[str, bool], Any] = {}
        self._guard: AsyncGenerator[None, None] | None = None
        self.closed = False

    async def guard(self) -> None:
        """Makes the event loop close the channel when it shuts down."""
        if self._guard is None:
            self._guard = close_with_loop(weakref.ref(self), self._channel.close)
            await self._guard.__anext__()

    def forget_loop(self) -> None:
        """The event loop has ended, and the channel was closed with it."""
        self.closed = True

    def method(self, name: str, *, streamed: bool) -> Any:
        """As `SyncChannel.method`."""
        key = (name, streamed)
        found = self._methods.get(key)
        if found is None:
            make = self._channel.unary_stream if streamed else self._channel.unary_unary
            found = self._methods[key] = make(name)
        return found

    async def aclose(self) -> None:
        """As `SyncChannel.close`."""
        self.closed = True
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()
        await self._channel.close()


def _proxy(endpoint: Endpoint) -> str | None:
    """The proxy the environment wants, by the rules that hold for REST; never one inside the cluster."""
    if endpoint.host.endswith((".svc", ".svc.cluster.local")):
        return None
    return proxy_for(endpoint)
