"""Structured output of text completion: a forced form, or one that is asked for, then a parser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_kserve._constraints import json_schema_of
from langchain_kserve._parsers import answer_parser, parsed_by


def structured(
    llm: BaseLLM,
    schema: dict[str, Any] | type,
    *,
    include_raw: bool,
    strict: bool | None,
    guided: bool,
    arguments: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """The model with its answers forced into a schema and parsed.

    Args:
        llm: The model.
        schema: A pydantic class, a `TypedDict` or a JSON Schema.
        include_raw: Whether to return `raw`, `parsed` and `parsing_error` instead of raising.
        strict: Passed on with the schema when set.
        guided: Whether the server can force the form; if not, it is asked for at the end of the prompt.
        arguments: Further arguments of every call.
    """
    wanted = json_schema_of(schema)
    if guided:
        form: dict[str, Any] = {"name": wanted.get("title") or "answer", "schema": wanted}
        if strict is not None:
            form["strict"] = strict
        bound = llm.bind(response_format={"type": "json_schema", "json_schema": form}, **arguments)
    else:
        words = instruction(wanted)
        ask: Runnable[LanguageModelInput, str] = RunnableLambda(
            lambda given: f"{llm._convert_input(given).to_string()}\n\n{words}\n"
        )
        bound = ask | llm.bind(**arguments)
    return parsed_by(bound, answer_parser(schema, guided=guided), include_raw=include_raw)


def instruction(schema: Mapping[str, Any] | None) -> str:
    """The words that ask for JSON, of a schema or of any form."""
    if schema is None:
        return "Answer with one JSON object and nothing else."
    text = orjson.dumps(schema).decode()
    return f"Answer with JSON that fits this JSON schema, and with nothing else:\n{text}"
