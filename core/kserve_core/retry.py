"""When to send a request again: the time budget, the retry decision, and the conversation around one call.

`converse` is the whole conversation (ask for the token, send, wait, refresh, send again) as a generator of actions.
It does no I/O: the blocking and the async transports carry its actions out and send back what came of them, so
there is one such logic for all of them.

A model that is being started is waited for by asking whether it is ready (`Probe`), where there is a way to ask, and
not by sending the prompt again and again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from kserve_core.errors import (
    AuthenticationError,
    ConnectTimeoutError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NotReadyError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StoppedError,
    StreamInterrupted,
)
from kserve_core.observe import Watch
from kserve_core.readiness import Waiting, still_loading, stopped_error

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
        max_probes: How often one call may ask whether the model is ready.
        probe_timeout: The most seconds one such question may take. A proxy that starts pods on demand holds it until
            one is there, so it is not short.
        short_wait: The longest wait a server may ask for when a quota is used up; with a longer one it is not waited.
        wait_refused: Whether a refused connection is waited out like a model being started, as where nothing else
            could have that address. Elsewhere the address is likely to be wrong, and it counts as a retry.
    """

    budget: float | None = 300.0
    max_retries: int = 2
    first_delay: float = 0.5
    longest_delay: float = 8.0
    max_attempts: int = 100
    longest_asked: float = 600.0
    slow_failure: float = 10.0
    max_probes: int = 1000
    probe_timeout: float = 30.0
    short_wait: float = 60.0
    wait_refused: bool = False


_DEFAULTS = RetryPolicy()


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
    cold = is_cold_start(error, policy) and not (error.status in {501, 504} and took > policy.slow_failure)
    if not cold and (not is_retryable(error, policy) or attempt - waits > policy.max_retries):
        return None
    delay = _delay(waits if cold else attempt - waits - 1, elapsed, error, policy, spread)
    return None if delay is None else Wait(delay, cold)


def _delay(count: int, elapsed: float, error: KServeError, policy: RetryPolicy, spread: float) -> float | None:
    """Seconds to wait after so many waits before; None if there is no time for it."""
    delay = min(policy.first_delay * 2.0 ** min(count, 16), policy.longest_delay) * (1.0 - spread / 4)
    if error.retry_after is not None:
        if policy.budget is None and error.retry_after > policy.longest_asked:
            return None
        delay = max(delay, error.retry_after) if error.retry_after > 0 else delay
    if policy.budget is not None and elapsed + delay >= policy.budget:
        return None
    return delay


def is_cold_start(error: KServeError, policy: RetryPolicy = _DEFAULTS) -> bool:
    """Whether the error is one that a model being loaded or scaled up causes."""
    if isinstance(error, EndpointConnectionError):
        return error.refused and policy.wait_refused
    return isinstance(error, NotReadyError) and not isinstance(error, StoppedError)


def is_retryable(error: KServeError, policy: RetryPolicy = _DEFAULTS) -> bool:
    """Whether the same request may work a moment later.

    A 500 is not: servers also answer it to requests they cannot understand, and a crashed engine stays crashed.
    """
    if isinstance(error, StoppedError):
        return False
    if isinstance(error, QuotaExceededError):
        return error.retry_after is not None and error.retry_after <= policy.short_wait
    if isinstance(error, EndpointTimeoutError) and not isinstance(error, ConnectTimeoutError):
        return False
    if isinstance(error, (EndpointConnectionError, StreamInterrupted)):
        return error.retryable
    if isinstance(error, ServerError):
        return error.status in {408, 502, 503, 504}
    return isinstance(error, RateLimitError) or error.status == 408


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
class Probe:
    """Ask whether the model is ready; answered with True or False, or the error is thrown in.

    Attributes:
        token: The bearer token, or None.
        deadline: When to stop waiting, on the conversation's clock.
    """

    token: str | None = field(repr=False)
    deadline: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


class StaleConnectionError(EndpointConnectionError):
    """A kept connection turned out to be closed before any of the answer arrived."""


Action: TypeAlias = "GetToken | Send | Probe | Sleep"
Conversation: TypeAlias = "Generator[Action, object, A]"


