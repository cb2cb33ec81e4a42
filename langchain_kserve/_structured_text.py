"""Structured output of text completion: a forced form, then a parser."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import orjson
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel, ValidationError
from typing_extensions import override

from langchain_kserve._constraints import json_schema_of


class _WholeAnswer(BaseCumulativeTransformOutputParser[Any]):
    """Parses JSON. An object that was cut is an error, where LangChain's own parsers would complete it."""

    model: type[BaseModel] | None = None

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        text = result[0].text
        if partial:
            return self._parse_start(text)
        try:
            return self._validated(orjson.loads(text))
        except orjson.JSONDecodeError:
            msg = "The answer is not whole JSON; it may have been cut by max_tokens."
            raise OutputParserException(msg, llm_output=text) from None
        except ValidationError as error:
            msg = f"The answer does not fit {error.title}: {error}"
            raise OutputParserException(msg, llm_output=text) from error

    @override
    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    def _parse_start(self, text: str) -> Any:
        try:
            return self._validated(parse_partial_json(text.strip()))
        except ValueError:
            return None

    def _validated(self, value: Any) -> Any:
        return value if self.model is None else self.model.model_validate(value)

    @property
    def _type(self) -> str:
        return "kserve-whole-json"


def structured(
    llm: BaseLLM, schema: dict[str, Any] | type, *, include_raw: bool, strict: bool | None, arguments: dict[str, Any]
) -> Runnable[LanguageModelInput, Any]:
    """The model with its answers forced into a schema and parsed.

    Args:
        llm: The model.
        schema: A pydantic class, a `TypedDict` or a JSON Schema.
        include_raw: Whether to return `raw`, `parsed` and `parsing_error` instead of raising.
        strict: Passed on with the schema when set.
        arguments: Further arguments of every call.
    """
    wanted = json_schema_of(schema)
    form: dict[str, Any] = {"name": wanted.get("title") or "answer", "schema": wanted}
    if strict is not None:
        form["strict"] = strict
    bound = llm.bind(response_format={"type": "json_schema", "json_schema": form}, **arguments)
    is_model = isinstance(schema, type) and issubclass(schema, BaseModel)
    parser = _WholeAnswer(model=schema if is_model else None)
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
