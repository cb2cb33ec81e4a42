"""Reads a chat request: messages, tools, tool choice and output constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.conversation import Call, Conversation, Message, Tool
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.vllm.errors import ApiError, missing, problem, schema_error, wrong_type

_IMAGE_TOKENS = 64
_PARAM: tuple[str | int, ...] = ("body", "messages")


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What the caller wants of the tools: `none`, `auto`, `required` or `named`."""

    mode: str = "none"
    name: str | None = None


def conversation(body: Mapping[str, Any]) -> Conversation:
    """The messages and tools of a request.

    Raises:
        ApiError: A message or tool has the wrong shape.
    """
    given = body["messages"]
    if given is None:
        msg = "'NoneType' object is not iterable"
        raise ApiError(msg)
    if not given:
        msg = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise ApiError(msg)
    return Conversation(tuple(_message(at, item) for at, item in enumerate(given)), tools(body))


def _message(at: int, item: Any) -> Message:
    if not isinstance(item, dict):
        raise wrong_type((*_PARAM, at, "ChatCompletionDeveloperMessageParam"), "dictionary", item)
    if not isinstance(item.get("role"), str):
        raise missing((*_PARAM, at, "ChatCompletionDeveloperMessageParam", "role"), item)
    text, images = _content(at, item.get("content"))
    calls: list[Call] = []
    for call in item.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            where = ("body", len(calls), "ChatCompletionMessageFunctionToolCallParam", "function")
            raise wrong_type(where, "string", arguments)
        try:
            parsed = orjson.loads(arguments) if arguments else {}
        except orjson.JSONDecodeError:
            parsed = {}
        calls.append(Call(str(function.get("name")), parsed, call.get("id")))
    return Message(item["role"], text, images, tuple(calls), item.get("name"), item.get("tool_call_id"))


def _content(at: int, content: Any) -> tuple[str, int]:
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        where = (*_PARAM, at, "ChatCompletionDeveloperMessageParam", "content")
        raise wrong_type(where, "string", content)
    texts, images = [], 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if isinstance(part, str):
            texts.append(part)
        elif kind in {"text", "input_text", "output_text"} and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in {"image_url", "input_image", "video_url", "input_audio", "audio_url", "image_embeds", "file"}:
            images += 1
        elif kind == "refusal":
            texts.append(str(part.get("refusal", "")))
        else:
            msg = f"Unknown part type: {kind}"
            raise ApiError(msg)
    return "\n".join(texts), images


def tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The offered functions.

    Raises:
        ApiError: The list is empty or an entry has the wrong shape.
    """
    given = body.get("tools")
    if given is None:
        return ()
    if not given:
        msg = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        raise ApiError(msg, param="tools")
    made = []
    for at, item in enumerate(given):
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(item, dict) or item.get("type") != "function":
            raise schema_error(
                problem("literal_error", ("body", "tools", at, "type"), "Input should be 'function'", item)
            )
        if not isinstance(function, dict):
            raise missing(("body", "tools", at, "function"), item)
        if not isinstance(function.get("name"), str):
            raise missing(("body", "tools", at, "function", "name"), item)
        made.append(Tool(function["name"], str(function.get("description") or ""), function.get("parameters") or {}))
    return tuple(made)


def tool_choice(body: Mapping[str, Any], offered: tuple[Tool, ...], settings: Settings) -> ToolChoice:
    """How tools may be used.

    Raises:
        ApiError: A choice without tools, or of a tool that is not offered.
    """
    choice = body.get("tool_choice")
    if choice is None:
        choice = "auto" if offered else "none"
    if choice == "none":
        return ToolChoice()
    if not offered:
        msg = "When using `tool_choice`, `tools` must be set."
        raise ApiError(msg, param="tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        if not isinstance(function, dict):
            msg = f"Invalid value for `function`: `{function}` in `tool_choice`! Name a function."
            raise ApiError(msg, param="tool_choice.function")
        name = str(function.get("name"))
        if name not in {tool.name for tool in offered}:
            msg = "The tool specified in `tool_choice` does not match any of the specified `tools`"
            raise ApiError(msg, param="tool_choice")
        return ToolChoice("named", name)
    if choice not in {"auto", "required"}:
        msg = f'Invalid value for `tool_choice`: {choice}! Use "none", "auto", "required" or a named tool.'
        raise ApiError(msg, param="tool_choice")
    if choice == "auto" and not settings.auto_tools:
        msg = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        raise ApiError(msg)
    return ToolChoice(str(choice))


def prompt_text(talk: Conversation, *, generation_prompt: bool = True, continue_final: bool = False) -> str:
    """The messages in the ChatML form the made-up model was made-up trained on."""
    parts = []
    if talk.tools:
        listed = "\n".join(
            orjson.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}).decode()
            for t in talk.tools
        )
        parts.append(f"<|im_start|>system\nTools:\n{listed}<|im_end|>\n")
    for message in talk.messages:
        calls = "".join(
            "\n<tool_call>\n" + orjson.dumps({"name": c.name, "arguments": c.arguments}).decode() + "\n</tool_call>"
            for c in message.calls
        )
        images = "<|image|>" * (_IMAGE_TOKENS * message.images)
        parts.append(f"<|im_start|>{message.role}\n{images}{message.text}{calls}<|im_end|>\n")
    text = "".join(parts)
    if continue_final:
        return text.removesuffix("<|im_end|>\n")
    return text + ("<|im_start|>assistant\n" if generation_prompt else "")


def prompt_ids(body: Mapping[str, Any], talk: Conversation) -> list[int]:
    """Token ids of the whole prompt.

    Raises:
        ApiError: Two options exclude each other.
    """
    generation_prompt = body.get("add_generation_prompt", True)
    continue_final = bool(body.get("continue_final_message"))
    if generation_prompt and continue_final:
        msg = "continue_final_message and add_generation_prompt are not compatible."
        raise ApiError(msg)
    return tokens.encode(prompt_text(talk, generation_prompt=generation_prompt, continue_final=continue_final))
