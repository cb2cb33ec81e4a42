"""What a runtime answered, as LlamaIndex responses: whole, or growing piece by piece.

A stream makes one response per token, so a piece that is only text takes a short way: blocks that have not
changed are used again, and objects are put together without being validated a second time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic import BaseModel

from kserve_core.errors import BadResponseError
from kserve_core.types import (
    ChatChoice,
    ChatDelta,
    ChatResult,
    Generation,
    GenerationChunk,
    TextResult,
    ToolCall,
    ToolCallDelta,
    Usage,
)

M = TypeVar("M", bound=BaseModel)

_TOLD = ("server_finish_reason", "seed", "refusal", "warnings", "detections")
"""What runtimes tell besides, and responses pass on."""

_slots = vars(BaseModel)
_set_values = _slots["__dict__"].__set__
_set_fields_set = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__
_new = object.__new__


def _build(cls: type[M], values: dict[str, Any]) -> M:
    """An instance holding exactly these values, all of its fields; they are known to be valid."""
    instance = _new(cls)
    _set_values(instance, values)
    _set_fields_set(instance, set(values))
    _set_extra(instance, None)
    _set_private(instance, None)
    return instance


class _Call:
    """A tool call being written."""

    __slots__ = ("arguments", "block", "complete", "id", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments = ""
        self.complete = True
        self.block: ToolCallBlock | None = None

    def as_block(self, *, final: bool) -> ToolCallBlock:
        if self.block is None:
            kwargs = arguments_of(self.arguments) if final else self.arguments
            self.block = ToolCallBlock(tool_call_id=self.id, tool_name=self.name, tool_kwargs=kwargs)
        return self.block

    def as_wire(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


def arguments_of(text: str) -> dict[str, Any] | str:
    """A tool call's arguments as a mapping; as the text they are if they are no JSON object."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


class Answer:
    """One answer, whole or so far. `take` it piece by piece or `take_all` of it, then ask for a response.

    Args:
        one_call: Keep the first tool call only, whatever the server sends.
        thoughts_count: Take the reasoning for the text if it turns out to be all there is.

    Attributes:
        unshown: Whether the end of the answer was taken with nothing to show; it waits for the token counts.
    """

    __slots__ = (
        "_calls",
        "_delta",
        "_finish",
        "_logprobs",
        "_one_call",
        "_raw",
        "_reasoning",
        "_refusal",
        "_text",
        "_thinking",
        "_thinking_delta",
        "_thoughts_count",
        "_usage",
        "unshown",
    )

    def __init__(self, *, one_call: bool = False, thoughts_count: bool = False) -> None:
        self.unshown = False
        self._thoughts_count = thoughts_count
        self._one_call = one_call
        self._text = ""
        self._delta: str | None = None
        self._reasoning = ""
        self._thinking: ThinkingBlock | None = None
        self._thinking_delta = ""
        self._refusal = ""
        self._calls: dict[int, _Call] = {}
        self._finish: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._logprobs: list[list[LogProb]] | None = None
        self._raw: Any = None

    # -- taking -------------------------------------------------------------------------------------------

    def take_all(self, result: ChatResult | TextResult) -> None:
        """Takes a whole answer; further choices stay in `raw`."""
        choice: ChatChoice | Generation
        if isinstance(result, ChatResult):
            choice = result.choices[0]
            self._text = choice.content
            self._refusal = choice.refusal or ""
            self._calls = dict(enumerate(map(_whole_call, choice.tool_calls[: 1 if self._one_call else None])))
            self._logprobs = chat_logprobs(choice.logprobs)
        else:
            choice = result.generations[0][0]
            self._text = choice.text
            self._logprobs = text_logprobs(choice.logprobs)
        self._reasoning = choice.reasoning
        self._ended(choice.finish_reason, choice.stop_reason, choice.extra)
        self._usage = result.usage
        self._raw = result.raw

    def take(self, piece: ChatDelta | GenerationChunk) -> bool:
        """Takes the next piece; False if there is nothing in it to show."""
        if piece.index:
            # Another of `n` choices: LlamaIndex shows one. Token counts are of all of them.
            if piece.usage is None:
                return False
            self._begin("", piece.raw)
        elif isinstance(piece, ChatDelta):
            self._begin(piece.content, piece.raw)
            if piece.tool_calls:
                self._take_calls(piece.tool_calls)
            if piece.refusal:
                self._refusal += piece.refusal
            if piece.logprobs is not None:
                self._logprobs = chat_logprobs(piece.logprobs)
        else:
            self._begin(piece.text, piece.raw)
            if piece.logprobs is not None:
                self._logprobs = text_logprobs(piece.logprobs)
        if piece.reasoning and not piece.index:
            self._reasoning += piece.reasoning
            self._thinking_delta = piece.reasoning
            self._thinking = None
        if piece.finish_reason is not None and not piece.index:
            self._ended(piece.finish_reason, piece.stop_reason, getattr(piece, "extra", None))
            self.unshown = True
        if piece.usage is not None:
            self._usage = piece.usage
            self._thinking = None
        elif not (self._delta or self._thinking_delta or getattr(piece, "tool_calls", None)):
            return False
        self.unshown = False
        return True

    def _begin(self, text: str, raw: Any) -> None:
        self._delta = text
        if text:
            self._text += text
        self._thinking_delta = ""
        self._logprobs = None
        self._raw = raw

    def _take_calls(self, pieces: Sequence[ToolCallDelta]) -> None:
        for piece in pieces:
            call = self._calls.get(piece.index)
            if call is None:
                if self._one_call and self._calls:
                    continue
                call = self._calls[piece.index] = _Call(piece.id or "", piece.name or "")
            call.arguments += piece.arguments
            call.block = None

    def _ended(self, finish_reason: str | None, stop_reason: str | int | None, extra: Mapping[str, Any] | None) -> None:
        if extra:
            self._finish.update((name, extra[name]) for name in _TOLD if name in extra)
        if finish_reason is not None:
            self._finish["finish_reason"] = finish_reason
        if stop_reason is not None:
            self._finish["stop_reason"] = stop_reason
        for call in self._calls.values():
            call.block = None
        if self._calls and finish_reason == "length":
            # The server may have closed the brackets of a call it never finished.
            next(reversed(self._calls.values())).complete = False
        if self._thoughts_count and finish_reason == "stop" and not (self._text or self._calls):
            self._text, self._reasoning = self._reasoning, ""
            if self._delta is not None:
                self._delta = self._text

    # -- showing ------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text

    def chat(self) -> ChatResponse:
        """The answer as a chat response: cumulative message, `delta` the newest text."""
        blocks: list[Any] = [self._thinking_block()] if self._reasoning else []
        if self._text or not self._calls:
            blocks.append(_build(TextBlock, {"block_type": "text", "text": self._text}))
        extras: dict[str, Any] = {}
        if self._calls:
            final = "finish_reason" in self._finish
            blocks.extend(call.as_block(final=final) for call in self._calls.values())
            extras["tool_calls"] = [call.as_wire() for call in self._calls.values()]
        if self._refusal:
            extras["refusal"] = self._refusal
        message = {"role": MessageRole.ASSISTANT, "additional_kwargs": extras, "blocks": blocks}
        return _build(
            ChatResponse,
            {
                "message": _build(ChatMessage, message),
                "raw": self._raw_with_usage(),
                "delta": self._delta,
                "logprobs": self._logprobs,
                "additional_kwargs": self._extras(),
            },
        )

    def completion(self) -> CompletionResponse:
        """The answer as a completion response."""
        extras = self._extras()
        if self._reasoning and "finish_reason" in self._finish:
            extras["reasoning"] = self._reasoning
        return _build(
            CompletionResponse,
            {
                "text": self._text,
                "additional_kwargs": extras,
                "raw": self._raw_with_usage(),
                "logprobs": self._logprobs,
                "delta": self._delta,
            },
        )

    def _thinking_block(self) -> ThinkingBlock:
        if self._thinking is None:
            tokens = self._usage.reasoning_tokens if self._usage else None
            self._thinking = ThinkingBlock(content=self._reasoning, num_tokens=tokens)
        return self._thinking

    def _extras(self) -> dict[str, Any]:
        extras = dict(self._finish)
        if self._thinking_delta:
            extras["thinking_delta"] = self._thinking_delta
        if self._calls and not all(call.complete for call in self._calls.values()):
            extras["incomplete_tool_call"] = True
        if self._usage is not None:
            extras.update(usage_dict(self._usage))
        return extras

    def _raw_with_usage(self) -> Any:
        # The framework's token counter reads `raw["usage"]` before anything else.
        raw = self._raw
        if self._usage is None or (isinstance(raw, Mapping) and raw.get("usage")):
            return raw
        return {**(raw or {}), "usage": usage_dict(self._usage)}


