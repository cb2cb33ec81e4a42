"""Whole answers as LangChain results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatResult

from kserve_core import types as core
from langchain_kserve._blocks import PROVIDER, REASONING, REFUSAL

_CUT = "The answer was cut off (max_tokens) while this call was being written."


def usage_metadata(usage: core.Usage | None) -> UsageMetadata | None:
    """Token counts as LangChain counts them."""
    if usage is None:
        return None
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
    }
    details = InputTokenDetails()
    if usage.cached_tokens is not None:
        details["cache_read"] = usage.cached_tokens
    if usage.audio_tokens is not None:
        details["audio"] = usage.audio_tokens
    if details:
        counts["input_token_details"] = details
    if usage.reasoning_tokens is not None:
        counts["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    # Not made as a UsageMetadata: seen from Python 3.10, newer releases' optional keys look required.
    return cast("UsageMetadata", counts)


def token_usage(usage: core.Usage | None) -> dict[str, Any]:
    """Token counts under the names of `llm_output["token_usage"]`."""
    if usage is None:
        return {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def read_tool_calls(calls: Sequence[core.ToolCall]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Calls whose arguments are a whole JSON object, and the others with the reason they are not."""
    good: list[ToolCall] = []
    bad: list[InvalidToolCall] = []
    for call in calls:
        arguments, error = _arguments(call)
        if error:
            bad.append(invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=error))
        else:
            good.append(tool_call(name=call.name, args=arguments, id=call.id))
    return good, bad


def _arguments(call: core.ToolCall) -> tuple[dict[str, Any], str]:
    if not call.complete:
        return {}, _CUT
    if not call.arguments.strip():
        return {}, ""
    try:
        value = json.loads(call.arguments, strict=False)
    except ValueError as error:
        return {}, f"The arguments are not valid JSON: {error}."
    if value is None:
        return {}, ""
    if not isinstance(value, dict):
        return {}, "The arguments are not a JSON object."
    return value, ""


def to_chat_result(result: core.ChatResult, *, model: str | None = None) -> ChatResult:
    """The whole answer. Usage is on the first choice only, since the server counts all of them together.

    Args:
        result: What the server answered.
        model: The name the call asked for; it goes before the server's own name for the same model.
    """
    name = model or result.model
    generations = [
        _generation(result, choice, model=name, first=place == 0) for place, choice in enumerate(result.choices)
    ]
    output: dict[str, Any] = {"token_usage": token_usage(result.usage), "model_name": name}
    if result.system_fingerprint:
        output["system_fingerprint"] = result.system_fingerprint
    return ChatResult(generations=generations, llm_output=output)


def _generation(result: core.ChatResult, choice: core.ChatChoice, *, model: str | None, first: bool) -> ChatGeneration:
    extra: dict[str, Any] = {}
    if choice.reasoning:
        extra[REASONING] = choice.reasoning
    if choice.refusal:
        extra[REFUSAL] = choice.refusal
    calls, invalid = read_tool_calls(choice.tool_calls)
    metadata: dict[str, Any] = {"model_provider": PROVIDER, "model_name": model, "id": result.id}
    metadata["system_fingerprint"] = result.system_fingerprint
    message = AIMessage(
        content=choice.content,
        additional_kwargs=extra,
        response_metadata={name: value for name, value in metadata.items() if value is not None},
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(result.usage) if first else None,
    )
    info: dict[str, Any] = {name: value for name, value in choice.extra.items() if value is not None}
    info["finish_reason"] = choice.finish_reason
    if choice.stop_reason is not None:
        info["stop_reason"] = choice.stop_reason
    if choice.logprobs is not None:
        info["logprobs"] = choice.logprobs
    return ChatGeneration(message=message, generation_info=info)


def combine_outputs(outputs: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The output of several calls: tokens summed, the rest as the first says."""
    combined: dict[str, Any] = {}
    tokens: dict[str, int] = {}
    for output in outputs:
        if not output:
            continue
        for name, count in (output.get("token_usage") or {}).items():
            tokens[name] = tokens.get(name, 0) + count
        for name, value in output.items():
            combined.setdefault(name, value)
    return {**combined, "token_usage": tokens}
