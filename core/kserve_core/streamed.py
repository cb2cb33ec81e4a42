"""Whole answers that travel as streams, so that no proxy takes a long generation for a dead connection.

OpenShift routes, and most proxies, end a connection on which nothing was said for 30 s; a whole answer is silent until
it is complete, a streamed one is not. Here it is decided which requests can be streamed with the same result, and the
pieces are put together to that result.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from kserve_core.calls import GrpcStreamCall, StreamCall, StreamExchange
from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.errors import (
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    RequestTooLargeError,
    UnsupportedParameterError,
)
from kserve_core.stream_reader import NoStreamError
from kserve_core.types import (
    ChatChoice,
    ChatDelta,
    ChatResult,
    Generation,
    GenerationChunk,
    TextResult,
    ToolCall,
    Usage,
)

_WHOLE_ONLY = frozenset(
    {
        *("n", "best_of", "use_beam_search", "echo", "prompt_logprobs", "input_tokens", "input_text", "input_logprobs"),
        *("tools", "tool_choice", "functions", "function_call", "modalities", "audio"),
        *("stream_options", "return_token_ids", "return_tokens_as_token_ids", "kv_transfer_params"),
        *("preserve_input_text", "token_ranks", "return_text_as_tokens"),
    }
)
"""Parameters under which a stream says less than a whole answer, or something else; each is harmless when it is off."""


def streamable(request: ChatRequest | TextRequest) -> bool:
    """Whether a request's answer is the same when it is streamed: one answer to one prompt, without tools."""
    if isinstance(request, ChatRequest):
        if request.tools:
            return False
    elif len(request.prompts) != 1:
        return False
    for values in (request.params, request.extra_body):
        for name in _WHOLE_ONLY.intersection(values):
            if not _is_off(name, values[name]):
                return False
    return True


def _is_off(name: str, value: Any) -> bool:
    if name == "prompt_logprobs":
        return value is None or value is False  # 0 asks for those of the prompt's own tokens
    return not value or (name in {"n", "best_of"} and value == 1)


def streamed_exchange(runtime: Any, request: ChatRequest | TextRequest) -> StreamExchange[Any]:
    """The exchange that streams a request, with token counts, which whole answers always have.

    Raises:
        KServeError: If the runtime cannot stream it.
    """
    request = replace(request, include_usage=True)
    make = runtime.stream_chat if isinstance(request, ChatRequest) else runtime.stream_generate
    exchange: Any = make(request)
    carried: StreamExchange[Any] = _flow(exchange) if isinstance(exchange, Generator) else _together(exchange)
    return carried


def _flow(flow: Any) -> Any:
    return _together((yield from flow))


def _together(call: Any) -> Any:
    """A streamed call whose time budget holds for the whole answer, as if it were not streamed."""
    return replace(call, together=True) if isinstance(call, (StreamCall, GrpcStreamCall)) else call


def refuses_streams(error: KServeError) -> bool:
    """Whether the endpoint answers a request to stream by saying that it does not, so that asking again is safe."""
    if isinstance(error, (ModelNotFoundError, ContextOverflowError, RequestTooLargeError)) or error.partial_text:
        return False
    if isinstance(error, (NoStreamError, NotFoundError, UnsupportedParameterError)):
        return True
    return isinstance(error, InvalidRequestError) and "stream" in error.server_message.lower()


def collector_for(request: ChatRequest | TextRequest) -> ChatCollector | TextCollector:
    """What puts the pieces of a request's answer together."""
    return ChatCollector() if isinstance(request, ChatRequest) else TextCollector()


class ChatCollector:
    """Puts the pieces of a streamed conversation's answer together."""

    def __init__(self) -> None:
        self._pieces = _Pieces()
        self._refusal: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._fingerprint: str | None = None

    def take(self, piece: ChatDelta) -> None:
        """Takes the next piece."""
        self._pieces.take(piece, piece.content)
        if piece.refusal:
            self._refusal.append(piece.refusal)
        for part in piece.tool_calls:  # a server may have tools of its own
            call = self._calls.setdefault(part.index, ToolCall(part.id or "", part.name or "", ""))
            call.arguments += part.arguments
        self._fingerprint = self._fingerprint or piece.system_fingerprint

    def result(self) -> ChatResult:
        """The whole answer; its `raw` is put together in the shape of a whole answer too."""
        pieces = self._pieces
        calls = [self._calls[index] for index in sorted(self._calls)]
        if calls and pieces.finish_reason == "length":
            calls[-1].complete = False
        choice = ChatChoice(
            content="".join(pieces.text),
            reasoning="".join(pieces.reasoning),
            refusal="".join(self._refusal) or None,
            tool_calls=calls,
            finish_reason=pieces.finish_reason,
            stop_reason=pieces.stop_reason,
            logprobs=pieces.logprobs,
            extra=pieces.extra,
        )
        message: dict[str, Any] = {"role": "assistant", "content": choice.content}
        if choice.reasoning:
            message["reasoning"] = choice.reasoning
        if choice.refusal:
            message["refusal"] = choice.refusal
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        raw = pieces.raw("chat.completion", {"message": message})
        return ChatResult(
            [choice],
            usage=pieces.usage,
            model=pieces.model,
            id=pieces.id,
            created=raw.get("created"),
            system_fingerprint=self._fingerprint,
            raw=raw,
        )


