from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    EventPayload,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.utils import resolve_llm
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import BaseRateLimiter
from unit.llamaindex.llm_fakes import BASE_URL, TOKEN, FakeClient, FakeRuntime, FakeVLLM, Recorder, make, streamed

from kserve_core.errors import AuthenticationError, ServerError, StreamInterrupted, UnsupportedParameterError
from kserve_core.types import ChatChoice, ChatDelta, Tokenization, ToolCall
from llamaindex_kserve import VLLM
from llamaindex_kserve._base_llm import KServeLLM

HI = [ChatMessage("hi")]


async def call(llm, form, **kwargs):
    """The last response of one of the eight endpoints, and all the streamed texts."""
    content = "hi" if "complete" in form else HI
    result = getattr(llm, form)(content, **kwargs)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return result, []
    responses = [item async for item in result] if form.startswith("a") else list(result)
    return responses[-1], [item.delta for item in responses]


FORMS = [
    "chat",
    "complete",
    "stream_chat",
    "stream_complete",
    "achat",
    "acomplete",
    "astream_chat",
    "astream_complete",
]


class TestEndpoints:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("is_chat_model", [True, False])
    async def test_all_eight_answer(self, form, is_chat_model):
        llm, runtime = make("one two", is_chat_model=is_chat_model)
        last, deltas = await call(llm, form)
        text = last.text if "complete" in form else last.message.content
        assert text.strip() == "one two"
        if "stream" in form:
            assert "".join(deltas) == text
        assert last.additional_kwargs["total_tokens"] == 31
        assert last.raw["usage"]["prompt_tokens"] == 11
        (request,) = runtime.requests
        assert hasattr(request, "messages") is is_chat_model

    def test_a_completion_of_a_chat_model_is_one_user_message(self):
        llm, runtime = make("x")
        llm.complete("Say hi")
        assert list(runtime.requests[0].messages) == [{"role": "user", "content": "Say hi"}]

    def test_a_conversation_with_a_completion_model_is_a_prompt(self):
        llm, runtime = make("x", is_chat_model=False)
        llm.chat(
            [ChatMessage(role="system", content="Be brief."), ChatMessage("Hi", additional_kwargs={"x": "SECRET"})]
        )
        (prompt,) = runtime.requests[0].prompts
        assert prompt == "system: Be brief.\nuser: Hi\nassistant: "

    def test_prompt_functions_are_used(self):
        llm, runtime = make(
            "x",
            is_chat_model=False,
            messages_to_prompt=lambda messages: f"<{messages[0].content}>",
            completion_to_prompt=lambda text: f"[{text}]",
        )
        llm.chat(HI)
        llm.complete("hi")
        llm.complete("hi", formatted=True)
        assert [request.prompts[0] for request in runtime.requests] == ["<hi>", "[hi]", "hi"]

    def test_a_prompt_cannot_hold_an_image(self):
        llm, _ = make("x", is_chat_model=False)
        message = ChatMessage(blocks=[TextBlock(text="what is it?"), ImageBlock(url="https://example.com/x.png")])
        with pytest.raises(UnsupportedParameterError, match="image"):
            llm.chat([message])

    def test_a_completion_model_answers_at_length(self):
        llm, runtime = make("x", is_chat_model=False)
        llm.complete("hi")
        llm.complete("hi", max_tokens=3)
        assert [request.params["max_tokens"] for request in runtime.requests] == [256, 3]

    @pytest.mark.parametrize("is_chat_model", [True, False])
    def test_one_call_may_choose_the_other_endpoint(self, is_chat_model):
        llm, runtime = make("x", is_chat_model=is_chat_model)
        llm.complete("hi", use_chat_completions=not is_chat_model)
        llm.chat(HI, use_chat_completions=not is_chat_model)
        assert [hasattr(request, "messages") for request in runtime.requests] == [not is_chat_model] * 2
        assert not any("use_chat_completions" in request.params for request in runtime.requests)

    @pytest.mark.parametrize("form", ["complete", "stream_complete"])
    def test_prompt_argument_rules(self, form):
        llm, _ = make("x")
        assert getattr(llm, form)(prompt="hi") is not None
        with pytest.raises(ValueError, match="prompt"):
            getattr(llm, form)()
        with pytest.raises(TypeError):
            getattr(llm, form)("hi", prompt="hi")

    def test_messages_are_left_alone(self):
        llm, _ = make("x")
        history = [ChatMessage("hi", additional_kwargs={"a": 1})]
        before = [message.model_copy(deep=True) for message in history]
        llm.chat(history)
        list(llm.stream_chat(history))
        assert history == before


