"""Parsers of answers that were asked to have a form, of chat and of text completion.

An answer that was cut is an error, where LangChain's own parsers would complete it.
"""

from __future__ import annotations

import contextlib
import json
from operator import itemgetter
from typing import Any

from langchain_core import exceptions as lc
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, BaseOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from typing_extensions import override

from langchain_kserve._blocks import REFUSAL
from langchain_kserve._messages import reasoning_text


def answer_parser(schema: Any, *, guided: bool) -> BaseOutputParser[Any]:
    """The parser for answers in JSON of a schema; instances where it is a pydantic class, else plain values.

    Args:
        schema: What the answer was asked to be, in any shape.
        guided: Whether the server held the answer to it; if not, words around the JSON are overlooked.
    """
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticAnswer(schema_class=schema, guided=guided)
    return JsonAnswer(guided=guided)


def parsed_by(
    model: Runnable[LanguageModelInput, Any], parser: BaseOutputParser[Any], *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """The model with a parser behind it; with `include_raw` a mapping of `raw`, `parsed` and `parsing_error`."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


class JsonAnswer(BaseCumulativeTransformOutputParser[Any]):
    """Parses an answer that is JSON."""

    guided: bool = True

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The JSON value; while it is being streamed, what there is of it so far."""
        if partial:
            text = result[0].text if self.guided else _from_bracket(result[0].text)
            with contextlib.suppress(ValueError):
                return parse_json_markdown(text)
            return None
        text = _answer_text(result)
        try:
            return parse_json_markdown(text, parser=json.loads) if self.guided else _found(text)
        except ValueError as error:
            msg = f"The answer is not valid JSON: {error}. It may have been cut by max_tokens."
            raise lc.OutputParserException(msg, llm_output=text) from error

    @override
    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    @property
    def _type(self) -> str:
        return "kserve-json"


class PydanticAnswer(JsonAnswer):
    """Parses an answer that is JSON into an instance of a pydantic class, of either version."""

    schema_class: Any

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The instance; None for a part of it."""
        value = super().parse_result(result, partial=partial)
        if partial and value is None:
            return None
        validate = getattr(self.schema_class, "model_validate", None) or self.schema_class.parse_obj
        try:
            return validate(value)
        except ValueError as error:
            if partial:
                return None
            msg = f"The answer is not a valid {self.schema_class.__name__}: {error}"
            raise lc.OutputParserException(msg, llm_output=json.dumps(value)) from error


class JsonCall(JsonOutputKeyToolsParser):
    """Takes the answer from a tool call's arguments, which have to be whole."""

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            _check_calls(result)
        return super().parse_result(result, partial=partial)


class PydanticCall(PydanticToolsParser):
    """The same, as instances of pydantic classes."""

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            _check_calls(result)
        return super().parse_result(result, partial=partial)


def _from_bracket(text: str) -> str:
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    return text[min(starts) :] if starts else text


def _found(text: str) -> Any:
    """The first JSON object or list in a text, whatever is around it; else the text itself as JSON."""
    value, _ = json.JSONDecoder().raw_decode(_from_bracket(text).strip())
    return value


def _usable(result: list[Generation]) -> AIMessage | None:
    """The answer's message, once it is known to be an answer; None for text completion.

    Raises:
        ModelRefusalError: If the model refused, where LangChain has such an error.
        OutputParserException: If it refused, or the answer was cut off.
    """
    generation = result[0]
    message = generation.message if isinstance(generation, ChatGeneration) else None
    if not isinstance(message, AIMessage):
        return None
    if refusal := message.additional_kwargs.get(REFUSAL):
        raise _refused(str(refusal), message)
    if message.response_metadata.get("finish_reason") == "length":
        msg = "The answer was cut off before it was complete (finish_reason is length); allow more max_tokens."
        raise lc.OutputParserException(msg, llm_output=message.text)
    return message


def _refused(text: str, message: AIMessage) -> Exception:
    cls = getattr(lc, "ModelRefusalError", None)
    if cls is not None and hasattr(cls, "from_refusal"):  # pragma: no cover - newer LangChain
        error: Exception = cls.from_refusal({"type": "refusal", "refusal": text}, raw_message=message)
        return error
    return lc.OutputParserException(f"The model refused: {text}", llm_output=text)


def _answer_text(result: list[Generation]) -> str:
    """The text to parse. A server may deliver everything as reasoning; then that is the answer."""
    message = _usable(result)
    if message is None or message.text.strip():
        return result[0].text
    return reasoning_text(message)


def _check_calls(result: list[Generation]) -> None:
    message = _usable(result)
    if message is None or message.tool_calls:
        return
    if message.invalid_tool_calls:
        call = message.invalid_tool_calls[0]
        msg = f"The call of {call['name']} cannot be used: {call['error'] or 'its arguments are not valid JSON'}"
        raise lc.OutputParserException(msg, llm_output=call["args"])
    msg = "The model answered with text instead of calling the tool that holds the answer."
    raise lc.OutputParserException(msg, llm_output=message.text)
