"""Shared by the suites of LlamaIndex language models: how one is made, and its eight endpoints under one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matrix
from llama_index.core import Document
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from pydantic import Field
from targets import Target

import llamaindex_kserve

CHAT_FORMS = ["chat", "stream_chat", "achat", "astream_chat"]
COMPLETION_FORMS = ["complete", "stream_complete", "acomplete", "astream_complete"]
FORMS = CHAT_FORMS + COMPLETION_FORMS

DOCUMENTS = [
    Document(text="The capital of France is Paris. It lies on the Seine."),
    Document(text="The capital of Norway is Oslo. It lies on a fjord."),
    Document(text="Invoices are due in March. They are paid by transfer."),
]


def llm_class(target: Target) -> type[Any]:
    """The LLM class of the runtime under test."""
    cls: type[Any] = getattr(llamaindex_kserve, matrix.entry(target.runtime).llamaindex["llm"])
    return cls


def make(target: Target, capability: str = "chat", **fields: Any) -> Any:
    """An LLM for the target; what it says is the likeliest, and not too long."""
    params = getattr(target, capability)
    return llm_class(target)(**{"temperature": 0, "max_tokens": 64, "timeout": 60, **params, **fields})


def embedding() -> Any:
    """An embedding model that needs no server."""
    return MockEmbedding(embed_dim=8)


async def ask(llm: Any, form: str, prompt: str | Sequence[ChatMessage], **kwargs: Any) -> list[Any]:
    """All responses of one of the eight endpoints, whichever way it answers."""
    content: Any = prompt
    if "complete" not in form and isinstance(prompt, str):
        content = [ChatMessage(prompt)]
    result = getattr(llm, form)(content, **kwargs)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return [result]
    return [item async for item in result] if form.startswith("a") else list(result)


def text_of(response: Any) -> str:
    """A response's text, of a chat or of a completion."""
    return (response.message.content or "") if hasattr(response, "message") else response.text


class Recorder(BaseEventHandler):
    """Keeps the framework's events while it is watching."""

    events: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        """The handler's name."""
        return "Recorder"

    def handle(self, event: Any, **_kwargs: Any) -> None:
        """Keeps an event."""
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        """The events' names, in order."""
        return [event.class_name() for event in self.events]

    def __enter__(self) -> Recorder:
        self.events = []
        get_dispatcher().event_handlers.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        get_dispatcher().event_handlers.remove(self)
