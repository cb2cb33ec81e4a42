"""Error answers, sorted: which layer answered, what it said, and what to try.

Servers and the things in front of them agree on nothing: errors come as nested or flat JSON, as plain text, as web
pages, with a wrong content type or no body at all. `error_bodies` reads them, this module decides what they mean.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from kserve_core import hints
from kserve_core.calls import ErrorReader, Response
from kserve_core.error_bodies import ErrorBody, bounded_body, is_html, read_error_body
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    ErrorResponse,
    InvalidRequestError,
    KServeError,
    Layer,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RedirectError,
    RequestTooLargeError,
    ServerError,
    StoppedError,
)

_SHOWN_HEADERS = frozenset(
    {"content-type", "content-length", "date", "retry-after", "retry-after-ms", "server", "via", "x-request-id"}
)
_NOT_READY = re.compile(
    r"not ready|still (being )?load|is loading|being loaded|loading model|no healthy upstream|warming up|"
    r"application is not available|no server is available|no available (server|endpoint)|upstream connect error|"
    r"starting up|no endpoints available|activator",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"serving\.kserve\.io/stop|"
    r"\b(inference ?service|model|endpoint|deployment)\b[^.]{0,80}\b(is|was|has been) stopped\b",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"\bquotas?\b", re.IGNORECASE)
_OVERFLOW = re.compile(
    r"maximum context length|maximum model length|context (window|length)|max_model_len|max_seq_len|"
    r"maximum sequence length|tokens? \(?\d+\)? plus prefix length|"
    r"(prompt|input)[^.]{0,60} (is )?too long|must have less than \d+ tokens|max(imum)? input (length|tokens)|"
    r"(exceed|longer than|greater than|larger than)[^.]{0,60}\b(max|maximum|limit)[^.]{0,40}(token|sequence|context)",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"batch[ _-]?size[^.]{0,60}(maximum|max|must be <=|limit)|should not be larger than|"
    r"(exceed|larger than|more than)[^.]{0,40}(batch|max_client_batch_size)|too many (inputs|texts|documents)|"
    r"(request|body|payload|message|entity)[^.]{0,30}too (large|big)|"
    r"(number|count) of (documents|inputs)[^.]{0,60}(max|exceed|limit)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"models? .{0,200}?(does not exist|not found|is not found|not loaded|no available versions|not served|unknown)|"
    r"(unknown|no such) model|vmodel not found|adapter .{0,200}?does not exist",
    re.IGNORECASE | re.DOTALL,
)
_CHAT_TEMPLATE = re.compile(r"chat[ _]template", re.IGNORECASE)
_SIGN_IN = re.compile(
    r"/oauth/|/oauth2/|oauth-?(proxy|authorize|openshift)|openid|/authorize|/login|/signin|/sign_in|/dex/|/auth/realms/",
    re.IGNORECASE,
)
_RBAC = re.compile(
    r"forbidden \(user=(?P<user>[^,)]*), verb=(?P<verb>[^,)]*), resource=(?P<resource>[^,)]*)", re.IGNORECASE
)
_REQUEST_IDS = ("x-request-id", "request-id", "x-correlation-id", "x-b3-traceid")


def error_from_response(
    response: Response,
    *,
    path: str = "",
    origin: str = "",
    explain: ErrorReader | None = None,
    attempts: int = 0,
    token_sent: bool = False,
    secrets: Sequence[str] = (),
    now: float | None = None,
) -> KServeError | None:
    """The error an answer stands for.

    Args:
        response: The answer; its body may have been cut.
        path: The path the request went to.
        origin: The endpoint's scheme, host and port.
        explain: The runtime's own reading of the answer; asked first, except for what the runtime did not send.
        attempts: Requests sent so far.
        token_sent: Whether the request carried a token.
        secrets: Texts that must not appear in the error.
        now: Seconds since the epoch, for dates in `Retry-After`.

    Returns:
        The error, or None for a 2xx answer that is not a web page.
    """
    status = response.status
    if 200 <= status < 300 and not _is_page(response):
        return None
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"identity", ""}:
        response = Response(status, response.headers, b"")  # never asked for, never unpacked: it may be a bomb
    body = read_error_body(response.body)
    for secret in secrets:
        body.message = body.message.replace(secret, "***")
    error: KServeError | None = None
    if status >= 400 and explain is not None and (body.kind == "json" or _layer(response, body) == "runtime"):
        with suppress(LookupError, TypeError, ValueError, AttributeError):  # the answer is not what it expects
            error = explain(response)
    if error is None:
        error = _general(response, body, path, origin, token_sent=token_sent)
    error.attempts = error.attempts or attempts
    _complete(error, response, body, secrets, now)
    return error


def embedded_error(
    response: Response,
    *,
    path: str = "",
    origin: str = "",
    explain: ErrorReader | None = None,
    token_sent: bool = False,
    secrets: Sequence[str] = (),
) -> KServeError | None:
    """The error in an answer whose status says success, or None.

    Servers that have already begun to answer, and some that have not, put an error object under status 200.
    """
    body = read_error_body(response.body)
    value = body.value
    if not isinstance(value, dict):
        return None
    if not (value.get("error") or (isinstance(value.get("details"), str) and "code" in value)):
        return None
    status = int(body.code) if body.code.isdigit() and 400 <= int(body.code) < 600 else 500
    error = error_from_response(
        Response(status, response.headers, response.body),
        path=path,
        origin=origin,
        explain=explain,
        token_sent=token_sent,
        secrets=secrets,
    )
    if error is not None:
        error.status = response.status
    return error


def describe(status: int, body: ErrorBody) -> str:
    """The sentence an error starts with."""
    return f"HTTP {status}: {body.message}" if body.message else f"HTTP {status} with no explanation."


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds the server asks to wait (`retry-after-ms`, `retry-after` as seconds or date), or None."""
    moment = time.time() if now is None else now
    text = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"\d{1,12}(\.\d*)?", text):
        return float(text) / 1000
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        return float(text)
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, date.timestamp() - moment)


