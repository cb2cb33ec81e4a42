"""Times as Kubernetes writes them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def epoch(value: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None if it is none."""
    match = _TIME.fullmatch(value.strip())
    if match is None:
        return None
    zone = "+00:00" if match[2].upper() == "Z" else match[2]
    try:
        return datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc).timestamp()
    except ValueError:
        return None
