"""What a stream's pieces say together, for its span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kserve_core.telemetry.content import answer, written
from kserve_core.types import ToolCall, Usage


class Tally:
    """Adds up the pieces of one stream.

    Args:
        content: Whether the text is kept too.
    """

    __slots__ = ("_answers", "_content", "_identity", "_model", "_reasons", "count", "usage")

    def __init__(self, *, content: bool) -> None:
        self.count = 0
        self.usage: Usage | None = None
        self._content = content
        self._model: str | None = None
        self._identity: str | None = None
        self._reasons: dict[int, str] = {}
        self._answers: dict[int, _Answer] = {}

    def take(self, piece: Any) -> None:
        """Takes the next piece: a `ChatDelta` or a `GenerationChunk`; of anything else only the number is kept."""
        self.count += 1
        try:
            if piece.usage is not None:
                self.usage = piece.usage
            if piece.finish_reason is not None:
                self._reasons[piece.index] = piece.finish_reason
            if piece.model is not None:
                self._model = piece.model
            if piece.id is not None:
                self._identity = piece.id
            if self._content:
                self._answers.setdefault(piece.index, _Answer()).take(piece)
        except AttributeError:
            pass  # a piece of something else

    def attributes(self) -> dict[str, Any]:
        """What the pieces said, and the text if that is kept."""
        found: dict[str, Any] = {}
        if self._model is not None:
            found["gen_ai.response.model"] = self._model
        if self._identity is not None:
            found["gen_ai.response.id"] = self._identity
        if self._reasons:
            found["gen_ai.response.finish_reasons"] = tuple(reason for _, reason in sorted(self._reasons.items()))
        if self._answers:
            found.update(written(self._messages()))
        return found

    def _messages(self) -> Iterator[dict[str, Any]]:
        for index, kept in sorted(self._answers.items()):
            yield answer("".join(kept.text), "".join(kept.reasoning), kept.calls.values(), self._reasons.get(index))


class _Answer:
    __slots__ = ("calls", "reasoning", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, ToolCall] = {}

    def take(self, piece: Any) -> None:
        text = getattr(piece, "content", None) or getattr(piece, "text", "") or getattr(piece, "refusal", None)
        if text:
            self.text.append(text)
        if piece.reasoning:
            self.reasoning.append(piece.reasoning)
        for delta in getattr(piece, "tool_calls", ()):
            call = self.calls.setdefault(delta.index, ToolCall(delta.id or "", delta.name or "", ""))
            call.arguments += delta.arguments
