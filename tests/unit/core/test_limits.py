"""429: how long to wait, and a rate told from a quota."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kserve_core.calls import Response
from kserve_core.errors import KServeError, QuotaExceededError, RateLimitError
from kserve_core.failures import error_from_response
from kserve_core.retry import RetryPolicy, decide

POLICY = RetryPolicy(budget=100.0)


def error_of(body: Any, **headers: str) -> KServeError:
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    error = error_from_response(Response(429, {"content-type": kind, **names}, data), now=1_700_000_000.0)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("body", "quota"),
    [
        ({"error": {"message": "slow", "type": "rate_limit_error"}}, False),
        ({"error": {"message": "the quota for requests per minute", "type": "rate_limit_error"}}, False),
        ({"error": {"message": "gone", "type": "quota_error"}}, True),
        ({"error": {"message": "gone", "code": "insufficient_quota"}}, True),
        ({"error": "Monthly quota exceeded"}, True),
        ("Too Many Requests\n", False),
        ("", False),
    ],
)
def test_a_rate_is_told_from_a_quota(body: Any, quota: bool) -> None:
    error = error_of(body)
    assert isinstance(error, RateLimitError)
    assert isinstance(error, QuotaExceededError) is quota
    assert error.retryable is not quota
    assert (decide(1, 0.0, error, POLICY) is None) is quota


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "20"}, 20.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"x_ratelimit_reset": "1700000030"}, 30.0),
        ({"x_ratelimit_reset": "12"}, 12.0),
        ({"ratelimit_reset": "7"}, 7.0),
        ({"x_ratelimit_reset": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    error = error_of("Too Many Requests", **headers)
    assert error.retry_after == seconds
    wait = decide(1, 0.0, error, POLICY)
    assert wait is not None
    assert wait.seconds == (seconds or 0.5)


@pytest.mark.parametrize(("seconds", "again"), [("5", True), ("60", True), ("61", False), ("99999", False)])
def test_a_quota_is_waited_for_only_if_it_is_soon_renewed(seconds: str, again: bool) -> None:
    error = error_of({"error": {"message": "gone", "type": "quota_error"}}, retry_after=seconds)
    assert (decide(1, 0.0, error, RetryPolicy(budget=None)) is not None) is again
