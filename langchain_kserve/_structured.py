"""Chat answers of a given form: what `with_structured_output` builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_kserve._errors import ConfigurationError
from langchain_kserve._parsers import JsonCall, PydanticCall, answer_parser, parsed_by
from langchain_kserve._structured_text import instruction
from langchain_kserve._tools import json_schema, made_strict, to_openai_tools, to_response_format, tool_names

Method: TypeAlias = Literal["json_schema", "function_calling", "json_mode"]
Schema: TypeAlias = Mapping[str, Any] | type


def structured(
    model: BaseChatModel,
    schema: Schema | None,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
    strict_tools: bool,
    has_tools: bool,
    guided: bool,
    **kwargs: Any,
) -> Runnable[LanguageModelInput, Any]:
    """Binds a model to a schema and puts a parser behind it.

    Where the server cannot hold an answer to a form (`guided` is False), the form is asked for in the prompt. Where it
    has no tools, `function_calling` is `json_schema`: the answer is the same.

    Raises:
        ConfigurationError: If the arguments do not go together.
    """
    _check(schema, method, strict)
    noted: dict[str, Any] = {"method": method}
    if strict is not None:
        noted["strict"] = strict
    kwargs["ls_structured_output_format"] = {"kwargs": noted, "schema": schema}
    if method == "function_calling" and has_tools:
        bound, parser = _by_call(model, schema, strict=strict, strict_tools=strict_tools, **kwargs)
    elif guided:
        form = {"type": "json_object"} if method == "json_mode" else to_response_format(schema, strict=strict)
        bound, parser = model.bind(response_format=form, **kwargs), answer_parser(schema, guided=True)
    else:
        words = instruction(None if method == "json_mode" else json_schema(schema))
        ask: Runnable[LanguageModelInput, list[BaseMessage]] = RunnableLambda(
            lambda given: _asked(model._convert_input(given).to_messages(), words)
        )
        bound, parser = ask | model.bind(**kwargs), answer_parser(schema, guided=False)
    return parsed_by(bound, parser, include_raw=include_raw)


def _by_call(
    model: BaseChatModel, schema: Any, *, strict: bool | None, strict_tools: bool, **kwargs: Any
) -> tuple[Runnable[LanguageModelInput, Any], BaseOutputParser[Any]]:
    tools = to_openai_tools([schema], strict=strict)
    name = tool_names(tools)[0]
    bound = model.bind_tools(made_strict(tools) if strict_tools else tools, tool_choice=name, **kwargs)
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return bound, PydanticCall(tools=[schema], first_tool_only=True)
    return bound, JsonCall(key_name=name, first_tool_only=True)


def _asked(messages: list[BaseMessage], words: str) -> list[BaseMessage]:
    """The conversation with an instruction at its end, where models heed it best."""
    *before, last = messages
    if not isinstance(last, HumanMessage):
        return [*messages, HumanMessage(words)]
    if isinstance(last.content, str):
        content: Any = f"{last.content}\n\n{words}"
    else:
        content = [*last.content, {"type": "text", "text": words}]
    return [*before, last.model_copy(update={"content": content})]


def _check(schema: Schema | None, method: str, strict: bool | None) -> None:
    if method not in {"json_schema", "function_calling", "json_mode"}:
        msg = f"There is no structured output method {method!r}."
        raise ConfigurationError(msg, hint="Use json_schema, function_calling or json_mode.")
    if schema is None and method != "json_mode":
        msg = f"The method {method} needs a schema."
        raise ConfigurationError(msg)
    if strict is not None and method == "json_mode":
        msg = "The method json_mode sends no schema, so there is nothing to be strict about."
        raise ConfigurationError(msg, hint="Leave strict out, or use the method json_schema.")
