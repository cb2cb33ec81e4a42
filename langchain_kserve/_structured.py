"""Answers of a given form: what `with_structured_output` builds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from langchain_core import exceptions as lc
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, BaseOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from typing_extensions import override

from langchain_kserve._blocks import REFUSAL
from langchain_kserve._errors import ConfigurationError
from langchain_kserve._messages import reasoning_text
from langchain_kserve._tools import made_strict, to_openai_tools, to_response_format, tool_names

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
    **kwargs: Any,
) -> Runnable[LanguageModelInput, Any]:
    """Binds a model to a schema and puts a parser behind it.

    Raises:
        ConfigurationError: If the arguments do not go together.
    """
    _check(schema, method, strict)
    noted: dict[str, Any] = {"method": method}
    if strict is not None:
        noted["strict"] = strict
    kwargs["ls_structured_output_format"] = {"kwargs": noted, "schema": schema}
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: BaseOutputParser[Any]
    if method == "function_calling":
        assert schema is not None  # noqa: S101 - checked above; tells the type checker
        tools = to_openai_tools([schema], strict=strict)
        name = tool_names(tools)[0]
        tools = made_strict(tools) if strict_tools else tools
        bound = model.bind_tools(tools, tool_choice=name, **kwargs)
        if is_class:
            parser = _PydanticCall(tools=[schema], first_tool_only=True)
        else:
            parser = _JsonCall(key_name=name, first_tool_only=True)
    else:
        form = {"type": "json_object"} if method == "json_mode" else to_response_format(schema, strict=strict)
        bound = model.bind(response_format=form, **kwargs)
        parser = _PydanticAnswer(schema_class=schema) if is_class else _JsonAnswer()
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")


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


def _usable(result: list[Generation]) -> AIMessage | None:
    """The answer's message, once it is known to be an answer.

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


class _JsonAnswer(BaseCumulativeTransformOutputParser[Any]):
    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The JSON value; while it is being streamed, what there is of it so far."""
        if partial:
            with contextlib.suppress(ValueError):
                return parse_json_markdown(result[0].text)
            return None
        text = _answer_text(result)
        try:
            return parse_json_markdown(text, parser=json.loads)
        except ValueError as error:
            msg = f"The answer is not valid JSON: {error}"
            raise lc.OutputParserException(msg, llm_output=text) from error

    @override
    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])


class _PydanticAnswer(_JsonAnswer):
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


class _JsonCall(JsonOutputKeyToolsParser):
    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            _check_calls(result)
        return super().parse_result(result, partial=partial)


class _PydanticCall(PydanticToolsParser):
    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            _check_calls(result)
        return super().parse_result(result, partial=partial)
