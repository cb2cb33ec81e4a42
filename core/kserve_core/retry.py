"""When to send a request again: the time budget, the retry decision, and the conversation around one call.

`converse` is the whole conversation (ask for the token, send, wait, refresh, send again) as a generator of actions.
It does no I/O: the blocking and the async transports carry its actions out and send back what came of them, so
there is one such logic for all of them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from kserve_core.errors import (
    AuthenticationError,
    ConnectTimeoutError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NotReadyError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)

logger = logging.getLogger("kserve_core.retry")

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try.

    Attributes:
        budget: Seconds for all attempts together; None for no limit.
        max_retries: How often a failed request is sent again; 0 means each request is sent exactly once.
        first_delay: Seconds before the first retry; doubled for each further one.
        longest_delay: The most seconds between two attempts, unless the server asks for more.
        max_attempts: The most requests one call may send, waiting for a model included.
        longest_asked: The longest wait a server may ask for when there is no budget.
        slow_failure: A timeout of a gateway (504), or of a runtime that waits for another one (501), that took
            longer than this many seconds is a slow answer, not a model that is being started, so it counts as a
            retry.
    """

    budget: float | None = 300.0
    max_retries: int = 2
    first_delay: float = 0.5
    longest_delay: float = 8.0
    max_attempts: int = 100
    longest_asked: float = 600.0
    slow_failure: float = 10.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Send again after `seconds`; `cold` when it is a model being started that is waited for."""

    seconds: float
    cold: bool = False


def decide(
    attempt: int,
    elapsed: float,
    error: KServeError,
    policy: RetryPolicy,
    *,
    waits: int = 0,
    took: float = 0.0,
    spread: float = 0.0,
) -> Wait | None:
    """Whether, and after how long, to send again. Pure.

    Args:
        attempt: Requests sent so far, this one included.
        elapsed: Seconds since the call began.
        error: How the last attempt failed.
        policy: The limits.
        waits: How many of the attempts met a model that was being started.
        took: Seconds the last attempt took.
        spread: A random number from 0 to 1 that keeps many clients from retrying in step.

    Returns:
        The wait, or None to give up.
    """
    if policy.max_retries <= 0 or attempt >= policy.max_attempts:
        return None
    cold = is_cold_start(error) and not (error.status in {501, 504} and took > policy.slow_failure)
    if not cold and (not is_retryable(error) or attempt - waits > policy.max_retries):
        return None
    count = waits if cold else attempt - waits - 1
    delay = min(policy.first_delay * 2.0 ** min(count, 16), policy.longest_delay) * (1.0 - spread / 4)
    if error.retry_after is not None:
        if policy.budget is None and error.retry_after > policy.longest_asked:
            return None
        delay = max(delay, error.retry_after) if error.retry_after > 0 else delay
    if policy.budget is not None and elapsed + delay >= policy.budget:
        return None
    return Wait(delay, cold)


def is_cold_start(error: KServeError) -> bool:
    """Whether the error is one that a model being loaded or scaled up causes."""
    return isinstance(error, NotReadyError)


def is_retryable(error: KServeError) -> bool:
    """Whether the same request may work a moment later.

    A 500 is not: servers also answer it to requests they cannot understand, and a crashed engine stays crashed.
    """
    if isinstance(error, EndpointTimeoutError) and not isinstance(error, ConnectTimeoutError):
        return False
    if isinstance(error, EndpointConnectionError):
        return error.retryable
    if isinstance(error, ServerError):
        return error.status in {408, 502, 503, 504}
    return isinstance(error, (RateLimitError, StreamInterrupted)) or error.status == 408


@dataclass(frozen=True, slots=True)
class GetToken:
    """Ask the token source; answered with the token."""

    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request; answered with what came, or the error is thrown in.

    Attributes:
        token: The bearer token, or None.
        deadline: When to stop waiting, on the conversation's clock; None for never.
        fresh: Use a new connection.
        attempt: Which request of the call this is, from 1.
    """

    token: str | None = field(repr=False)
    deadline: float | None
    fresh: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


class StaleConnectionError(EndpointConnectionError):
    """A kept connection turned out to be closed before any of the answer arrived."""


Action: TypeAlias = "GetToken | Send | Sleep"
Conversation: TypeAlias = "Generator[Action, object, A]"


def converse(
    policy: RetryPolicy,
    *,
    judge: Callable[[A, bool], KServeError | None],
    has_token: bool,
    refreshable: bool,
    retry: bool = True,
    clock: Callable[[], float] = time.monotonic,
    rng: Callable[[], float] = random.random,
) -> Generator[Action, A | str | None, A]:
    """One call's conversation.

    Args:
        policy: The limits.
        judge: Turns an answer into the error it is, or None if it is none; told whether a token was sent.
        has_token: Whether to ask for a token.
        refreshable: Whether asking again after a 401 makes sense.
        retry: False to send once only, whatever happens.
        clock: Seconds on a clock that never goes back.
        rng: Random numbers from 0 to 1.

    Returns:
        The first answer that is no error.

    Raises:
        KServeError: The last error, with the number of requests sent.
    """
    again = retry and policy.max_retries > 0
    began = clock()
    deadline = None if policy.budget is None else began + policy.budget
    attempt = waits = 0
    refresh = refreshed = fresh = False
    token: str | None = None
    cause: KServeError | None = None
    while True:
        if has_token:
            token = yield GetToken(refresh)  # type: ignore[assignment]
        attempt += 1
        sent = clock()
        error: KServeError | None
        try:
            answer: A = yield Send(token, deadline, fresh, attempt)  # type: ignore[assignment]
            error = judge(answer, token is not None)
        except KServeError as exc:
            error = exc
        if error is None:
            return answer
        error.attempts = attempt
        refresh = False
        now = clock()
        if again and isinstance(error, StaleConnectionError) and not fresh:
            logger.debug("a kept connection was closed by the server; sending again on a new one")
            fresh = True
            continue
        if again and refreshable and not refreshed and error.status == 401 and isinstance(error, AuthenticationError):
            logger.info("the token was refused (401); asking for a new one")
            refresh = refreshed = True
            continue
        wait = None
        if again:
            wait = decide(attempt, now - began, error, policy, waits=waits, took=now - sent, spread=rng())
        if wait is None:
            raise error from (cause or error.__cause__)
        _log(wait, error, attempt, policy, now - began, first=waits == 0)
        waits += wait.cold
        cause = error
        yield Sleep(wait.seconds)


def _log(wait: Wait, error: KServeError, attempt: int, policy: RetryPolicy, elapsed: float, *, first: bool) -> None:
    what = f"{type(error).__name__}, status {error.status}" if error.status else type(error).__name__
    left = "no limit" if policy.budget is None else f"{policy.budget - elapsed:.0f} s left"
    level = logging.WARNING if wait.cold and first else logging.INFO
    text = "the model is not ready" if wait.cold else "request failed"
    logger.log(level, "%s (%s, attempt %d); next attempt in %.1f s, %s", text, what, attempt, wait.seconds, left)
