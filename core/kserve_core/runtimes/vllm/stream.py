"""What the streams of chats and completions have in common: events, errors, usage, and a proper end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import orjson

from kserve_core._json import unreadable
from kserve_core.errors import BadResponseError, StreamInterrupted
from kserve_core.runtimes.vllm.errors import Task, is_error, stream_error
from kserve_core.runtimes.vllm.guardrails import blocks, guarded
from kserve_core.runtimes.vllm.usage import read_usage
from kserve_core.sse import SSEDecoder
from kserve_core.types import Usage

D = TypeVar("D")

_DONE = b"[DONE]"


class StreamDecoder(Generic[D]):
    """Turns server-sent events into pieces of an answer.

    The stream is over at `[DONE]`, and complete if by then every choice that began has a finish reason. Usage is
    handed on once, at the end, however often the server sends it: with running totals the last one counts.

    Args:
        strict: Insist on both, `[DONE]` and the finish reasons. If False one of them is enough: a body that ends
            without `[DONE]` is complete if every choice that began has a finish reason, and `[DONE]` is taken at its
            word. A stream with neither is an error either way.
    """

    task: Task

    def __init__(self, *, strict: bool = True, model: str | None = None) -> None:
        self._sse = SSEDecoder()
        self._strict = strict
        self._model = model
        self._done = False
        self._text: list[str] = []
        self._usage: dict[str, Any] | None = None
        self._began: set[int] = set()
        self._ended: set[int] = set()

    @property
    def finished(self) -> bool:
        """True once `[DONE]` was seen."""
        return self._done

    @property
    def partial_text(self) -> str:
        """The text of the first choice so far."""
        return "".join(self._text)

    def feed(self, data: bytes) -> Sequence[D]:
        """Takes the next bytes; see `kserve_core.calls.Decoder`."""
        out: list[D] = []
        for event in self._sse.feed(data):
            if self._done:
                break
            text = event.data
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                stripped = text.strip()
                if not stripped:
                    continue
                if stripped == _DONE:
                    self._end(out)
                    break
                raise self._unreadable(text) from None
            self._take(value, event.event, out)
        return out

    def close(self) -> Sequence[D]:
        """Called at the clean end of the body; see `kserve_core.calls.Decoder`."""
        out: list[D] = []
        for event in () if self._done else self._sse.close():
            # The last event may lack its empty line; if it is cut off in the middle, so is the stream.
            data = event.data.strip()
            if data == _DONE:
                self._end(out)
            elif data:
                try:
                    value = orjson.loads(data)
                except orjson.JSONDecodeError:
                    raise self._interrupted() from None
                self._take(value, event.event, out)
        if not self._done:
            if self._strict or not self._whole():
                raise self._unmarked(out)
            self._end(out)
        return out

    def _take(self, value: Any, event: str, out: list[D]) -> None:
        if type(value) is not dict:
            msg = "A piece of the streamed answer is not a JSON object."
            raise BadResponseError(msg, status=200, partial_text=self.partial_text)
        choices = value.get("choices")
        if event == "error" or (("error" in value or not choices) and is_error(value)):
            raise stream_error(value, self.task, model=self._model, partial_text=self.partial_text)
        usage = value.get("usage")
        if usage:
            self._usage = value
        if "warnings" in value or "detections" in value:
            self._take_guarded(value, choices, out)
        elif choices:
            for choice in choices:
                self._choice(choice, value, out)

    def _take_guarded(self, value: dict[str, Any], choices: Any, out: list[D]) -> None:
        """An event with what guardrails found; see `guardrails`. One that blocks the answer ends it."""
        found = guarded(value)
        blocked = blocks(found, choices or self._text)
        for choice in choices or ():
            self._choice({**choice, "finish_reason": None} if blocked else choice, value, out)
        if not found:
            return
        self._guarded(found, value, out)
        if blocked:
            self._began.add(0)
            self._ended |= self._began

    def _choice(self, choice: dict[str, Any], event: dict[str, Any], out: list[D]) -> None:
        raise NotImplementedError

    def _guarded(self, found: dict[str, Any], event: dict[str, Any], out: list[D]) -> None:
        raise NotImplementedError

    def _unfinished(self, out: list[D]) -> None:
        """Adds what was held back of choices that have not ended."""

    def _usage_piece(self, usage: Usage, event: dict[str, Any]) -> D:
        raise NotImplementedError

    def _whole(self) -> bool:
        return bool(self._began) and self._began <= self._ended

    def _end(self, out: list[D]) -> None:
        self._done = True
        if self._strict and not self._whole():
            raise self._unmarked(out)
        self._add_usage(out)

    def _add_usage(self, out: list[D]) -> None:
        if self._usage is not None and (usage := read_usage(self._usage["usage"])) is not None:
            out.append(self._usage_piece(usage, self._usage))

    def _unmarked(self, out: list[D]) -> StreamInterrupted:
        """The error for a clean end without all its marks; it carries what `strict_stream=False` hands on."""
        error = self._interrupted()
        if self._began:
            self._unfinished(out)
            self._add_usage(out)
            error.clean_end, error.rest = True, out
        return error

    def _interrupted(self) -> StreamInterrupted:
        if not self._began:
            why = "it held no piece of an answer"
        elif not self._whole():
            why = "there was no finish reason"
        else:
            why = "the end marker [DONE] did not come"
        return StreamInterrupted(
            f"The stream broke off before the answer was complete: {why}.",
            hint="Something between here and the runtime closed the connection (a route or proxy timeout, a pod "
            "going down). partial_text holds what had arrived.",
            partial_text=self.partial_text,
        )

    def _unreadable(self, text: bytes) -> BadResponseError:
        error = unreadable(text, "a piece of a streamed answer", "it is not JSON", status=200)
        error.partial_text = self.partial_text
        return error
