"""Chat on a runtime that only completes text: a chat template and the runtime's own text generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, overload

from kserve_core.calls import Call, Exchange, Flow, Given, GrpcCall, GrpcStreamCall, StreamCall, StreamExchange
from kserve_core.capabilities import ChatRequest, InfoRuntime, TextRequest, TextRuntime, TokenizerRuntime
from kserve_core.chat_template import ChatTemplate
from kserve_core.errors import ConfigurationError, StreamInterrupted, UnsupportedParameterError
from kserve_core.types import (
    ChatChoice,
    ChatDelta,
    ChatResult,
    Generation,
    GenerationChunk,
    ModelInfo,
    TextResult,
    Tokenization,
)

A = TypeVar("A")
B = TypeVar("B")


class TemplatedChat:
    """A `ChatRuntime` made of a `TextRuntime` and a chat template.

    It has no tools and takes no images, and says so when either is asked for. The template's end-of-turn text is
    added to the stop sequences, in front of the user's, and never part of an answer. Everything else, completions
    included, is the text runtime's. It pickles if the runtime does.

    Args:
        runtime: Completes the prompts.
        template: Writes the conversation as one prompt.
    """

    def __init__(self, runtime: TextRuntime, template: ChatTemplate) -> None:
        self.runtime = runtime
        self.template = template

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.runtime!r}, {self.template.name!r})"

    @property
    def name(self) -> str:
        """The text runtime's name."""
        return str(getattr(self.runtime, "name", "this runtime"))

    @property
    def model(self) -> str | None:
        """The model the text runtime's requests go to."""
        return getattr(self.runtime, "model", None)

    @property
    def supports_constraints(self) -> frozenset[str]:
        """The kinds of constraints the text runtime decodes under."""
        return frozenset(getattr(self.runtime, "supports_constraints", ()))

    # --- conversations ------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> Flow[ChatResult]:
        """One whole answer.

        Raises:
            UnsupportedParameterError: If tools, content other than text, or a constraint that the runtime does not
                know are asked for.
        """
        template = self._template(request)
        text = self._text_request(request, template)
        exchange: Any = self.runtime.generate(text)
        result = (yield exchange) if isinstance(exchange, (Call, GrpcCall)) else (yield from exchange)
        return _chat_result(result, template.stop)

    def stream_chat(self, request: ChatRequest) -> StreamExchange[ChatDelta]:
        """An answer in pieces; raises as `chat` does."""
        template = self._template(request)
        exchange: Any = self.runtime.stream_generate(self._text_request(request, template))

        def delta(chunk: GenerationChunk) -> ChatDelta:
            return _chat_delta(chunk, template.stop)

        if isinstance(exchange, (StreamCall, GrpcStreamCall)):
            return mapped(exchange, delta)
        return _mapped_flow(exchange, delta)

    def text_request(self, request: ChatRequest) -> TextRequest:
        """The completion request that answers a conversation; raises as `chat` does."""
        return self._text_request(request, self._template(request))

    def _template(self, request: ChatRequest) -> ChatTemplate:
        given = request.params.get("chat_template")
        return self.template if given is None else ChatTemplate.load(given)

    def _text_request(self, request: ChatRequest, template: ChatTemplate) -> TextRequest:
        self._check(request)
        params = {name: value for name, value in request.params.items() if value is not None}
        params.pop("chat_template", None)
        prompt = template.render(
            request.messages,
            continue_final_message=bool(params.pop("continue_final_message", False)),
            add_generation_prompt=bool(params.pop("add_generation_prompt", True)),
            variables=params.pop("chat_template_kwargs", None),
        )
        if "max_completion_tokens" in params:
            if "max_tokens" in params:
                msg = "max_tokens and max_completion_tokens are the same thing; set one of them."
                raise ConfigurationError(msg)
            params["max_tokens"] = params.pop("max_completion_tokens")
        given = params.get("stop") or ()
        more = (given,) if isinstance(given, str) else given
        stop = [*template.stop, *(text for text in more if text not in template.stop)]
        if stop:
            params["stop"] = stop
        return TextRequest(
            prompts=(prompt,),
            model=request.model,
            params=params,
            constraint=request.constraint,
            include_usage=request.include_usage,
            extra_body=request.extra_body,
            headers=request.headers,
        )

    def _check(self, request: ChatRequest) -> None:
        if request.tools or request.tool_choice not in {None, "none"}:
            msg = f"{self.name} completes text and has no tools."
            raise UnsupportedParameterError(msg, hint="Use a ReAct agent, or a runtime with tool calling such as vLLM.")
        constraint = request.constraint
        if constraint is not None and constraint.kind not in self.supports_constraints:
            msg = f"{self.name} cannot constrain an answer to a {constraint.kind.replace('_', ' ')}."
            raise UnsupportedParameterError(msg, hint="Ask for the form in the prompt, and check the answer.")

    # --- what the text runtime does itself ----------------------------------------------------------------------

    def generate(self, request: TextRequest) -> Exchange[TextResult]:
        """Completes prompts as they stand, without the template."""
        return self.runtime.generate(request)

    def stream_generate(self, request: TextRequest) -> StreamExchange[GenerationChunk]:
        """Completes a prompt as it stands, in pieces."""
        return self.runtime.stream_generate(request)

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> Exchange[Tokenization]:
        """The tokens of a text."""
        return self._tokenizer().tokenize(text, model=model, add_special_tokens=add_special_tokens)

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:
        """The tokens of a conversation, written as the template writes it."""
        text = self.text_request(request)
        return self._tokenizer().tokenize(text.prompts[0], model=request.model)

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:
        """The text of tokens."""
        return self._tokenizer().detokenize(token_ids, model=model)

    def models(self) -> Exchange[list[ModelInfo]]:
        """The models served."""
        return self._info().models()

    def model_info(self, model: str | None = None) -> Exchange[ModelInfo]:
        """One model: the named one, or the one served."""
        return self._info().model_info(model)

    def version(self) -> Exchange[str]:
        """The server's version."""
        return self._info().version()

    def health(self) -> Exchange[bool]:
        """Whether the server can answer requests."""
        return self._info().health()

    def _tokenizer(self) -> TokenizerRuntime:
        if not isinstance(self.runtime, TokenizerRuntime):
            msg = f"{self.name} does not count tokens."
            raise UnsupportedParameterError(msg)
        return self.runtime

    def _info(self) -> InfoRuntime:
        if not isinstance(self.runtime, InfoRuntime):
            msg = f"{self.name} does not tell about itself."
            raise UnsupportedParameterError(msg)
        return self.runtime