class TextCollector:
    """Puts the pieces of a streamed completion together."""

    def __init__(self) -> None:
        self._pieces = _Pieces()

    def take(self, piece: GenerationChunk) -> None:
        """Takes the next piece."""
        self._pieces.take(piece, piece.text)

    def result(self) -> TextResult:
        """The whole answer; its `raw` is put together in the shape of a whole answer too."""
        pieces = self._pieces
        generation = Generation(
            "".join(pieces.text),
            finish_reason=pieces.finish_reason,
            stop_reason=pieces.stop_reason,
            logprobs=pieces.logprobs,
            reasoning="".join(pieces.reasoning),
            usage=pieces.own_usage,
            extra=pieces.extra,
        )
        raw = pieces.raw("text_completion", {"text": generation.text})
        return TextResult(
            [[generation]],
            usage=pieces.usage,
            model=pieces.model,
            id=pieces.id,
            system_fingerprint=raw.get("system_fingerprint"),
            raw=raw,
        )


class _Pieces:
    """What the pieces of both kinds have in common."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.stop_reason: str | int | None = None
        self.logprobs: Any = None
        self.extra: dict[str, Any] = {}
        self.usage: Usage | None = None
        self.own_usage: Usage | None = None
        self.model: str | None = None
        self.id: str | None = None
        self._generated: list[str] = []
        self._first: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None

    def take(self, piece: ChatDelta | GenerationChunk, text: str) -> None:
        if text:
            self.text.append(text)
        if piece.reasoning:
            self.reasoning.append(piece.reasoning)
        if piece.logprobs is not None:
            self.logprobs = joined(self.logprobs, piece.logprobs)
        if piece.extra:
            self.extra = joined(self.extra, piece.extra)
        if piece.finish_reason is not None:
            self.finish_reason = piece.finish_reason
        if piece.stop_reason is not None:
            self.stop_reason = piece.stop_reason
        if piece.usage is not None:
            self.usage = piece.usage
            if piece.finish_reason is not None:
                self.own_usage = replace(piece.usage)  # counted with the answer itself, not for the whole request
        self.model = self.model or piece.model
        self.id = self.id or piece.id
        if piece.raw is not None:
            self._generated.append(piece.raw.get("generated_text") or "")
            self._first = self._first or piece.raw
            self._last = piece.raw

    def raw(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """The answer's events as one answer."""
        first, last = self._first or {}, self._last or {}
        if "generated_text" in first:  # Caikit's events: the counters of the last stand beside the text
            found = {**first, **last, "generated_text": "".join(self._generated), **(last.get("details") or {})}
            found.pop("details", None)
            return {**found, **{name: self.extra[name] for name in ("tokens", "input_tokens") if name in self.extra}}
        if "choices" not in first:
            return {}
        choice = {"index": 0, **content, "logprobs": self.logprobs, "finish_reason": self.finish_reason}
        choice["stop_reason"] = self.stop_reason
        whole = {**first, **{name: value for name, value in last.items() if value is not None}}
        return {**whole, "object": kind, "choices": [choice]}


def joined(earlier: Any, later: Any) -> Any:
    """Two parts of a structure as one: lists one after the other, mappings name by name, else the later part.

    `earlier` is changed and returned; it must be None or come from here.
    """
    if isinstance(later, list):
        made = earlier if isinstance(earlier, list) else []
        made.extend(later)
        return made
    if isinstance(later, Mapping):
        both = earlier if isinstance(earlier, dict) else {}
        for name, value in later.items():
            both[name] = joined(both.get(name), value)
        return both
    return earlier if later is None else later
