"""Names in errors: those there are, and the one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

PARAMETER = 0.7
"""How alike (0 to 1) two names of parameters must be for one to be proposed in place of the other."""


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name that is most like one that is not known; None if none is alike."""
    near = get_close_matches(name, list(known), n=1, cutoff=likeness)
    return near[0] if near else None


def did_you_mean(name: str | None, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """`Did you mean ...? ` (with the space behind it) if a known name is alike, else nothing."""
    near = nearest(name or "", known, likeness=likeness)
    return f"Did you mean {near!r}? " if near else ""


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names as a sentence shows them: not more than `most`, and not more than 100 characters of each."""
    shown = ", ".join(repr(name[:100]) for name in names[:most])
    return f"{shown}{', ...' if len(names) > most else ''}"
