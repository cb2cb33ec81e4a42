"""What every LlamaIndex LLM of this package does, whatever runtime is behind it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance.llamaindex_llms import CHAT_FORMS, COMPLETION_FORMS, FORMS, ask, llm_class, make, text_of
from conformance.own_server import own_server
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llamaindex_kserve import AuthenticationError, ContextOverflowError, ModelNotFoundError, StreamInterrupted

pytestmark = pytest.mark.needs("chat")

CONNECTION = {"base_url", "api_key", "protocol", "ca_cert", "client_cert"}
PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\xdacd\xf8\xcfP\x0f\x00\x03\x86\x01\x80Z4}k\x00\x00\x00\x00IEND\xaeB`\x82"
)


def test_it_is_an_llm_of_the_framework(target):
    llm = make(target)
    assert BaseLLM in type(llm).__mro__
    assert llm.class_name() not in {"base_component", "custom_llm", "BaseLLM"}


class TestAnswers:
    @pytest.mark.parametrize("form", FORMS)
    async def test_every_endpoint_answers(self, target, form):
        responses = await ask(make(target), form, "Say hello.")
        assert text_of(responses[-1]).strip()
        if "finish_reason" in target.features:
            assert responses[-1].additional_kwargs["finish_reason"] == "stop"

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_stream_is_its_parts(self, target, form):
        responses = await ask(make(target), form, "Count to ten.")
        if "stream" not in form:
            assert responses[0].delta is None
            return
        assert len(responses) > 3
        so_far = ""
        for response in responses:
            so_far += response.delta
            assert text_of(response) == so_far

    @pytest.mark.parametrize(("whole", "streamed"), [("chat", "stream_chat"), ("complete", "astream_complete")])
    async def test_streamed_is_whole(self, target, whole, streamed):
        llm = make(target)
        first = text_of((await ask(llm, whole, "Count to ten."))[-1])
        assert text_of((await ask(llm, streamed, "Count to ten."))[-1]) == first

    async def test_async_is_blocking(self, target):
        llm = make(target)
        answers = {text_of((await ask(llm, form, "Say hello."))[-1]) for form in CHAT_FORMS}
        assert len(answers) == 1

    @pytest.mark.needs("scripted")
    @pytest.mark.parametrize("form", FORMS)
    async def test_word_for_word(self, target, form):
        responses = await ask(make(target), form, "Count to ten.")
        assert text_of(responses[-1]).strip() == "one two three four five six seven eight nine ten."

    async def test_a_conversation(self, target):
        messages = [
            ChatMessage(role="system", content="Be brief."),
            ChatMessage("Say hello."),
            ChatMessage(role="assistant", content="Hello!"),
            ChatMessage("Count to ten."),
        ]
        before = copy.deepcopy(messages)
        assert text_of(make(target).chat(messages))
        assert messages == before

    @pytest.mark.parametrize("form", FORMS)
    async def test_max_tokens_of_one_call(self, target, form):
        last = (await ask(make(target), form, "Count to ten.", max_tokens=3))[-1]
        whole = text_of((await ask(make(target), form, "Count to ten."))[-1])
        assert len(text_of(last)) < len(whole)
        if "finish_reason" in target.features:
            assert last.additional_kwargs["finish_reason"] == "length"

    @pytest.mark.needs("stop", "scripted")
    @pytest.mark.parametrize("form", FORMS)
    async def test_stop_texts(self, target, form):
        last = (await ask(make(target, stop="four"), form, "Count to ten."))[-1]
        assert text_of(last).strip() == "one two three"

    @pytest.mark.needs("other_model")
    @pytest.mark.parametrize("form", FORMS)
    async def test_another_model_for_one_call(self, target, form):
        last = (await ask(make(target), form, "Say hello.", model=target.other_model))[-1]
        assert text_of(last).strip()
        if "finish_reason" in target.features:
            assert last.additional_kwargs["finish_reason"] == "stop"


class TestUsage:
    pytestmark = pytest.mark.needs("usage")

    @pytest.mark.parametrize("form", FORMS)
    async def test_is_on_the_last_response(self, target, form):
        responses = await ask(make(target), form, "Say hello.")
        usage = responses[-1].additional_kwargs
        assert usage["prompt_tokens"] > 0
        assert usage["completion_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert all("total_tokens" not in response.additional_kwargs for response in responses[:-1])

    async def test_is_the_same_streamed_and_whole(self, target):
        counts = []
        for form in CHAT_FORMS:
            usage = (await ask(make(target), form, "Say hello."))[-1].additional_kwargs
            counts.append((usage["prompt_tokens"], usage["completion_tokens"]))
        assert len(set(counts)) == 1

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_token_counter_takes_the_servers_word(self, target, form):
        def guess(_text):
            pytest.fail("tokens were guessed")

        counter = TokenCountingHandler(tokenizer=guess)
        llm = make(target, callback_manager=CallbackManager([counter]))
        usage = (await ask(llm, form, "Say hello."))[-1].additional_kwargs
        assert counter.prompt_llm_token_count == usage["prompt_tokens"]
        assert counter.completion_llm_token_count == usage["completion_tokens"]


@pytest.mark.needs("text")
class TestCompletionModel:
    @pytest.mark.parametrize("form", FORMS)
    async def test_prompts_go_to_the_completion_endpoint(self, target, form):
        llm = make(target, "text", is_chat_model=False)
        responses = await ask(llm, form, "Count to ten.")
        last = responses[-1]
        assert text_of(last).strip()
        if "finish_reason" in target.features:
            assert last.additional_kwargs["finish_reason"] in {"stop", "length"}
        if "stream" in form:
            assert "".join(response.delta for response in responses) == text_of(last)
        assert not llm.metadata.is_chat_model
        assert not llm.metadata.is_function_calling_model


@pytest.mark.needs("reasoning")
class TestReasoning:
    PROMPT = "Think: what is two plus two?"

    @pytest.mark.parametrize("form", CHAT_FORMS)
    async def test_it_is_a_block_apart_from_the_answer(self, target, form):
        responses = await ask(make(target, "reasoning", max_tokens=256), form, self.PROMPT)
        thinking, text = responses[-1].message.blocks
        assert isinstance(thinking, ThinkingBlock)
        assert thinking.content.strip()
        assert isinstance(text, TextBlock)
        assert text.text.strip()
        assert thinking.content not in text.text
        if "stream" in form:
            thoughts = [response.additional_kwargs.get("thinking_delta", "") for response in responses]
            assert "".join(thoughts) == thinking.content

    @pytest.mark.parametrize("form", COMPLETION_FORMS)
    async def test_a_completion_is_the_answer_alone(self, target, form):
        last = (await ask(make(target, "reasoning", max_tokens=256), form, self.PROMPT))[-1]
        assert last.text.strip()
        assert last.additional_kwargs["reasoning"].strip()
        assert last.additional_kwargs["reasoning"] not in last.text

    @pytest.mark.parametrize("form", FORMS)
    async def test_an_answer_without_a_thought_is_not_lost(self, target, form):
        # Some reasoning parsers take all of it for reasoning.
        responses = await ask(make(target, "reasoning", reasoning_as_text=True), form, "Say hello.")
        assert text_of(responses[-1]).strip()
        if "stream" in form:
            assert "".join(response.delta for response in responses) == text_of(responses[-1])


@pytest.mark.needs("logprobs")
class TestLogProbabilities:
    @pytest.mark.parametrize("form", CHAT_FORMS)
    async def test_of_the_tokens(self, target, form):
        responses = await ask(make(target, logprobs=True), form, "Say hello.")
        rows = [row for response in responses for row in response.logprobs or ()]
        assert rows
        for (chosen,) in rows:
            assert chosen.token
            assert chosen.logprob <= 0
            assert isinstance(chosen.bytes, list)

    @pytest.mark.needs("top_logprobs")
    @pytest.mark.parametrize("form", CHAT_FORMS)
    async def test_of_others_too(self, target, form):
        responses = await ask(make(target, logprobs=True, top_logprobs=2), form, "Say hello.")
        rows = [row for response in responses for row in response.logprobs or ()]
        assert rows
        assert all(len(others) in {1, 2} for _, *others in rows)


@pytest.mark.needs("images", "devserver")
async def test_images(target):
    message = ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(image=PNG)])
    assert "1 image" in text_of(await make(target).achat([message]))


class TestMetadata:
    @pytest.mark.needs("models")
    async def test_the_window_is_learned_from_the_server(self, target):
        llm = make(target)
        assert llm.load_metadata().context_window > 0
        assert llm.metadata.model_name == target.chat["model"]
        other = make(target)
        assert (await other.aload_metadata()).context_window == llm.metadata.context_window

    @pytest.mark.needs("models", "devserver")
    @pytest.mark.parametrize("form", FORMS)
    async def test_an_unnamed_model_is_found(self, target, form):
        with own_server(target, models=("granite",)) as (_, url):
            async with make(target, model=None, base_url=url) as llm:
                assert text_of((await ask(llm, form, "Say hello."))[-1])
                assert llm.metadata.model_name == "granite"

    @pytest.mark.needs("tokenize", "tokenize_chat")
    async def test_tokens_are_counted_as_the_server_counts(self, target):
        llm = make(target)
        messages = [ChatMessage("Say hello.")]
        usage = llm.chat(messages).additional_kwargs
        assert llm.count_tokens(messages) == usage["prompt_tokens"]
        assert await llm.acount_tokens(messages) == usage["prompt_tokens"]
        assert llm.count_tokens("Say hello.") == len(llm.tokenize("Say hello.")) > 0


class TestErrors:
    @pytest.mark.parametrize("form", FORMS)
    async def test_a_wrong_token(self, target, form):
        if not target.chat.get("api_key"):
            pytest.skip("the target needs no key")
        with pytest.raises(AuthenticationError):
            await ask(make(target, api_key="not-the-token"), form, "Say hello.")

    @pytest.mark.needs("model_names")
    @pytest.mark.parametrize("form", FORMS)
    async def test_an_unknown_model(self, target, form):
        with pytest.raises(ModelNotFoundError):
            await ask(make(target, model="no-such-model"), form, "Say hello.")

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_prompt_that_does_not_fit(self, target, form):
        # A server that says nothing breaks the stream off.
        said = "stream_errors" in target.features or "stream" not in form
        with pytest.raises(ContextOverflowError if said else StreamInterrupted):
            await ask(make(target), form, "word " * 20000)


class TestLife:
    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda llm: pickle.loads(pickle.dumps(llm))])
    def test_copies_answer(self, target, copied):
        llm = make(target)
        first = text_of(llm.complete("Say hello."))
        assert text_of(copied(llm).complete("Say hello.")) == first

    def test_a_dump_comes_back(self, target):
        llm = make(target)
        again = {name: value for name, value in target.chat.items() if name in CONNECTION}
        twin = llm_class(target).from_dict(llm.to_dict(), **again)
        assert text_of(twin.complete("Say hello.")) == text_of(llm.complete("Say hello."))

    def test_no_dump_shows_the_key(self, target):
        llm = make(target, api_key="sha256~canary-canary")
        for shown in (repr(llm), str(llm.to_dict()), llm.to_json(), str(llm.to_payload())):
            assert "canary" not in shown

    def test_event_loops_one_after_another(self, target):
        llm = make(target)
        answers = {asyncio.run(llm.acomplete("Say hello.")).text for _ in range(3)}
        assert len(answers) == 1

    def test_threads(self, target):
        llm = make(target)
        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(lambda _: llm.complete("Say hello.").text, range(16)))
        assert len(answers) == 1

    async def test_many_at_once(self, target):
        llm = make(target, max_connections=8)
        answers = await asyncio.gather(*(llm.acomplete("Say hello.") for _ in range(24)))
        assert len({answer.text for answer in answers}) == 1

    async def test_leaving_a_stream(self, target):
        llm = make(target)
        stream = llm.stream_complete("Count to ten.")
        next(stream)
        stream.close()
        astream = await llm.astream_complete("Count to ten.")
        await anext(astream)
        await astream.aclose()
        assert text_of(llm.complete("Say hello."))
