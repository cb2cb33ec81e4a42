"""Waiting for a model that is being started: what a readiness probe's outcome means, and who is told of the wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kserve_core import hints
from kserve_core.errors import (
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NameResolutionError,
    NotReadyError,
    RateLimitError,
    ServerError,
    StoppedError,
    TLSError,
)

logger = logging.getLogger("kserve_core.retry")


@dataclass(frozen=True, slots=True)
class WaitEvent:
    """A model that is being started is waited for once more.

    Attributes:
        seconds: Seconds since the call began.
        reason: What the endpoint said, or why it could not be reached; holds neither token nor prompt.
        attempt: How often the request itself has been sent; readiness probes do not count.
    """

    seconds: float
    reason: str
    attempt: int


OnWait = Callable[[WaitEvent], None]


class Waiting:
    """Tells of one call's wait: a log line at growing intervals, and the caller's function each time.

    Args:
        on_wait: The caller's function, or None.
    """

    __slots__ = ("_next", "_on_wait")

    def __init__(self, on_wait: OnWait | None = None) -> None:
        self._on_wait = on_wait
        self._next = 0.0

    def tell(self, seconds: float, error: KServeError, attempt: int, left: float | None) -> None:
        """Says that the model is waited for.

        Args:
            seconds: Seconds since the call began.
            error: Why it is waited for.
            attempt: How often the request was sent.
            left: Seconds until the time budget is over; None if there is none.
        """
        if seconds >= self._next:
            self._next = max(5.0, 2.0 * seconds) if seconds < 60.0 else seconds + 60.0
            limit = "no limit" if left is None else f"{left:.0f} s left"
            what = f"{type(error).__name__}, status {error.status}" if error.status else type(error).__name__
            text = "waiting for the model to load (%.0f s): the model is not ready (%s, attempt %d), %s"
            logger.warning(text, seconds, what, attempt, limit)
        if self._on_wait is not None:
            self._on_wait(WaitEvent(seconds, error.message, attempt))


def still_loading(error: KServeError) -> bool | None:
    """What a failed readiness probe says: True for "not yet", None if it does not answer the question.

    Only failures that a model being started causes mean that it is not ready. Everything else, such as a path that is
    not there (404) or a token that is not taken for it, is no answer: the request itself has to find out.
    """
    if isinstance(error, (StoppedError, TLSError, NameResolutionError)):
        return None
    if isinstance(error, (NotReadyError, EndpointConnectionError, EndpointTimeoutError)):
        return True
    if isinstance(error, RateLimitError):
        return True
    if isinstance(error, ServerError):
        return True if error.status in {408, 502, 503, 504} else None
    return None


def stopped_error(error: KServeError, reason: str) -> StoppedError:
    """The error for an endpoint that is not ready because it is stopped on purpose.

    Args:
        error: What calling it brought.
        reason: Why it is stopped, in words.
    """
    return StoppedError(f"{reason.rstrip('.')}. ({error.message})", **{**error.details(), "hint": hints.STOPPED})
