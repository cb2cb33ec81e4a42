"""Chat completions in pieces."""

from __future__ import annotations

from typing import Any

from kserve_core._json import columns, word
from kserve_core.runtimes.vllm.chat import reasoning_of, text_of
from kserve_core.runtimes.vllm.errors import Task
from kserve_core.runtimes.vllm.guardrails import BLOCKED, blocks, refusal_of
from kserve_core.runtimes.vllm.stream import StreamDecoder
from kserve_core.runtimes.vllm.tool_deltas import ToolCallAssembler
from kserve_core.types import ChatDelta, ToolCallDelta, Usage


class ChatDecoder(StreamDecoder[ChatDelta]):
    """Reads `chat.completion.chunk` events.

    Args:
        strict: See `StreamDecoder`.
        model: The model that was asked, for error messages.
        one_call: Hand on the first tool call only.
    """

    task: Task = "chat"

    def __init__(self, *, strict: bool = True, model: str | None = None, one_call: bool = False) -> None:
        super().__init__(strict=strict, model=model)
        self._one_call = one_call
        self._tools: dict[int, ToolCallAssembler] = {}
        self._fingerprint = False

    def _choice(self, choice: dict[str, Any], event: dict[str, Any], out: list[ChatDelta]) -> None:
        index = choice.get("index") or 0
        delta = choice.get("delta") or {}
        content = delta.get("content")
        finish = word(choice.get("finish_reason"))
        if finish is None and content and len(delta) == 1 and index in self._began and type(content) is str:
            if index == 0:
                self._text.append(content)
            out.append(ChatDelta(content, "", (), None, None, None, index, columns(choice.get("logprobs")), raw=event))
            return

        content = text_of(content)
        if content and index == 0:
            self._text.append(content)
        piece = ChatDelta(
            content=content,
            reasoning=reasoning_of(delta),
            index=index,
            logprobs=columns(choice.get("logprobs")),
            stop_reason=choice.get("stop_reason"),
            refusal=word(delta.get("refusal")),
            raw=event,
        )
        if index not in self._began:
            self._began.add(index)
            piece.role = word(delta.get("role"))
            piece.model = word(event.get("model"))
            piece.id = word(event.get("id"))
        if delta.get("tool_calls"):
            piece.tool_calls = self._assembler(index).feed(delta["tool_calls"])
        if finish is not None and index not in self._ended:
            self._ended.add(index)
            piece.finish_reason = finish
            piece.tool_calls = [*piece.tool_calls, *self._last_calls(index, finish)]
        if not self._fingerprint and word(event.get("system_fingerprint")):
            self._fingerprint = True
            piece.system_fingerprint = event["system_fingerprint"]
        if _says_something(piece) or choice.get("token_ids"):
            out.append(piece)

    def _guarded(self, found: dict[str, Any], event: dict[str, Any], out: list[ChatDelta]) -> None:
        blocked = blocks(found, self._text)
        piece = ChatDelta(finish_reason=BLOCKED if blocked else None, raw=event, extra=dict(found))
        if blocked:
            piece.refusal = refusal_of(found)
        if 0 not in self._began:
            piece.model, piece.id = word(event.get("model")), word(event.get("id"))
        out.append(piece)

    def _unfinished(self, out: list[ChatDelta]) -> None:
        found = ((index, self._last_calls(index, "length")) for index in sorted(self._began - self._ended))
        out.extend(ChatDelta(tool_calls=calls, index=index) for index, calls in found if calls)

    def _usage_piece(self, usage: Usage, event: dict[str, Any]) -> ChatDelta:
        piece = ChatDelta(usage=usage, raw=event)
        if not self._fingerprint:
            piece.system_fingerprint = word(event.get("system_fingerprint"))
        return piece

    def _assembler(self, index: int) -> ToolCallAssembler:
        assembler = self._tools.get(index)
        if assembler is None:
            assembler = self._tools[index] = ToolCallAssembler(one_call=self._one_call)
        return assembler

    def _last_calls(self, index: int, finish: str) -> list[ToolCallDelta]:
        assembler = self._tools.get(index)
        return [] if assembler is None else assembler.finish(cut=finish == "length")


def _says_something(piece: ChatDelta) -> bool:
    return bool(
        piece.content
        or piece.reasoning
        or piece.tool_calls
        or piece.finish_reason is not None
        or piece.id
        or piece.model
        or piece.role
        or piece.refusal
        or piece.logprobs
        or piece.system_fingerprint
    )
