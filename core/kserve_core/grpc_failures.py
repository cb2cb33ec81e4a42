"""gRPC statuses, sorted: which layer answered, what it said, and what to try.

The library reports everything as a status: what the server said, what something in between said over HTTP, and
connections that never came about (all UNAVAILABLE, told apart by their text only).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import orjson

from kserve_core import hints
from kserve_core.calls import GrpcErrorReader, GrpcFailure, Response
from kserve_core.endpoint import Endpoint
from kserve_core.error_bodies import MAX_BODY, strip_echo, tidy
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConnectTimeoutError,
    EndpointConnectionError,
    EndpointTimeoutError,
    ErrorResponse,
    KServeError,
    NameResolutionError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    RequestTooLargeError,
    ServerError,
    TLSError,
)
from kserve_core.failures import error_from_response, request_id, retry_after

logger = logging.getLogger("kserve_core.grpc")

STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries a status's structured details."""

CODES: dict[str, tuple[int, int]] = {
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 503),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}
"""Each status's number, and the HTTP status that says the same."""

_OVER_HTTP = re.compile(r"http2? (?:header with )?status(?: code)?\D{0,40}?(\d{3})\b", re.IGNORECASE)
_BROKEN = re.compile(
    r"socket closed|stream removed|connection reset|broken pipe|connection aborted|goaway|transport closed|"
    r"received rst_stream|rst_stream closed|cancelling all calls|channel closed|endpoint read failed|"
    r"keepalive watchdog|ping timeout",
    re.IGNORECASE,
)
# What libraries and proxies call a call that ended without an answer: no server's words for what it does not do.
_CUT_OFF = re.compile(
    r"\W*(?:(?:locally|the|this|rpc|call|request|operation|context|stream|channel|client|server|application|was|by|"
    r"cancell?ed|closed)\b\W*)*",
    re.IGNORECASE,
)
# Said of several addresses taken in turn, which this side never does: it is about servers behind the one asked.
_BEHIND = re.compile(r"connections to all backends failing", re.IGNORECASE)
_VERIFY_REASON = re.compile(r"CERTIFICATE_VERIFY_FAILED:? ?([a-z][a-z ,'-]{3,100})?")
_PEER_LIMIT = re.compile(r"(CLIENT|SERVER): (Sent|Received) message larger than max", re.IGNORECASE)

Rule: TypeAlias = "tuple[str, Callable[[Endpoint, str, str], KServeError]]"


def error_from_failure(
    failure: GrpcFailure,
    *,
    endpoint: Endpoint,
    method: str,
    explain: GrpcErrorReader | None = None,
    rich: bytes = b"",
    timed_out: bool = False,
    token_sent: bool = False,
    secrets: Sequence[str] = (),
) -> KServeError:
    """The error a status stands for.

    Args:
        failure: The status.
        endpoint: Where the request went.
        method: The method called.
        explain: The runtime's own reading of the status; asked first, except for what the runtime did not send.
        rich: The value of `grpc-status-details-bin`.
        timed_out: Whether this side's time budget is over.
        token_sent: Whether the request carried a token.
        secrets: Texts that must not appear in the error.
    """
    details = failure.details
    for secret in secrets:
        details = details.replace(secret, "***")
    failure = GrpcFailure(failure.code, details, failure.metadata)
    if failure.code == "DEADLINE_EXCEEDED" and timed_out:
        where = f"{endpoint.host}:{endpoint.port}"
        return EndpointTimeoutError(f"No answer from {where} within the time budget.", hint=hints.TIMEOUT)
    error = _local(failure, endpoint) or _over_http(failure, token_sent=token_sent)
    if error is not None:
        return error
    error = explain(failure) if explain is not None else None
    if error is None:
        error = _general(failure, method, token_sent=token_sent)
    _complete(error, failure)
    if rich:
        _enrich(error, rich)
    return error


def _local(failure: GrpcFailure, endpoint: Endpoint) -> KServeError | None:
    """The error for a connection that did not come about or broke, or None if somebody answered."""
    text = failure.details
    where = f"{endpoint.host}:{endpoint.port}"
    limit = _PEER_LIMIT.search(text)
    if limit is not None:
        msg = f"{failure.code}: {_words(text[limit.start() :])}"
        here = limit[1].upper() == "CLIENT"
        error = RequestTooLargeError(msg, hint=hints.TOO_LARGE if here else hints.GRPC_TOO_LARGE, status=413)
        error.layer = "client" if here else "runtime"
        return error
    if failure.code not in {"UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED"}:
        return None
    if _BEHIND.match(text):
        return None
    for words, make in _RULES:
        if failure.code == "UNAVAILABLE" and re.search(words, text, re.IGNORECASE):
            return make(endpoint, where, text)
    if "END_STREAM" in text:
        msg = f"{where} answered with something that is not gRPC."
        return BadResponseError(msg, hint=hints.GRPC_OR_REST, layer="router")
    if _BROKEN.search(text) or (failure.code == "CANCELLED" and _CUT_OFF.fullmatch(text)):
        msg = f"The connection to {where} broke before the answer was complete."
        # Older versions of the library say no more than this of a page that came instead of an answer.
        vague = failure.code == "UNKNOWN"
        return EndpointConnectionError(
            msg, hint=f"{hints.TRUNCATED} {hints.GRPC_OR_REST}" if vague else hints.TRUNCATED
        )
    return None


