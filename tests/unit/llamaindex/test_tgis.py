"""`TGISLLM` against the development server's wire, which was written from what the real servers send."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel
from unit.llamaindex.text_llms import CHAT_FORMS, COUNTED, FORMS, ask, collect, text_of

from kserve_core.chat_template import ChatTemplate
from kserve_core.devserver import DevServer, Model
from kserve_core.protos import messages
from llamaindex_kserve import (
    TGISLLM,
    AuthenticationError,
    ConfigurationError,
    ContextOverflowError,
    InvalidOutputError,
    StreamInterrupted,
    UnsupportedParameterError,
)

METHODS = messages.fmaas.DecodingMethod


@pytest.fixture(scope="module")
def running():
    models = (Model(name="tiny"), Model(name="tiny-adapter", parent="tiny"))
    with DevServer(tgis=True, api_key="key", models=models) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def make(server, **fields):
    return TGISLLM(**{"base_url": server.tgis_url, "api_key": "key", "temperature": 0, "timeout": 30, **fields})


def sent(server, number=-1):
    """A generation request as the server got it."""
    record = [one for one in server.requests if "Generat" in one.path.rsplit("/", 1)[-1]][number]
    kind = "SingleGenerationRequest" if record.path.endswith("Stream") else "BatchedGenerationRequest"
    return getattr(messages.fmaas, kind).FromString(record.body)


def prompt_of(request):
    return request.request.text if hasattr(request, "request") else request.requests[0].text


class TestAnswers:
    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", FORMS)
    async def test_every_endpoint(self, server, form, template):
        responses = await ask(make(server, chat_template=template), form)
        last = responses[-1]
        assert text_of(last) == COUNTED
        assert last.additional_kwargs["finish_reason"] == "stop"
        assert last.additional_kwargs["server_finish_reason"] == "EOS_TOKEN"
        assert last.raw["usage"]["completion_tokens"] == last.additional_kwargs["completion_tokens"] > 5
        if "stream" in form:
            assert "".join(response.delta for response in responses) == COUNTED
            assert len(responses) > 5

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_token_counter_takes_the_servers_word(self, server, form):
        def guess(_text):
            pytest.fail("tokens were guessed")

        counter = TokenCountingHandler(tokenizer=guess)
        llm = make(server, callback_manager=CallbackManager([counter]))
        usage = (await ask(llm, form))[-1].additional_kwargs
        assert counter.prompt_llm_token_count == usage["prompt_tokens"] > 0
        assert counter.completion_llm_token_count == usage["completion_tokens"]

    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", FORMS)
    async def test_log_probabilities(self, server, form, template):
        llm = make(server, chat_template=template, logprobs=True, top_logprobs=2)
        rows = [row for response in await ask(llm, form) for row in response.logprobs or ()]
        assert len(rows) > 5
        assert all(row[0].logprob <= 0 and len(row) in {2, 3} for row in rows)

    async def test_a_seed_comes_back(self, server):
        last = (await ask(make(server, temperature=0.7, seed=7), "complete"))[-1]
        assert last.additional_kwargs["seed"] == 7


class TestRequests:
    def test_only_what_was_set_is_sent(self, server):
        make(server, temperature=None).complete("Say hello.")
        params = sent(server).params
        assert params.method == METHODS.GREEDY
        assert params.stopping == messages.fmaas.StoppingCriteria(max_new_tokens=256)
        for part in ("sampling", "response", "decoding"):
            assert not params.HasField(part)
        assert sent(server).model_id == ""

    def test_fields_reach_the_message_and_a_call_goes_over_them(self, server):
        llm = make(
            server,
            model="tiny",
            temperature=0.5,
            top_p=0.9,
            max_tokens=7,
            min_tokens=2,
            stop=["four"],
            repetition_penalty=1.1,
            time_limit=1.5,
            truncate_prompt_tokens=50,
            include_stop_str_in_output=True,
        )
        llm.complete("Count to ten.", temperature=0.25, seed=3)
        request = sent(server)
        assert request.model_id == "tiny"
        assert (request.params.sampling.temperature, request.params.sampling.seed) == (0.25, 3)
        assert request.params.sampling.top_p == pytest.approx(0.9)
        assert request.params.decoding.repetition_penalty == pytest.approx(1.1)
        stopping = request.params.stopping
        assert (stopping.max_new_tokens, stopping.min_new_tokens, stopping.time_limit_millis) == (7, 2, 1500)
        assert (list(stopping.stop_sequences), stopping.include_stop_sequence) == (["four"], True)
        assert request.params.truncate_input_tokens == 50

    def test_a_conversation_by_its_template(self, server):
        llm = make(server, chat_template="chatml", stop="four")
        answer = llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage("Count to ten.")])
        assert text_of(answer).strip() == "one two three"
        request = sent(server)
        assert prompt_of(request) == (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nCount to ten.<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        assert list(request.params.stopping.stop_sequences) == ["<|im_end|>", "four"]
        assert request.params.stopping.max_new_tokens == 256

    def test_a_template_for_one_call(self, server):
        make(server, chat_template="chatml").chat([ChatMessage("Say hello.")], chat_template="zephyr")
        assert prompt_of(sent(server)).startswith("<|user|>\nSay hello.")

    def test_a_completion_of_a_chat_model_is_a_conversation(self, server):
        llm = make(server, chat_template="chatml")
        llm.complete("Say hello.")
        assert prompt_of(sent(server)).startswith("<|im_start|>user\nSay hello.")
        llm.complete("Say hello.", use_chat_completions=False)
        assert prompt_of(sent(server)) == "Say hello."

    def test_a_conversation_without_a_template_is_a_prompt(self, server):
        llm = make(server, messages_to_prompt=lambda talk: "|".join(message.content for message in talk))
        llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage("Say hello.")])
        assert prompt_of(sent(server)) == "Be brief.|Say hello."

    def test_adapters(self, server):
        llm = make(server, adapter_id="tiny-adapter")
        llm.complete("Say hello.")
        assert sent(server).adapter_id == "tiny-adapter"
        llm.adapter_id = None
        llm.complete("Say hello.")
        assert not sent(server).adapter_id
        llm.complete("Say hello.", adapter_id="tiny-adapter")
        assert sent(server).adapter_id == "tiny-adapter"

    def test_a_request_id_for_the_servers_log(self, server):
        make(server).complete("Say hello.", extra_headers={"x-request-id": "abc"})
        assert server.requests[-1].headers["x-correlation-id"] == "abc"

    def test_what_tgis_does_not_have_is_refused_here(self, server):
        llm = make(server)
        with pytest.raises(UnsupportedParameterError, match="frequency_penalty"):
            llm.complete("Say hello.", frequency_penalty=1)
        with pytest.raises(ConfigurationError, match="frequency_penalty"):
            make(server, frequency_penalty=1)
        with pytest.raises(UnsupportedParameterError, match="tools"):
            llm.chat([ChatMessage("Say hello.")], tools=[{"type": "function"}])
        picture = ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(image=b"\x89PNG")])
        for template in (None, "chatml"):
            with pytest.raises(UnsupportedParameterError):
                make(server, chat_template=template).chat([picture])
        assert len(server.requests) == 0


class TestTemplates:
    def test_make_it_a_chat_model(self, server):
        assert not make(server).metadata.is_chat_model
        llm = make(server, chat_template="chatml")
        assert llm.metadata.is_chat_model
        assert not llm.metadata.is_function_calling_model
        assert not make(server, chat_template="chatml", is_chat_model=False).metadata.is_chat_model
        llm.chat_template = None
        assert not llm.metadata.is_chat_model
        assert llm.model_copy(update={"chat_template": "zephyr"}).metadata.is_chat_model

    def test_conversations_need_one(self, server):
        with pytest.raises(ConfigurationError, match="chat template"):
            make(server, is_chat_model=True)
        with pytest.raises(ConfigurationError, match="chat template"):
            make(server).chat([ChatMessage("Say hello.")], use_chat_completions=True)

    def test_a_wrong_one_is_found_at_once(self, server):
        with pytest.raises(ConfigurationError, match="no-such-format"):
            make(server, chat_template="no-such-format")

    @pytest.mark.parametrize("kind", ["name", "jinja", "file", "template"])
    def test_they_are_written_down_and_pickled(self, server, kind, tmp_path):
        source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]"
        path = tmp_path / "template.jinja"
        path.write_text(source)
        value = {"name": "chatml", "jinja": source, "file": path, "template": ChatTemplate.load(source)}[kind]
        llm = make(server, chat_template=value)
        again = TGISLLM.from_dict(llm.to_dict(), base_url=server.tgis_url, api_key="key")
        for one in (llm, again, pickle.loads(pickle.dumps(llm)), llm.model_copy(deep=True)):
            one.chat([ChatMessage("Say hello.")])
        prompts = {prompt_of(sent(server, number)) for number in (-1, -2, -3, -4)}
        assert len(prompts) == 1
        if kind != "name":
            assert prompts == {"[user]Say hello.\n[assistant]"}


class TestMetadata:
    async def test_is_learned_once(self, server):
        llm = make(server)
        assert llm.metadata.context_window == 3900
        assert llm.load_metadata().context_window == 8192
        assert (await llm.aload_metadata()).context_window == 8192
        assert [record.path.rsplit("/", 1)[-1] for record in server.requests] == ["ModelInfo"]

    def test_room_for_the_answer_is_what_the_server_allows(self, server):
        from kserve_core.types import ModelInfo

        llm = make(server)
        llm._info = ModelInfo(id="", max_model_len=512, extra={"max_new_tokens": 100})
        assert llm.metadata.num_output == 100
        llm.complete("Say hello.")
        assert sent(server).params.stopping.max_new_tokens == 100

    async def test_tokens_are_counted_by_the_server(self, server):
        llm = make(server)
        assert llm.count_tokens("Say hello.") == len(llm.tokenize("Say hello.")) > 1
        assert llm.complete("Say hello.").additional_kwargs["prompt_tokens"] == llm.count_tokens("Say hello.")
        chat = make(server, chat_template="chatml")
        talk = [ChatMessage("Say hello.")]
        counted = await chat.acount_tokens(talk)
        assert chat.chat(talk).additional_kwargs["prompt_tokens"] == counted > llm.count_tokens("Say hello.")


class Greeting(BaseModel):
    """A greeting."""

    polite: bool
    times: int


class TestStructured:
    PROMPT = PromptTemplate("Say hello to {name}, please.")

    @pytest.mark.parametrize("template", [None, "chatml"])
    async def test_the_server_holds_the_answer_to_the_schema(self, server, template):
        llm = make(server, chat_template=template)
        assert isinstance(llm.structured_predict(Greeting, self.PROMPT, name="Ada"), Greeting)
        assert '"polite"' in sent(server).params.decoding.json_schema
        assert isinstance(await llm.astructured_predict(Greeting, self.PROMPT, name="Ada"), Greeting)
        objects = list(llm.stream_structured_predict(Greeting, self.PROMPT, name="Ada"))
        assert isinstance(objects[-1], Greeting)

    def test_or_is_asked_in_the_prompt(self, server):
        llm = make(server, chat_template="chatml", structured_output_mode="text")
        assert isinstance(llm.structured_predict(Greeting, self.PROMPT, name="Ada"), Greeting)
        assert not sent(server).params.decoding.WhichOneof("guided")

    @pytest.mark.parametrize("template", [None, "chatml"])
    def test_a_server_that_skips_the_schema_is_found_out(self, server, template, monkeypatch):
        # As the classic server does, which does not know the field.
        llm = make(server, chat_template=template)
        runtime = llm.client.runtime
        generate = runtime.generate
        monkeypatch.setattr(runtime, "generate", lambda request: generate(replace(request, constraint=None)))
        with pytest.raises(InvalidOutputError, match="Greeting"):
            llm.structured_predict(Greeting, self.PROMPT, name="Ada")

    def test_one_cut_off_is_an_error(self, server):
        with pytest.raises(InvalidOutputError, match="cut off"):
            make(server, max_tokens=2).structured_predict(Greeting, self.PROMPT, name="Ada")

    def test_other_forms(self, server):
        llm = make(server)
        assert llm.complete("Yes or no?", structured_outputs={"choice": ["yes", "no"]}).text in {"yes", "no"}
        assert llm.complete("Yes or no?", guided_choice=["yes", "no"]).text in {"yes", "no"}
        assert len(llm.complete("A number?", structured_outputs={"regex": "[0-9]{3}"}).text) == 3


class TestAgents:
    @pytest.mark.parametrize("template", [None, "chatml", "llama3"])
    @pytest.mark.parametrize("streaming", [True, False])
    async def test_react(self, server, template, streaming):
        def get_weather(city: str) -> str:
            """Get the current weather in a city."""
            return f"21 degrees and sunny in {city}"

        llm = make(server, chat_template=template, stop=["Observation:"])
        (agent,) = AgentWorkflow.from_tools_or_functions([get_weather], llm=llm).agents.values()
        assert type(agent) is ReActAgent
        handler = ReActAgent(tools=[get_weather], llm=llm, streaming=streaming).run("Weather in Paris?")
        results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        assert "21 degrees" in str(await handler)
        assert [result.tool_kwargs for result in results] == [{"city": "Paris"}]


class TestConnection:
    def test_there_is_grpc_only(self, server):
        with pytest.raises(UnsupportedParameterError, match="rest"):
            make(server, protocol="rest")
        with pytest.raises(ConfigurationError, match="path"):
            make(server, base_url="https://tgis.example.com/v1")
        assert make(server, base_url="https://tgis.example.com").protocol == "grpc"

    def test_plain_http_is_the_same_place(self, server):
        llm = make(server, base_url=server.tgis_url.replace("grpc://", "http://"))
        assert text_of(llm.complete("Say hello."))

    @pytest.mark.parametrize("form", FORMS)
    async def test_errors(self, server, form):
        with pytest.raises(AuthenticationError):
            await ask(make(server, api_key="wrong"), form)
        with pytest.raises(ContextOverflowError):
            await ask(make(server), form, "word " * 20000)

    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", ["stream_complete", "astream_chat"])
    async def test_a_broken_stream_is_an_error_that_has_the_text_so_far(self, server, form, template):
        server.fault(cut_after=4)
        texts: list[str] = []
        llm = make(server, chat_template=template)
        with pytest.raises(StreamInterrupted) as caught:
            await collect(llm, form, texts)
        assert caught.value.partial_text == "".join(texts) != ""

    async def test_leaving_a_stream_ends_the_call(self):
        with DevServer(tgis=True, pace=0.05) as slow:
            llm = TGISLLM(base_url=slow.tgis_url, chat_template="chatml")
            stream = llm.stream_complete("Count to ten.")
            next(stream)
            stream.close()
            astream = await llm.astream_complete("Count to ten.")
            await anext(astream)
            await astream.aclose()
            for _ in range(100):
                if all(record.cancelled for record in slow.requests):
                    break
                await asyncio.sleep(0.02)
            assert [record.cancelled is not None for record in slow.requests] == [True, True]

    def test_event_loops_one_after_another(self, server):
        llm = make(server)
        assert {asyncio.run(llm.acomplete("Count to ten.")).text for _ in range(3)} == {COUNTED}

    def test_a_pickle_answers(self, server):
        llm = make(server)
        llm.complete("Say hello.")
        assert pickle.loads(pickle.dumps(llm)).complete("Count to ten.").text == COUNTED

    def test_nothing_shows_the_key(self, server):
        llm = make(server, api_key="sha256~canary")
        for shown in (repr(llm), str(llm.to_dict()), llm.to_json(), str(llm.to_payload())):
            assert "canary" not in shown

    @pytest.mark.parametrize("form", CHAT_FORMS)
    async def test_through_tls(self, form):
        with DevServer(tgis=True, tls=True) as server:
            llm = TGISLLM(base_url=server.tgis_url, ca_cert=server.ca_cert, chat_template="chatml")
            assert text_of((await ask(llm, form))[-1]) == COUNTED
            await llm.aclose()
