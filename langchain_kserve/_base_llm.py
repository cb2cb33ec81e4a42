"""The model behind every text-completion class of this package."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import BaseMessage, get_buffer_string
from langchain_core.outputs import GenerationChunk, LLMResult
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable
from pydantic import Field, model_validator
from typing_extensions import Self, override

from kserve_core._version import __version__
from kserve_core.calls import Exchange
from kserve_core.capabilities import TextRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.types import Tokenization
from langchain_kserve import _completions, _counting
from langchain_kserve._connection import KServeConnection
from langchain_kserve._constraints import take_constraint
from langchain_kserve._errors import translated
from langchain_kserve._sampling import RequestFields, SamplingFields
from langchain_kserve._structured_text import structured

_OF_THE_RUN = frozenset({"tags", "metadata", "run_name", "run_id"})
_NOT_IN_THE_CACHE_KEY = frozenset({"extra_headers", "request_id", "stream_options", "stream_usage"})

_call_arguments: ContextVar[tuple[BaseLLM, Mapping[str, Any]] | None] = ContextVar("call_arguments", default=None)


class RuntimeLLM(KServeConnection, RequestFields, SamplingFields, BaseLLM):
    """Drives any runtime that completes text; a subclass names the runtime.

    All prompts of a `generate` or `batch` travel in one request where the runtime takes several, else side by side,
    `max_concurrency` of them at once. Keyword arguments of a call go before the fields:
    any parameter by its name (None leaves it to the server), `model`, a form the answer must take (`guided_json`,
    `guided_regex`, `guided_choice`, `guided_grammar`, `structured_outputs`, `response_format`), `extra_body` and
    `extra_headers`.
    """

    streaming: bool = False
    """Whether `invoke` and `generate` stream a single prompt's answer, for callbacks that show tokens as they come."""

    batch_size: int | None = Field(default=None, ge=1)
    """Most prompts in one request; None for all of them. What the server calls too large is halved in any case."""

    max_concurrency: int = Field(default=8, ge=1)
    """Most requests in flight at once, where several prompts take several."""

    rate_limiter: BaseRateLimiter | None = Field(default=None, exclude=True)
    """Asked before each call of the model; answers from the cache do not count."""

    @model_validator(mode="after")
    def _set_kserve_integrations_version(self) -> Self:
        self._add_version("kserve-integrations", __version__)
        return self

    # What LangChain asks about the model

    @property
    def _llm_type(self) -> str:
        return f"kserve-{self._declaration.label.lower()}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells this model's answers from others': part of traces and of the cache's key."""
        values = {"model": self.model, "base_url": self.base_url, **self._own_parameters()}
        if self.extra_body:
            values["extra_body"] = self.extra_body
        if "stop" in values:  # LangChain puts a call's own under this name, or None
            values["stop_by_default"] = values["stop"]
        noted = _call_arguments.get()
        if noted is not None and noted[0] is self:
            values.update(noted[1])
        return values

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = self._llm_type
        return params

    # Requests

    def _request(
        self, prompts: Sequence[str], stop: list[str] | None, kwargs: Mapping[str, Any], *, usage: bool = True
    ) -> TextRequest:
        call = {self._aliases.get(name, name): value for name, value in kwargs.items()}
        constraint = take_constraint(call)
        model = call.pop("model", None) or self.model
        extra_body = {**self.extra_body, **(call.pop("extra_body", None) or {})}
        headers = call.pop("extra_headers", None) or {}
        for name in ("stream_usage", "stream_options"):
            call.pop(name, None)
        params = {**self._own_parameters(), **call}
        if stop is not None:
            params["stop"] = stop
        return TextRequest(
            prompts=prompts,
            model=model,
            params=_canonical(params),
            constraint=constraint,
            include_usage=usage,
            extra_body=extra_body,
            headers=headers,
        )

    def _exchange(self, request: TextRequest) -> Exchange[Any]:
        return _completions.generate_all(
            self._get_client().runtime,
            request,
            batch_size=self.batch_size,
            concurrency=self.max_concurrency,
        )

    def _stream_request(self, prompt: str, stop: list[str] | None, kwargs: Mapping[str, Any]) -> TextRequest:
        usage = (kwargs.get("stream_options") or {}).get("include_usage", kwargs.get("stream_usage"))
        request = self._request([prompt], stop, kwargs, usage=self.stream_usage if usage is None else bool(usage))
        if (request.params.get("n") or 1) > 1:
            msg = "A stream has one completion; n is more than 1."
            raise ConfigurationError(msg, hint="Use generate or agenerate for several completions of a prompt.")
        return request

    def _streams(self, prompts: list[str], kwargs: Mapping[str, Any]) -> bool:
        return self.streaming and len(prompts) == 1 and (kwargs.get("n", self.__dict__.get("n")) or 1) == 1

    def _name(self, kwargs: Mapping[str, Any]) -> str | None:
        name: str | None = kwargs.get("model") or self.model
        return name or (self._get_client().runtime.model)

    # Answers

    @override
    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with self._noting(kwargs):
            return super().generate(prompts, stop, callbacks, **kwargs)

    @override
    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with self._noting(kwargs):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)

    @contextlib.contextmanager
    def _noting(self, kwargs: Mapping[str, Any]) -> Iterator[None]:
        # LangChain makes the cache's key of the model's own parameters alone; a call's arguments change the
        # answer as much, so they are among the identifying parameters for as long as the call lasts.
        left_out = _OF_THE_RUN | _NOT_IN_THE_CACHE_KEY
        noted = {name: value for name, value in kwargs.items() if name not in left_out}
        token = _call_arguments.set((self, noted))
        try:
            yield
        finally:
            _call_arguments.reset(token)

    @override
    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self._streams(prompts, kwargs):
            chunks = list(self._stream(prompts[0], stop, run_manager, **kwargs))
            return _completions.result_of_stream(chunks, self._name(kwargs))
        with translated:
            client, request = self._get_client(), self._request(prompts, stop, kwargs)
        if self.rate_limiter:
            self.rate_limiter.acquire(blocking=True)
        with translated:
            result = client.answer(request) if len(prompts) == 1 else client.run(self._exchange(request), about=request)
        return _completions.to_llm_result(result, self._name(kwargs))

    @override
    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self._streams(prompts, kwargs):
            chunks = [chunk async for chunk in self._astream(prompts[0], stop, run_manager, **kwargs)]
            return _completions.result_of_stream(chunks, self._name(kwargs))
        with translated:
            client, request = self._get_client(), self._request(prompts, stop, kwargs)
        if self.rate_limiter:
            await self.rate_limiter.aacquire(blocking=True)
        with translated:
            one = len(prompts) == 1
            result = await (client.aanswer(request) if one else client.arun(self._exchange(request), about=request))
        return _completions.to_llm_result(result, self._name(kwargs))

    @override
    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with translated:
            request = self._stream_request(prompt, stop, kwargs)
            if self.rate_limiter:
                self.rate_limiter.acquire(blocking=True)
            client = self._get_client()
            with contextlib.closing(client.stream(client.runtime.stream_generate(request), about=request)) as pieces:
                for piece in pieces:
                    chunk = _completions.to_chunk(piece)
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk, logprobs=piece.logprobs)
                    yield chunk

    @override
    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        with translated:
            request = self._stream_request(prompt, stop, kwargs)
            if self.rate_limiter:
                await self.rate_limiter.aacquire(blocking=True)
            client = self._get_client()
            exchange = client.runtime.stream_generate(request)
            async with contextlib.aclosing(client.astream(exchange, about=request)) as pieces:
                async for piece in pieces:
                    chunk = _completions.to_chunk(piece)
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk, logprobs=piece.logprobs)
                    yield chunk

    @override
    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with its answers forced into a form.

        The prompt has to say what is wanted; the form only keeps the model to it. Where the runtime cannot do that
        (Caikit), the form is described at the end of the prompt instead. The answer is checked in any case.

        Args:
            schema: A pydantic class, a `TypedDict` or a JSON Schema.
            include_raw: Whether to get a mapping of `raw`, `parsed` and `parsing_error` instead of an error when the
                answer does not parse, as when it was cut by `max_tokens`.
            strict: Passed on with the schema when set.
            **kwargs: Further arguments of every call.

        Returns:
            A runnable that returns an instance of the class, or a dict for any other schema.
        """
        guided = self._declaration.guided
        return structured(self, schema, include_raw=include_raw, strict=strict, guided=guided, arguments=kwargs)

    # Tokens

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text's tokens, as the served model would see it as a prompt; asks the server."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return _counting.ids(self, self._tokenize(text))

    @override
    def get_num_tokens(self, text: str) -> int:
        """How many tokens a text is as a prompt; asks the server."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return self._tokenize(text).count

    @override
    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens messages are as the one prompt this class makes of them; asks the server.

        Raises:
            UnsupportedParameterError: If tools are given; text completion has none.
        """
        if tools:
            msg = f"{type(self).__name__} completes text and has no tools."
            with translated:
                raise UnsupportedParameterError(msg, hint="Count with the chat class.")
        return self.get_num_tokens(get_buffer_string(messages))

    def _tokenize(self, text: str) -> Tokenization:
        special = self.__dict__.get("add_special_tokens")
        return _counting.tokenize(self, text, special=True if special is None else special)


def _canonical(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out what is None and puts the rest in the form runtimes take."""
    given = {name: value for name, value in params.items() if value is not None}
    stop = given.get("stop")
    if isinstance(stop, str):
        given["stop"] = [stop]
    elif stop is not None and not stop:
        del given["stop"]
    logprobs = given.get("logprobs")
    if logprobs is False:
        del given["logprobs"]
    elif logprobs is not None and logprobs is not True:
        given["logprobs"], given["top_logprobs"] = True, logprobs
    return given
