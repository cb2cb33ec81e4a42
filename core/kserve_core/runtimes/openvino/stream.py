"""Streams without the stop text: this server leaves it in streams, and out of whole answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from kserve_core.calls import Decoder
from kserve_core.errors import StreamInterrupted
from kserve_core.runtimes.open_inference.stops import StopCutter
from kserve_core.types import ChatDelta, GenerationChunk

P = TypeVar("P", ChatDelta, GenerationChunk)


class WithoutStops(Generic[P]):
    """Another decoder's pieces, the text of each choice cut at the first stop text; see `Decoder`.

    What may be the beginning of a stop text is held back until it is clear, so a streamed answer is the same as a
    whole one.

    Args:
        inner: Reads the stream.
        stops: The stop texts.
    """

    def __init__(self, inner: Decoder[P], stops: Sequence[str]) -> None:
        self._inner: Decoder[P] = inner
        self._stops = tuple(stops)
        self._cutters: dict[int, StopCutter] = {}
        self._text: list[str] = []

    @property
    def finished(self) -> bool:
        """See `Decoder.finished`."""
        return self._inner.finished

    @property
    def partial_text(self) -> str:
        """The text of the first choice that was handed out."""
        return "".join(self._text)

    def feed(self, data: bytes) -> Sequence[P]:
        """See `Decoder.feed`."""
        try:
            return self._cut(self._inner.feed(data))
        except StreamInterrupted as exc:
            exc.rest = self._cut(exc.rest)
            raise

    def close(self) -> Sequence[P]:
        """See `Decoder.close`."""
        try:
            return self._cut(self._inner.close())
        except StreamInterrupted as exc:
            exc.rest = self._cut(exc.rest)
            raise

    def _cut(self, pieces: Sequence[P]) -> list[P]:
        out = []
        for piece in pieces:
            said = _text_of(piece)
            cutter = self._cutters.get(piece.index)
            if cutter is None:
                cutter = self._cutters[piece.index] = StopCutter(self._stops)
            text = cutter.feed(said)
            if piece.finish_reason is not None and cutter.matched is None:
                text += cutter.end()
            if text != said:
                _set_text(piece, text)
            if text and piece.index == 0:
                self._text.append(text)
            if text or not said or _says_more(piece):
                out.append(piece)
        return out


def _text_of(piece: ChatDelta | GenerationChunk) -> str:
    return piece.content if isinstance(piece, ChatDelta) else piece.text


def _set_text(piece: ChatDelta | GenerationChunk, text: str) -> None:
    if isinstance(piece, ChatDelta):
        piece.content = text
    else:
        piece.text = text


def _says_more(piece: Any) -> bool:
    """Whether a piece without text is of use all the same."""
    return bool(
        piece.finish_reason is not None
        or piece.reasoning
        or piece.model
        or piece.usage is not None
        or piece.logprobs is not None
        or getattr(piece, "tool_calls", ())
        or getattr(piece, "role", None)
    )
