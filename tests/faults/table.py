"""The table of faults: what goes wrong, and what each kind of exchange makes of it.

`docs/faults.md` publishes it; a test keeps the two equal. The same holds in both frameworks, blocking and from an
event loop, so a cell stands for four runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_ANSWER = 100_000
"""The most bytes of an answer, and of an event, while these rows are played; the real limits take long to reach."""


@dataclass(frozen=True)
class Want:
    """What is expected of one cell.

    Attributes:
        outcome: The name of the error, or `ok`.
        sent: How many requests (with a prompt in them) reach the server. As by default, a request is sent again twice
            at most; a model that is being loaded is waited for.
        layer: Who the error says has answered; None where it is not looked at.
        text: Whether text is handed out before the error; it is then on the error as well.
        says: Part of the error's text.
        vague: Whether the gRPC library may lose what was answered, now and then; it is then a `BadResponseError` that
            says no more than that it was not gRPC.
    """

    outcome: str
    sent: int = 1
    layer: str | None = None
    text: bool = False
    says: str = ""
    vague: bool = False


@dataclass(frozen=True)
class Row:
    """A fault that the development server plays.

    Attributes:
        name: Its name in test ids.
        what: What happens, for people.
        cells: What is expected, by kind of exchange; a kind that is missing cannot have the fault.
        fault: Fields of the server's `Fault`.
        over_grpc: The same for gRPC, where they differ.
        fields: Constructor arguments.
    """

    name: str
    what: str
    cells: Mapping[str, Want]
    fault: Mapping[str, Any] = field(default_factory=dict)
    over_grpc: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def cells(
    rest: Want | None = None, sse: Want | None = None, grpc: Want | None = None, grpc_stream: Want | None = None
) -> dict[str, Want]:
    """What is expected, by kind of exchange."""
    given = {"rest": rest, "sse": sse, "grpc": grpc, "grpc-stream": grpc_stream}
    return {kind: want for kind, want in given.items() if want is not None}


def everywhere(want: Want) -> dict[str, Want]:
    """The same for all four."""
    return cells(want, want, want, want)


def over_http(want: Want) -> dict[str, Want]:
    """The same for the two over HTTP/1.1."""
    return cells(want, want)


OK = Want("ok")
AGAIN = Want("ok", sent=2)
LATE = Want("EndpointTimeoutError", layer="network")
SILENT = Want("StreamIdleError", text=True, layer="network", says="silent for 0.15 s")
LOST = Want("EndpointConnectionError", sent=3, layer="network")
CUT = Want("StreamInterrupted", text=True)
STRANGE = Want("BadResponseError")
_BUDGET = {"timeout": 0.25}
_IDLE = {"idle_timeout": 0.15}
_ALWAYS = {"times": None}
_AS_JSON = {"status": 200, "content_type": "application/json"}
_SPACED = {"slow_body": 0.01}  # so that what comes before the fault arrives before it

BROKEN: tuple[Row, ...] = (
    Row("nothing", "nothing goes wrong", everywhere(OK)),
    Row(
        "reset-before-headers",
        "the connection is reset before the headers, each time",
        everywhere(LOST),
        {"reset": "before-headers", **_ALWAYS},
    ),
    Row("reset-once", "the same, once", everywhere(AGAIN), {"reset": "before-headers"}),
    Row(
        "reset-after-headers",
        "reset after the headers, each time",
        cells(LOST, Want("StreamInterrupted", sent=3)),
        {"reset": "after-headers", **_ALWAYS},
    ),
    Row(
        "slow-headers",
        "headers that drip past the time budget",
        everywhere(LATE),
        {"slow_headers": 0.1},
        {"delay": 1.0},
        _BUDGET,
    ),
    Row("silence", "no byte within the time budget", everywhere(LATE), {"delay": 1.0}, None, _BUDGET),
    Row("slow-body", "a body that drips past the time budget", cells(LATE), {"slow_body": 0.05}, None, _BUDGET),
    Row("cut", "the connection breaks in the middle of the answer", cells(AGAIN, CUT, None, CUT), {"cut_after": 4}),
    Row("cut-mid-piece", "it breaks in the middle of a piece", cells(sse=CUT), {"cut_after": 4, "cut": "mid-piece"}),
    Row("cut-first", "it breaks before the first piece, once", cells(sse=AGAIN, grpc_stream=AGAIN), {"cut_after": 0}),
    Row(
        "clean-end",
        "the stream ends cleanly without the end marker",
        cells(sse=CUT, grpc_stream=CUT),
        {"cut_after": 4, "cut": "clean"},
    ),
    Row(
        "clean-end-lenient",
        "the same with `strict_stream=False`",
        cells(sse=Want("ok", text=True), grpc_stream=Want("ok", text=True)),
        {"cut_after": 4, "cut": "clean"},
        None,
        {"strict_stream": False},
    ),
    Row(
        "clean-end-at-once",
        "it ends cleanly before any piece, each time",
        cells(sse=Want("StreamInterrupted", sent=3), grpc_stream=Want("StreamInterrupted", sent=3)),
        {"cut_after": 0, "cut": "clean", **_ALWAYS},
    ),
    Row(
        "short-body",
        "a body shorter than its content-length, each time",
        cells(LOST),
        {"cut_after": 20, "cut": "clean", "close": True, **_ALWAYS},
    ),
    Row(
        "error-event",
        "an error in the middle of the stream, then the end marker",
        cells(
            sse=Want("ServerError", text=True, layer="runtime", says="EngineCore"),
            grpc_stream=Want("ServerError", text=True, layer="runtime", says="EngineCore"),
        ),
        {"error_after": 4, **_SPACED},
    ),
    Row("idle", "silence in the middle of the stream", cells(sse=SILENT, grpc_stream=SILENT), {"idle_after": 4}, None, _IDLE),
    Row("keepalive", "keep-alive comments instead of pieces", cells(sse=SILENT), {"idle_after": 4, "keepalive": 1}, None, _IDLE),
    Row(
        "malformed-piece",
        "a piece that is no JSON (over gRPC: no message)",
        cells(sse=Want("BadResponseError", text=True), grpc=STRANGE, grpc_stream=Want("BadResponseError", text=True)),
        {"malformed_after": 3, **_SPACED},
    ),
    Row("malformed-body", "a body that is no JSON", cells(STRANGE), {"body": '{"choices": [{"mess', **_AS_JSON}),
    Row("nan", "NaN in a body", cells(Want("BadResponseError", says="NaN")), {"body": '{"choices": NaN}', **_AS_JSON}),
    Row("infinity", "Infinity in a body", cells(Want("BadResponseError", says="Infinity")), {"body": '{"choices": [-Infinity]}', **_AS_JSON}),
    Row(
        "nan-event",
        "NaN in an event",
        cells(sse=Want("BadResponseError", says="NaN")),
        {"status": 200, "body": 'data: {"choices": [{"delta": {"content": NaN}}]}\n\n', "content_type": "text/event-stream"},
    ),
    Row("deep", "JSON nested a hundred thousand deep", cells(STRANGE), {"body": "[" * 100_000, **_AS_JSON}),
    Row("wrong-shape", "JSON of another shape", over_http(STRANGE), {"status": 200, "body": {"choices": {"a": 1}}}),
    Row("not-an-object", "JSON that is no object", over_http(STRANGE), {"status": 200, "body": [1, 2]}),
    Row("empty", "an empty answer with status 200", over_http(STRANGE), {"body": "empty"}),
    Row("oversized", "an answer, or a line of a stream, that is larger than is taken", over_http(Want("BadResponseError", says="100000 bytes")), {"long_line": 300_000}),
    Row("wrong-type", "the right answer as `text/plain`", cells(OK, STRANGE), {"content_type": "text/plain"}),
    Row("page", "a web page with status 200", over_http(Want("AuthenticationError", layer="router")), {"body": "html"}),
    Row(
        "sign-in",
        "a sign-in page with status 200",
        over_http(Want("AuthenticationError", layer="auth proxy", says="sign-in page")),
        {"body": "oauth-sign-in", "status": 200},
    ),
    Row("gzip-bomb", "a gzip bomb of 64 MiB", over_http(Want("BadResponseError", says="compressed")), {"gzip_bomb": 64 << 20}),
    Row(
        "gzip-bomb-error",
        "the same with status 500",
        over_http(Want("ServerError", says="HTTP 500 with no explanation")),
        {"gzip_bomb": 64 << 20, "status": 500},
    ),
)  # fmt: skip

# What routers, proxies, gateways and runtimes answer, three times in a row: what is waited out (a model being loaded)
# ends well at the fourth request, what is only retried does not.

WAITED = Want("ok", sent=4)
_JSON = {"error": {"message": "Something the server says.", "type": "Some", "param": None, "code": 0}}
_OOPS = "<html><head><title>Oops</title></head><body><h1>Oops</h1></body></html>"
_BODIES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "JSON": ({"body": _JSON}, "Something the server says."),
    "HTML": ({"body": _OOPS, "content_type": "text/html"}, "Oops"),
    "empty": ({"body": ""}, "with no explanation"),
}
_STATUSES: Mapping[int, tuple[str, int, str]] = {
    # status: the error, the requests sent, who an empty answer is from
    400: ("InvalidRequestError", 1, "runtime"),
    401: ("AuthenticationError", 1, "auth proxy"),
    403: ("PermissionDeniedError", 1, "auth proxy"),
    404: ("NotFoundError", 1, "runtime"),
    405: ("NotFoundError", 1, "runtime"),
    408: ("ServerError", 3, "runtime"),
    413: ("RequestTooLargeError", 1, "runtime"),
    422: ("InvalidRequestError", 1, "runtime"),
    429: ("RateLimitError", 3, "gateway"),
    500: ("ServerError", 1, "runtime"),
    501: ("ServerError", 1, "runtime"),
    502: ("ServerError", 3, "gateway"),
    503: ("ServerError", 3, "gateway"),
    504: ("ok", 4, "gateway"),
}


def _answered(status: int, kind: str) -> Row:
    body, says = _BODIES[kind]
    outcome, sent, nobody = _STATUSES[status]
    layer = {"JSON": "runtime", "HTML": "router", "empty": nobody}[kind]
    want = WAITED if outcome == "ok" or (status, kind) == (503, "HTML") else Want(outcome, sent, layer, says=says)
    name = f"{status}-{kind.lower()}"
    return Row(name, f"{status}, body: {kind}", over_http(want), {"status": status, **body, "times": 3})


STATUSES: tuple[Row, ...] = tuple(_answered(status, kind) for status in _STATUSES for kind in _BODIES)

_PAGES: Mapping[str, tuple[str, Want]] = {
    "router-page": ("the router's 503 page", WAITED),
    "not-ready": ('400 `{"error": "Model ... is not ready yet."}`', WAITED),
    "gateway-timeout": ("a gateway's 504 page", WAITED),
    "upstream-reset": ("Envoy's `upstream connect error`", WAITED),
    "bad-gateway": ("a router's 502 page", Want("ServerError", 3, "router", says="Bad Gateway")),
    "kube-rbac-unauthorized": ("kube-rbac-proxy's 401", Want("AuthenticationError", 1, "auth proxy")),
    "kube-rbac-forbidden": ("kube-rbac-proxy's 403", Want("PermissionDeniedError", 1, "auth proxy", says="inferenceservices")),
    "oauth-sign-in": ("oauth-proxy's sign-in page, 403", Want("PermissionDeniedError", 1, "auth proxy")),
    "restricted": ("Triton's restricted API, 403", Want("PermissionDeniedError", 1, "runtime")),
    "model-unavailable": ("Triton's unknown model, 404", Want("ModelNotFoundError", 1, "model")),
    "too-large": ("413 in plain text", Want("RequestTooLargeError", 1)),
    "rate-limited": ("a gateway's 429", Want("RateLimitError", 3)),
    "engine-dead": ("vLLM's dead engine, 500", Want("ServerError", 1, "runtime", says="EngineCore")),
    "flat-error": ("an old vLLM's flat error, 400", Want("InvalidRequestError", 1, "runtime", says="bad request")),
}  # fmt: skip

PAGES: tuple[Row, ...] = tuple(
    Row(page, what, over_http(want), {"body": page, "times": 3}) for page, (what, want) in _PAGES.items()
)

_CODES: Mapping[str, Want] = {
    "CANCELLED": Want("ServerError", 1, "runtime"),
    "UNKNOWN": Want("ServerError", 1, "runtime"),
    "INVALID_ARGUMENT": Want("InvalidRequestError", 1, "runtime"),
    "DEADLINE_EXCEEDED": Want("ServerError", 3, "runtime"),
    "NOT_FOUND": Want("NotFoundError", 1, "runtime"),
    "ALREADY_EXISTS": Want("InvalidRequestError", 1, "runtime"),
    "PERMISSION_DENIED": Want("PermissionDeniedError", 1, "auth proxy"),
    "UNAUTHENTICATED": Want("AuthenticationError", 1, "auth proxy"),
    "RESOURCE_EXHAUSTED": Want("RateLimitError", 3, "runtime"),
    "FAILED_PRECONDITION": Want("InvalidRequestError", 1, "runtime"),
    "ABORTED": Want("ServerError", 3, "runtime"),
    "OUT_OF_RANGE": Want("InvalidRequestError", 1, "runtime"),
    "UNIMPLEMENTED": Want("NotFoundError", 1, "runtime"),
    "INTERNAL": Want("ServerError", 1, "runtime"),
    "UNAVAILABLE": Want("ServerError", 3, "runtime"),
    "DATA_LOSS": Want("ServerError", 1, "runtime"),
}
_LATE_CODES: Mapping[str, Want] = {
    "CANCELLED": CUT,
    "UNAUTHENTICATED": Want("AuthenticationError", text=True),
    "RESOURCE_EXHAUSTED": Want("RateLimitError", text=True),
    "INTERNAL": Want("ServerError", text=True),
    "UNAVAILABLE": Want("ServerError", text=True),
}

CODES: tuple[Row, ...] = tuple(
    Row(
        code.lower(),
        f"status {code}",
        cells(grpc=want, grpc_stream=want),
        {"code": code, "details": "Something the server says.", "times": 3},
    )
    for code, want in _CODES.items()
) + tuple(
    Row(
        f"{code.lower()}-late",
        f"{code} in the middle of the stream",
        cells(grpc_stream=want),
        {"code": code, "cut_after": 4, "times": 3},
    )
    for code, want in _LATE_CODES.items()
)

# What lies below a request; `setups.py` has the servers by name.

_TLS = Want("TLSError", 0, "network")
_REFUSED = Want("EndpointConnectionError", 0, "network", says="refused the connection")
_ELSEWHERE = over_http(Want("RedirectError", 1, "router"))
_AT_ONCE = Want("EndpointConnectionError", 0, "network", says="client certificate")
_NO_HTTP2 = Want("BadResponseError", 0, "router", says="does not offer HTTP/2")
_PAGE_WORDS = "was answered instead of a gRPC status"


def _over_grpc(want: Want) -> dict[str, Want]:
    return cells(grpc=want, grpc_stream=want)


CONNECTIONS: tuple[Row, ...] = (
    Row("refused", "nobody listens", everywhere(_REFUSED)),
    Row("not-http", "another protocol answers", everywhere(Want("BadResponseError", 1, "network"))),
    Row("huge-head", "a head of 300 kB", over_http(Want("BadResponseError", 1, "network", says="too long"))),
    Row("redirect-302", "302 to another path (others turn the POST into a GET)", _ELSEWHERE),
    Row("redirect-307", "307 to another path", _ELSEWHERE),
    Row("redirect-other-host", "307 to another host, which gets neither token nor prompt", _ELSEWHERE),
    Row("redirect-other-host-302", "302 to another host, likewise", _ELSEWHERE),
    Row("redirect-https", "301 to https", over_http(Want("RedirectError", 1, "router", says="start base_url with https"))),
    Row("redirect-sign-in", "302 to a sign-in page", over_http(Want("AuthenticationError", 1, "auth proxy"))),
    Row("tls", "a private CA that was given", everywhere(OK)),
    Row("tls-unknown-ca", "a CA that is not trusted", everywhere(replace(_TLS, says="ca_cert="))),
    Row("tls-wrong-name", "a certificate for another name", everywhere(replace(_TLS, says="another host name"))),
    Row("tls-expired", "an expired certificate", everywhere(replace(_TLS, says="out of date"))),
    Row("tls-client-cert", "a client certificate that is wanted and given", everywhere(OK)),
    Row("tls-no-client-cert", "one that is wanted and not given", cells(replace(_TLS, says="client_cert="), replace(_TLS, says="client_cert="), _AT_ONCE, _AT_ONCE)),
    Row("tls-strange-client-cert", "one of a CA that the server does not trust", cells(replace(_TLS, says="may not accept"), replace(_TLS, says="may not accept"), _AT_ONCE, _AT_ONCE)),
    Row("tls-old-version", "TLS 1.1", over_http(replace(_TLS, says="older than 1.2"))),
    Row("tls-to-plain", "https to a port without TLS", everywhere(replace(_TLS, says="does not speak TLS"))),
    Row("plain-to-tls", "http to a port with TLS", everywhere(Want("EndpointConnectionError", 0, "network", says="https://"))),
    Row("http1-only", "gRPC to a server of HTTP/1.1", _over_grpc(Want("BadResponseError", 1, "network", says="speaks HTTP/1.1"))),
    Row("http1-only-tls", "gRPC to a route without HTTP/2", _over_grpc(_NO_HTTP2)),
    Row("http2-page-302", "gRPC to a router that answers 302", _over_grpc(Want("RedirectError", 1, "router", says=_PAGE_WORDS, vague=True))),
    Row("http2-page-401", "gRPC to an auth proxy that answers 401", _over_grpc(Want("AuthenticationError", 1, "auth proxy", says=_PAGE_WORDS, vague=True))),
    Row("http2-page-404", "gRPC to a router that answers 404", _over_grpc(Want("NotFoundError", 1, "router", says=_PAGE_WORDS, vague=True))),
    Row("http2-page-502", "gRPC to a router that answers 502", _over_grpc(Want("ServerError", 3, "router", says=_PAGE_WORDS, vague=True))),
    Row("token-rotates", "a token that expires while its file has a new one", everywhere(AGAIN)),
    Row("token-expires", "a token that expires for good", everywhere(Want("AuthenticationError", 2, "auth proxy"))),
    Row("restart", "the server restarts between two calls", everywhere(OK)),
    Row("gone", "the server stops between two calls", everywhere(_REFUSED)),
    Row("proxy-for-others", "proxies in the environment, the endpoint on this machine", everywhere(OK)),
    Row("proxy-page", "a proxy of the environment that answers 502", cells(*[Want("ServerError", 3, "router", says="Blocked")] * 2, *[Want("EndpointConnectionError", 1, "network", says="502")] * 2)),
    Row("proxy-refused", "a proxy of the environment that does not listen", cells(*[replace(_REFUSED, says="The proxy on the way to")] * 2, _REFUSED, _REFUSED)),
)  # fmt: skip

TABLES: Mapping[str, tuple[Row, ...]] = {
    "What breaks on the way": BROKEN,
    "Answers by status": STATUSES,
    "Answers of routers, proxies, gateways and runtimes": PAGES,
    "Statuses of gRPC": CODES,
}