class TestStreams:
    def test_leaving_early_closes_the_servers_stream(self):
        llm, _ = make("one two three")
        stream = llm.stream_chat(HI)
        next(stream)
        stream.close()
        gc.collect()
        assert llm._cell.client.closed == 1

    async def test_leaving_an_async_one_early_closes_it_too(self):
        llm, _ = make("one two three")
        stream = await llm.astream_chat(HI)
        await anext(stream)
        await stream.aclose()
        del stream
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert llm._cell.client.closed == 1

    @pytest.mark.parametrize("form", ["stream_chat", "stream_complete", "astream_chat", "astream_complete"])
    async def test_a_broken_stream_raises_with_what_had_come(self, form):
        def broken():
            yield ChatDelta(content="Hello ", raw={})
            raise StreamInterrupted("cut", partial_text="Hello ")

        llm, _ = make(broken)
        with pytest.raises(StreamInterrupted) as caught:
            await call(llm, form)
        assert caught.value.partial_text == "Hello "

    async def test_a_request_that_cannot_be_made_fails_at_the_call(self):
        llm, _ = make("x")
        bad = [ChatMessage(blocks=[ImageBlock()])]
        with pytest.raises(ValueError):
            llm.stream_chat(bad)
        with pytest.raises(ValueError):
            await llm.astream_chat(bad)


class TestEvents:
    @pytest.mark.parametrize("form", FORMS)
    async def test_one_pair_of_events_and_one_span_per_call(self, form):
        llm, _ = make("one two")
        with Recorder() as recorder:
            _, deltas = await call(llm, form)
        kind = "Completion" if "complete" in form else "Chat"
        start, end = f"LLM{kind}StartEvent", f"LLM{kind}EndEvent"
        assert recorder.names == [start, *[f"LLM{kind}InProgressEvent"] * len(deltas), end]
        assert [span.rpartition(".")[2] for span in recorder.spans] == [form]
        assert recorder.events[0].model_dict["class_name"] == "KServe_VLLM"
        assert recorder.events[0].model_dict["model"] == "granite"

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_completion_model_nests_nothing_either(self, form):
        llm, _ = make("one two", is_chat_model=False)
        with Recorder() as recorder:
            await call(llm, form)
        assert sum(name.endswith("StartEvent") for name in recorder.names) == 1
        assert sum(name.endswith("EndEvent") for name in recorder.names) == 1

    async def test_a_stream_left_early_says_so(self):
        llm, _ = make("one two three")
        with Recorder() as recorder:
            stream = llm.stream_chat(HI)
            next(stream)
            stream.close()
        assert recorder.names == ["LLMChatStartEvent", "LLMChatInProgressEvent", "ExceptionEvent"]

    def test_events_hold_no_secret(self):
        llm, _ = make("one two", api_key=TOKEN, default_headers={"x-key": "hunter2-hunter2"})
        with Recorder() as recorder:
            llm.chat(HI)
            list(llm.stream_complete("hi"))
        dumped = "".join(str(event.model_dump()) for event in recorder.events)
        assert TOKEN not in dumped
        assert "hunter2" not in dumped

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_token_counter_counts_what_the_server_counted(self, form):
        def refuse(_text):
            pytest.fail("tokens were guessed")

        counter = TokenCountingHandler(tokenizer=refuse)
        llm, _ = make("one two", callback_manager=CallbackManager([counter]))
        await call(llm, form)
        assert counter.prompt_llm_token_count == 11
        assert counter.completion_llm_token_count == 20
        assert counter.total_llm_token_count == 31

    def test_an_error_ends_the_legacy_event(self):
        debug = LlamaDebugHandler(print_trace_on_end=False)
        llm, _ = make(AuthenticationError("no"), callback_manager=CallbackManager([debug]))
        with pytest.raises(AuthenticationError):
            llm.chat(HI)
        (pair,) = debug.get_event_pairs(CBEventType.LLM)
        assert isinstance(pair[1].payload[EventPayload.EXCEPTION], AuthenticationError)


class TestRateLimit:
    @pytest.mark.parametrize("form", FORMS)
    async def test_it_is_asked_once_per_call(self, form):
        asked = []

        class Limiter(BaseRateLimiter):
            def acquire(self, num_tokens=0):
                asked.append("blocking")

            async def async_acquire(self, num_tokens=0):
                asked.append("async")

        llm, _ = make("x", rate_limiter=Limiter())
        await call(llm, form)
        assert asked == ["async" if form.startswith("a") else "blocking"]


