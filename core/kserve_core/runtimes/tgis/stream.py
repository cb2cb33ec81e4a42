"""One prompt's answer in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kserve_core.errors import StreamInterrupted
from kserve_core.protos import messages
from kserve_core.runtimes.tgis.details import FINISH_REASONS, logprobs_of, stop_reason_name, trimmed, usage_of
from kserve_core.runtimes.tgis.generate import CANCELLED_HINT, check_end
from kserve_core.types import GenerationChunk


class GenerationDecoder:
    """Turns the messages of a `GenerateStream` answer into pieces; see `kserve_core.calls.MessageDecoder`.

    The stream is complete with the message that has a stop reason. Counts and the seed are taken from whichever
    message has them: generations of the server differ in that. What may be the beginning of a stop text is held back
    until the next message shows whether it is, because not all of them leave the stop text out themselves.

    Args:
        model: The model's name, for the first piece; the server does not tell.
        stops: The stop texts that were asked for.
        keep_stop: Whether the one that matched belongs to the text.
        details: Whether token details were asked for.
        include_usage: Whether the last piece shall have the token counts.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        stops: Sequence[str] = (),
        keep_stop: bool = False,
        details: bool = False,
        include_usage: bool = True,
    ) -> None:
        self._model = model
        self._stops = tuple(stops)
        self._keep = keep_stop
        self._details = details
        self._include_usage = include_usage
        self._hold = bool(stops) and not keep_stop
        self._held = ""
        self._first = True
        self._done = False
        self._prompt = 0
        self._generated = 0
        self._seed = 0
        self._text: list[str] = []

    @property
    def finished(self) -> bool:
        """True once a message had a stop reason."""
        return self._done

    @property
    def partial_text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def feed(self, message: messages.fmaas.GenerationResponse) -> Sequence[GenerationChunk]:
        """Takes the next message.

        Raises:
            ServerError: If it says that the server failed.
            StreamInterrupted: If it says that the server gave up.
        """
        if self._done:
            return ()
        self._prompt = message.input_token_count or self._prompt
        self._generated = message.generated_token_count or self._generated
        if message.seed:
            self._seed = message.seed
        text = message.text
        if message.stop_reason:
            return [self._last(message, self._held + text)]
        if self._hold:
            text = self._safe(self._held + text)
        piece = GenerationChunk(text)
        if self._details:
            piece.logprobs = logprobs_of(message.tokens)
            prompt = logprobs_of(message.input_tokens, first_bare=True)
            if prompt is not None:
                piece.extra = {"prompt_logprobs": prompt}
        if not text and piece.logprobs is None and piece.extra is None:
            return ()
        self._begin(piece)
        return [piece]

    def close(self) -> Sequence[GenerationChunk]:
        """Called when the status is OK."""
        if not self._done:
            msg = "The stream ended before the server said why it stopped generating."
            raise StreamInterrupted(
                msg,
                hint="Something between here and the server ended the call, or the server was shut down. "
                "partial_text holds what had arrived.",
                partial_text=self.partial_text,
                clean_end=not self._first or bool(self._held),
                rest=self._unmarked(),
            )
        return ()

    def _unmarked(self) -> list[GenerationChunk]:
        """What `strict_stream=False` hands on at a clean end without a stop reason."""
        piece = GenerationChunk(self._held)
        if self._include_usage and self._generated:
            piece.usage = usage_of(self._prompt, self._generated)
        return [piece]

    def _begin(self, piece: GenerationChunk) -> None:
        if self._first:
            self._first = False
            piece.model = self._model
        if piece.text:
            self._text.append(piece.text)

    def _safe(self, text: str) -> str:
        """What cannot be the beginning of a stop text any more; the rest is held back."""
        start = size = len(text)
        for stop in self._stops:
            at = text.find(stop[0], max(0, size - len(stop)))
            while 0 <= at < start:
                if stop.startswith(text[at:]):
                    start = at
                    break
                at = text.find(stop[0], at + 1)
        self._held = text[start:]
        return text[:start]

    def _last(self, message: messages.fmaas.GenerationResponse, text: str) -> GenerationChunk:
        reason = stop_reason_name(message.stop_reason)
        matched = message.stop_sequence
        if reason == "CANCELLED":
            msg = "The server cancelled the request before the answer was complete."
            raise StreamInterrupted(msg, hint=CANCELLED_HINT, partial_text=self.partial_text + text)
        check_end(reason, self.partial_text + text)
        self._done = True
        piece = GenerationChunk(
            trimmed(text, reason, matched, self._stops, keep=self._keep),
            finish_reason=FINISH_REASONS.get(reason, reason.lower()),
            stop_reason=matched or None if reason == "STOP_SEQUENCE" else None,
            usage=usage_of(self._prompt, self._generated) if self._include_usage else None,
            extra=self._extra(message, reason),
        )
        if self._details:
            piece.logprobs = logprobs_of(message.tokens)
        self._begin(piece)
        return piece

    def _extra(self, message: messages.fmaas.GenerationResponse, reason: str) -> dict[str, Any]:
        extra: dict[str, Any] = {"server_finish_reason": reason}
        if self._seed:
            extra["seed"] = self._seed
        prompt = logprobs_of(message.input_tokens, first_bare=True) if self._details else None
        if prompt is not None:
            extra["prompt_logprobs"] = prompt
        return extra