class MappedDecoder(Generic[A, B]):
    """Another decoder's pieces, each turned into something else; of bytes as of messages."""

    __slots__ = ("_inner", "_turn")

    def __init__(self, inner: Any, turn: Callable[[A], B]) -> None:
        self._inner = inner
        self._turn = turn

    def feed(self, data: Any) -> Sequence[B]:
        """See `Decoder.feed`."""
        turn = self._turn
        try:
            return [turn(piece) for piece in self._inner.feed(data)]
        except StreamInterrupted as exc:
            exc.rest = [turn(piece) for piece in exc.rest]
            raise

    def close(self) -> Sequence[B]:
        """See `Decoder.close`."""
        try:
            return [self._turn(piece) for piece in self._inner.close()]
        except StreamInterrupted as exc:
            exc.rest = [self._turn(piece) for piece in exc.rest]
            raise

    @property
    def finished(self) -> bool:
        """See `Decoder.finished`."""
        return bool(self._inner.finished)

    @property
    def partial_text(self) -> str:
        """See `Decoder.partial_text`."""
        return str(self._inner.partial_text)

    @property
    def broken_hint(self) -> str:
        """What to say when the connection breaks, where the runtime knows more than a transport."""
        return str(getattr(self._inner, "broken_hint", ""))

    @property
    def resend(self) -> bool:
        """Whether the request may be sent again when the connection breaks before the first piece."""
        return bool(getattr(self._inner, "resend", True))


@overload
def mapped(call: StreamCall[A], turn: Callable[[A], B]) -> StreamCall[B]: ...
@overload
def mapped(call: GrpcStreamCall[A], turn: Callable[[A], B]) -> GrpcStreamCall[B]: ...
def mapped(call: Any, turn: Callable[[Any], Any]) -> Any:
    """A streamed call, over HTTP or gRPC, whose pieces are turned into something else."""
    if isinstance(call, Given):
        return Given([turn(piece) for piece in call.pieces])
    return replace(call, decoder=lambda: MappedDecoder(call.decoder(), turn))


def _mapped_flow(flow: Flow[Any], turn: Callable[[Any], B]) -> Flow[Any]:
    call = yield from flow
    return mapped(call, turn)


def _chat_result(result: TextResult, ends: Sequence[str]) -> ChatResult:
    return ChatResult(
        choices=[_choice(index, generation, ends) for index, generation in enumerate(result.generations[0])],
        usage=result.usage,
        model=result.model,
        id=result.id,
        system_fingerprint=result.system_fingerprint,
        raw=result.raw,
    )


def _choice(index: int, generation: Generation, ends: Sequence[str]) -> ChatChoice:
    text, stop_reason = _ended(generation.text, generation.stop_reason, ends)
    return ChatChoice(
        content=text,
        reasoning=generation.reasoning,
        finish_reason=generation.finish_reason,
        stop_reason=stop_reason,
        logprobs=chat_logprobs(generation.logprobs),
        index=index,
        extra=generation.extra,
    )


def _chat_delta(chunk: GenerationChunk, ends: Sequence[str]) -> ChatDelta:
    text, stop_reason = chunk.text, chunk.stop_reason
    if chunk.finish_reason is not None:
        text, stop_reason = _ended(text, stop_reason, ends)
    return ChatDelta(
        content=text,
        reasoning=chunk.reasoning,
        finish_reason=chunk.finish_reason,
        stop_reason=stop_reason,
        usage=chunk.usage,
        index=chunk.index,
        logprobs=None if chunk.logprobs is None else chat_logprobs(chunk.logprobs),
        model=chunk.model,
        id=chunk.id,
        raw=chunk.raw,
        extra=chunk.extra,
    )


def _ended(text: str, stop_reason: str | int | None, ends: Sequence[str]) -> tuple[str, str | int | None]:
    """The template's own end is not part of an answer, nor a stop text anybody asked for."""
    if stop_reason not in ends:
        return text, stop_reason
    return text.removesuffix(str(stop_reason)), None


def chat_logprobs(logprobs: Any) -> Any:
    """Log-probabilities in the shape of chats (a list of tokens), from that of text completions (parallel lists)."""
    if not isinstance(logprobs, Mapping) or "tokens" not in logprobs:
        return logprobs
    tokens = logprobs["tokens"]
    values = logprobs.get("token_logprobs") or [None] * len(tokens)
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    content = [
        {
            "token": token,
            "logprob": value,
            "bytes": None,
            "top_logprobs": [{"token": other, "logprob": one, "bytes": None} for other, one in (top or {}).items()],
        }
        for token, value, top in zip(tokens, values, tops, strict=False)
    ]
    return {"content": content}
