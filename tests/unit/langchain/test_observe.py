"""Spans of the LangChain classes, and what LangChain's own tracing is told."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document

from kserve_core import telemetry
from kserve_core.devserver import DevServer
from langchain_kserve import VLLM, CaikitEmbeddings, ChatVLLM, VLLMEmbeddings, VLLMRerank
from tests.unit.core.tracing import Kept, keep

TOKEN, HEADER = "canary-token", "canary-header"


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


def test_every_class_has_one_span_for_a_call(options: dict[str, Any], kept: Kept) -> None:
    ChatVLLM(**options, temperature=0.1).invoke("hello")
    list(ChatVLLM(**options).stream("hello"))
    VLLM(**options).invoke("hello")
    VLLM(**options).generate(["one", "two"])
    list(VLLM(**options).stream("hello"))
    VLLMEmbeddings(**options).embed_documents(["one", "two"])
    VLLMEmbeddings(**options).embed_query("one")
    VLLMRerank(**options).rerank(["one", "two"], "a question")
    VLLMRerank(**options).compress_documents([Document(page_content="one")], "a question")
    assert [span.name for span in kept.spans] == [
        "chat dev-model",
        "chat dev-model",
        "text_completion dev-model",
        "text_completion dev-model",
        "text_completion dev-model",
        "embeddings dev-model",
        "embeddings dev-model",
        "rerank dev-model",
        "rerank dev-model",
    ]
    assert kept.spans[0].attributes["gen_ai.request.temperature"] == 0.1
    assert all(span.attributes["gen_ai.provider.name"] == "vllm" for span in kept.spans)
    for secret in ("hello", "a question", TOKEN, HEADER):
        assert secret not in kept.everything()


async def test_from_an_event_loop(options: dict[str, Any], kept: Kept) -> None:
    await ChatVLLM(**options).ainvoke("hello")
    _ = [chunk async for chunk in ChatVLLM(**options).astream("hello")]
    await VLLM(**options).ainvoke("hello")
    _ = [chunk async for chunk in VLLM(**options).astream("hello")]
    await VLLMEmbeddings(**options).aembed_documents(["one", "two"])
    await VLLMRerank(**options).arerank(["one", "two"], "a question")
    names = [span.name.split()[0] for span in kept.spans]
    assert names == ["chat", "chat", "text_completion", "text_completion", "embeddings", "rerank"]


def test_similarity(kept: Kept) -> None:
    with DevServer(runtime="caikit", models=("tiny",)) as server:
        CaikitEmbeddings(base_url=server.url, model="tiny").similarity("a cat", ["a kitten", "a car"])
    span = kept.one()
    assert (span.name, span.attributes["kserve.request.inputs"]) == ("similarity tiny", 2)


class Listener(BaseCallbackHandler):
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def _keep(self, *args: Any, **kwargs: Any) -> None:
        self.told.append(f"{args!r} {kwargs!r}")

    on_chat_model_start = on_llm_start = on_llm_end = on_llm_error = on_llm_new_token = _keep


def test_callbacks_are_told_no_secret(options: dict[str, Any]) -> None:
    listener = Listener()
    config: Any = {"callbacks": [listener]}
    extra = {"extra_headers": {"x-more": "canary-more"}}
    ChatVLLM(**options).invoke("hello", config, **extra)
    list(ChatVLLM(**options).stream("hello", config, **extra))
    VLLM(**options).invoke("hello", config)
    assert len(listener.told) > 4
    for secret in (TOKEN, HEADER, "canary-more"):
        assert secret not in "".join(listener.told)
