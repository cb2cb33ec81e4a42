"""Token counts."""

from __future__ import annotations

from typing import Any

from kserve_core.types import Usage


def counted(prompt: Any, generated: Any = 0) -> Usage | None:
    """The counters as usage; None where the server does not count (older ones leave them out, or at zero)."""
    one, two = (value if type(value) is int else 0 for value in (prompt, generated))
    return Usage(prompt_tokens=one, completion_tokens=two, total_tokens=one + two) if one or two else None
