"""What LlamaIndex's instrumentation sees of a call."""

from __future__ import annotations

import pytest
from conformance.llamaindex_llms import DOCUMENTS, FORMS, Recorder, ask, embedding, make
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from llamaindex_kserve import KServeError

pytestmark = pytest.mark.needs("chat")


def without_repeats(names):
    return [name for place, name in enumerate(names) if not place or names[place - 1] != name]


@pytest.fixture(scope="module")
def index():
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embedding())


class TestOneCall:
    @pytest.mark.parametrize("form", FORMS)
    async def test_events(self, target, form):
        with Recorder() as recorder:
            responses = await ask(make(target), form, "Say hello.")
        kind = "Completion" if "complete" in form else "Chat"
        progress = len(responses) if "stream" in form else 0
        assert recorder.names == [
            f"LLM{kind}StartEvent",
            *[f"LLM{kind}InProgressEvent"] * progress,
            f"LLM{kind}EndEvent",
        ]
        assert recorder.events[-1].response == responses[-1]
        assert len({event.span_id for event in recorder.events}) == 1

    @pytest.mark.parametrize("form", FORMS)
    async def test_one_span(self, target, form):
        handler, root = SimpleSpanHandler(), get_dispatcher()
        root.span_handlers.append(handler)
        try:
            await ask(make(target), form, "Say hello.")
        finally:
            root.span_handlers.remove(handler)
        assert len(handler.completed_spans) == 1
        assert f".{form}-" in handler.completed_spans[0].id_
        assert not handler.open_spans

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_older_callbacks(self, target, form):
        debug = LlamaDebugHandler(print_trace_on_end=False)
        await ask(make(target, callback_manager=CallbackManager([debug])), form, "Say hello.")
        (pair,) = debug.get_event_pairs(CBEventType.LLM)
        assert pair[0].payload[EventPayload.SERIALIZED]["model_name"] == target.chat["model"]

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_failed_one(self, target, form):
        with Recorder() as recorder, pytest.raises(KServeError):
            await ask(make(target), form, "word " * 20000)  # does not fit
        assert not any(name.endswith("EndEvent") for name in recorder.names)

    async def test_who_is_asked_and_nothing_secret(self, target):
        with Recorder() as recorder:
            await ask(make(target, default_headers={"x-secret": "canary-canary"}), "chat", "Say hello.")
        described = recorder.events[0].model_dict
        assert described["model"] == described["model_name"] == target.chat["model"]
        assert described["temperature"] == 0
        assert described["class_name"] == make(target).class_name()
        dumped = "".join(str(event.model_dump()) for event in recorder.events)
        assert "canary" not in dumped
        key = target.chat.get("api_key")
        assert not key or key not in dumped


QUERY_EVENTS = [
    "QueryStartEvent",
    "RetrievalStartEvent",
    "EmbeddingStartEvent",
    "EmbeddingEndEvent",
    "RetrievalEndEvent",
    "SynthesizeStartEvent",
    "GetResponseStartEvent",
    "LLMPredictStartEvent",
    "LLMChatStartEvent",
    "LLMChatEndEvent",
    "LLMPredictEndEvent",
    "GetResponseEndEvent",
    "SynthesizeEndEvent",
    "QueryEndEvent",
]


class TestQuery:
    async def test_events_of_a_query(self, target, index):
        engine = index.as_query_engine(llm=make(target))
        with Recorder() as recorder:
            engine.query("What is the capital of France?")
        assert recorder.names == QUERY_EVENTS
        with Recorder() as recorder:
            await engine.aquery("What is the capital of France?")
        assert [name for name in recorder.names if name.startswith("LLM")] == [
            name for name in QUERY_EVENTS if name.startswith("LLM")
        ]

    def test_events_of_a_streamed_query(self, target, index):
        engine = index.as_query_engine(llm=make(target), streaming=True)
        with Recorder() as recorder:
            tokens = list(engine.query("Count to ten.").response_gen)
        assert recorder.names.count("LLMChatInProgressEvent") == len(tokens)
        assert without_repeats([name for name in recorder.names if name.startswith("LLMChat")]) == [
            "LLMChatStartEvent",
            "LLMChatInProgressEvent",
            "LLMChatEndEvent",
        ]
