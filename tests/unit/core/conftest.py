"""What the transports' tests share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    """How a call is run."""
    return request.param


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at a tenth of the usual delays."""
    from kserve_core import retry, transport_base

    def policy(**limits: Any) -> retry.RetryPolicy:
        return retry.RetryPolicy(first_delay=0.02, longest_delay=0.1, **limits)

    monkeypatch.setattr(transport_base, "RetryPolicy", policy)
