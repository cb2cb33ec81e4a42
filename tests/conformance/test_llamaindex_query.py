"""Language models inside LlamaIndex's query engines."""

from __future__ import annotations

from typing import Any

import pytest
from conformance.llamaindex_llms import DOCUMENTS, Recorder, embedding, make
from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.query_engine import CitationQueryEngine, RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.selectors import LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

pytestmark = pytest.mark.needs("chat")

QUESTION = "What is the capital of France?"


@pytest.fixture
def llm(target):
    llm = make(target)
    if "models" in target.features:
        llm.load_metadata()
    return llm


@pytest.fixture(scope="module")
def index():
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embedding())


def calls(recorder: Recorder) -> int:
    return recorder.names.count("LLMChatStartEvent")


class TestVectorIndex:
    async def test_a_question_is_one_call(self, index, llm):
        engine = index.as_query_engine(llm=llm, similarity_top_k=3)
        with Recorder() as recorder:
            answer = engine.query(QUESTION)
        assert calls(recorder) == 1
        assert recorder.names.count("LLMChatEndEvent") == 1
        assert len(answer.source_nodes) == 3
        assert isinstance(answer.response, str)
        assert (await engine.aquery(QUESTION)).response == answer.response

    @pytest.mark.needs("devserver")
    def test_it_is_answered_from_the_text(self, index, llm):
        assert "Paris" in index.as_query_engine(llm=llm, similarity_top_k=3).query(QUESTION).response

    async def test_streamed(self, index, llm):
        engine = index.as_query_engine(llm=llm, similarity_top_k=3, streaming=True)
        whole = index.as_query_engine(llm=llm, similarity_top_k=3).query(QUESTION).response
        with Recorder() as recorder:
            tokens = list(engine.query(QUESTION).response_gen)
        assert "".join(tokens) == whole
        assert recorder.names.count("LLMChatInProgressEvent") == len(tokens)
        answer = await engine.aquery(QUESTION)
        assert "".join([token async for token in answer.async_response_gen()]) == whole

    def test_refined(self, index, llm):
        engine = index.as_query_engine(llm=llm, similarity_top_k=3, response_mode=ResponseMode.REFINE)
        with Recorder() as recorder:
            engine.query(QUESTION)
        assert calls(recorder) == 3

    @pytest.mark.parametrize("use_async", [True, False])
    def test_summarized_as_a_tree(self, llm, use_async):
        llm.context_window = 700  # small enough that the texts do not go into one prompt
        engine = SummaryIndex.from_documents(DOCUMENTS * 20).as_query_engine(
            llm=llm, response_mode=ResponseMode.TREE_SUMMARIZE, use_async=use_async
        )
        with Recorder() as recorder:
            engine.query("What is it about?")
        assert calls(recorder) > 1
        assert recorder.names.count("LLMChatEndEvent") == calls(recorder)

    async def test_the_context_window_decides_how_much_is_packed(self, target):
        counts = []
        for window in (700, 3500):
            llm = make(target, context_window=window, max_tokens=64)
            engine = SummaryIndex.from_documents(DOCUMENTS * 8).as_query_engine(
                llm=llm, response_mode=ResponseMode.COMPACT
            )
            with Recorder() as recorder:
                await engine.aquery("What is it about?")
            counts.append(calls(recorder))
        assert counts[0] > counts[1] == 1

    async def test_with_citations(self, index, llm):
        engine = CitationQueryEngine.from_args(index, llm=llm, similarity_top_k=3, citation_chunk_size=256)
        answer = engine.query(QUESTION)
        assert answer.source_nodes[0].node.get_content().startswith("Source 1:")
        assert isinstance((await engine.aquery(QUESTION)).response, str)


@pytest.mark.needs("text")
class TestCompletionModel:
    async def test_a_question_is_one_call(self, target, index):
        llm = make(target, "text", is_chat_model=False)
        engine = index.as_query_engine(llm=llm, similarity_top_k=3)
        with Recorder() as recorder:
            engine.query(QUESTION)
            await engine.aquery(QUESTION)
        assert recorder.names.count("LLMCompletionStartEvent") == 2
        assert recorder.names.count("LLMChatStartEvent") == 0

    async def test_streamed(self, target, index):
        llm = make(target, "text", is_chat_model=False)
        engine = index.as_query_engine(llm=llm, similarity_top_k=3, streaming=True)
        assert isinstance("".join(engine.query(QUESTION).response_gen), str)


class Fact(BaseModel):
    """A fact."""

    subject: str
    value: str


@pytest.mark.needs("structured_output")
class TestStructured:
    async def test_an_answer_is_an_object(self, target, index):
        llm = make(target, max_tokens=400)
        for mode in (ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE):
            engine = index.as_query_engine(llm=llm, similarity_top_k=3, output_cls=Fact, response_mode=mode)
            assert isinstance(engine.query(QUESTION).response, Fact)
            assert isinstance((await engine.aquery(QUESTION)).response, Fact)

    async def test_a_structured_llm_in_an_engine(self, target, index):
        engine = index.as_query_engine(llm=make(target, max_tokens=400).as_structured_llm(Fact), similarity_top_k=3)
        answer: Any = engine.query(QUESTION)
        assert isinstance(answer.response, Fact)


@pytest.mark.needs("devserver")
class TestComposed:
    """Engines that need a model with some sense."""

    @pytest.fixture
    def tools(self, llm):
        def tool(name, documents, about):
            engine = VectorStoreIndex.from_documents(documents, embed_model=embedding()).as_query_engine(llm=llm)
            return QueryEngineTool.from_defaults(engine, name=name, description=about)

        return [
            tool("capitals", DOCUMENTS[:2], "Answers questions about capitals of countries."),
            tool("invoices", DOCUMENTS[2:], "Answers questions about invoices and payments."),
        ]

    async def test_questions_are_parted(self, llm, tools):
        llm.max_tokens = 512
        engine = SubQuestionQueryEngine.from_defaults(
            query_engine_tools=tools, question_gen=LLMQuestionGenerator.from_defaults(llm=llm), llm=llm, use_async=False
        )
        answer = engine.query("What is the capital of France, and when are invoices due?")
        assert answer.source_nodes
        assert answer.response
        assert (await engine.aquery("What is the capital of France, and when are invoices due?")).response

    @pytest.mark.parametrize(
        "selector", [LLMSingleSelector, pytest.param(PydanticSingleSelector, marks=pytest.mark.needs("tools"))]
    )
    async def test_questions_are_routed(self, llm, tools, selector):
        llm.max_tokens = 256
        engine = RouterQueryEngine(selector=selector.from_defaults(llm=llm), query_engine_tools=tools, llm=llm)
        answer = engine.query("When are invoices due?")
        assert "March" in str(answer)
        assert answer.metadata["selector_result"].ind == 1
        assert "Paris" in str(await engine.aquery(QUESTION))
