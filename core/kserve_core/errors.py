"""The error tree: which layer answered, what it said, and what to try.

Every error this package raises on purpose is a `KServeError`. The framework packages add the framework's own
error class as a second base; what an error carries is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Layer = Literal["client", "network", "router", "auth proxy", "gateway", "cluster", "runtime", "model"]
"""Who answered. `client`: nothing was sent. `network`: nobody answered. `cluster`: the Kubernetes API."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The HTTP answer behind an error, in the shape tracing tools expect of an `httpx.Response`.

    The body is bounded and has any echo of the request removed.
    """

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: If the body is not JSON.
        """
        return orjson.loads(self.content)


class KServeError(Exception):
    """Base of everything this package raises.

    Attributes:
        message: What went wrong, in one or two sentences; never holds a token or a prompt.
        hint: What to try, or `""`.
        layer: Who answered.
        status: The HTTP status, or None; of a gRPC answer, the HTTP status that means the same.
        server_message: The server's own words, bounded.
        request_id: The server's or the sent request id, to find the request in logs.
        attempts: How many requests were sent in all, the failed ones included; probes of a model's readiness are not.
        response: The answer behind the error, or None.
        partial_text: What a stream had delivered before it broke.
        retry_after: Seconds the server asked to wait, or None.
        retryable: Whether the same request may work later without any change.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        layer: Layer = "runtime",
        status: int | None = None,
        server_message: str = "",
        request_id: str | None = None,
        attempts: int = 0,
        response: ErrorResponse | None = None,
        partial_text: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.layer: Layer = layer
        self.status = status
        self.server_message = server_message
        self.request_id = request_id
        self.attempts = attempts
        self.response = response
        self.partial_text = partial_text
        self.retry_after = retry_after

    @property
    def status_code(self) -> int | None:
        """The HTTP status, under the name the frameworks look for."""
        return self.status

    def details(self) -> dict[str, Any]:
        """Everything but the message, as the keyword arguments of the constructor."""
        return {
            "hint": self.hint,
            "layer": self.layer,
            "status": self.status,
            "server_message": self.server_message,
            "request_id": self.request_id,
            "attempts": self.attempts,
            "response": self.response,
            "partial_text": self.partial_text,
            "retry_after": self.retry_after,
        }

    def __str__(self) -> str:
        parts = [self.message]
        facts = []
        if self.layer not in {"client", "network"}:
            facts.append(f"answered by: {self.layer}")
        if self.request_id:
            facts.append(f"request id: {self.request_id}")
        if self.attempts > 1:
            facts.append(f"requests sent: {self.attempts}")
        if facts:
            parts.append(f"({', '.join(facts)})")
        text = " ".join(parts)
        return f"{text}\nHint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details()))


def _rebuild(cls: type[KServeError], message: str, details: dict[str, Any]) -> KServeError:
    return cls(message, **details)


class ConfigurationError(KServeError, ValueError):
    """What the caller gave cannot be used; nothing was sent."""

    def __init__(self, message: str, **details: Any) -> None:
        details.setdefault("layer", "client")
        super().__init__(message, **details)


class UnsupportedParameterError(ConfigurationError):
    """The runtime has no such parameter, or cannot do what was asked; nothing was sent."""


class EndpointConnectionError(KServeError, ConnectionError):
    """No answer: the name did not resolve, nobody listened, or the connection broke before an answer."""

    retryable = True
    refused: bool = False
    """Whether nobody listened there; known where the error was made only."""

    def __init__(self, message: str, **details: Any) -> None:
        details.setdefault("layer", "network")
        super().__init__(message, **details)


class TLSError(EndpointConnectionError):
    """The connection was refused by a certificate check, on either side."""

    retryable = False


class EndpointTimeoutError(KServeError, TimeoutError):
    """The time budget ran out before an answer."""

    retryable = True

    def __init__(self, message: str, **details: Any) -> None:
        details.setdefault("layer", "network")
        super().__init__(message, **details)


class NameResolutionError(EndpointConnectionError):
    """The endpoint's host name is unknown here."""

    retryable = False


class ConnectTimeoutError(EndpointConnectionError, EndpointTimeoutError):
    """No connection within `connect_timeout`."""


class ResponseError(KServeError):
    """Somebody answered, and the answer was an error. The subclasses say which kind."""


class AuthenticationError(ResponseError):
    """No token, or one that is not accepted (401, a sign-in page, or a redirect to one)."""


class PermissionDeniedError(ResponseError):
    """The token is known but may not call this model (403)."""


class NotFoundError(ResponseError):
    """Nothing at this URL (404, 405)."""


class ModelNotFoundError(NotFoundError):
    """The endpoint is there but serves no model of this name."""


class RedirectError(ResponseError):
    """The endpoint wants to send the request elsewhere; redirects are never followed."""


class InvalidRequestError(ResponseError):
    """The server refused the request as it stands (400, 422)."""


class ContextOverflowError(InvalidRequestError):
    """The prompt, or prompt and answer together, do not fit the model's context window."""


class RequestTooLargeError(InvalidRequestError):
    """The request body or the batch is larger than the server takes (413, or a 400/422 that says so)."""


class RateLimitError(ResponseError):
    """Too many requests (429)."""

    retryable = True


class QuotaExceededError(RateLimitError):
    """What was agreed on for a longer time (tokens per day, a budget) is used up (429); a moment does not change that.

    It is sent again only if the server asks for a short wait.
    """

    retryable = False


class ServerError(ResponseError):
    """The server, or something in front of it, failed (5xx)."""

    retryable = True


class NotReadyError(ServerError):
    """The model is being loaded, or nothing serves this route yet."""


class StoppedError(NotReadyError):
    """The model is stopped on purpose; it is not waited for."""

    retryable = False


class BadResponseError(ResponseError):
    """The answer came with a success status but cannot be understood."""


class StreamInterrupted(KServeError):  # noqa: N818 - the name users see in the promises
    """A stream ended before the runtime said it was complete. `partial_text` is what had arrived.

    Attributes:
        clean_end: Set by decoders where the stream ended cleanly and only the runtime's own end marker was missing;
            `strict_stream=False` takes that for the end.
        rest: The pieces a decoder had held back until then.
    """

    retryable = True

    def __init__(self, message: str, *, clean_end: bool = False, rest: Sequence[Any] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.clean_end = clean_end
        self.rest = rest


class StreamIdleError(StreamInterrupted, EndpointTimeoutError):
    """A stream was silent for longer than `idle_timeout`."""