def converse(
    policy: RetryPolicy,
    *,
    judge: Callable[[A, bool], KServeError | None],
    has_token: bool,
    refreshable: bool,
    retry: bool = True,
    probing: bool = False,
    waiting: Waiting | None = None,
    stopped: str | None = None,
    watch: Watch | None = None,
    clock: Callable[[], float] = time.monotonic,
    rng: Callable[[], float] = random.random,
) -> Generator[Action, A | str | bool | None, A]:
    """One call's conversation.

    Args:
        policy: The limits.
        judge: Turns an answer into the error it is, or None if it is none; told whether a token was sent.
        has_token: Whether to ask for a token.
        refreshable: Whether asking again after a 401 makes sense.
        retry: False to send once only, whatever happens.
        probing: Whether there is a way to ask if the model is ready.
        waiting: Is told of each wait for a model.
        stopped: Why the model is stopped on purpose, so that it is not waited for.
        watch: Is told of requests that fail and are sent again, and of how many were sent.
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
    waiting = waiting or Waiting()
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
            if watch is not None:
                watch.sent(attempt)
            return answer
        if stopped and is_cold_start(error, policy) and not isinstance(error, StoppedError):
            error = stopped_error(error, stopped)
        error.attempts = attempt
        refresh = False
        now = clock()
        if again and isinstance(error, StaleConnectionError) and not fresh:
            logger.debug("a kept connection was closed by the server; sending again on a new one")
            if watch is not None:
                watch.failed(error, attempt, 0.0)
            fresh = True
            continue
        if again and refreshable and not refreshed and error.status == 401 and isinstance(error, AuthenticationError):
            logger.info("the token was refused (401); asking for a new one")
            if watch is not None:
                watch.failed(error, attempt, 0.0)
            refresh = refreshed = True
            continue
        wait = None
        if again:
            wait = decide(attempt, now - began, error, policy, waits=waits, took=now - sent, spread=rng())
        if watch is not None:
            if wait is None:
                watch.sent(attempt)
            else:
                watch.failed(error, attempt, wait.seconds, cold=wait.cold)
        if wait is None:
            raise error from (cause or error.__cause__)
        cause = error
        if not wait.cold:
            _log(wait, error, attempt, policy, now - began)
            yield Sleep(wait.seconds)
            continue
        waits += 1
        waiting.tell(now - began, error, attempt, _left(policy, now - began))
        yield Sleep(wait.seconds)
        if probing:
            # What it says is believed once: a gateway may answer for a model that is not there yet.
            probing = False
            yield from _until_ready(policy, error, began, attempt, waiting, has_token=has_token, clock=clock, rng=rng)


def _until_ready(
    policy: RetryPolicy,
    error: KServeError,
    began: float,
    attempt: int,
    waiting: Waiting,
    *,
    has_token: bool,
    clock: Callable[[], float],
    rng: Callable[[], float],
) -> Generator[Action, object, None]:
    """Asks again and again whether the model is ready, until it is or there is no telling.

    Raises:
        KServeError: The request's own error, when there is no time left.
    """
    token: Any = None
    for count in range(1, policy.max_probes + 1):
        if has_token:
            token = yield GetToken()
        limit = clock() + policy.probe_timeout
        if policy.budget is not None:
            limit = min(limit, began + policy.budget)
        reason = error
        try:
            if (yield Probe(token, limit)):
                return
        except KServeError as exc:
            if not still_loading(exc):
                logger.debug("whether the model is ready cannot be asked (%s); sending again", type(exc).__name__)
                return
            reason = exc
        elapsed = clock() - began
        delay = _delay(count, elapsed, reason, policy, rng())
        if delay is None:
            break
        waiting.tell(elapsed, reason, attempt, _left(policy, elapsed))
        yield Sleep(delay)
    raise error from error.__cause__


def _left(policy: RetryPolicy, elapsed: float) -> float | None:
    return None if policy.budget is None else policy.budget - elapsed


def _log(wait: Wait, error: KServeError, attempt: int, policy: RetryPolicy, elapsed: float) -> None:
    what = f"{type(error).__name__}, status {error.status}" if error.status else type(error).__name__
    left = "no limit" if policy.budget is None else f"{policy.budget - elapsed:.0f} s left"
    logger.info("request failed (%s, attempt %d); next attempt in %.1f s, %s", what, attempt, wait.seconds, left)