def _whole_call(call: ToolCall) -> _Call:
    whole = _Call(call.id, call.name)
    whole.arguments = call.arguments
    whole.complete = call.complete
    return whole


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Token counts under the names the framework's handlers look for."""
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        counts["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        counts["reasoning_tokens"] = usage.reasoning_tokens
    return counts


# -- log-probabilities ------------------------------------------------------------------------------------


def chat_logprobs(logprobs: Any) -> list[list[LogProb]] | None:
    """For each token of a chat answer: itself first, then the alternatives the server listed.

    Raises:
        BadResponseError: If the server's have another shape.
    """
    if not logprobs or not logprobs.get("content"):
        return None
    with _readable_logprobs():
        return [_token_logprobs(entry) for entry in logprobs["content"]]


@contextmanager
def _readable_logprobs() -> Iterator[None]:
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        msg = "The log-probabilities in the answer have no shape that is known."
        raise BadResponseError(
            msg, hint="Leave them out of the request, or find them as they came in `raw`."
        ) from error


def _token_logprobs(entry: Mapping[str, Any]) -> list[LogProb]:
    if entry["logprob"] is None:
        return []
    chosen = _logprob(entry["token"], entry["logprob"], entry.get("bytes"))
    others = [
        _logprob(other["token"], other["logprob"], other.get("bytes"))
        for other in entry.get("top_logprobs") or ()
        if other["token"] != entry["token"]
    ]
    return [chosen, *others]


def text_logprobs(logprobs: Any) -> list[list[LogProb]] | None:
    """The same for a completion, whose log-probabilities come as parallel lists.

    Raises:
        BadResponseError: If the server's have another shape.
    """
    if not logprobs or not logprobs.get("tokens"):
        return None
    with _readable_logprobs():
        return _parallel_logprobs(logprobs)


def _parallel_logprobs(logprobs: Mapping[str, Any]) -> list[list[LogProb]]:
    tokens = logprobs["tokens"]
    values = logprobs.get("token_logprobs") or [None] * len(tokens)
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    rows = []
    for token, value, top in zip(tokens, values, tops, strict=False):
        chosen = [] if value is None else [_logprob(token, value, None)]
        rows.append(chosen + [_logprob(other, lp, None) for other, lp in (top or {}).items() if other != token])
    return rows


def _logprob(token: str, logprob: float, encoded: list[int] | None) -> LogProb:
    data = encoded if encoded is not None else list(token.encode())
    return LogProb(token=token, logprob=logprob, bytes=data)