def _verify_failed(endpoint: Endpoint, where: str, text: str) -> KServeError:
    match = _VERIFY_REASON.search(text)
    reason = ((match[1] if match else "") or "certificate verify failed").strip()
    hint = hints.certificate(endpoint.host, reason) if endpoint.trust.verify else hints.GRPC_PINNED
    return TLSError(f"The certificate of {where} is not accepted: {reason}.", hint=hint)


def _handshake_failed(endpoint: Endpoint, where: str, text: str) -> KServeError:
    if re.search(r"wrong_version|http_request|record_layer", text, re.IGNORECASE):
        return TLSError(f"{where} does not speak TLS.", hint=hints.NOT_TLS)
    hint = hints.CLIENT_CERTIFICATE if endpoint.trust.client_cert is None else hints.STRANGE
    return TLSError(f"The TLS handshake with {where} failed.", hint=hint)


def _closed_at_once(endpoint: Endpoint, where: str, _: str) -> KServeError:
    msg = f"{where} closed the connection at once."
    if endpoint.scheme == "http":
        return EndpointConnectionError(msg, hint=hints.GRPC_PLAINTEXT)
    if endpoint.trust.client_cert is None:
        return EndpointConnectionError(msg, hint=hints.CLIENT_CERTIFICATE)
    return EndpointConnectionError(msg, hint=hints.NOT_THIS_CLIENT)


def _refused(_: Endpoint, where: str, __: str) -> KServeError:
    error = EndpointConnectionError(f"{where} refused the connection.", hint=hints.REFUSED)
    error.refused = True
    return error


_RULES: tuple[Rule, ...] = (
    (r"CERTIFICATE_VERIFY_FAILED", _verify_failed),
    (
        r"hostname verification|not in peer certificate",
        lambda _, where, __: TLSError(f"The certificate of {where} is for another name.", hint=hints.HOSTNAME),
    ),
    (
        r"missing selected ALPN",
        lambda _, where, __: BadResponseError(
            f"{where} does not offer HTTP/2, which gRPC needs.", hint=hints.NO_HTTP2, layer="router"
        ),
    ),
    (
        r"http1\.x server|failed parsing http/2",
        lambda endpoint, where, _: BadResponseError(
            f"{where} speaks HTTP/1.1, not gRPC.",
            hint=hints.GRPC_OR_REST if endpoint.scheme == "http" else hints.NO_HTTP2,
            layer="network",
        ),
    ),
    (r"(ssl|tls) handshake failed|handshaker?:? .{0,40}failed", _handshake_failed),
    (
        r"connection refused|\(111\)",
        _refused,
    ),
    (
        r"dns resolution failed|errors resolving|address lookup failed|name or service not known",
        lambda endpoint, _, __: NameResolutionError(
            f"The host name {endpoint.host} is unknown.", hint=hints.UNKNOWN_HOST
        ),
    ),
    (
        r"failed to connect.*(timed out|timeout|fd shutdown)|before receiving settings",
        lambda _, where, __: ConnectTimeoutError(f"No connection to {where} in time.", hint=hints.CONNECT_TIMEOUT),
    ),
    (r"failed to connect.*(socket closed|connection reset|broken pipe)", _closed_at_once),
    (
        r"failed to connect",
        lambda _, where, text: EndpointConnectionError(
            f"No connection to {where}: {_last_words(text)}.", hint=hints.REFUSED
        ),
    ),
)


def _last_words(text: str) -> str:
    last = text.rpartition("last error:")[2] or text
    return tidy(re.sub(r"^\s*[A-Z_]+: (\S+:\d+: )?", "", last)).rstrip(".")[:200]


def _over_http(failure: GrpcFailure, *, token_sent: bool) -> KServeError | None:
    """The error for an answer that was plain HTTP: from a router or an auth proxy, which speak no gRPC."""
    match = _OVER_HTTP.search(failure.details)
    if match is None:
        return None
    status = int(match[1])
    msg = f"HTTP {status} was answered instead of a gRPC status."
    error: KServeError
    if status == 401:
        hint = hints.NOT_ACCEPTED if token_sent else hints.NOTHING_SENT
        error = AuthenticationError(msg, hint=hint, layer="auth proxy", status=status)
    elif status == 403:
        error = PermissionDeniedError(msg, hint=hints.FORBIDDEN, layer="auth proxy", status=status)
    elif 300 <= status < 400:
        error = RedirectError(msg, hint=f"{hints.REDIRECT} {hints.SIGN_IN}", layer="router", status=status)
    elif status == 404:
        error = NotFoundError(msg, hint=hints.GRPC_OR_REST, layer="router", status=status)
    elif status == 429:
        error = RateLimitError(msg, hint=hints.RATE_LIMITED, layer="gateway", status=status)
    elif status == 502:
        error = ServerError(msg, hint=f"{hints.BAD_GATEWAY} {hints.NO_HTTP2}", layer="router", status=status)
    elif status in {503, 504}:
        hint = hints.ROUTE_NOT_READY if status == 503 else hints.ROUTE_TIMEOUT
        error = NotReadyError(msg, hint=hint, layer="router", status=status)
    elif status < 500:
        error = BadResponseError(msg, hint=hints.GRPC_OR_REST, layer="router", status=status)
    else:
        error = ServerError(msg, hint=hints.SERVER_FAILED, layer="router", status=status)
    error.server_message = _words(failure.details)
    error.response = _response(failure, status)
    return error


