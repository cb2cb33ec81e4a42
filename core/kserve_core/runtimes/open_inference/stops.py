"""Text as it was asked for: without the prompt, up to a stop text, and new text only.

Each of these takes text as it comes and gives what certainly belongs to the answer. What may still turn out to be a
part of the prompt or of a stop text is held back, so a whole answer and a streamed one are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

_REPLACEMENT = "\ufffd"


class EchoStripper:
    """Takes the prompt off the front of an answer, if the answer really begins with it."""

    __slots__ = ("_held", "_prompt")

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._held = ""

    def feed(self, text: str) -> str:
        """Takes the next text."""
        prompt = self._prompt
        if not prompt:
            return text
        text = self._held + text
        if len(text) < len(prompt) and prompt.startswith(text):
            self._held = text
            return ""
        self._prompt = self._held = ""
        return text.removeprefix(prompt)

    def end(self) -> str:
        """What was held back, once the answer has ended."""
        text, self._held, self._prompt = self._held, "", ""
        return text


class StopCutter:
    """Ends an answer at the first stop text in it.

    Args:
        stops: The stop texts.
        keep: Whether the one that matched belongs to the answer.
    """

    __slots__ = ("_held", "_keep", "_stops", "matched")

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Takes the next text; nothing more comes once `matched` is set."""
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        text = self._held + text
        found = [(at, -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        # One that begins earlier may still be on its way.
        start = min((at for stop in self._stops if (at := _begins(text, stop)) >= 0), default=len(text))
        if found and min(found)[0] <= start:
            at, _, stop = min(found)
            self.matched = stop
            self._held = ""
            return text[: at + len(stop)] if self._keep else text[:at]
        self._held = text[start:]
        return text[:start]

    def end(self) -> str:
        """What was held back, once the answer has ended."""
        text, self._held = self._held, ""
        found = [(at, -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, _, stop = min(found)
            self.matched = stop
            return text[: at + len(stop)] if self._keep else text[:at]
        return text


class Deltas:
    """New text out of text that repeats all that came before."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = ""

    def feed(self, text: str) -> str:
        """Takes all of the text so far. A character that is not complete yet waits for its rest.

        Raises:
            ValueError: If it does not begin with what came before.
        """
        text = text.rstrip(_REPLACEMENT)
        if not text.startswith(self._seen):
            if self._seen.startswith(text):
                return ""
            msg = "it does not repeat what came before"
            raise ValueError(msg)
        new = text[len(self._seen) :]
        self._seen = text
        return new


def _begins(text: str, stop: str) -> int:
    """Where the end of a text may be the beginning of a stop text; -1 if nowhere."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return at
        at = text.find(stop[0], at + 1)
    return -1
