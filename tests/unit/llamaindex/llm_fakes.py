"""An LLM whose runtime is a script: what it answers is given, what it was asked is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from pydantic import ConfigDict, Field

from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.types import (
    ChatChoice,
    ChatDelta,
    ChatResult,
    Generation,
    GenerationChunk,
    ModelInfo,
    TextResult,
    Tokenization,
    Usage,
)
from llamaindex_kserve import VLLM

BASE_URL = "https://models.example.com/v1"
TOKEN = "sha256~a-very-secret-token"
USAGE = Usage(prompt_tokens=11, completion_tokens=20, total_tokens=31)


def streamed(text: str, *, reasoning: Sequence[str] = (), tools: Sequence[Any] = (), finish: str = "stop"):
    """The pieces a server cuts an answer into."""
    yield ChatDelta(role="assistant", id="1", raw={})
    for thought in reasoning:
        yield ChatDelta(reasoning=thought, raw={})
    for word in text.split(" ") if text else ():
        yield ChatDelta(content=word + " ", raw={"word": word})
    for pieces in tools:
        yield ChatDelta(tool_calls=pieces, raw={})
    yield ChatDelta(finish_reason=finish, raw={})
    yield ChatDelta(usage=USAGE, raw={})


class FakeRuntime:
    """Answers from `answers`, in order; the last one again and again."""

    name = "vLLM"

    def __init__(self, *answers: Any, model: str | None = "granite") -> None:
        self.model = model
        self.answers = list(answers)
        self.requests: list[Any] = []
        self.lookups = 0

    def _next(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def chat(self, request: ChatRequest) -> ChatResult:
        answer = self._next(request)
        if isinstance(answer, str):
            answer = ChatChoice(content=answer, finish_reason="stop")
        if isinstance(answer, ChatChoice):
            answer = ChatResult([answer], usage=USAGE, raw={"id": "1"})
        return answer

    def stream_chat(self, request: ChatRequest) -> Any:
        answer = self._next(request)
        return streamed(answer) if isinstance(answer, str) else answer

    def generate(self, request: TextRequest) -> TextResult:
        answer = self._next(request)
        return TextResult([[Generation(answer, finish_reason="stop")]], usage=USAGE, raw={"id": "2"})

    def stream_generate(self, request: TextRequest) -> Any:
        for word in self._next(request).split(" "):
            yield GenerationChunk(text=word + " ", raw={})
        yield GenerationChunk(finish_reason="stop", raw={})
        yield GenerationChunk(usage=USAGE, raw={})

    def resolve_model(self, model: str | None = None) -> Any:
        if model or self.model:
            return model or self.model
        self.model = yield self.list_models
        return self.model

    def model_info(self, model: str | None = None) -> Any:
        if not self.lookups:
            yield self.list_models
        return ModelInfo(id=model or self.model or "found", max_model_len=16384)

    def list_models(self) -> str:
        self.lookups += 1
        return "found"

    def tokenize(self, text: str, *, model: str | None = None, add_special_tokens: bool = True) -> Tokenization:
        return Tokenization(count=len(text.split()), token_ids=[len(word) for word in text.split()])

    def tokenize_messages(self, request: ChatRequest) -> Tokenization:
        self.requests.append(request)
        return Tokenization(count=100 * len(request.messages))


class FakeClient:
    """Runs an exchange that is its own answer, or a flow of functions that have the answers."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.closed = 0
        self.delay = 0.0

    def run(self, exchange: Any, *, about: Any = None) -> Any:
        if not isinstance(exchange, Generator):
            return exchange
        try:
            step = next(exchange)
            while True:
                step = exchange.send(step())
        except StopIteration as done:
            return done.value

    async def arun(self, exchange: Any, *, about: Any = None) -> Any:
        await asyncio.sleep(self.delay)
        return self.run(exchange)

    def answer(self, request: Any, *, runtime: Any) -> Any:
        return self.run(_whole(runtime, request))

    async def aanswer(self, request: Any, *, runtime: Any) -> Any:
        return await self.arun(_whole(runtime, request))

    def stream(self, exchange: Any, *, about: Any = None) -> Any:
        try:
            yield from exchange
        finally:
            self.closed += 1

    async def astream(self, exchange: Any, *, about: Any = None) -> Any:
        try:
            for piece in exchange:
                yield piece
        finally:
            self.closed += 1


def _whole(runtime: Any, request: Any) -> Any:
    return runtime.chat(request) if isinstance(request, ChatRequest) else runtime.generate(request)


class FakeVLLM(VLLM):
    """`VLLM` with its server replaced; only what it says about itself is its own."""


def make(*answers: Any, model: str | None = "granite", **fields: Any) -> tuple[FakeVLLM, FakeRuntime]:
    """An LLM and the runtime behind it."""
    runtime = FakeRuntime(*answers, model=model)
    fields.setdefault("base_url", BASE_URL)
    llm = FakeVLLM(model=model, **fields)
    llm._cell.client = FakeClient(runtime)  # type: ignore[assignment]
    return llm, runtime


class Recorder(BaseEventHandler):
    """Keeps every event of the framework's instrumentation while it is watching."""

    events: list[Any] = Field(default_factory=list)
    spans: list[str] = Field(default_factory=list)
    model_config = ConfigDict(extra="allow")

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: Any, **kwargs: Any) -> Any:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]

    def __enter__(self) -> Recorder:
        self.events, self.spans = [], []
        self._root = get_dispatcher()
        self._root.event_handlers.append(self)
        self._span_handler = _Spans()
        self._span_handler.opened = self.spans
        self._root.span_handlers.append(self._span_handler)
        return self

    def __exit__(self, *exc: object) -> None:
        self._root.event_handlers.remove(self)
        self._root.span_handlers.remove(self._span_handler)


class _Spans(SimpleSpanHandler):
    opened: list[str] = Field(default_factory=list)

    def new_span(self, id_: str, *args: Any, **kwargs: Any) -> Any:
        self.opened.append(id_.rsplit("-", 5)[0])
        return super().new_span(id_, *args, **kwargs)
