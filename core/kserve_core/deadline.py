"""A point in time that can be moved."""

from __future__ import annotations

import time


class Deadline:
    """When to stop waiting, on `time.monotonic`; None for never. May be moved at any time.

    A request carries the object itself, not a number of seconds per read: so a call's time budget holds however slowly
    its answer drips in, and a stream's idle limit is not extended by bytes that bring no piece.
    """

    __slots__ = ("at",)

    def __init__(self, at: float | None = None) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """So many seconds from now."""
        deadline = cls()
        deadline.set(seconds)
        return deadline

    def set(self, seconds: float | None) -> None:
        """Moves it to so many seconds from now."""
        self.at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds until then, not below 0."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Whether it is over."""
        return self.at is not None and time.monotonic() >= self.at
