"""LangChain's standard content blocks, read from this package's answers."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages import content as types
from langchain_core.messages.block_translators import register_translator

PROVIDER = "kserve"
"""What `response_metadata["model_provider"]` says on this package's messages."""

REASONING = "reasoning_content"
"""Where `additional_kwargs` holds the reasoning text; LangChain's own parser knows this name, too."""

REFUSAL = "refusal"
"""Where `additional_kwargs` holds a refusal."""

_REFUSAL_IS_STANDARD = "refusal" in types.KNOWN_BLOCK_TYPES


def _refusal_block(text: str) -> dict[str, Any]:
    block = {"type": "refusal", "refusal": text}
    return block if _REFUSAL_IS_STANDARD else {"type": "non_standard", "value": block}


def _texts(message: AIMessage) -> list[dict[str, Any]]:
    if not isinstance(message.content, str):
        raise NotImplementedError  # not made here; LangChain then reads it as best it can
    blocks: list[dict[str, Any]] = []
    if reasoning := message.additional_kwargs.get(REASONING):
        blocks.append({"type": "reasoning", "reasoning": reasoning})
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    if refusal := message.additional_kwargs.get(REFUSAL):
        blocks.append(_refusal_block(refusal))
    return blocks


def _calls(message: AIMessage) -> list[dict[str, Any]]:
    return [
        {"type": "tool_call", "name": call["name"], "args": call["args"], "id": call.get("id")}
        for call in message.tool_calls
    ]


def translate_content(message: AIMessage) -> list[types.ContentBlock]:
    """The blocks of a whole answer: reasoning, text, refusal, tool calls."""
    return cast("list[types.ContentBlock]", _texts(message) + _calls(message))


def translate_content_chunk(message: AIMessageChunk) -> list[types.ContentBlock]:
    """The blocks of a piece of an answer, or of the pieces joined so far.

    Each block has an `index` of its own kind, so that joining pieces never mixes text, reasoning and tool calls.
    """
    blocks = _texts(message)
    if message.chunk_position == "last":
        return cast("list[types.ContentBlock]", blocks + _calls(message))
    for block in blocks:
        block["index"] = f"lc_{block['type']}"
    for chunk in message.tool_call_chunks:
        block = {"type": "tool_call_chunk", **{name: chunk.get(name) for name in ("id", "name", "args")}}
        if (index := chunk.get("index")) is not None:
            block["index"] = f"lc_tool_call_{index}"
        blocks.append(block)
    return cast("list[types.ContentBlock]", blocks)


register_translator(PROVIDER, translate_content, translate_content_chunk)