class TestMetadata:
    def test_without_asking_anybody(self):
        metadata = VLLM(base_url="https://nobody.invalid/v1", model="granite", max_tokens=512).metadata
        assert metadata.model_name == "granite"
        assert metadata.context_window == 3900
        assert metadata.num_output == 512
        assert metadata.is_chat_model
        assert metadata.is_function_calling_model

    def test_num_output_is_never_nonsense(self):
        assert VLLM(base_url=BASE_URL).metadata.num_output == 256

    def test_functions_need_a_chat_model(self):
        llm = VLLM(base_url=BASE_URL, is_chat_model=False)
        assert not llm.metadata.is_function_calling_model
        assert not VLLM(base_url=BASE_URL, is_function_calling_model=False).metadata.is_function_calling_model

    def test_asked_for(self):
        llm, runtime = make("x", model=None)
        assert llm.load_metadata().context_window == 16384
        assert llm.metadata.model_name == "found"
        before = runtime.lookups
        for _ in range(3):
            llm.metadata  # noqa: B018
            llm.to_payload()
        assert runtime.lookups == before

    async def test_asked_for_async(self):
        llm, _ = make("x")
        assert (await llm.aload_metadata()).context_window == 16384

    def test_a_given_window_is_not_overruled(self):
        llm, _ = make("x", context_window=2048)
        assert llm.load_metadata().context_window == 2048

    def test_it_travels_with_copies_but_not_to_another_model(self):
        import pickle

        llm, _ = make("x")
        llm.load_metadata()
        assert pickle.loads(pickle.dumps(llm)).metadata.context_window == 16384
        llm.model = "other"
        assert llm.metadata.context_window == 3900

    def test_it_is_a_llamaindex_llm(self):
        llm, _ = make("x")
        assert isinstance(llm, BaseLLM | FunctionCallingLLM)
        assert resolve_llm(llm) is llm
        old = Settings._llm
        try:
            Settings.llm = llm
            assert Settings.llm is llm
        finally:
            Settings._llm = old

    def test_class_names_are_nobody_elses(self):
        assert VLLM.class_name() == "KServe_VLLM"
        assert VLLM.class_name() not in {"VllmLLM", "Vllm", "VllmServer", "base_component", "OpenAILike"}


