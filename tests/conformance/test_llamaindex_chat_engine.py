"""Language models inside LlamaIndex's chat engines."""

from __future__ import annotations

import pytest
from conformance.llamaindex_llms import DOCUMENTS, Recorder, embedding, make
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate

pytestmark = pytest.mark.needs("chat")

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def index():
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embedding())


def engine_for(index, llm, mode):
    # The memory's own default tokenizer is one of another model; words are near enough here.
    memory = ChatMemoryBuffer.from_defaults(token_limit=1500, tokenizer_fn=str.split)
    return index.as_chat_engine(chat_mode=mode, llm=llm, memory=memory, similarity_top_k=3)


@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
class TestOverAnIndex:
    async def test_two_turns(self, target, index, mode):
        engine = engine_for(index, make(target), mode)
        with Recorder() as recorder:
            first = engine.chat(QUESTION)
            second = await engine.achat("And of Norway?")
        assert isinstance(first.response, str)
        assert isinstance(second.response, str)
        assert len(first.source_nodes) == 3
        assert [message.role.value for message in engine.chat_history] == ["user", "assistant"] * 2
        # Condensing the second question takes a call of its own.
        starts = [name for name in recorder.names if name in {"LLMChatStartEvent", "LLMCompletionStartEvent"}]
        ends = [name for name in recorder.names if name in {"LLMChatEndEvent", "LLMCompletionEndEvent"}]
        assert len(starts) == len(ends) == (2 if mode == "context" else 3)

    def test_streamed(self, target, index, mode):
        llm = make(target)
        whole = engine_for(index, llm, mode).chat(QUESTION).response
        engine = engine_for(index, llm, mode)
        streamed = engine.stream_chat(QUESTION)
        assert "".join(streamed.response_gen) == whole
        assert engine.chat_history[-1].content == whole

    async def test_streamed_async(self, target, index, mode):
        llm = make(target)
        whole = (await engine_for(index, llm, mode).achat(QUESTION)).response
        engine = engine_for(index, llm, mode)
        streamed = await engine.astream_chat(QUESTION)
        assert "".join([token async for token in streamed.async_response_gen()]) == whole
        second = await engine.astream_chat("And of Norway?")
        assert isinstance("".join([token async for token in second.async_response_gen()]), str)

    @pytest.mark.needs("devserver")
    def test_the_answer_is_in_the_text(self, target, index, mode):
        assert "Paris" in engine_for(index, make(target), mode).chat(QUESTION).response


class TestSimple:
    async def test_without_an_index(self, target):
        engine = SimpleChatEngine.from_defaults(llm=make(target), system_prompt="Be brief.")
        assert engine.chat("Say hello.").response
        streamed = await engine.astream_chat("Count to ten.")
        assert "".join([token async for token in streamed.async_response_gen()])
        assert len(engine.chat_history) == 4

    @pytest.mark.needs("reasoning")
    def test_reasoning_stays_out_of_the_answer(self, target):
        engine = SimpleChatEngine.from_defaults(llm=make(target, "reasoning", max_tokens=256, reasoning_as_text=True))
        answer = engine.chat("Think: what is two plus two?").response
        (thinking,) = [block for block in engine.chat_history[-1].blocks if block.block_type == "thinking"]
        assert answer.strip()
        assert thinking.content not in answer
        assert engine.chat("Say hello.").response

    async def test_predict(self, target):
        llm = make(target)
        prompt = PromptTemplate("{what}")
        whole = llm.predict(prompt, what="Say hello.")
        assert await llm.apredict(prompt, what="Say hello.") == whole
        assert "".join(llm.stream(prompt, what="Say hello.")) == whole
        assert "".join([token async for token in await llm.astream(prompt, what="Say hello.")]) == whole
