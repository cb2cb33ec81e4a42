"""How many examples, and whether they are new ones each time."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("KSERVE_TEST_FUZZ", "0"))
"""Examples per property; the few that `make test` has if it is 0."""


def few(count: int) -> Any:
    """The settings of a property: `count` examples, always the same ones, unless more were asked for."""
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=5000,
        suppress_health_check=list(HealthCheck),
    )
