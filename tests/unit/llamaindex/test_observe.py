"""Spans of the LlamaIndex classes, and what LlamaIndex's own events say."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import Field

from kserve_core import telemetry
from kserve_core.devserver import DevServer
from llamaindex_kserve import VLLM, CaikitEmbedding, VLLMEmbedding, VLLMRerank
from tests.unit.core.tracing import Kept, keep

TOKEN, HEADER = "canary-token", "canary-header"
NODES = [NodeWithScore(node=TextNode(text="one")), NodeWithScore(node=TextNode(text="two"))]


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key=TOKEN) as server:
        yield server


@pytest.fixture
def options(running):
    running.reset()
    return {
        "base_url": f"{running.url}/v1",
        "api_key": TOKEN,
        "model": "dev-model",
        "default_headers": {"x-secret": HEADER},
    }


@pytest.fixture
def kept():
    made = keep()
    made.instrument()
    yield made
    telemetry.uninstrument()


def message() -> list[ChatMessage]:
    return [ChatMessage(role="user", content="hello")]


def test_every_class_has_one_span_for_a_call(options: dict[str, Any], kept: Kept) -> None:
    llm = VLLM(**options)
    llm.chat(message())
    list(llm.stream_chat(message()))
    VLLM(**options, is_chat_model=False).complete("hello")
    VLLMEmbedding(**options).get_text_embedding_batch(["one", "two"])
    VLLMRerank(**options).postprocess_nodes(NODES, query_str="a question")
    names = [span.name for span in kept.spans]
    assert names == [f"{name} dev-model" for name in ("chat", "chat", "text_completion", "embeddings", "rerank")]
    for secret in ("hello", "a question", TOKEN, HEADER):
        assert secret not in kept.everything()


async def test_from_an_event_loop(options: dict[str, Any], kept: Kept) -> None:
    llm = VLLM(**options)
    await llm.achat(message())
    _ = [piece async for piece in await llm.astream_chat(message())]
    await VLLMEmbedding(**options).aget_text_embedding("one")
    await VLLMRerank(**options).apostprocess_nodes(NODES, query_str="a question")
    assert [span.name.split()[0] for span in kept.spans] == ["chat", "chat", "embeddings", "rerank"]


def test_similarity(kept: Kept) -> None:
    with DevServer(runtime="caikit", models=("tiny",)) as server:
        CaikitEmbedding(base_url=server.url, model="tiny").similarity("a cat", ["a kitten", "a car"])
    assert kept.one().name == "similarity tiny"


class Listener(BaseEventHandler):
    told: list[str] = Field(default_factory=list)

    def handle(self, event: Any, **_: Any) -> None:
        self.told.append(f"{event!r} {event.model_dump()!r}")


def test_events_tell_no_secret(options: dict[str, Any]) -> None:
    dispatcher, listener = get_dispatcher(), Listener(told=[])
    dispatcher.add_event_handler(listener)
    try:
        llm = VLLM(**options)
        llm.chat(message())
        list(llm.stream_chat(message()))
        VLLMEmbedding(**options).get_text_embedding("one")
        VLLMRerank(**options).postprocess_nodes(NODES, query_str="a question")
    finally:
        dispatcher.event_handlers.remove(listener)
    assert len(listener.told) > 6
    for secret in (TOKEN, HEADER):
        assert secret not in "".join(listener.told)
