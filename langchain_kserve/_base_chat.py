"""The chat model behind every chat class of this package."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import model_validator
from typing_extensions import Self, override

from kserve_core._version import __version__
from kserve_core.capabilities import ChatRequest, InfoRuntime
from kserve_core.chat_template import ChatTemplate
from kserve_core.types import ModelInfo
from langchain_kserve import _counting, _profile, _structured
from langchain_kserve._answers import combine_outputs, to_chat_result
from langchain_kserve._chunks import ChunkMaker
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import ConfigurationError, UnsupportedParameterError, translated
from langchain_kserve._requests import chat_request
from langchain_kserve._sampling import RequestFields, SamplingFields
from langchain_kserve._tools import Tool, to_openai_tools, to_response_format, to_tool_choice

if TYPE_CHECKING:
    from kserve_core.client import RuntimeClient

_WITHOUT_TOOLS = (
    "Describe the tools in the prompt and run what the model writes (a ReAct loop), or use a runtime with tool calls, "
    "such as vLLM."
)


class RuntimeChat(KServeConnection, RequestFields, SamplingFields, BaseChatModel):
    """Drives any runtime that answers conversations; a subclass names the runtime.

    Keyword arguments of a call go before the fields: any parameter by its name (None leaves it to the server),
    `model`, `tools`, `tool_choice`, `parallel_tool_calls`, a form the answer must take (`response_format`,
    `structured_outputs`, `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`), `extra_body`,
    `extra_headers`, `stream_usage` and `send_reasoning`.
    """

    streaming: bool = False
    """Whether `invoke` streams, for callbacks that show tokens as they come."""

    send_reasoning: bool = False
    """Whether earlier answers' reasoning is sent back with them, for models that build on it."""

    _flags: ClassVar[ModelProfile] = {"text_inputs": True, "text_outputs": True}
    """What the runtime can do with any model, for `profile`."""
    _has_tools: ClassVar[bool] = True
    """Whether the runtime can be given tools."""
    _strict_tools: ClassVar[bool] = False
    """Whether the server has to be told `strict` to hold a call's arguments to their schema, and to call tools at all
    when a form is asked for in the same request."""

    @model_validator(mode="after")
    def _set_kserve_integrations_version(self) -> Self:
        self._add_version("kserve-integrations", __version__)
        return self

    # What LangChain asks about the model

    @property
    def _llm_type(self) -> str:
        return f"kserve-{self._declaration.label.lower()}-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells this model's answers from others'."""
        values = {"model": self.model, "base_url": self.base_url, **self._own_parameters()}
        if self.extra_body:
            values["extra_body"] = dict(self.extra_body)
        return values

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = f"kserve-{self._declaration.label.lower()}"
        if "ls_model_name" not in params and (client := self._slot.client) is not None and client.runtime.model:
            params["ls_model_name"] = client.runtime.model
        return params

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """What traces are told of a call: no header's value."""
        if headers := kwargs.get("extra_headers"):
            kwargs["extra_headers"] = sorted(headers)
        return super()._get_invocation_params(stop=stop, **kwargs)

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The cache's key: whatever changes the answer, and no header's value."""
        call = {name: value for name, value in kwargs.items() if name not in {"extra_headers", "stream_usage"}}
        template = call.get("chat_template", self.__dict__.get("chat_template"))
        if isinstance(template, ChatTemplate):  # its text is in no dump
            call["chat_template"] = template.source or template.name
        return super()._get_llm_string(stop=stop, **call)

    @override
    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return combine_outputs(llm_outputs)

    # What the model can do

    @override
    def _resolve_model_profile(self) -> ModelProfile | None:
        profile = self._flags.copy()
        if self.model:
            profile["name"] = self.model
        return profile

    def load_profile(self) -> ModelProfile:
        """Asks the server for the model's context window and adds it to `profile` as `max_input_tokens`.

        The constructor asks nobody. Call this before handing the model to software that goes by the profile, such
        as a summarization middleware with a fractional limit. What is in `profile` already is kept.

        Returns:
            The profile.
        """
        return self._fill_profile(self._run(self._get_client().runtime.model_info(self.model)))

    async def aload_profile(self) -> ModelProfile:
        """The same as `load_profile`, without blocking."""
        return self._fill_profile(await self._arun(self._get_client().runtime.model_info(self.model)))

    def _fill_profile(self, info: ModelInfo) -> ModelProfile:
        self.profile = _profile.filled(self.profile, info)
        return self.profile

    def _notice(self, client: "RuntimeClient[Any]") -> None:
        """Adds to the profile what the client has learned by itself, without asking for more."""
        if self.profile and "max_input_tokens" in self.profile:
            return
        runtime = client.runtime
        info = _profile.already_known(runtime.model_info(self.model)) if isinstance(runtime, InfoRuntime) else None
        if info is not None:
            self._fill_profile(info)

    # Answers

    def _answering(self, client: "RuntimeClient[Any]") -> Any:
        """What answers conversations, made once for a client."""
        made = self._slot.chat
        if made is None or made[0] is not client:
            made = self._slot.chat = (client, self._make_chat(client.runtime))
        return made[1]

    def _make_chat(self, runtime: Any) -> Any:
        """What answers conversations: the codec itself, where it knows them."""
        return runtime

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatRequest:
        return chat_request(
            messages,
            {**self._own_parameters(), "stream_usage": self.stream_usage, "send_reasoning": self.send_reasoning},
            {**kwargs, "stop": stop} if stop is not None else kwargs,
            model=self.model,
            extra_body=self.extra_body,
            strict_tools=self._strict_tools,
        )

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated:
            request = self._request(messages, stop, kwargs)
            client = self._get_client()
            answer = client.answer(request, runtime=self._answering(client))
        self._notice(client)
        return to_chat_result(answer, model=kwargs.get("model"))

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated:
            request = self._request(messages, stop, kwargs)
            client = self._get_client()
            answer = await client.aanswer(request, runtime=self._answering(client))
        self._notice(client)
        return to_chat_result(answer, model=kwargs.get("model"))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self._check_one_choice(kwargs)
        with translated:
            request = self._request(messages, stop, kwargs)
            client = self._get_client()
            make = ChunkMaker(model=kwargs.get("model"))
            with contextlib.closing(
                client.stream(self._answering(client).stream_chat(request), about=request)
            ) as deltas:
                for delta in deltas:
                    chunk = make(delta)
                    if run_manager:
                        run_manager.on_llm_new_token(delta.content, chunk=chunk, logprobs=delta.logprobs)
                    yield chunk
        self._notice(client)

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        self._check_one_choice(kwargs)
        with translated:
            request = self._request(messages, stop, kwargs)
            client = self._get_client()
            make = ChunkMaker(model=kwargs.get("model"))
            exchange = self._answering(client).stream_chat(request)
            async with contextlib.aclosing(client.astream(exchange, about=request)) as deltas:
                async for delta in deltas:
                    chunk = make(delta)
                    if run_manager:
                        await run_manager.on_llm_new_token(delta.content, chunk=chunk, logprobs=delta.logprobs)
                    yield chunk
        self._notice(client)

    def _several_choices(self, kwargs: Mapping[str, Any]) -> bool:
        return (kwargs.get("n", self.__dict__.get("n")) or 1) > 1

    def _check_one_choice(self, kwargs: Mapping[str, Any]) -> None:
        if self._several_choices(kwargs):
            msg = "A LangChain stream carries one answer, but n is above 1."
            raise ConfigurationError(msg, hint="Use generate or batch for several answers.")

    @override
    def _streaming_disabled(self, **kwargs: Any) -> bool:
        return self._several_choices(kwargs) or super()._streaming_disabled(**kwargs)

    # Tools and forms

    @override
    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Mapping[str, Any] | type | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Gives the model tools.

        Args:
            tools: Functions, pydantic classes, `TypedDict`s, LangChain tools, or mappings in OpenAI's or Anthropic's
                shape.
            tool_choice: `"auto"`, `"none"`, `"any"` (or `"required"` or True: some tool), a tool's name, or a mapping
                that names one. None leaves it to the server.
            strict: Written into the tools when set.
            parallel_tool_calls: Whether several calls in one answer are allowed.
            response_format: A form for the final answer: a schema, or OpenAI's mapping.
            **kwargs: Any other argument of a call.

        Raises:
            ConfigurationError: If `tool_choice` names no tool.
            UnsupportedParameterError: If the runtime has no tools.
        """
        if tools and not self._has_tools:
            msg = f"{type(self).__name__} has no tools: {self._declaration.label} completes text."
            raise UnsupportedParameterError(msg, hint=_WITHOUT_TOOLS)
        formatted = to_openai_tools(tools, strict=strict)
        choice = to_tool_choice(tool_choice, formatted)
        bound: dict[str, Any] = {"tools": formatted} if formatted else {}
        if choice is not None:
            bound["tool_choice"] = choice
        if parallel_tool_calls is not None and formatted:
            bound["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            bound["response_format"] = to_response_format(response_format)
        return super().bind(**bound, **kwargs)

    @override
    def with_structured_output(
        self,
        schema: _structured.Schema | None = None,
        *,
        method: _structured.Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Makes the model answer in a given form.

        Args:
            schema: A pydantic class (the answer is an instance), or a `TypedDict`, JSON Schema or OpenAI function
                (the answer is a dict).
            method: `json_schema` has the server force the schema while generating, or, where the runtime cannot do
                that (Caikit), asks for it in the prompt; `function_calling` makes the answer the arguments of a tool
                call, and is `json_schema` where the runtime has no tools; `json_mode` forces JSON only, so the prompt
                must describe it. The answer is checked in any case.
            include_raw: Return a dict with `raw` (the message), `parsed` and `parsing_error` instead of raising.
            strict: Sent along with the schema when set; not for `json_mode`. With `function_calling`, True also where
                it is not set and the runtime needs it to hold the arguments to the schema.
            **kwargs: Any other argument of a call.

        Raises:
            ConfigurationError: If the arguments do not go together.

        ???+ example

            ```python
            class Answer(BaseModel):
                city: str
                population: int

            model.with_structured_output(Answer).invoke("The largest city of France?")
            ```
        """
        return _structured.structured(
            self,
            schema,
            method=method,
            include_raw=include_raw,
            strict=strict,
            strict_tools=self._strict_tools,
            has_tools=self._has_tools,
            guided=self._declaration.guided,
            **kwargs,
        )

    # Tokens

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text's tokens; asks the server, unless `custom_get_token_ids` is set."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return _counting.ids(self, _counting.tokenize(self, text))

    @override
    def get_num_tokens(self, text: str) -> int:
        """How many tokens a text is; asks the server, unless `custom_get_token_ids` is set."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return _counting.tokenize(self, text).count

    @override
    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens a conversation is for the model, its template and tools included; asks the server.

        With `custom_get_token_ids` nothing is asked and the template is not known, so the number is near, not exact.

        Raises:
            KServeError: If the server cannot count; there is no guessing.
        """
        if self.custom_get_token_ids is not None:
            return _counting.count_locally(messages, tools, self.custom_get_token_ids)
        with translated:
            request = self._request(messages, None, {"tools": tools} if tools else {})
            exchange = _counting.tokenizer(self, self._answering(self._get_client())).tokenize_messages(request)
        return _counting.run(self, exchange).count
