"""Prompts and answers as span attributes: only for those who ask for them.

The shapes are those of the conventions' JSON schemas for messages: a list of messages, each a list of parts. Pictures
and sounds are named, not copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.types import ChatResult, TextResult, ToolCall

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON = frozenset({"true", "1", "span_only", "span_and_event"})


def captures_content() -> bool:
    """Whether the environment asks for prompts and answers in spans."""
    return os.environ.get(CONTENT_VARIABLE, "").strip().lower() in _ON


def input_content(about: Any) -> dict[str, str]:
    """The prompt and the tools of a request."""
    if isinstance(about, ChatRequest):
        found = {"gen_ai.input.messages": _json([_message(message) for message in about.messages])}
        if about.tools:
            found["gen_ai.tool.definitions"] = _json([_tool(tool) for tool in about.tools])
        return found
    if isinstance(about, TextRequest):
        messages = [{"role": "user", "parts": [_text(prompt)]} for prompt in about.prompts]
        return {"gen_ai.input.messages": _json(messages)}
    return {}


def output_content(result: Any) -> dict[str, str]:
    """The answer."""
    if isinstance(result, ChatResult):
        return written(
            answer(choice.content or choice.refusal or "", choice.reasoning, choice.tool_calls, choice.finish_reason)
            for choice in result.choices
        )
    if isinstance(result, TextResult):
        return written(
            answer(each.text, each.reasoning, (), each.finish_reason)
            for generations in result.generations
            for each in generations
        )
    return {}


def answer(text: str, reasoning: str, calls: Iterable[ToolCall], finish_reason: str | None) -> dict[str, Any]:
    """One answer as a message."""
    parts: list[dict[str, Any]] = []
    if reasoning:
        parts.append({"type": "reasoning", "content": reasoning})
    if text:
        parts.append(_text(text))
    parts += [_call(call.id, call.name, call.arguments) for call in calls]
    return {"role": "assistant", "parts": parts, "finish_reason": finish_reason or "unknown"}


def written(messages: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Answers as an attribute."""
    return {"gen_ai.output.messages": _json(list(messages))}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        return {"role": "tool", "parts": [_tool_answer(message.get("tool_call_id"), content)]}
    parts: list[dict[str, Any]] = []
    if message.get("reasoning"):
        parts.append({"type": "reasoning", "content": str(message["reasoning"])})
    if isinstance(content, str):
        parts += [_text(content)] if content else []
    elif isinstance(content, (list, tuple)):
        parts += [_part(part) for part in content]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts.append(_call(call.get("id"), function.get("name"), function.get("arguments")))
    return {"role": str(role), "parts": parts}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, Mapping):
        return _text(part["text"]) if isinstance(part.get("text"), str) else {"type": str(part.get("type"))}
    return {"type": type(part).__name__}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _call(identity: Any, name: Any, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        with contextlib.suppress(orjson.JSONDecodeError):  # else as the model wrote it
            arguments = orjson.loads(arguments)
    return {"type": "tool_call", "id": identity, "name": name, "arguments": arguments}


def _tool_answer(identity: Any, content: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": identity, "response": content}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, Mapping) else dict(tool)


def _json(value: Any) -> str:
    return orjson.dumps(value, str, orjson.OPT_NON_STR_KEYS).decode()