def request_id(headers: Mapping[str, str], body: ErrorBody | None = None) -> str | None:
    """The id under which the request stands in the server's log, or None."""
    found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    if found is None and body is not None:
        found = body.id
    return found[:200] if found else None


def _is_page(response: Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or (not kind and is_html(response.body))


def _complete(
    error: KServeError,
    response: Response,
    body: ErrorBody,
    secrets: Sequence[str],
    now: float | None,
) -> None:
    error.status = error.status or response.status
    error.server_message = error.server_message or body.message
    error.request_id = error.request_id or request_id(response.headers, body)
    if error.retry_after is None:
        error.retry_after = retry_after(response.headers, now)
        if error.retry_after is None and response.status == 429:
            error.retry_after = _reset(response.headers, now)
    if error.response is None:
        content = bounded_body(response.body, body)
        for secret in secrets:
            content = content.replace(secret.encode(), b"***")
        headers = {
            name: value
            for name, value in response.headers.items()
            if name in _SHOWN_HEADERS or name.startswith(("x-ratelimit-", "ratelimit-", "x-envoy-"))
        }
        error.response = ErrorResponse(response.status, headers, content)


def _reset(headers: Mapping[str, str], now: float | None) -> float | None:
    """Seconds until a limit is lifted, by `x-ratelimit-reset` (a time, as seconds since 1970, or seconds from now)."""
    text = (headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset") or "").strip()
    if not re.fullmatch(r"\d{1,12}(\.\d*)?", text):
        return None
    value = float(text)
    return value if value < 1e8 else max(0.0, value - (time.time() if now is None else now))


def _general(response: Response, body: ErrorBody, path: str, origin: str, *, token_sent: bool) -> KServeError:
    status = response.status
    layer = _layer(response, body)
    if 200 <= status < 300:
        return _page(body)
    if 300 <= status < 400:
        return _redirect(response, origin)
    message = describe(status, body)
    text = body.message
    if status == 401:
        return AuthenticationError(message, hint=hints.NOT_ACCEPTED if token_sent else hints.NOTHING_SENT, layer=layer)
    if status == 403:
        return _forbidden(message, body, layer)
    if status in {400, 404, 503} and _STOPPED.search(text):
        return StoppedError(message, hint=hints.STOPPED, layer=layer)
    if status in {400, 404, 412, 503, 504, 500} and status != 500 and _NOT_READY.search(text):
        hint = hints.ROUTE_NOT_READY if layer in {"router", "gateway"} else hints.LOADING
        return NotReadyError(message, hint=hint, layer=layer)
    if status in {404, 405, 410}:
        if _NO_MODEL.search(text):
            return ModelNotFoundError(message, hint=hints.MODEL, layer="model")
        return NotFoundError(message, hint=hints.not_found(path), layer=layer)
    if status == 429:
        return _limited(message, body, layer)
    if status == 408:
        return ServerError(message, hint=hints.TIMEOUT, layer=layer)
    if status < 500:
        return _refused(message, status, body, layer)
    return _failed(message, status, body, layer)


def _layer(response: Response, body: ErrorBody) -> Layer:
    headers, text = response.headers, body.message.lower()
    server = headers.get("server", "").lower()
    if body.kind == "html":
        if "openshift" in text and ("log in" in text or "sign in" in text):
            return "auth proxy"
        return "gateway" if "nginx" in text or "envoy" in server else "router"
    if "envoy" in server and body.kind != "json":
        return "gateway"
    if "x-ext-auth-reason" in headers:
        return "gateway"
    if response.status == 429 and any(name.startswith(("x-ratelimit-", "ratelimit-")) for name in headers):
        return "gateway"
    if body.kind in {"text", "empty"} and response.status in {401, 403}:
        return "auth proxy"
    if body.kind in {"text", "empty"} and response.status in {429, 502, 503, 504}:
        return "gateway"
    return "runtime"


def _page(body: ErrorBody) -> KServeError:
    text = body.message.lower()
    signs = ("log in", "login", "sign in", "signin", "password", "oauth", "authenticate")
    hint = hints.SIGN_IN if any(sign in text for sign in signs) else hints.PAGE
    layer: Layer = "auth proxy" if hint is hints.SIGN_IN else "router"
    return AuthenticationError("A web page was answered where data was expected.", hint=hint, layer=layer)


def _redirect(response: Response, origin: str) -> KServeError:
    status = response.status
    location = response.headers.get("location", "")
    try:
        target = urlsplit(location)
        host = target.hostname or ""
    except ValueError:
        target, host = urlsplit(""), ""
    here = urlsplit(origin)
    where = f"{target.scheme}://{host}" if host else f"{here.scheme}://{here.hostname}"
    if _SIGN_IN.search(f"{host}{target.path}"):
        msg = f"HTTP {status}: the request was sent on to a sign-in page at {host or here.hostname}."
        return AuthenticationError(msg, hint=hints.SIGN_IN, layer="auth proxy")
    msg = f"HTTP {status}: the endpoint sends the request on to {where}."
    hint = hints.REDIRECT
    if here.scheme == "http" and target.scheme == "https" and host in {here.hostname, ""}:
        hint = hints.HTTPS
    elif host in {here.hostname, ""} and target.path.rstrip("/"):
        hint = f"{hints.REDIRECT} The path it names is {target.path[:200]}."
    return RedirectError(msg, hint=hint, layer="router")


def _limited(message: str, body: ErrorBody, layer: Layer) -> KServeError:
    """Too much at once, or too much in all: gateways answer 429 to both, and some say which in `error.type`."""
    kind = f"{body.type} {body.code}".lower()
    if "quota" in kind or ("rate" not in kind and _QUOTA.search(body.message)):
        return QuotaExceededError(message, hint=hints.QUOTA, layer=layer)
    return RateLimitError(message, hint=hints.RATE_LIMITED, layer=layer)


def _forbidden(message: str, body: ErrorBody, layer: Layer) -> KServeError:
    hint = hints.FORBIDDEN
    match = _RBAC.search(body.message)
    if match is not None:
        layer = "auth proxy"
        resource = match["resource"] or "inferenceservices"
        group = ".serving.kserve.io" if resource in {"inferenceservices", "llminferenceservices"} else ""
        subject = match["user"] or "the token's subject"
        hint = f"Grant {subject} the verb `{match['verb'] or 'get'}` on `{resource}{group}` by a Role and RoleBinding."
    elif "restricted" in body.message.lower() and "header" in body.message.lower():
        hint = hints.RESTRICTED
    return PermissionDeniedError(message, hint=hint, layer=layer)


def _refused(message: str, status: int, body: ErrorBody, layer: Layer) -> KServeError:
    text = body.message
    if body.param == "input_tokens" or _OVERFLOW.search(text):
        return ContextOverflowError(message, hint=hints.CONTEXT, layer="model" if layer == "runtime" else layer)
    if status == 413 or _TOO_LARGE.search(text):
        return RequestTooLargeError(message, hint=hints.TOO_LARGE, layer=layer)
    if _NO_MODEL.search(text) and body.kind == "json" and body.param in {"", "model"}:
        return ModelNotFoundError(message, hint=hints.MODEL, layer="model")
    hint = hints.CHAT_TEMPLATE if _CHAT_TEMPLATE.search(text) else ""
    return InvalidRequestError(message, hint=hint, layer=layer)


def _failed(message: str, status: int, body: ErrorBody, layer: Layer) -> KServeError:
    if status == 504:
        return NotReadyError(message, hint=hints.ROUTE_TIMEOUT, layer="gateway" if layer == "runtime" else layer)
    if status == 503 and body.kind == "html":
        return NotReadyError(message, hint=hints.ROUTE_NOT_READY, layer=layer)
    if _OVERFLOW.search(body.message) and body.kind == "json":
        return ContextOverflowError(message, hint=hints.CONTEXT, layer="model")
    return ServerError(message, hint=hints.BAD_GATEWAY if status == 502 else hints.SERVER_FAILED, layer=layer)
