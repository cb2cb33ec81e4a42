"""Chat requests from messages, the fields of a model and the keyword arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from kserve_core.capabilities import ChatRequest
from langchain_kserve._connection import revealed
from langchain_kserve._constraints import take_constraint
from langchain_kserve._messages import to_openai
from langchain_kserve._tools import made_strict, to_openai_tools, to_response_format, to_tool_choice

_SAME = {"model_name": "model", "max_completion_tokens": "max_tokens", "stop_sequences": "stop"}
_OF_LANGCHAIN = ("stream", "ls_structured_output_format", "structured_output_format", "strict")


def chat_request(
    messages: Sequence[BaseMessage],
    fields: Mapping[str, Any],
    kwargs: Mapping[str, Any],
    *,
    model: str | None,
    extra_body: Mapping[str, Any],
    strict_tools: bool = False,
) -> ChatRequest:
    """The request of one call.

    Args:
        messages: The conversation.
        fields: What is set on the model.
        kwargs: The call's own arguments; they go before the fields, and None takes a field's value back.
        model: The model's name unless the call names another.
        extra_body: Sent as given; the call's own is put over it.
        strict_tools: Mark tools strict when a form is asked for, too.

    Raises:
        ConfigurationError: If the arguments cannot be used.
    """
    call = {_SAME.get(name, name): value for name, value in kwargs.items() if name not in _OF_LANGCHAIN}
    given = {**fields, **call}
    call_extra = given.pop("extra_body", None)
    headers = given.pop("extra_headers", None) or {}
    parallel = given.pop("parallel_tool_calls", None)
    tools = to_openai_tools(given.pop("tools", None) or ())
    response_format = given.get("response_format")
    if response_format is not None:
        given["response_format"] = to_response_format(response_format)
    constraint = take_constraint(given)
    if strict_tools and constraint is not None:
        tools = made_strict(tools)
    return ChatRequest(
        messages=to_openai(messages, send_reasoning=bool(given.pop("send_reasoning", False))),
        model=given.pop("model", None) or model,
        tools=tools,
        tool_choice=to_tool_choice(given.pop("tool_choice", None), tools),
        parallel_tool_calls=parallel if tools else None,  # says nothing without tools, and servers refuse it
        constraint=constraint,
        include_usage=_include_usage(given),
        extra_body={**extra_body, **(call_extra or {})},
        headers={name: revealed(value) for name, value in headers.items()},
        params=_params(given),
    )


def _include_usage(given: dict[str, Any]) -> bool:
    options = given.pop("stream_options", None)
    wanted = given.pop("stream_usage", True)
    if isinstance(options, Mapping) and "include_usage" in options:
        return bool(options["include_usage"])
    return True if wanted is None else bool(wanted)


def _params(given: dict[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in given.items() if value is not None}
    stop = params.get("stop")
    if isinstance(stop, str):
        params["stop"] = [stop]
    elif stop is not None and not stop:
        del params["stop"]
    return params
