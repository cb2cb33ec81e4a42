"""Chat completions: the request's body and the whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import orjson

from kserve_core._json import columns, decode_object, encode, unexpected, word
from kserve_core.calls import Response
from kserve_core.capabilities import ChatRequest
from kserve_core.error_bodies import read_error_body
from kserve_core.errors import ConfigurationError
from kserve_core.names import did_you_mean
from kserve_core.runtimes.vllm.constraints import constraint_of, wire_constraint
from kserve_core.runtimes.vllm.guardrails import BLOCKED, blocks, guarded, refusal_of
from kserve_core.runtimes.vllm.params import wire_params
from kserve_core.runtimes.vllm.usage import read_usage
from kserve_core.types import ChatChoice, ChatResult, ToolCall

_WHAT = "a chat completion"
_MESSAGE_FIELDS = frozenset(
    {"role", "content", "reasoning", "reasoning_content", "refusal", "tool_calls", "function_call"}
)
_CHOICE_FIELDS = frozenset({"index", "message", "logprobs", "finish_reason", "stop_reason"})


def chat_body(
    request: ChatRequest, *, model: str | None, version: tuple[int, int] | None, stream: bool
) -> dict[str, Any]:
    """The request's body, holding only what was set.

    Args:
        request: The conversation and its settings.
        model: The name to send; None to send none.
        version: The server's version, where a constraint depends on it.
        stream: Whether the answer comes in pieces.

    Raises:
        ConfigurationError: If the server would refuse it.
    """
    refuse_stream_field(request.extra_body)
    body: dict[str, Any] = {"messages": wire_messages(request.messages)}
    if model:
        body["model"] = model
    body.update(wire_params("chat", request.params))
    body.update(_tools(request))
    constraint = constraint_of(request.constraint, request.params, request.extra_body)
    if constraint is not None:
        body.update(wire_constraint("chat", constraint, version))
    if stream:
        body["stream"] = True
        if request.include_usage:
            body["stream_options"] = {"include_usage": True}
    body.update(request.extra_body)
    return body


def refuse_stream_field(extra_body: Mapping[str, Any]) -> None:
    """Raises if `extra_body` would change the very form of the answer."""
    if "stream" in extra_body:
        msg = "`stream` cannot go into extra_body; call the streaming method instead."
        raise ConfigurationError(msg)


def wire_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages as the server takes them.

    Content parts go out untouched. An assistant's reasoning goes out under both of its names, because the field was
    renamed in 0.12 and each version passes only its own to the chat template; tool-call arguments go out as text.

    Raises:
        ConfigurationError: If there are none.
    """
    if not messages:
        msg = "A conversation needs at least one message."
        raise ConfigurationError(msg)
    return [_assistant(message) if message.get("role") == "assistant" else message for message in messages]


def _assistant(message: Mapping[str, Any]) -> Mapping[str, Any]:
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    calls = message.get("tool_calls")
    if not reasoning and not calls and "tool_calls" not in message and "reasoning" not in message:
        return message
    wire = {key: value for key, value in message.items() if key not in {"reasoning", "reasoning_content", "tool_calls"}}
    if reasoning:
        wire["reasoning"] = wire["reasoning_content"] = reasoning
    if calls:
        wire["tool_calls"] = [_call_back(call) for call in calls]
    return wire


def _call_back(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str):
        return call
    arguments = function.get("arguments")
    text = "{}" if arguments is None else encode(arguments).decode()
    return {**call, "function": {**function, "arguments": text}}


def _tools(request: ChatRequest) -> dict[str, Any]:
    """The tool fields; without tools nothing goes out, since an empty list is refused."""
    choice = request.tool_choice
    if not request.tools:
        if choice is None or choice == "none":
            return {}
        msg = f"tool_choice={choice!r} needs tools, and none were given."
        raise ConfigurationError(msg)
    wire: dict[str, Any] = {"tools": list(request.tools)}
    if choice is not None:
        wire["tool_choice"] = _tool_choice(choice, [_tool_name(tool) for tool in request.tools])
    if request.parallel_tool_calls is not None:
        wire["parallel_tool_calls"] = request.parallel_tool_calls
    return wire


