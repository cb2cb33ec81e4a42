"""LangChain messages as messages in OpenAI's shape.

Only what the server needs is sent: metadata, ids and blocks that belong to other providers stay here. A message of
text only goes out as one string, its parts joined by line breaks, which is what vLLM itself does for templates
that take strings, and which servers that know no list content understand, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.block_translators.openai import convert_to_openai_data_block

from langchain_kserve._blocks import REASONING
from langchain_kserve._errors import ConfigurationError

_NOT_FOR_THE_MODEL = frozenset(
    {
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "function_call",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
        "thinking",
        "redacted_thinking",
        "reasoning",
        "reasoning_content",
    }
)
"""Blocks that travel elsewhere in the message (tool calls) or not at all (another model's reasoning)."""

_AS_IT_IS = frozenset({"image_url", "video_url", "audio_url", "input_audio", "image_embeds", "audio_embeds"})
_KEEP = {"image_url": ("image_url", "uuid"), "video_url": ("video_url", "uuid"), "audio_url": ("audio_url", "uuid")}


def to_openai(messages: Sequence[BaseMessage], *, send_reasoning: bool = False) -> list[dict[str, Any]]:
    """The messages of a request.

    Args:
        messages: A conversation.
        send_reasoning: Give assistant messages their reasoning back, as `reasoning`.

    Raises:
        ConfigurationError: If a message cannot be sent to a model.
    """
    return [_message(message, send_reasoning) for message in messages]


def _message(message: BaseMessage, send_reasoning: bool) -> dict[str, Any]:
    if isinstance(message, AIMessage):
        return _assistant(message, send_reasoning)
    content = _content(message.content)
    if isinstance(message, HumanMessage):
        return _named({"role": "user", "content": content}, message)
    if isinstance(message, SystemMessage):
        role = message.additional_kwargs.get("__openai_role__", "system")
        return _named({"role": role, "content": content}, message)
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    if isinstance(message, FunctionMessage):
        return {"role": "function", "name": message.name, "content": content}
    if isinstance(message, ChatMessage):
        return _named({"role": message.role, "content": content}, message)
    msg = f"A {type(message).__name__} cannot be sent to a model."
    raise ConfigurationError(msg)


def _named(wire: dict[str, Any], message: BaseMessage) -> dict[str, Any]:
    if message.name:
        wire["name"] = message.name
    return wire


def _assistant(message: AIMessage, send_reasoning: bool) -> dict[str, Any]:
    calls = [_tool_call(call, place) for place, call in enumerate(message.tool_calls)]
    calls += [_invalid_call(call, place) for place, call in enumerate(message.invalid_tool_calls, len(calls))]
    content = _content(message.content, separator="")
    wire = _named({"role": "assistant", "content": content}, message)
    if calls:
        wire["tool_calls"] = calls
        wire["content"] = content or None
    if send_reasoning and (reasoning := reasoning_text(message)):
        wire["reasoning"] = reasoning
    return wire


def reasoning_text(message: AIMessage) -> str:
    """The reasoning a message came with, wherever it is kept; `""` if there is none."""
    text = message.additional_kwargs.get(REASONING)
    if isinstance(text, str) and text:
        return text
    if isinstance(message.content, str):
        return ""
    blocks = [block for block in message.content if isinstance(block, dict) and block.get("type") == "reasoning"]
    return "".join(str(block.get("reasoning") or "") for block in blocks)


def _tool_call(call: Mapping[str, Any], place: int) -> dict[str, Any]:
    return _function_call(call, place, json.dumps(call["args"], ensure_ascii=False))


def _invalid_call(call: Mapping[str, Any], place: int) -> dict[str, Any]:
    # Servers parse the arguments of earlier calls and refuse the whole conversation if they cannot.
    arguments = call.get("args") or "{}"
    try:
        if not isinstance(json.loads(arguments), dict):
            arguments = json.dumps({"invalid_arguments": arguments}, ensure_ascii=False)
    except ValueError:
        arguments = json.dumps({"invalid_arguments": arguments}, ensure_ascii=False)
    return _function_call(call, place, arguments)


def _function_call(call: Mapping[str, Any], place: int, arguments: str) -> dict[str, Any]:
    return {
        "id": call.get("id") or f"call_{place}",
        "type": "function",
        "function": {"name": call.get("name") or "", "arguments": arguments},
    }


def _content(content: str | Sequence[str | Mapping[Any, Any]], separator: str = "\n") -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts = [part for block in content if (part := _part(block)) is not None]
    if all(part.get("type") == "text" for part in parts):
        return separator.join(part["text"] for part in parts)
    return parts


def _part(block: str | Mapping[Any, Any]) -> dict[str, Any] | None:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind in _NOT_FOR_THE_MODEL:
        return None
    if kind == "text" or (kind is None and "text" in block):
        return {"type": "text", "text": block.get("text") or ""}
    if kind in {"text-plain", "refusal"}:
        return {"type": "text", "text": block.get("text") or block.get("refusal") or ""}
    if kind in _AS_IT_IS:
        return _url_part(dict(block), str(kind))
    if kind == "non_standard":
        value = block.get("value")
        return _part(value) if isinstance(value, Mapping) else None
    if kind in {"image", "audio", "video", "file"}:
        return _data_part(dict(block))
    return {str(name): value for name, value in block.items() if name != "index"}


def _url_part(block: dict[str, Any], kind: str) -> dict[str, Any]:
    """Leaves out what other software added to the part, and completes a bare URL."""
    if kind not in _KEEP:
        return {name: value for name, value in block.items() if name != "index"}
    if isinstance(block.get(kind), str):
        block[kind] = {"url": block[kind]}
    return {"type": kind, **{name: block[name] for name in _KEEP[kind] if name in block}}


def _data_part(block: dict[str, Any]) -> dict[str, Any]:
    kind, source = block["type"], block.get("source")
    if isinstance(source, Mapping) and kind == "image":  # Anthropic's shape
        if source.get("type") == "url":
            return {"type": "image_url", "image_url": {"url": source.get("url")}}
        return _by_url("image_url", source.get("media_type"), source.get("data"))
    if kind == "file" and ("file" in block or block.get("source_type") == "text"):
        return {"type": "text", "text": block["text"]} if "file" not in block else {"type": kind, "file": block["file"]}
    if kind in {"audio", "video"} and (url := block.get("url")):
        return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    if kind == "video":
        return _by_url("video_url", block.get("mime_type"), block.get("base64") or block.get("data"))
    if kind == "file" and "base64" in block and "filename" not in block and "filename" not in _extras(block):
        block["filename"] = "file"
    try:
        return convert_to_openai_data_block(block)
    except (ValueError, KeyError) as error:
        msg = f"This {kind} block cannot be sent: {error}."
        hint = "Give base64 with mime_type, or for images, audio and video a url."
        raise ConfigurationError(msg, hint=hint) from None


def _extras(block: Mapping[str, Any]) -> Mapping[str, Any]:
    extras = block.get("extras") or block.get("metadata")
    return extras if isinstance(extras, Mapping) else {}


def _by_url(kind: str, media_type: Any, data: Any) -> dict[str, Any]:
    if not media_type or not data:
        msg = f"A {kind.removesuffix('_url')} block needs a url, or base64 with mime_type."
        raise ConfigurationError(msg)
    return {"type": kind, kind: {"url": f"data:{media_type};base64,{data}"}}
