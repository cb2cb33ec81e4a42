"""What goes wrong below HTTP, as errors of the tree."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from kserve_core import hints
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    BadResponseError,
    ConnectTimeoutError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NameResolutionError,
    TLSError,
)
from kserve_core.http1 import DisconnectedError, ProtocolError
from kserve_core.http_pool import proxy_for
from kserve_core.http_request import DeadConnectionError, PoolTimedOutError
from kserve_core.http_sockets import ConnectTimedOutError
from kserve_core.retry import StaleConnectionError

BROKEN = (OSError, ProtocolError)
"""What a pool raises."""


def connection_error(exc: Exception, endpoint: Endpoint) -> KServeError:
    """The error for a failure to get an answer, whole or at all.

    Args:
        exc: What a pool raised, one of `BROKEN`.
        endpoint: Where the request went.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    if isinstance(exc, DeadConnectionError):
        return StaleConnectionError(f"{where} closed a kept connection before answering.", hint=hints.TRUNCATED)
    if isinstance(exc, ConnectTimedOutError):
        return ConnectTimeoutError(f"No connection to {where} in time.", hint=hints.CONNECT_TIMEOUT)
    if isinstance(exc, PoolTimedOutError):
        msg = f"All {endpoint.max_connections} connections to {where} were in use until the time budget ran out."
        return EndpointTimeoutError(msg, hint=hints.ALL_IN_USE)
    if isinstance(exc, TimeoutError):
        return EndpointTimeoutError(f"No answer from {where} within the time budget.", hint=hints.TIMEOUT)
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLError):
            return _tls(cause, endpoint, where)
        if isinstance(cause, socket.gaierror):
            return NameResolutionError(f"The host name {endpoint.host} is unknown.", hint=hints.UNKNOWN_HOST)
        if isinstance(cause, ConnectionRefusedError):
            return _refused(endpoint, where)
    if isinstance(exc, (DisconnectedError, ConnectionError)):
        hint = hints.TRUNCATED
        if endpoint.scheme == "http":
            hint = f"{hint} {hints.PERHAPS_HTTPS}"
        elif endpoint.trust.client_cert is None:
            hint = f"{hint} {hints.CLIENT_CERTIFICATE}"
        msg = f"The connection to {where} broke before the answer was complete."
        return EndpointConnectionError(msg, hint=hint)
    if isinstance(exc, ProtocolError):
        hint = hints.NOT_HTTP if endpoint.scheme == "http" else hints.STRANGE
        return BadResponseError(f"{where} does not speak HTTP/1.1: {exc}.", hint=hint, layer="network")
    reason = getattr(exc, "strerror", None) or type(exc).__name__
    return EndpointConnectionError(f"No connection to {where}: {reason}.", hint=hints.REFUSED)


def _refused(endpoint: Endpoint, where: str) -> EndpointConnectionError:
    proxy = proxy_for(endpoint)
    if proxy is not None:
        at = proxy.rpartition("@")[2].rpartition("://")[2].rstrip("/")  # a proxy's URL may hold a password
        return EndpointConnectionError(f"The proxy on the way to {where} refused the connection.", hint=hints.proxy(at))
    error = EndpointConnectionError(f"{where} refused the connection.", hint=hints.REFUSED)
    error.refused = True
    return error


def _tls(exc: ssl.SSLError, endpoint: Endpoint, where: str) -> TLSError:
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = (exc.verify_message or "certificate verify failed").rstrip(".")
        named = "mismatch" in reason.lower() or "not valid for" in reason.lower()
        hint = hints.HOSTNAME if named else hints.certificate(endpoint.host, reason)
        return TLSError(f"The certificate of {where} is not accepted: {reason}.", hint=hint)
    reason = (exc.reason or "handshake failed").replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason or "http request" in reason:
        return TLSError(f"{where} does not speak TLS ({reason}).", hint=hints.NOT_TLS)
    hint = hints.CLIENT_CERTIFICATE if endpoint.trust.client_cert is None else hints.NOT_THIS_CLIENT
    if "protocol version" in reason or "unsupported protocol" in reason:
        hint = hints.OLD_TLS
    return TLSError(f"The TLS handshake with {where} failed: {reason}.", hint=hint)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An exception and everything behind it, groups included."""
    todo: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while todo:
        item = todo.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        todo += [item.__cause__, item.__context__, *getattr(item, "exceptions", ())]