class TestModelLookup:
    def test_a_named_model_needs_none(self):
        llm, runtime = make("x")
        llm.chat(HI)
        assert runtime.lookups == 0

    def test_one_for_all_calls(self):
        llm, runtime = make("x", model=None)
        llm.chat(HI)
        list(llm.stream_chat(HI))
        assert runtime.lookups == 1

    async def test_one_for_many_tasks_at_once(self):
        llm, runtime = make("x", model=None)
        llm._cell.client.delay = 0.01
        first = asyncio.create_task(llm.achat(HI))
        await asyncio.sleep(0.001)
        others = [asyncio.create_task(llm.achat(HI)) for _ in range(50)]
        await asyncio.sleep(0.001)
        first.cancel()  # whoever asked first may leave without taking the answer along
        answers = await asyncio.gather(*others)
        assert len(answers) == 50
        assert runtime.lookups == 1

    def test_one_for_many_threads_at_once(self):
        gate = threading.Event()

        class Waiting(FakeRuntime):
            def list_models(self):
                gate.wait(5)
                return super().list_models()

        llm, _ = make("x", model=None)
        runtime = Waiting("x", model=None)
        llm._cell.client = FakeClient(runtime)
        threads = [threading.Thread(target=llm.chat, args=(HI,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join(5)
        assert runtime.lookups == 1
        assert len(runtime.requests) == 16

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_failed_one_is_tried_again_by_the_next_call(self, form):
        class Failing(FakeRuntime):
            def list_models(self):
                if not super().list_models() or self.lookups == 1:
                    raise ServerError("down")
                return "found"

        llm, _ = make("x", model=None)
        llm._cell.client = FakeClient(Failing("x", model=None))
        with pytest.raises(ServerError):
            await call(llm, form)
        last, _deltas = await call(llm, form)
        assert last.additional_kwargs["total_tokens"] == 31

    async def test_the_window_comes_with_it(self):
        llm, _ = make("x", model=None)
        llm.chat(HI)
        assert llm.metadata.context_window == 16384
        assert llm.metadata.model_name == "found"


class TestTokens:
    def test_tokens_fit_the_frameworks_tokenizer_slot(self):
        llm, _ = make("x")
        counter = TokenCountingHandler(tokenizer=llm.tokenize)
        assert counter._token_counter.get_string_tokens("one two three") == 3

    async def test_counting_text_and_conversations(self):
        llm, runtime = make("x")
        assert llm.count_tokens("one two") == 2
        assert await llm.acount_tokens(HI, tools=[{"type": "function", "function": {"name": "f"}}]) == 100
        assert runtime.requests[0].tools
        assert await llm.atokenize("one two") == [3, 3]

    def test_a_runtime_that_only_counts(self):
        llm, runtime = make("x")
        runtime.tokenize = lambda text, model=None: Tokenization(count=4)
        assert len(llm.tokenize("anything")) == 4

    def test_a_runtime_that_cannot_says_so(self):
        llm, _ = make("x")
        llm._cell.client = FakeClient(object())
        with pytest.raises(UnsupportedParameterError, match="vLLM does not count tokens"):
            llm.count_tokens("x")


class TestPredict:
    async def test_the_frameworks_own_methods(self):
        llm, runtime = make("Paris", system_prompt="Be brief.")
        prompt = PromptTemplate("Capital of {country}?")
        assert llm.predict(prompt, country="France") == "Paris"
        assert await llm.apredict(prompt, country="France") == "Paris"
        assert "".join(llm.stream(prompt, country="France")).strip() == "Paris"
        assert "".join([token async for token in await llm.astream(prompt, country="France")]).strip() == "Paris"
        assert [message["role"] for message in runtime.requests[0].messages] == ["system", "user"]


class TestAnotherRuntime:
    """A text-only runtime's class is a handful of lines."""

    async def test_declaring_one(self):
        class TextOnly(KServeLLM):
            _runtime_name = "TGIS"

            def _make_runtime(self, endpoint):
                return FakeRuntime("generated")

        class Offline(TextOnly):
            def _make_client(self, endpoint):
                return FakeClient(self._make_runtime(endpoint))

        llm = Offline(base_url=BASE_URL, model="m")
        assert not llm.metadata.is_chat_model
        assert not isinstance(llm, FunctionCallingLLM)
        for form in FORMS:
            last, _ = await call(llm, form)
            assert (last.text if "complete" in form else last.message.content).strip() == "generated"
        with pytest.raises(UnsupportedParameterError, match="TGIS takes no image blocks"):
            llm.chat([ChatMessage(blocks=[ImageBlock(url="https://example.com/x.png")])])


class TestThoughtsAlone:
    """Reasoning parsers may deliver a whole answer as reasoning."""

    @pytest.mark.parametrize("form", FORMS)
    async def test_they_are_the_text_where_asked_for(self, form):
        def pieces():
            return streamed("", reasoning=["It is ", "Paris."])

        whole = ChatChoice(reasoning="It is Paris.", finish_reason="stop")
        for wanted in (False, True):
            llm, _ = make(pieces if "stream" in form else whole, reasoning_as_text=wanted)
            last, deltas = await call(llm, form)
            text = last.text if "complete" in form else last.message.content
            assert text == ("It is Paris." if wanted else "")
            assert "".join(deltas) == (text if "stream" in form else "")
            assert last.additional_kwargs["total_tokens"] == 31

    def test_thoughts_cut_off_are_no_answer(self):
        llm, _ = make(ChatChoice(reasoning="It is", finish_reason="length"), reasoning_as_text=True)
        assert llm.complete("?").text == ""

    def test_nor_are_those_before_a_text_or_a_call(self):
        for choice in (
            ChatChoice(content="Paris.", reasoning="Hm.", finish_reason="stop"),
            ChatChoice(tool_calls=[ToolCall("c", "f", "{}")], reasoning="Hm.", finish_reason="stop"),
        ):
            llm, _ = make(choice, reasoning_as_text=True)
            assert llm.chat(HI).message.blocks[0].content == "Hm."


def test_a_stream_that_only_thinks_is_not_lost():
    llm, _ = make(lambda: streamed("", reasoning=["The answer ", "is four."]))
    *_, last = llm.stream_chat(HI)
    assert last.message.blocks[0].content == "The answer is four."
    assert isinstance(llm, FakeVLLM)
