"""Tools and tool choices, from the many shapes people give them in to OpenAI's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_kserve._errors import ConfigurationError

Tool: TypeAlias = Mapping[str, Any] | type | Callable[..., Any] | BaseTool

_WORDS = {"auto": "auto", "none": "none", "any": "required", "required": "required"}


def to_openai_tools(tools: Sequence[Tool], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Tools in OpenAI's shape; `strict` is written into them only when it is set."""
    return [_tool(tool, strict) for tool in tools]


def _tool(tool: Tool, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") == "function" and "function" in tool:
        if strict is None:
            return dict(tool)
        return {**tool, "function": {**tool["function"], "strict": strict}}
    return convert_to_openai_tool(tool, strict=strict)


def made_strict(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools marked strict, unless they say otherwise; their schemas stay as they are."""
    return [
        {**tool, "function": {"strict": True, **tool["function"]}} if "function" in tool else dict(tool)
        for tool in tools
    ]


def tool_names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of tools in OpenAI's shape."""
    return [tool.get("function", tool).get("name", "") for tool in tools]


def to_tool_choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> str | dict[str, Any] | None:
    """A tool choice in OpenAI's shape.

    Args:
        choice: `"auto"`, `"none"`, `"any"`, `"required"`, True (the same as `"any"`), a tool's name, or a mapping
            that names a tool in OpenAI's or Anthropic's way. None and False leave it to the server.
        tools: The tools of the request.

    Raises:
        ConfigurationError: If it names no tool of the request, or makes no sense.
    """
    if choice is None or choice is False:
        return None
    if isinstance(choice, Mapping):
        choice = _from_mapping(choice)
    names = tool_names(tools)
    if choice is True:
        choice = "required"
    if isinstance(choice, str):
        if choice in names:
            return {"type": "function", "function": {"name": choice}}
        if (word := _WORDS.get(choice)) is not None:
            if not names and word == "required":
                msg = "A tool call is asked for, but there are no tools."
                raise ConfigurationError(msg)
            return word if names else None  # servers refuse a choice without tools
        known = ", ".join(names) or "none"
        msg = f"There is no tool named {choice!r}."
        raise ConfigurationError(msg, hint=f"Tools given: {known}.")
    msg = f"A tool choice is a word, a tool's name, True or a mapping, not {type(choice).__name__}."
    raise ConfigurationError(msg)


def _from_mapping(choice: Mapping[str, Any]) -> Any:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if name:
        return name
    if choice.get("type") in _WORDS:
        return choice["type"]
    msg = "This tool choice names no tool."
    raise ConfigurationError(msg, hint='For example {"type": "function", "function": {"name": "search"}}.')


def to_response_format(schema: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """A `response_format` that asks for JSON of a schema, given in any of the shapes LangChain takes.

    A schema is sent as it is: nothing is made required or closed that was not.

    Raises:
        ConfigurationError: If it is not a schema.
    """
    if isinstance(schema, Mapping) and schema.get("type") in {"json_object", "text"}:
        return dict(schema)
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema" and "json_schema" in schema:
        inner = dict(schema["json_schema"])
    else:
        inner = {"name": schema_name(schema), "schema": json_schema(schema)}
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def schema_name(schema: Any) -> str:
    """A name for a schema."""
    if isinstance(schema, Mapping):
        function = schema.get("function", schema)
        return str(function.get("name") or function.get("title") or "answer")
    return getattr(schema, "__name__", "answer")


def json_schema(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a pydantic class (either version), a `TypedDict`, an OpenAI function or itself.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        make = getattr(schema, "model_json_schema", None) or schema.schema  # type: ignore[attr-defined]  # pydantic 1
        made: dict[str, Any] = make()
        return made
    if isinstance(schema, Mapping):
        function = schema.get("function", schema)
        if "parameters" in function and "properties" not in function:
            return {"title": function.get("name", "answer"), **function["parameters"]}
        return dict(schema)
    try:
        return convert_to_json_schema(schema)
    except (ValueError, TypeError) as error:
        msg = "This is not a schema."
        hint = "Give a pydantic class, a TypedDict, a JSON Schema or an OpenAI function."
        raise ConfigurationError(msg, hint=hint) from error
