"""Conversations with a model that has no chat template: the template is the request's, used there or here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kserve_core.calls import Exchange, Flow, StreamCall, StreamExchange
from kserve_core.capabilities import ChatRequest
from kserve_core.chat_template import ChatTemplate, ChatTemplateSource
from kserve_core.errors import InvalidRequestError, UnsupportedParameterError
from kserve_core.runtimes.vllm.runtime import VLLMRuntime
from kserve_core.templated import TemplatedChat
from kserve_core.types import ChatDelta, ChatResult, Tokenization

_UNTRUSTED = re.compile(r"trust-request-chat-template", re.IGNORECASE)


class VLLMChat:
    """A vLLM server's chat, whoever applies the chat template.

    A template is the parameter `chat_template` of a request, or the one this was made with; without either the
    server's own is used. Jinja text goes to the server along with the conversation, as the parameter always did. If
    the server does not take templates from requests (it says so unless it runs with
    `--trust-request-chat-template`), the conversation is written as a prompt here and sent to `/completions`. That is
    found out once; a stream asks for one token of another conversation first, because it cannot change its mind
    later. Any other template (a built-in format, a file, a `ChatTemplate`) is used here in any case.

    A conversation written here has no tools and no images.

    Args:
        runtime: The server.
        chat_template: For requests that bring none.
        default_max_tokens: Set where the template is used here and the request has no limit; the server completes 16
            tokens otherwise.
    """

    def __init__(
        self,
        runtime: VLLMRuntime,
        chat_template: ChatTemplateSource | None = None,
        *,
        default_max_tokens: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.chat_template = chat_template
        self.default_max_tokens = default_max_tokens
        self._trusted: bool | None = None  # whether the server takes templates, once that is known

    def chat(self, request: ChatRequest) -> Exchange[ChatResult]:
        """One whole answer."""
        source = self._source(request)
        return self.runtime.chat(request) if source is None else self._chat(request, source)

    def stream_chat(self, request: ChatRequest) -> StreamExchange[ChatDelta]:
        """An answer in pieces."""
        source = self._source(request)
        return self.runtime.stream_chat(request) if source is None else self._stream(request, source)

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:
        """The tokens of a conversation as the model would see it."""
        source = self._source(request)
        return self.runtime.tokenize_messages(request) if source is None else self._tokenize(request, source)

    def _source(self, request: ChatRequest) -> ChatTemplateSource | None:
        source: ChatTemplateSource | None = request.params.get("chat_template", self.chat_template)
        return source

    def _chat(self, request: ChatRequest, source: ChatTemplateSource) -> Flow[ChatResult]:
        template = ChatTemplate.load(source)
        if self._is_for_the_server(source, template):
            try:
                result = yield from self.runtime.chat(_with_params(request, chat_template=source))
            except InvalidRequestError as error:
                self._learn(error, request)
            else:
                self._trusted = True
                return result
        return (yield from TemplatedChat(self.runtime, template).chat(self._here(request)))

    def _stream(self, request: ChatRequest, source: ChatTemplateSource) -> Flow[StreamCall[ChatDelta]]:
        template = ChatTemplate.load(source)
        if self._is_for_the_server(source, template) and self._trusted is None:
            yield from self._ask(request, source)
        if self._is_for_the_server(source, template):
            return (yield from self.runtime.stream_chat(_with_params(request, chat_template=source)))
        exchange: Any = TemplatedChat(self.runtime, template).stream_chat(self._here(request))
        call: StreamCall[ChatDelta] = yield from exchange
        return call

    def _tokenize(self, request: ChatRequest, source: ChatTemplateSource) -> Flow[Tokenization]:
        template = ChatTemplate.load(source)
        if self._is_for_the_server(source, template):
            try:
                return (yield from self.runtime.tokenize_messages(_with_params(request, chat_template=source)))
            except InvalidRequestError as error:
                self._learn(error, request)
        exchange: Any = TemplatedChat(self.runtime, template).tokenize_messages(self._here(request))
        tokens: Tokenization = yield from exchange
        return tokens

    def _ask(self, request: ChatRequest, source: ChatTemplateSource) -> Flow[None]:
        """Finds out whether the server takes templates, at the cost of a token."""
        trial = ChatRequest(
            messages=[{"role": "user", "content": "Hi"}],
            model=request.model,
            params={"chat_template": source, "max_tokens": 1},
            headers=request.headers,
        )
        try:
            yield from self.runtime.chat(trial)
        except InvalidRequestError as error:
            if _UNTRUSTED.search(error.server_message):
                self._learn(error, request)
                return
        self._trusted = True  # an answer, or a refusal for another reason that the real request will show

    def _is_for_the_server(self, source: ChatTemplateSource, template: ChatTemplate) -> bool:
        return self._trusted is not False and isinstance(source, str) and template.source == source

    def _learn(self, error: InvalidRequestError, request: ChatRequest) -> None:
        """Notes that the server takes no templates; any other refusal is the request's, as is one with tools."""
        if not _UNTRUSTED.search(error.server_message):
            raise error
        self._trusted = False
        if request.tools:
            raise error

    def _here(self, request: ChatRequest) -> ChatRequest:
        """A request for the template to be used here."""
        if request.tools:
            msg = "A conversation with tools needs the server's chat template; chat_template=... is used here, as text."
            hint = (
                "Have the server started with --chat-template, or give Jinja text to one that runs with "
                "--trust-request-chat-template."
            )
            raise UnsupportedParameterError(msg, hint=hint)
        params = {name: value for name, value in request.params.items() if name != "chat_template"}
        limits = ("max_tokens", "max_completion_tokens")
        if self.default_max_tokens and all(params.get(name) is None for name in limits):
            params["max_tokens"] = self.default_max_tokens
        return replace(request, params=params)


def _with_params(request: ChatRequest, **params: Any) -> ChatRequest:
    merged: Mapping[str, Any] = {**request.params, **params}
    return replace(request, params=merged)
