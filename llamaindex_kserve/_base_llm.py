"""The LLM base class that drives any runtime: the eight endpoints and metadata."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import Field, PrivateAttr

from kserve_core.calls import Exchange
from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.errors import UnsupportedParameterError
from kserve_core.types import ModelInfo, Tokenization
from llamaindex_kserve._counting import TokenCounting
from llamaindex_kserve._lookup import known_info
from llamaindex_kserve._messages import TEXT_ONLY, Media, refuse_media, to_wire, without_extras
from llamaindex_kserve._requests import Parts, given, sort_arguments
from llamaindex_kserve._responses import Answer
from llamaindex_kserve._structured import StructuredOutputMixin

R = TypeVar("R", ChatResponse, CompletionResponse)

_UNNAMED = "unknown"


@dataclass(slots=True)
class _Asked:
    """A call ready to be run, and what collects its answer."""

    request: ChatRequest | TextRequest
    runtime: Any
    answer: Answer
    names_model: bool
    exchange: Any = None  # what streams the answer; None for a whole one


class KServeLLM(TokenCounting, StructuredOutputMixin):
    """Chats and completes with any runtime; use the class of your runtime.

    With `is_chat_model` the runtime is sent conversations, and a completion is a conversation of one user
    message. Without it the runtime is sent prompts, and a conversation becomes a prompt by `messages_to_prompt`.
    Either way each call is one request with one pair of events.

    Arguments of a single call go over `additional_kwargs`, which go over the fields; None takes one back.
    """

    model: str | None = Field(
        default=None, description="The served model's name; may be left out where the endpoint serves one."
    )
    temperature: float | None = Field(default=None, ge=0, description="0 picks the likeliest token each time.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens an answer may have at most.")
    top_p: float | None = Field(default=None, description="Sample from the likeliest tokens of this total mass.")
    top_k: int | None = Field(default=None, description="Sample from this many of the likeliest tokens.")
    stop: list[str] | str | None = Field(default=None, description="Texts that end an answer; not part of it.")
    seed: int | None = Field(default=None, description="Makes sampling repeatable.")
    context_window: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of prompt and answer together. `load_metadata()` asks the server when left out.",
    )
    is_chat_model: bool = Field(default=False, description="Send conversations rather than prompts.")
    additional_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of every call that have no field of their own."
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Sent with every request as given, over everything else."
    )

    _info: ModelInfo | None = PrivateAttr(default=None)

    _sampling: ClassVar[tuple[str, ...]] = ("temperature", "max_tokens", "top_p", "top_k", "stop", "seed")
    _media: ClassVar[Media] = TEXT_ONLY

    def __init__(self, *args: Any, **data: Any) -> None:
        extra = dict(data.get("additional_kwargs") or {})
        if "extra_headers" in extra:
            # Headers may hold credentials, so they go where nothing is dumped.
            headers = {**(data.get("default_headers") or {}), **extra.pop("extra_headers")}
            data = {**data, "default_headers": headers, "additional_kwargs": extra}
        super().__init__(*args, **data)

    def _forget(self) -> None:
        super()._forget()
        self._info = None

    # -- identity -----------------------------------------------------------------------------------------

    @property
    def metadata(self) -> LLMMetadata:
        """What is known of the model without asking anybody.

        The context window is the one given, or the one learned by `load_metadata()` or by an earlier call that
        had to look the model up; else the framework's own careful default.
        """
        info = self._learned()
        return LLMMetadata(
            context_window=self.context_window or (info and info.max_model_len) or DEFAULT_CONTEXT_WINDOW,
            num_output=self.max_tokens or _usual_length(info),
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self._calls_functions(),
            model_name=self.model or (info and info.id) or _UNNAMED,
        )

    def _calls_functions(self) -> bool:
        return False

    def _learned(self) -> ModelInfo | None:
        if self._info is None:
            client = self._cell.client
            self._info = known_info(client, self.model) if client is not None else None
        return self._info

    def load_metadata(self) -> LLMMetadata:
        """Asks the server for the model's name and context window, once, and returns the metadata.

        Worth calling before query engines are built: they pack prompts for the context window they see then.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        client = self.client
        self._info = client.run(client.runtime.model_info(self.model))
        return self.metadata

    async def aload_metadata(self) -> LLMMetadata:
        """Like `load_metadata`.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        client = self.client
        self._info = await client.arun(client.runtime.model_info(self.model))
        return self.metadata

    def to_payload(self) -> dict[str, Any]:
        """What events and callbacks are told about this LLM; never a credential, a header or a URL."""
        payload = super().to_payload()
        payload["model"] = payload["model_name"]
        if self.temperature is not None:
            payload["temperature"] = self.temperature
        return payload

    # -- requests -----------------------------------------------------------------------------------------

    def _parts(self, kwargs: Mapping[str, Any]) -> Parts:
        parts = sort_arguments(given(self, self._sampling), self.additional_kwargs, kwargs, extra_body=self.extra_body)
        if parts.model is None:
            parts.model = self.model
        return parts

    def _on_the_wire(self, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
        return to_wire(messages, runtime=self._runtime_name, media=self._media)

    def _ask(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, stream: bool) -> "_Asked":
        if not kwargs.pop("use_chat_completions", self.is_chat_model):
            return self._ask_prompt(self._as_prompt(messages), kwargs, stream=stream)
        parts = self._parts(kwargs)
        runtime = self._chat_runtime(parts.params)
        request = parts.chat(self._on_the_wire(messages))
        exchange = runtime.stream_chat(request) if stream else None
        answer = self._answer(one_call=parts.parallel_tool_calls is False)
        return _Asked(request, runtime, answer, self._is_addressed(request.model), exchange)

    def _chat_runtime(self, params: dict[str, Any]) -> Any:  # noqa: ARG002 - for subclasses
        """What takes a chat request with these parameters, which it may complete."""
        return self.client.runtime

    def _is_addressed(self, model: str | None) -> bool:
        """Whether a request can be sent without finding out first which model is served."""
        return model is not None

    def _answer(self, *, one_call: bool) -> Answer:
        return Answer(one_call=one_call)

    def _ask_prompt(self, prompt: str, kwargs: dict[str, Any], *, stream: bool) -> "_Asked":
        parts = self._parts(kwargs)
        self._limit_length(parts.params)
        request = parts.text(prompt, self._runtime_name)
        runtime = self.client.runtime
        exchange = runtime.stream_generate(request) if stream else None
        return _Asked(request, runtime, Answer(), self._is_addressed(request.model), exchange)

    def _limit_length(self, params: dict[str, Any]) -> None:
        # Servers' own default for completions is about a line of text.
        params.setdefault("max_tokens", self.metadata.num_output)

    def _complete(self, prompt: str, formatted: bool, kwargs: dict[str, Any], *, stream: bool) -> "_Asked":
        if not formatted:
            prompt = self.completion_to_prompt(prompt)  # type: ignore[misc]
        if kwargs.get("use_chat_completions", self.is_chat_model):
            return self._ask([ChatMessage(role=MessageRole.USER, content=prompt)], kwargs, stream=stream)
        kwargs.pop("use_chat_completions", None)
        return self._ask_prompt(prompt, kwargs, stream=stream)

    def _as_prompt(self, messages: Sequence[ChatMessage]) -> str:
        refuse_media(messages, self._runtime_name)
        if self.messages_to_prompt is generic_messages_to_prompt:
            messages = without_extras(messages)
        return self.messages_to_prompt(messages)  # type: ignore[misc]

    # -- running ------------------------------------------------------------------------------------------

    def _run(self, asked: "_Asked") -> Answer:
        client = self.client
        if not asked.names_model:
            self._cell.lookup.run(client)
        asked.answer.take_all(client.answer(asked.request, runtime=asked.runtime))
        return asked.answer

    async def _arun(self, asked: "_Asked") -> Answer:
        client = self.client
        if not asked.names_model:
            await self._cell.lookup.arun(client)
        asked.answer.take_all(await client.aanswer(asked.request, runtime=asked.runtime))
        return asked.answer

    def _stream(self, asked: "_Asked", show: Callable[[], R]) -> Generator[R, None, None]:
        client, take = self.client, asked.answer.take
        if not asked.names_model:
            self._cell.lookup.run(client)
        with contextlib.closing(client.stream(asked.exchange, about=asked.request)) as pieces:
            for piece in pieces:
                if take(piece):
                    yield show()
        if asked.answer.unshown:
            yield show()

    async def _astream(self, asked: "_Asked", show: Callable[[], R]) -> AsyncGenerator[R, None]:
        client, take = self.client, asked.answer.take
        if not asked.names_model:
            await self._cell.lookup.arun(client)
        async with contextlib.aclosing(client.astream(asked.exchange, about=asked.request)) as pieces:
            async for piece in pieces:
                if take(piece):
                    yield show()
        if asked.answer.unshown:
            yield show()

    # -- the eight endpoints ------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a conversation.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return self._run(self._ask(messages, kwargs, stream=False)).chat()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Completes a prompt.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return self._run(self._complete(prompt, formatted, kwargs, stream=False)).completion()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answers a conversation piece by piece; closing the generator stops the server.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses, or the answer breaks off.
        """
        asked = self._ask(messages, kwargs, stream=True)
        return self._stream(asked, asked.answer.chat)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Completes a prompt piece by piece; closing the generator stops the server.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses, or the answer breaks off.
        """
        asked = self._complete(prompt, formatted, kwargs, stream=True)
        return self._stream(asked, asked.answer.completion)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Like `chat`, without blocking the event loop.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return (await self._arun(self._ask(messages, kwargs, stream=False))).chat()

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Like `complete`, without blocking the event loop.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return (await self._arun(self._complete(prompt, formatted, kwargs, stream=False))).completion()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Like `stream_chat`, without blocking the event loop; await it, then iterate.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses, or the answer breaks off.
        """
        asked = self._ask(messages, kwargs, stream=True)
        return self._astream(asked, asked.answer.chat)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Like `stream_complete`, without blocking the event loop; await it, then iterate.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses, or the answer breaks off.
        """
        asked = self._complete(prompt, formatted, kwargs, stream=True)
        return self._astream(asked, asked.answer.completion)

    # -- tokens -------------------------------------------------------------------------------------------

    def _tokenization(
        self, content: str | Sequence[ChatMessage], kwargs: Mapping[str, Any] | None = None
    ) -> "Exchange[Tokenization]":
        runtime = self.client.runtime
        if not hasattr(runtime, "tokenize"):
            msg = f"{self._runtime_name} does not count tokens."
            raise UnsupportedParameterError(msg)
        exchange: Exchange[Tokenization]
        if not isinstance(content, str) and not self.is_chat_model:
            content = self._as_prompt(content)
        if isinstance(content, str):
            exchange = runtime.tokenize(content, model=self.model)
        else:
            parts = self._parts(kwargs or {})
            runtime = self._chat_runtime(parts.params)
            exchange = runtime.tokenize_messages(parts.chat(self._on_the_wire(content)))
        return exchange


def _usual_length(info: ModelInfo | None) -> int:
    """Tokens to make room for where the user has set no limit: the framework's default, or what the server allows."""
    allowed = info.extra.get("max_new_tokens") if info is not None else None
    return min(DEFAULT_NUM_OUTPUTS, allowed) if allowed else DEFAULT_NUM_OUTPUTS
