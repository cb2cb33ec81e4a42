"""Errors that are this project's and LangChain's at once.

Each class is a `kserve_core` error, so it says which layer answered and what to try, and one of LangChain's standard
model errors, so that `except ModelRateLimitError`, retry middleware (`is_retryable`) and summarize-on-overflow work.
"""

from __future__ import annotations

from types import TracebackType

from langchain_core import exceptions as lc

from kserve_core import errors as core


class KServeError(core.KServeError, lc.ModelError):
    """Base of the errors below: `except KServeError` catches them all."""


class ConfigurationError(KServeError, core.ConfigurationError, lc.ModelInvalidRequestError):
    """What the caller gave cannot be used; nothing was sent."""


class UnsupportedParameterError(ConfigurationError, core.UnsupportedParameterError):
    """The runtime has no such parameter, or cannot do what was asked; nothing was sent."""


class EndpointConnectionError(KServeError, core.EndpointConnectionError, lc.ModelConnectionError):
    """Nobody answered."""


class TLSError(EndpointConnectionError, core.TLSError):
    """A certificate check failed, on either side."""

    is_retryable = False


class NameResolutionError(EndpointConnectionError, core.NameResolutionError):
    """The endpoint's host name is unknown here."""

    is_retryable = False


class EndpointTimeoutError(KServeError, core.EndpointTimeoutError, lc.ModelTimeoutError):
    """The time budget ran out before an answer."""


class ConnectTimeoutError(EndpointConnectionError, EndpointTimeoutError, core.ConnectTimeoutError):
    """No connection within `connect_timeout`."""


class ResponseError(KServeError, core.ResponseError):
    """Somebody answered, and the answer was an error."""


class AuthenticationError(ResponseError, core.AuthenticationError, lc.ModelAuthenticationError):
    """No token, or one that is not accepted."""


class PermissionDeniedError(ResponseError, core.PermissionDeniedError, lc.ModelPermissionDeniedError):
    """The token is known but may not call this model."""


class NotFoundError(ResponseError, core.NotFoundError, lc.ModelNotFoundError):
    """Nothing at this URL."""


class ModelNotFoundError(NotFoundError, core.ModelNotFoundError):
    """The endpoint serves no model of this name."""


class RedirectError(ResponseError, core.RedirectError, lc.ModelInvalidRequestError):
    """The endpoint wants to send the request elsewhere; redirects are never followed."""


class InvalidRequestError(ResponseError, core.InvalidRequestError, lc.ModelInvalidRequestError):
    """The server refused the request as it stands."""


class ContextOverflowError(InvalidRequestError, core.ContextOverflowError, lc.ContextOverflowError):
    """The prompt, or prompt and answer together, do not fit the model's context window."""


class RequestTooLargeError(InvalidRequestError, core.RequestTooLargeError):
    """The request is larger than the server takes."""


class RateLimitError(ResponseError, core.RateLimitError, lc.ModelRateLimitError):
    """Too many requests."""


class QuotaExceededError(RateLimitError, core.QuotaExceededError):
    """What was agreed on for a longer time (tokens per day, a budget) is used up."""

    is_retryable = False


class ServerError(ResponseError, core.ServerError, lc.ModelAPIError):
    """The server, or something in front of it, failed."""


class NotReadyError(ServerError, core.NotReadyError):
    """The model is being loaded, or nothing serves this route yet."""


class StoppedError(NotReadyError, core.StoppedError):
    """The model is stopped on purpose; it is not waited for."""

    is_retryable = False


class BadResponseError(ResponseError, core.BadResponseError, lc.ModelAPIError):
    """The answer came with a success status but cannot be understood."""

    is_retryable = False


class StreamInterrupted(KServeError, core.StreamInterrupted, lc.ModelConnectionError):  # noqa: N818 - as in the core
    """A stream ended before the runtime said it was complete; `partial_text` is what had arrived."""


class StreamIdleError(StreamInterrupted, EndpointTimeoutError, core.StreamIdleError):
    """A stream was silent for longer than `idle_timeout`."""


_CLASSES: dict[type[core.KServeError], type[core.KServeError]] = {
    core.KServeError: KServeError,
    core.ConfigurationError: ConfigurationError,
    core.UnsupportedParameterError: UnsupportedParameterError,
    core.EndpointConnectionError: EndpointConnectionError,
    core.TLSError: TLSError,
    core.NameResolutionError: NameResolutionError,
    core.EndpointTimeoutError: EndpointTimeoutError,
    core.ConnectTimeoutError: ConnectTimeoutError,
    core.ResponseError: ResponseError,
    core.AuthenticationError: AuthenticationError,
    core.PermissionDeniedError: PermissionDeniedError,
    core.NotFoundError: NotFoundError,
    core.ModelNotFoundError: ModelNotFoundError,
    core.RedirectError: RedirectError,
    core.InvalidRequestError: InvalidRequestError,
    core.ContextOverflowError: ContextOverflowError,
    core.RequestTooLargeError: RequestTooLargeError,
    core.RateLimitError: RateLimitError,
    core.QuotaExceededError: QuotaExceededError,
    core.ServerError: ServerError,
    core.NotReadyError: NotReadyError,
    core.StoppedError: StoppedError,
    core.BadResponseError: BadResponseError,
    core.StreamInterrupted: StreamInterrupted,
    core.StreamIdleError: StreamIdleError,
}


def to_langchain(error: core.KServeError) -> core.KServeError:
    """The same error as the class that is LangChain's too; one that already is comes back as it is."""
    if isinstance(error, lc.ModelError):
        return error
    for cls in type(error).__mro__:
        if mapped := _CLASSES.get(cls):
            made = mapped(error.message, **error.details())
            for note in getattr(error, "__notes__", ()):
                made.add_note(note)  # type: ignore[attr-defined]  # notes exist from Python 3.11
            return made
    return error  # pragma: no cover - every class descends from KServeError


class _Translated:
    """Raises the project's errors as LangChain's; use as `with translated:`, in blocking and async code."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, core.KServeError):
            made = to_langchain(error)
            if made is not error:
                raise made.with_traceback(trace) from error.__cause__


translated = _Translated()
