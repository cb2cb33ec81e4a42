"""Structured prediction: by a constrained answer, by a tool's arguments, or by asking in the prompt."""

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, ClassVar, Literal

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import create_flexible_model, get_program_for_llm
from llama_index.core.prompts.base import BasePromptTemplate, PromptTemplate
from llama_index.core.types import BasePydanticProgram, Model, PydanticProgramMode
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from kserve_core.errors import UnsupportedParameterError
from llamaindex_kserve._errors import InvalidOutputError

dispatcher = get_dispatcher(__name__)

OutputMode = Literal["auto", "json_schema", "tools", "text"]

_CORE_MODES = {"tools": PydanticProgramMode.FUNCTION, "text": PydanticProgramMode.LLM}
_OUR_MODES: dict[PydanticProgramMode, OutputMode] = {mode: name for name, mode in _CORE_MODES.items()}  # type: ignore[misc]
_PROGRAM_ARGUMENTS = ("tool_required", "tool_choice", "allow_parallel_tool_calls", "response_format")


class StructuredOutputMixin(LLM):
    """The framework's structured prediction, with `structured_output_mode` saying how."""

    structured_output_mode: OutputMode = Field(
        default="auto",
        description=(
            "How structured prediction gets its object: `json_schema` has the server constrain the answer, `tools` "
            "reads a tool call's arguments, `text` asks in the prompt and parses. `auto` takes the first that works. "
            "A `pydantic_program_mode` other than the default goes before it."
        ),
    )

    _supports_json_schema: ClassVar[bool] = False

    def _output_mode(self) -> OutputMode | None:
        """The mode in force; None for a program of the framework's own that has no counterpart here."""
        if self.pydantic_program_mode is not PydanticProgramMode.DEFAULT:
            return _OUR_MODES.get(self.pydantic_program_mode)
        if self.structured_output_mode != "auto":
            return self.structured_output_mode
        if self._supports_json_schema:
            return "json_schema"
        return "tools" if self.metadata.is_function_calling_model else "text"

    def _program(self, output_cls: type[Model], prompt: BasePromptTemplate) -> BasePydanticProgram[Model]:
        mode = self._output_mode()
        if mode is None:
            program: BasePydanticProgram[Model] = get_program_for_llm(
                output_cls, prompt, self, pydantic_program_mode=self.pydantic_program_mode
            )
            return program
        if mode == "tools" and not self.metadata.is_function_calling_model:
            msg = "Structured output by tools needs an LLM that calls tools."
            hint = "Set structured_output_mode='json_schema' or 'text'."
            raise UnsupportedParameterError(msg, hint=hint)
        return StructuredProgram(self, output_cls, prompt, mode)

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answers a prompt with an instance of a pydantic class.

        Args:
            output_cls: The class.
            prompt: The prompt template.
            llm_kwargs: Arguments of the LLM call.
            **prompt_args: What the template is filled with.

        Raises:
            InvalidOutputError: If the answer does not parse as the class.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        _started(output_cls, prompt, prompt_args)
        return _ended(self._program(output_cls, prompt)(llm_kwargs=llm_kwargs, **prompt_args))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Like `structured_predict`, without blocking the event loop.

        Raises:
            InvalidOutputError: If the answer does not parse as the class.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        _started(output_cls, prompt, prompt_args)
        return _ended(await self._program(output_cls, prompt).acall(llm_kwargs=llm_kwargs, **prompt_args))

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        return self._program(output_cls, prompt).stream_call(llm_kwargs=llm_kwargs, **prompt_args)

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        return await self._program(output_cls, prompt).astream_call(llm_kwargs=llm_kwargs, **prompt_args)


def _started(output_cls: type[BaseModel], prompt: PromptTemplate, prompt_args: dict[str, Any]) -> None:
    dispatcher.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args))


def _ended(output: Model | list[Model]) -> Model:
    if isinstance(output, list):
        output = output[0]
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


