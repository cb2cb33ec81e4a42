"""Streamed texts: events over REST, messages over gRPC.

The first piece has no text, it tells how long the prompt is. The counters are running totals, and zero where they
are not told again. There is no end marker: an answer is complete when a piece has a finish reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from kserve_core._json import unreadable
from kserve_core.errors import StreamInterrupted
from kserve_core.runtimes.caikit.errors import failed_answer, is_error, stream_error, wrong_task
from kserve_core.runtimes.caikit.generation import NOT_FINISHED, Reading, extra, finish_reason, logprobs
from kserve_core.runtimes.caikit.stops import StopTrimmer
from kserve_core.runtimes.caikit.tasks import Task
from kserve_core.runtimes.caikit.usage import counted
from kserve_core.sse import SSEDecoder
from kserve_core.types import GenerationChunk

_WHAT = "a piece of a generated text"


class _Pieces:
    """What both streams have in common.

    Args:
        task: The task that was asked for.
        reading: How to read its answer.
        known: Names of the models the server is known to have.
    """

    def __init__(self, task: Task, reading: Reading, *, known: Sequence[str] = ()) -> None:
        self._task = task
        self._reading = reading
        self._known = known
        self._trimmer = StopTrimmer(reading.stops)
        self._text: list[str] = []
        self._prompt = 0
        self._generated = 0
        self._begun = False
        self._sent = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """True once a finish reason was seen."""
        return self._finished

    @property
    def partial_text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def close(self) -> Sequence[GenerationChunk]:
        """Called at the clean end of the stream; see `kserve_core.calls.Decoder`."""
        if not self._finished:
            raise self._unmarked([])
        return ()

    def _unmarked(self, out: list[GenerationChunk]) -> StreamInterrupted:
        """The error for a clean end without a finish reason; it carries what `strict_stream=False` hands on."""
        error = self._interrupted()
        if self._begun:
            text = self._trimmer.end(stopped=False)
            piece = GenerationChunk(text)
            if self._reading.usage and (self._prompt or self._generated):
                piece.usage = counted(self._prompt, self._generated)
            error.clean_end, error.rest = True, [*out, piece]
        return error

    def _take(self, value: dict[str, Any], out: list[GenerationChunk]) -> None:
        text = value.get("generated_text")
        if type(text) is not str:
            error = wrong_task(self._task, self._reading.model, "a piece has no text in `generated_text`", status=200)
            error.partial_text = self.partial_text
            raise error
        self._begun = True
        details = value.get("details") or {}
        self._prompt = max(self._prompt, _count(details.get("input_token_count")))
        self._generated = max(self._generated, _count(details.get("generated_tokens")))
        word = details.get("finish_reason")
        text = self._trimmer.feed(text)
        tokens = value.get("tokens")
        if word is None or word == NOT_FINISHED:
            if not (text or tokens or value.get("input_tokens")):
                return
            piece = GenerationChunk(text, raw=value)
            if tokens or value.get("input_tokens"):
                piece.extra = extra(value, None, None)
        else:
            text += self._trimmer.end(stopped=word == "STOP_SEQUENCE")
            if word == "ERROR":
                raise failed_answer(self._reading.model, self.partial_text + text)
            self._finished = True
            piece = GenerationChunk(text, finish_reason=finish_reason(word), raw=value)
            piece.extra = extra(value, word, details.get("seed"))
            if self._reading.usage:
                piece.usage = counted(self._prompt, self._generated)
        if tokens and self._reading.logprobs:
            piece.logprobs = logprobs(tokens)
        if not self._sent:
            self._sent = True
            piece.model = self._reading.model
        if text:
            self._text.append(text)
        out.append(piece)

    def _interrupted(self) -> StreamInterrupted:
        why = "there was no finish reason" if self._begun else "it held no piece of an answer"
        return StreamInterrupted(
            f"The stream broke off before the answer was complete: {why}.",
            hint="Something between here and the runtime closed the connection (a route or proxy timeout, a pod "
            "going down). partial_text holds what had arrived.",
            partial_text=self.partial_text,
        )


class EventDecoder(_Pieces):
    """Reads server-sent events."""

    def __init__(self, task: Task, reading: Reading, *, known: Sequence[str] = ()) -> None:
        super().__init__(task, reading, known=known)
        self._sse = SSEDecoder()

    def feed(self, data: bytes) -> Sequence[GenerationChunk]:
        """Takes the next bytes; see `kserve_core.calls.Decoder`."""
        out: list[GenerationChunk] = []
        for event in self._sse.feed(data):
            if self._finished:
                break
            try:
                value = orjson.loads(event.data)
            except orjson.JSONDecodeError:
                if not event.data.strip():
                    continue
                error = unreadable(event.data, _WHAT, "it is not JSON", status=200)
                error.partial_text = self.partial_text
                raise error from None
            self._event(value, event.event, out)
        return out

    def close(self) -> Sequence[GenerationChunk]:
        """Called at the clean end of the body; see `kserve_core.calls.Decoder`."""
        out: list[GenerationChunk] = []
        for event in () if self._finished else self._sse.close():
            # The last event may lack its empty line; if it is cut off in the middle, so is the stream.
            try:
                value = orjson.loads(event.data)
            except orjson.JSONDecodeError:
                raise self._interrupted() from None
            self._event(value, event.event, out)
        if not self._finished:
            raise self._unmarked(out)
        return out

    def _event(self, value: Any, name: str, out: list[GenerationChunk]) -> None:
        if type(value) is not dict:
            error = unreadable(orjson.dumps(value), _WHAT, "it is no JSON object", status=200)
            error.partial_text = self.partial_text
            raise error
        if is_error(value, name):
            raise stream_error(
                value, self._task, model=self._reading.model, known=self._known, partial_text=self.partial_text
            )
        self._take(value, out)


class MessagesDecoder(_Pieces):
    """Reads gRPC messages."""

    def feed(self, message: Any) -> Sequence[GenerationChunk]:
        """Takes the next message; see `kserve_core.calls.MessageDecoder`."""
        out: list[GenerationChunk] = []
        if message is None:  # the bytes of another task's message
            error = wrong_task(self._task, self._reading.model, "another kind of message came back")
            error.partial_text = self.partial_text
            raise error
        if not self._finished:
            self._take(self._task.plain(message), out)
        return out


def _count(value: Any) -> int:
    return value if type(value) is int else 0
