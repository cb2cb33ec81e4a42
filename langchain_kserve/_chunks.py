"""Pieces of a streamed answer as LangChain chunks.

Most pieces are a bit of text and nothing else. Those are made by copying a ready chunk instead of validating the
same few constants again; the result equals the chunk made the ordinary way.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from kserve_core.types import ChatDelta, ToolCallDelta
from langchain_kserve._answers import usage_metadata
from langchain_kserve._blocks import PROVIDER, REASONING, REFUSAL

_MESSAGE = AIMessageChunk(content="", response_metadata={"model_provider": PROVIDER})
_CHUNK = ChatGenerationChunk(message=_MESSAGE)
_MESSAGE_VALUES = _MESSAGE.__dict__
_CHUNK_VALUES = _CHUNK.__dict__
_CONTAINERS = tuple(name for name, value in _MESSAGE_VALUES.items() if isinstance(value, (list, dict)))
_set = object.__setattr__

_CUTS = tuple(f"{quotes}{bracket} (cut off)" for bracket in "]}" for quotes in ("", '"', '""'))
"""Closing brackets that close nothing, inside a string or not; one of them spoils any JSON object."""


def text_chunk(text: str) -> ChatGenerationChunk:
    """A chunk with nothing but text."""
    values = _MESSAGE_VALUES.copy()
    for name in _CONTAINERS:
        values[name] = values[name].copy()
    values["content"] = text
    message = object.__new__(AIMessageChunk)
    _set(message, "__dict__", values)
    _set(message, "__pydantic_fields_set__", _MESSAGE.__pydantic_fields_set__.copy())
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    values = _CHUNK_VALUES.copy()
    values["text"] = text
    values["message"] = message
    chunk = object.__new__(ChatGenerationChunk)
    _set(chunk, "__dict__", values)
    _set(chunk, "__pydantic_fields_set__", _CHUNK.__pydantic_fields_set__.copy())
    _set(chunk, "__pydantic_extra__", None)
    _set(chunk, "__pydantic_private__", None)
    return chunk


def unfinished(arguments: str) -> str:
    """What to append to a cut call's arguments so that nobody takes them for whole.

    LangChain completes partial JSON when it joins the pieces of a call. That is right while the stream runs and
    dangerous at its end: a tool would be run with half of its arguments.
    """
    return next((suffix for suffix in _CUTS if not _completes(arguments + suffix)), _CUTS[-1])


def _completes(arguments: str) -> bool:
    try:
        return isinstance(parse_partial_json(arguments), dict)
    except ValueError:
        return False


class ChunkMaker:
    """Makes the chunks of one stream.

    Args:
        model: The name the call asked for; it goes before the server's own name for the same model.
    """

    __slots__ = ("_arguments", "_model")

    def __init__(self, *, model: str | None = None) -> None:
        self._arguments: dict[int, str] = {}
        self._model = model

    def __call__(self, delta: ChatDelta) -> ChatGenerationChunk:
        """The chunk of a piece. What LangChain would add up or join when merging is on one chunk only."""
        if (
            delta.content
            and delta.finish_reason is None
            and not delta.tool_calls
            and not delta.reasoning
            and delta.logprobs is None
            and delta.usage is None
            and delta.model is None
            and delta.id is None
            and delta.refusal is None
            and delta.system_fingerprint is None
            and delta.stop_reason is None
            and not delta.extra
        ):
            return text_chunk(delta.content)
        extra: dict[str, Any] = {}
        if delta.reasoning:
            extra[REASONING] = delta.reasoning
        if delta.refusal:
            extra[REFUSAL] = delta.refusal
        message = AIMessageChunk(
            content=delta.content,
            additional_kwargs=extra,
            response_metadata={"model_provider": PROVIDER},
            tool_call_chunks=self._tool_call_chunks(delta),
            usage_metadata=usage_metadata(delta.usage),
        )
        info = _info(delta)
        if self._model and "model_name" in info:
            info["model_name"] = self._model
        return ChatGenerationChunk(message=message, generation_info=info or None)

    def _tool_call_chunks(self, delta: ChatDelta) -> list[ToolCallChunk]:
        if not delta.tool_calls and delta.finish_reason is None:
            return []
        chunks: dict[int, ToolCallChunk] = {}
        for call in delta.tool_calls:
            self._add(chunks, call)
        if delta.finish_reason == "length" and self._arguments:
            last = max(self._arguments)
            self._add(chunks, ToolCallDelta(index=last, arguments=unfinished(self._arguments[last])))
        return list(chunks.values())

    def _add(self, chunks: dict[int, ToolCallChunk], call: ToolCallDelta) -> None:
        self._arguments[call.index] = self._arguments.get(call.index, "") + call.arguments
        if (chunk := chunks.get(call.index)) is None:
            made = tool_call_chunk(name=call.name, args=call.arguments, id=call.id, index=call.index)
            chunks[call.index] = made
        else:
            chunk["args"] = (chunk["args"] or "") + call.arguments


def _info(delta: ChatDelta) -> dict[str, Any]:
    info: dict[str, Any] = {name: value for name, value in (delta.extra or {}).items() if value is not None}
    if delta.finish_reason is not None:
        info["finish_reason"] = delta.finish_reason
    if delta.stop_reason is not None:
        info["stop_reason"] = delta.stop_reason
    if delta.model is not None:
        info["model_name"] = delta.model
    if delta.id is not None:
        info["id"] = delta.id
    if delta.system_fingerprint is not None:
        info["system_fingerprint"] = delta.system_fingerprint
    if delta.logprobs is not None:
        info["logprobs"] = delta.logprobs
    return info