class StructuredProgram(BasePydanticProgram[Model]):
    """One LLM call that ends with an object, or with an error: never with half an object.

    Args:
        llm: The LLM.
        output_cls: The class of the object.
        prompt: The prompt template; left as it is.
        mode: `json_schema`, `tools` or `text`; see `StructuredOutputMixin`.
    """

    def __init__(self, llm: LLM, output_cls: type[Model], prompt: BasePromptTemplate, mode: str) -> None:
        self._llm: Any = llm
        self._output_cls = output_cls
        self._prompt = prompt
        self._mode = mode
        self._parser: Any = _Parser(output_cls) if mode == "text" else None

    @property
    def output_cls(self) -> type[Model]:
        """The class of the object."""
        return self._output_cls

    def __call__(self, *args: Any, llm_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Model:  # noqa: ARG002
        """Makes the call and returns the object.

        Raises:
            InvalidOutputError: If the answer does not parse.
        """
        content, arguments = self._question(llm_kwargs, kwargs)
        ask = self._llm.chat if self._chats else self._llm.complete
        return self._parse(ask(content, **arguments))

    async def acall(self, *args: Any, llm_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Model:  # noqa: ARG002
        """Like calling, without blocking the event loop.

        Raises:
            InvalidOutputError: If the answer does not parse.
        """
        content, arguments = self._question(llm_kwargs, kwargs)
        ask = self._llm.achat if self._chats else self._llm.acomplete
        return self._parse(await ask(content, **arguments))

    def stream_call(
        self,
        *args: Any,  # noqa: ARG002 - the framework's signature
        llm_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Generator[Any, None, None]:
        """Yields the object as far as it has come; the last one is whole and validated.

        Raises:
            InvalidOutputError: If the answer does not parse.
        """
        content, arguments = self._question(llm_kwargs, kwargs)
        ask = self._llm.stream_chat if self._chats else self._llm.stream_complete
        partial, response = PartialObject(self._output_cls), None
        for response in ask(content, **arguments):
            if partial.grows_to(self._written(response)):
                yield partial.value
        yield self._parse(response)

    async def astream_call(
        self,
        *args: Any,  # noqa: ARG002 - the framework's signature
        llm_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        """Like `stream_call`, without blocking the event loop; await it, then iterate.

        Raises:
            InvalidOutputError: If the answer does not parse.
        """
        content, arguments = self._question(llm_kwargs, kwargs)
        ask = self._llm.astream_chat if self._chats else self._llm.astream_complete
        responses = await ask(content, **arguments)

        async def objects() -> AsyncGenerator[Any, None]:
            partial, response = PartialObject(self._output_cls), None
            async for response in responses:
                if partial.grows_to(self._written(response)):
                    yield partial.value
            yield self._parse(response)

        return objects()

    @property
    def _chats(self) -> bool:
        return bool(self._llm.metadata.is_chat_model)

    def _question(
        self, llm_kwargs: Mapping[str, Any] | None, prompt_args: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        llm = self._llm
        arguments = {name: value for name, value in (llm_kwargs or {}).items() if name not in _PROGRAM_ARGUMENTS}
        if self._mode == "tools":
            messages = llm._get_messages(self._prompt, **prompt_args)
            tool = get_function_tool(self._output_cls)
            arguments = {"strict": True, **arguments}
            prepared = llm._prepare_chat_with_tools([tool], chat_history=messages, tool_required=True, **arguments)
            return prepared.pop("messages"), prepared
        if self._mode == "json_schema":
            schema = {"name": self._output_cls.__name__, "schema": self._output_cls.model_json_schema()}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._chats:
            messages = llm._get_messages(self._prompt, **prompt_args)
            return (self._parser.format_messages(messages) if self._parser else messages), arguments
        text = llm._get_prompt(self._prompt, **prompt_args)
        return (self._parser.format(text) if self._parser else text), {**arguments, "formatted": True}

    def _written(self, response: Any) -> str:
        """What the model has written of the object so far."""
        if self._mode != "tools":
            text: str = response.text if isinstance(response, CompletionResponse) else response.message.content or ""
            return text[text.find("{") :] if "{" in text else ""
        calls = response.message.additional_kwargs.get("tool_calls") or ()
        return calls[0]["function"]["arguments"] if calls else ""

    def _parse(self, response: Any) -> Model:
        value: Any
        if self._mode == "tools":
            value = self._llm.get_tool_calls_from_response(response)[0].tool_kwargs
        else:
            value = answer_text(response)
        try:
            if self._parser is not None:
                parsed: Model = self._parser.parse(value)
                return parsed
            if isinstance(value, str):
                return self._output_cls.model_validate_json(value)
            return self._output_cls.model_validate(value)
        except ValueError as error:
            raise _invalid(self._output_cls, response, value, error) from error


class _Parser(PydanticOutputParser[Any]):
    """The framework's parser, but with the schema shown to the model as it is, braces not doubled."""

    def format(self, query: str) -> str:
        return f"{query}\n\n{self.get_format_string(escape_json=False)}"


class PartialObject:
    """An object growing out of JSON that is still being written: read leniently until it fits its class."""

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self.value: Any = None
        self._output_cls = output_cls
        self._lenient = create_flexible_model(output_cls)
        self._fields: Any = {}

    def grows_to(self, text: str) -> bool:
        """Reads the text so far; False if there is nothing new of the object in it."""
        try:
            fields = from_json(text, allow_partial="trailing-strings") if text else {}
        except ValueError:
            return False
        if not isinstance(fields, dict) or fields == self._fields:
            return False
        self._fields = fields
        try:
            self.value = self._output_cls.model_validate(fields)
        except ValidationError:
            self.value = self._lenient.model_validate(fields)
        return True


def answer_text(response: ChatResponse | CompletionResponse) -> str:
    """The answer's text; its reasoning where a server's parser took the whole answer for reasoning."""
    if isinstance(response, CompletionResponse):
        return response.text or response.additional_kwargs.get("reasoning") or ""
    if response.message.content:
        return response.message.content
    thoughts = [block.content for block in response.message.blocks if block.block_type == "thinking"]
    return "\n".join(filter(None, thoughts))


def _invalid(output_cls: type[BaseModel], response: Any, value: Any, error: ValueError) -> InvalidOutputError:
    text = value if isinstance(value, str) else str(value)
    if response.additional_kwargs.get("finish_reason") == "length":
        msg = f"The answer was cut off before its {output_cls.__name__} was complete."
        return InvalidOutputError(msg, layer="model", hint="Raise max_tokens.", partial_text=text)
    problems = "no JSON object in it"
    if isinstance(error, ValidationError):
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)[:5]
        )
    msg = f"The answer is no valid {output_cls.__name__}: {problems}"
    return InvalidOutputError(msg, layer="model", partial_text=text)
