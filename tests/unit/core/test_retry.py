"""The retry decision and the conversation around a call, without any I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    ConnectTimeoutError,
    ContextOverflowError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NameResolutionError,
    NotFoundError,
    NotReadyError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    TLSError,
)
from kserve_core.retry import GetToken, RetryPolicy, Send, Sleep, StaleConnectionError, Wait, converse, decide

POLICY = RetryPolicy(budget=100.0, max_retries=2)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (RateLimitError("x", status=429), True),
        (ServerError("x", status=502), True),
        (ServerError("x", status=503), True),
        (ServerError("x", status=408), True),
        (ServerError("x", status=500), False),
        (ServerError("x", status=501), False),
        (NotReadyError("x", status=503), True),
        (NotReadyError("x", status=400), True),
        (EndpointConnectionError("x"), True),
        (ConnectTimeoutError("x"), True),
        (StreamInterrupted("x"), True),
        (NameResolutionError("x"), False),
        (TLSError("x"), False),
        (EndpointTimeoutError("x"), False),
        (AuthenticationError("x", status=401), False),
        (NotFoundError("x", status=404), False),
        (ContextOverflowError("x", status=400), False),
        (BadResponseError("x", status=200), False),
        (ConfigurationError("x"), False),
    ],
)
def test_what_is_tried_again(error: KServeError, again: bool) -> None:
    assert (decide(1, 0.0, error, POLICY) is not None) is again
    assert decide(1, 0.0, error, RetryPolicy(max_retries=0)) is None


def test_retries_are_counted() -> None:
    error = ServerError("x", status=503)
    assert [decide(attempt, 0.0, error, POLICY) is not None for attempt in (1, 2, 3)] == [True, True, False]


def test_back_off_doubles_up_to_a_limit_and_is_spread() -> None:
    policy = RetryPolicy(max_retries=20)
    error = ServerError("x", status=503)

    def delay(attempt: int, spread: float) -> float:
        wait = decide(attempt, 0.0, error, policy, spread=spread)
        assert wait is not None
        return wait.seconds

    assert [delay(attempt, 0.0) for attempt in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert delay(3, 1.0) == 1.5


def test_cold_start_is_bounded_by_the_budget_not_by_the_count() -> None:
    error = NotReadyError("x", status=503)
    wait = decide(50, 80.0, error, POLICY, waits=49)
    assert wait == Wait(8.0, cold=True)
    assert decide(50, 93.0, error, POLICY, waits=49) is None
    assert decide(POLICY.max_attempts, 1.0, error, POLICY, waits=POLICY.max_attempts - 1) is None


def test_failures_after_a_cold_start_have_their_own_count() -> None:
    busy = ServerError("x", status=503)
    assert decide(12, 50.0, busy, POLICY, waits=10) is not None
    assert decide(13, 50.0, busy, POLICY, waits=10) is None


def test_slow_gateway_timeout_is_an_ordinary_failure() -> None:
    error = NotReadyError("x", status=504)
    assert decide(10, 20.0, error, POLICY, waits=9, took=1.0) is not None
    assert decide(3, 90.0, error, POLICY, waits=0, took=30.0) is None


def test_retry_after() -> None:
    def wait(seconds: float, *, elapsed: float = 0.0, budget: float | None = 100.0) -> Wait | None:
        return decide(1, elapsed, RateLimitError("x", retry_after=seconds), RetryPolicy(budget=budget))

    assert wait(20.0) == Wait(20.0)
    assert wait(0.0) == Wait(0.5)
    assert wait(20.0, elapsed=81.0) is None
    assert wait(101.0) is None
    assert wait(500.0, budget=None) == Wait(500.0)
    assert wait(601.0, budget=None) is None


@given(
    attempt=st.integers(1, 120),
    elapsed=st.floats(0, 200),
    retry_after=st.none() | st.floats(0, 300),
    spread=st.floats(0, 1),
    cold=st.booleans(),
)
def test_a_wait_always_ends_within_the_budget(
    attempt: int, elapsed: float, retry_after: float | None, spread: float, cold: bool
) -> None:
    kind = NotReadyError if cold else ServerError
    error = kind("x", status=503, retry_after=retry_after)
    wait = decide(attempt, elapsed, error, POLICY, waits=attempt - 1 if cold else 0, spread=spread)
    if wait is not None:
        assert wait.seconds > 0
        assert elapsed + wait.seconds < 100.0
        assert attempt < POLICY.max_attempts
        assert retry_after is None or wait.seconds >= retry_after


# The conversation


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def talk(
    *answers: Any,
    policy: RetryPolicy = POLICY,
    has_token: bool = False,
    refreshable: bool = True,
    retry: bool = True,
    judge: Callable[[Any, bool], KServeError | None] = lambda answer, sent: None,
    took: float = 0.0,
) -> tuple[Any, list[Any]]:
    """Plays a conversation: every Send is met by the next answer (an exception is thrown in). Returns (end, actions)."""
    clock = Clock()
    conversation = converse(
        policy,
        judge=judge,
        has_token=has_token,
        refreshable=refreshable,
        retry=retry,
        clock=clock,
        rng=lambda: 0.0,
    )
    actions: list[Any] = []
    coming = iter(answers)
    value: Any = None
    error: KServeError | None = None
    try:
        while True:
            action = conversation.send(value) if error is None else conversation.throw(error)
            actions.append(action)
            value = error = None
            if isinstance(action, Sleep):
                clock.now += action.seconds
            elif isinstance(action, GetToken):
                value = f"token{sum(isinstance(item, GetToken) for item in actions)}"
            else:
                clock.now += took
                given = next(coming)
                if isinstance(given, KServeError):
                    error = given
                else:
                    value = given
    except StopIteration as stop:
        return stop.value, actions
    except KServeError as exc:
        return exc, actions


def sends(actions: list[Any]) -> list[Send]:
    return [action for action in actions if isinstance(action, Send)]


def test_first_answer_wins() -> None:
    assert talk("ok") == ("ok", [Send(None, 1100.0, False, 1)])


def test_no_budget_no_deadline() -> None:
    _, actions = talk("ok", policy=RetryPolicy(budget=None))
    assert sends(actions)[0].deadline is None


def test_error_and_recovery() -> None:
    end, actions = talk(ServerError("busy", status=503), EndpointConnectionError("gone"), "ok")
    assert end == "ok"
    assert [type(action) for action in actions] == [Send, Sleep, Send, Sleep, Send]
    assert [action.attempt for action in sends(actions)] == [1, 2, 3]
    assert len({action.deadline for action in sends(actions)}) == 1


def test_judged_answers_are_errors_too() -> None:
    end, actions = talk(
        "bad", "ok", judge=lambda answer, sent: ServerError("x", status=503) if answer == "bad" else None
    )
    assert end == "ok"
    assert len(sends(actions)) == 2


def test_last_error_is_raised_with_the_count_and_the_one_before() -> None:
    first, last = NotReadyError("loading", status=503), EndpointTimeoutError("too late")
    end, actions = talk(first, last)
    assert end is last
    assert end.attempts == 2
    assert end.__cause__ is first
    assert len(sends(actions)) == 2


def test_token_is_asked_for_before_every_request() -> None:
    _, actions = talk(ServerError("busy", status=503), "ok", has_token=True)
    assert [type(action) for action in actions] == [GetToken, Send, Sleep, GetToken, Send]
    assert [action.token for action in sends(actions)] == ["token1", "token2"]


def test_refused_token_is_refreshed_without_delay_and_once() -> None:
    refused = [AuthenticationError("no", status=401) for _ in range(3)]
    end, actions = talk(*refused, has_token=True)
    assert actions[2] == GetToken(refresh=True)
    assert len(actions) == 4
    assert end is refused[1]
    assert end.attempts == 2


@pytest.mark.parametrize(
    "options",
    [
        {"has_token": True, "refreshable": False},
        {"has_token": False, "refreshable": False},
        {"has_token": True, "retry": False},
        {"has_token": True, "policy": RetryPolicy(max_retries=0)},
    ],
)
def test_refused_token_without_refresh(options: dict[str, Any]) -> None:
    end, actions = talk(AuthenticationError("no", status=401), **options)
    assert isinstance(end, AuthenticationError)
    assert len(sends(actions)) == 1


def test_sign_in_page_is_no_reason_to_refresh() -> None:
    _, actions = talk(AuthenticationError("page", status=200), has_token=True)
    assert len(sends(actions)) == 1


def test_stale_connection_is_replaced_once_and_at_once() -> None:
    end, actions = talk(StaleConnectionError("closed"), "ok", policy=RetryPolicy(max_retries=1))
    assert end == "ok"
    assert [action.fresh for action in sends(actions)] == [False, True]
    assert not any(isinstance(action, Sleep) for action in actions)


def test_budget_spent_by_slow_attempts() -> None:
    end, actions = talk(*[NotReadyError("x", status=503) for _ in range(50)], took=20.0)
    assert isinstance(end, NotReadyError)
    assert len(sends(actions)) == end.attempts == 5


@pytest.mark.parametrize("options", [{"retry": False}, {"policy": RetryPolicy(max_retries=0)}])
def test_sent_once_means_once(options: dict[str, Any]) -> None:
    for error in (NotReadyError("x", status=503), StaleConnectionError("x"), RateLimitError("x", status=429)):
        end, actions = talk(error, **options)
        assert end is error
        assert len(actions) == end.attempts == 1


def test_failing_token_source_ends_the_conversation() -> None:
    conversation = converse(POLICY, judge=lambda answer, sent: None, has_token=True, refreshable=True)
    assert next(conversation) == GetToken()
    with pytest.raises(ConfigurationError):
        conversation.throw(ConfigurationError("no file"))
