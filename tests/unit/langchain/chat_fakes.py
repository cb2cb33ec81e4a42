"""A chat model whose server is a list of prepared answers."""

from __future__ import annotations

from typing import Any

from kserve_core.types import ChatChoice, ChatDelta, ChatResult, ToolCall, Usage
from langchain_kserve import ChatVLLM

USAGE = Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12, cached_tokens=4, reasoning_tokens=2)


class FakeClient:
    """Notes requests and hands out what it was given: results, lists of deltas, exceptions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []
        self.opened = self.closed = 0
        self.runtime = self
        self.model = None

    def chat(self, request):
        self.requests.append(request)
        return self.answers.pop(0)

    stream_chat = chat

    def run(self, answer, about=None):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def arun(self, answer, about=None):
        return self.run(answer)

    def answer(self, request, *, runtime):
        return self.run(runtime.chat(request))

    async def aanswer(self, request, *, runtime):
        return self.run(runtime.chat(request))

    def stream(self, deltas, about=None):
        self.opened += 1
        try:
            for delta in deltas:
                yield self.run(delta)
        finally:
            self.closed += 1

    async def astream(self, deltas, about=None):
        self.opened += 1
        try:
            for delta in deltas:
                yield self.run(delta)
        finally:
            self.closed += 1

    @property
    def request(self):
        return self.requests[-1]


def chat(*answers: Any, **fields: Any) -> tuple[ChatVLLM, FakeClient]:
    """A model and the client behind it."""
    model = ChatVLLM(**{"base_url": "http://localhost:1/v1", "model": "m", **fields})
    client = FakeClient(*answers)
    model._slot.client = client
    return model, client


def result(content: str = "Hi.", *, calls: list[ToolCall] | None = None, **choice: Any) -> ChatResult:
    """A whole answer with one choice."""
    made = ChatChoice(content=content, tool_calls=calls or [], **{"finish_reason": "stop", **choice})
    return ChatResult(choices=[made], usage=USAGE, model="m", id="chatcmpl-1", system_fingerprint="fp")


def deltas(*texts: str, **last: Any) -> list[ChatDelta]:
    """A stream of texts, with the metadata where a codec puts it."""
    first = ChatDelta(role="assistant", model="m", id="chatcmpl-1")
    end = ChatDelta(finish_reason="stop", system_fingerprint="fp", **last)
    return [first, *[ChatDelta(content=text) for text in texts], end, ChatDelta(usage=USAGE)]


def joined(chunks: Any) -> Any:
    """All chunks added up."""
    full = None
    for chunk in chunks:
        full = chunk if full is None else full + chunk
    return full
