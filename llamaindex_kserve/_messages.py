"""LlamaIndex messages, blocks and tools in the neutral chat shape that requests carry. Pure functions.

Nothing here opens a connection: an image or audio URL is passed on for the server to fetch, never fetched here.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from io import IOBase
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import BaseModel

from kserve_core.errors import ConfigurationError, UnsupportedParameterError

_ROLES = {
    MessageRole.FUNCTION: "tool",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}

Media = frozenset[str]
"""The kinds of block a runtime takes besides text: `image`, `audio`, `video`."""

ALL_MEDIA: Media = frozenset({"image", "audio", "video"})
TEXT_ONLY: Media = frozenset()


def to_wire(
    messages: Sequence[ChatMessage],
    *,
    runtime: str,
    media: Media = ALL_MEDIA,
    send_reasoning: bool = False,
) -> list[dict[str, Any]]:
    """Messages in the shape requests carry; the messages themselves are left alone.

    Args:
        messages: The conversation.
        runtime: The runtime's name, for errors.
        media: What it takes besides text.
        send_reasoning: Whether earlier reasoning goes back to the model.

    Raises:
        UnsupportedParameterError: If a block is of a kind the runtime does not take.
        ConfigurationError: If a media block is empty or unreadable.
    """
    return [_message(message, runtime, media, send_reasoning=send_reasoning) for message in messages]


def _message(message: ChatMessage, runtime: str, media: Media, *, send_reasoning: bool) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role.value)
    wire: dict[str, Any] = {"role": role}
    parts: list[dict[str, Any]] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            parts.append({"type": "text", "text": block.text})
        elif isinstance(block, ToolCallBlock):
            calls.append(_tool_call(block.tool_call_id, block.tool_name, block.tool_kwargs))
        elif isinstance(block, ThinkingBlock):
            if block.content:
                reasoning.append(block.content)
        elif not isinstance(block, CachePoint):
            parts.extend(_block(block, runtime, media))
    extra = message.additional_kwargs
    if role == "assistant":
        calls = calls or [_known_call(call) for call in extra.get("tool_calls") or ()]
        if calls:
            wire["tool_calls"] = calls
        if reasoning and send_reasoning:
            wire["reasoning"] = "\n".join(reasoning)
    elif role == "tool" and extra.get("tool_call_id"):
        wire["tool_call_id"] = extra["tool_call_id"]
    if extra.get("name"):
        wire["name"] = extra["name"]
    wire["content"] = _content(parts, empty=None if calls else "")
    return wire


def _content(parts: list[dict[str, Any]], *, empty: str | None) -> str | list[dict[str, Any]] | None:
    if not parts:
        return empty
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _block(block: Any, runtime: str, media: Media) -> Iterable[dict[str, Any]]:
    if isinstance(block, CitableBlock):
        for inner in block.content:
            yield from _block(inner, runtime, media)
    elif isinstance(block, CitationBlock):
        yield from _block(block.cited_content, runtime, media)
    elif isinstance(block, TextBlock):
        yield {"type": "text", "text": block.text}
    elif isinstance(block, DocumentBlock):
        msg = f"{runtime} takes no document blocks."
        raise UnsupportedParameterError(msg, hint="Read the document with a LlamaIndex reader and send its text.")
    else:
        kind = getattr(block, "block_type", type(block).__name__)
        if kind not in media:
            takes = "text only" if not media else f"text and {', '.join(sorted(media))}"
            msg = f"{runtime} takes no {kind} blocks ({takes})."
            raise UnsupportedParameterError(msg)
        yield _media_part(block)


def _media_part(block: ImageBlock | AudioBlock | VideoBlock) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        url = _remote(block.url) or _data_url(block.image, block.path, block.image_mimetype or "image/jpeg")
        image: dict[str, Any] = {"url": url}
        if block.detail:
            image["detail"] = block.detail
        return {"type": "image_url", "image_url": image}
    if isinstance(block, VideoBlock):
        url = _remote(block.url) or _data_url(block.video, block.path, block.video_mimetype or "video/mp4")
        return {"type": "video_url", "video_url": {"url": url}}
    remote = _remote(block.url)
    if remote:
        return {"type": "audio_url", "audio_url": {"url": remote}}
    data = _base64(block.audio, block.path)
    return {"type": "input_audio", "input_audio": {"data": data, "format": block.format or "wav"}}


def _remote(url: Any) -> str:
    return str(url) if url else ""


def _data_url(data: bytes | IOBase | None, path: Path | None, mimetype: str) -> str:
    return f"data:{mimetype};base64,{_base64(data, path)}"


def _base64(data: bytes | IOBase | None, path: Path | None) -> str:
    if isinstance(data, bytes) and data:
        return data.decode("ascii")  # the block has encoded it already
    if data:
        data.seek(0)
        raw = data.read()
    elif path is not None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            msg = f"A media block's file cannot be read: {error.strerror or error}."
            raise ConfigurationError(msg) from error
    else:
        raw = b""
    if not raw:
        msg = "A media block has neither data nor a path nor a URL."
        raise ConfigurationError(msg)
    return base64.b64encode(raw).decode("ascii")


# -- tools ------------------------------------------------------------------------------------------------


def _tool_call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id or name, "type": "function", "function": {"name": name, "arguments": text or "{}"}}


def _known_call(call: Any) -> dict[str, Any]:
    """A tool call kept by an older integration: a mapping, or an SDK's object of the same shape."""
    value = call.model_dump() if isinstance(call, BaseModel) else call
    function = value["function"]
    return _tool_call(value.get("id"), function["name"], function.get("arguments") or "{}")


def tool_choice_on_wire(tool_choice: Any, *, required: bool) -> str | Mapping[str, Any] | None:
    """A tool choice as users write it (`"auto"`, a tool's name, the wire's own mapping) in the wire's shape."""
    if tool_choice is None:
        return "required" if required else None
    if isinstance(tool_choice, Mapping) or tool_choice in {"auto", "none", "required"}:
        choice: str | Mapping[str, Any] = tool_choice
        return choice
    if tool_choice == "any":
        return "required"
    return {"type": "function", "function": {"name": str(tool_choice)}}


# -- prompts ----------------------------------------------------------------------------------------------


def without_extras(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Copies that hold role and text alone, for prompt functions that would print everything else."""
    return [ChatMessage(role=message.role, content=message.content or "") for message in messages]


def refuse_media(messages: Sequence[ChatMessage], runtime: str) -> None:
    """Raises where a prompt made of the messages' text would silently leave something out.

    Raises:
        UnsupportedParameterError: If a message holds an image, audio, video or document.
    """
    for message in messages:
        for block in message.blocks:
            if not isinstance(block, TextBlock | ThinkingBlock | ToolCallBlock | CachePoint):
                list(_block(block, runtime, TEXT_ONLY))
