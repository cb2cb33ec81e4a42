"""Takes stop sequences off the end of generated text.

Servers leave the sequence that ended an answer in the text by default, and older ones cannot be told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence


def trimmed(text: str, stops: Sequence[str]) -> str:
    """The text without the longest stop sequence it ends in."""
    found = max((stop for stop in stops if text.endswith(stop)), key=len, default="")
    return text[: len(text) - len(found)]


class StopTrimmer:
    """The same for text that comes in pieces: what may turn out to be a stop sequence is held back."""

    __slots__ = ("_held", "_stops")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> str:
        """Takes the next text and returns what certainly is part of the answer."""
        if not self._stops:
            return text
        text = self._held + text
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self, *, stopped: bool) -> str:
        """The text still held back, once the answer has ended; `stopped` if a stop sequence ended it."""
        text, self._held = self._held, ""
        return trimmed(text, self._stops) if stopped else text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are, or may become, the stop sequence."""
    for size in range(min(len(stop), len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