def _general(failure: GrpcFailure, method: str, *, token_sent: bool) -> KServeError:
    """The error by code, and by text where the same words over REST would be told apart."""
    status = CODES.get(failure.code, (2, 500))[1]
    text = _words(failure.details)
    message = f"{failure.code}: {text}" if text else f"{failure.code} with no explanation."
    if failure.code == "UNIMPLEMENTED":
        return NotFoundError(f"{message} ({method})", hint=hints.GRPC_METHOD, status=status)
    if failure.code == "DEADLINE_EXCEEDED":
        return ServerError(message, hint=hints.TIMEOUT, status=status)
    if failure.code == "CANCELLED":  # and it was not this side, see `_local`
        return ServerError(message, hint=hints.SERVER_FAILED, status=status)
    error = _as_over_rest(status, text, token_sent=token_sent)
    error.message = message
    error.args = (message,)
    if status in {401, 403}:
        error.layer = "auth proxy"  # no runtime checks tokens itself
    if type(error) is NotFoundError:
        error.hint = hints.STRANGE
    return error


def _as_over_rest(status: int, text: str, *, token_sent: bool) -> KServeError:
    """What REST's rules make of the same words."""
    response = Response(status, {"content-type": "application/json"}, orjson.dumps({"error": text}))
    error = error_from_response(response, token_sent=token_sent)
    return ServerError(text, status=status) if error is None else error


def _complete(error: KServeError, failure: GrpcFailure) -> None:
    status = CODES.get(failure.code, (2, 500))[1]
    error.status = error.status or status
    error.server_message = error.server_message or _words(failure.details)
    error.request_id = error.request_id or request_id(failure.metadata)
    if error.retry_after is None:
        error.retry_after = retry_after(failure.metadata)
        pushback = failure.metadata.get("grpc-retry-pushback-ms", "")
        if error.retry_after is None and pushback.isdigit():
            error.retry_after = int(pushback) / 1000
    error.response = _response(failure, error.status)


def _response(failure: GrpcFailure, status: int) -> ErrorResponse:
    headers = {"grpc-status": str(CODES.get(failure.code, (2, 500))[0])}
    headers |= {name: value for name, value in failure.metadata.items() if name in {"retry-after", "x-request-id"}}
    return ErrorResponse(status, headers, strip_echo(failure.details[: 8 * MAX_BODY]).encode()[:MAX_BODY])


def _enrich(error: KServeError, rich: bytes) -> None:
    """Adds what a status's structured details say: when to try again, which field is wrong, the request's id."""
    from kserve_core.protos import messages

    types = messages.google_rpc
    try:
        status = types.Status.FromString(rich)
        for detail in status.details:
            name = detail.type_url.rpartition(".")[2]
            if name == "RetryInfo":
                delay = types.RetryInfo.FromString(detail.value).retry_delay
                error.retry_after = delay.seconds + delay.nanos / 1e9
            elif name == "RequestInfo":
                found = types.RequestInfo.FromString(detail.value).request_id
                error.request_id = error.request_id or found[:200] or None
            elif name == "BadRequest":
                wrong = types.BadRequest.FromString(detail.value).field_violations
                _say_more(error, (f"{item.field}: {item.description}" for item in wrong))
            elif name == "QuotaFailure":
                used_up = types.QuotaFailure.FromString(detail.value).violations
                _say_more(error, (item.description for item in used_up))
            elif name == "ErrorInfo":
                _say_more(error, [types.ErrorInfo.FromString(detail.value).reason])
    except Exception:  # noqa: BLE001 - whatever the details hold, the status itself is the error
        logger.debug("the structured details of a gRPC status cannot be read")


def _words(details: str) -> str:
    """A status's text as an error may show it: one bounded line, without echoes of the request."""
    return tidy(strip_echo(details[: 8 * MAX_BODY]))


def _say_more(error: KServeError, parts: Iterable[str]) -> None:
    more = tidy("; ".join(part for part in parts if part))
    if more and more not in error.message:
        error.message = tidy(f"{error.message.rstrip('.')} ({more})")
        error.args = (error.message,)
        error.server_message = tidy(f"{error.server_message} ({more})".strip())