def _tool_choice(choice: str | Mapping[str, Any], names: list[str]) -> str | dict[str, Any]:
    if isinstance(choice, str):
        if choice in {"auto", "none", "required"}:
            return choice
        hint = ""
        if choice in names:
            hint = f"To force one tool pass {{'type': 'function', 'function': {{'name': {choice!r}}}}}."
        msg = f"tool_choice must be 'auto', 'none', 'required' or a named function, not {choice!r}."
        raise ConfigurationError(msg, hint=hint)
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if not isinstance(name, str) or not name:
        msg = "A tool_choice that names a function needs the form {'type': 'function', 'function': {'name': ...}}."
        raise ConfigurationError(msg)
    if name not in names:
        msg = f"tool_choice names {name!r}, which is not among the tools."
        raise ConfigurationError(msg, hint=f"{did_you_mean(name, names)}The tools are {', '.join(map(repr, names))}.")
    return {"type": "function", "function": {"name": name}}


def _tool_name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        msg = "Every tool needs the form {'type': 'function', 'function': {'name': ..., 'parameters': ...}}."
        raise ConfigurationError(msg)
    return name


def read_chat(response: Response, *, one_call: bool = False) -> ChatResult:
    """Reads a whole answer.

    The finish reason stays the server's own word: it is `stop`, not `tool_calls`, when the function to call was
    named by the request.

    Args:
        response: The server's answer. One that guardrails blocked has a refusal and the finish reason
            `content_filter`; see `guardrails`.
        one_call: Keep only the first tool call, for servers that do not honor `parallel_tool_calls=False`.

    Raises:
        BadResponseError: If it is not a chat completion.
    """
    raw = decode_object(response, _WHAT)
    choices = raw.get("choices")
    found = guarded(raw)
    if found and not choices:
        choices = [{"index": 0, "message": {}}]
    if not isinstance(choices, list) or not choices:
        said = read_error_body(response.body).message if "error" in raw else ""
        raise unexpected(_WHAT, said or "it has no choices", status=response.status)
    read = [_choice(choice, position, one_call, response.status) for position, choice in enumerate(choices)]
    read.sort(key=lambda choice: choice.index)
    for choice in read if found else ():
        _refuse(choice, found)
    created = raw.get("created")
    return ChatResult(
        choices=read,
        usage=read_usage(raw.get("usage")),
        model=word(raw.get("model")),
        id=word(raw.get("id")),
        created=created if isinstance(created, int) else None,
        system_fingerprint=word(raw.get("system_fingerprint")),
        raw=raw,
    )


def _choice(choice: Any, position: int, one_call: bool, status: int) -> ChatChoice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise unexpected(_WHAT, "a choice has no message", status=status)
    finish = word(choice.get("finish_reason"))
    index = choice.get("index")
    calls = read_tool_calls(message.get("tool_calls"), cut=finish == "length")
    return ChatChoice(
        content=text_of(message.get("content")),
        reasoning=reasoning_of(message),
        refusal=word(message.get("refusal")),
        tool_calls=calls[:1] if one_call else calls,
        finish_reason=finish,
        stop_reason=choice.get("stop_reason"),
        logprobs=columns(choice.get("logprobs")),
        index=index if type(index) is int else position,
        extra=_rest(choice, _CHOICE_FIELDS) | _rest(message, _MESSAGE_FIELDS),
    )


def _refuse(choice: ChatChoice, found: dict[str, Any]) -> None:
    """Marks an answer as what guardrails make of it."""
    choice.extra |= found
    if blocks(found, choice.content or choice.tool_calls):
        choice.refusal = choice.refusal or refusal_of(found)
        choice.finish_reason = BLOCKED


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning text, under its new name or its old one (0.12 to 0.15 send the same text under both)."""
    return text_of(message.get("reasoning") or message.get("reasoning_content"))


def text_of(content: Any) -> str:
    """Text that is given as such, as a list of parts, or not at all."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def read_tool_calls(calls: Any, *, cut: bool) -> list[ToolCall]:
    """The tool calls of a message; of an answer that was cut off, the last one is never complete."""
    read = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            read.append(
                ToolCall(
                    id=word(call.get("id")) or new_call_id(),
                    name=word(function.get("name")) or "",
                    arguments=arguments_text(function.get("arguments")) or "{}",
                )
            )
    if cut:
        for call in read:
            call.complete = call is not read[-1] and is_json(call.arguments)
    return read


def new_call_id() -> str:
    """An id for a tool call whose server gave it none."""
    return f"call_{uuid4().hex[:24]}"


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text; some servers send the object itself. `""` for none."""
    if isinstance(arguments, str):
        return arguments
    return orjson.dumps(arguments).decode() if arguments else ""


def is_json(text: str) -> bool:
    """Whether the text is a whole JSON value."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _rest(value: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in known and item is not None}
