"""The tests that SECURITY.md names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_promises_name_tests_that_exist() -> None:
    named = set(re.findall(r"`((?:security|faults|fuzz|unit)/[\w/.]+)`", (ROOT / "SECURITY.md").read_text("utf-8")))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / "tests" / path).exists()]
