"""The TGIS classes over the development server: what is sent, guided decoding, the context window."""

from __future__ import annotations

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from unit.langchain.chat_fakes import joined
from unit.langchain.text_only import Person, get_weather

from kserve_core.devserver import DevServer
from kserve_core.protos import messages
from langchain_kserve import TGISLLM, ChatTGIS, ConfigurationError, ServerError, StreamInterrupted
from langchain_kserve import UnsupportedParameterError as Unsupported

URL = "grpcs://model.example.com:443"


@pytest.fixture(scope="module")
def running():
    with DevServer(tgis=True, api_key="k") as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def llm(server):
    return TGISLLM(base_url=server.tgis_url, api_key="k", max_tokens=64)


@pytest.fixture
def chat(server):
    return ChatTGIS(base_url=server.tgis_url, api_key="k", chat_template="chatml", max_tokens=128)


def sent(server, method="Generate"):
    cls = (
        messages.fmaas.SingleGenerationRequest
        if method == "GenerateStream"
        else messages.fmaas.BatchedGenerationRequest
    )
    return [cls.FromString(record.body) for record in server.requests.to(f"/{method}")]


# Where the server is


def test_it_speaks_grpc_whatever_the_scheme():
    for url in (URL, "https://model.example.com", "grpc://localhost:8033", "http://localhost:8033"):
        assert TGISLLM(base_url=url)._get_client().runtime.name == "TGIS"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_url": URL, "protocol": "rest"}, "TGIS cannot be reached with protocol='rest'"),
        ({"base_url": "https://model.example.com/v1"}, "has a path"),
    ],
)
def test_what_cannot_be_reached_is_said_by_the_constructor(given, message):
    with pytest.raises(ConfigurationError, match=message):
        TGISLLM(**given)


# Requests


def test_prompts_of_a_batch_travel_in_one_request(server, llm):
    texts = llm.batch(["Say hello.", "Count to ten.", "Say hello."])
    assert texts[0] == texts[2] != texts[1]
    (request,) = sent(server)
    assert [prompt.text for prompt in request.requests] == ["Say hello.", "Count to ten.", "Say hello."]
    result = llm.generate(["Say hello.", "Count to ten."])
    each = [choices[0].generation_info["token_usage"]["completion_tokens"] for choices in result.generations]
    assert result.llm_output["token_usage"]["completion_tokens"] == sum(each)


def test_the_names_are_those_of_the_other_classes(server):
    llm = TGISLLM(base_url=server.tgis_url, api_key="k", max_new_tokens=9, top_p=0.5, seed=4, stop="x", time_limit=1.5)
    llm.invoke("Say hello.", min_tokens=2, repetition_penalty=1.5)
    params = sent(server)[0].params
    assert (params.stopping.max_new_tokens, params.stopping.min_new_tokens) == (9, 2)
    assert (list(params.stopping.stop_sequences), params.stopping.time_limit_millis) == (["x"], 1500)
    assert (params.sampling.top_p, params.sampling.seed) == (0.5, 4)
    assert params.decoding.repetition_penalty == 1.5


def test_only_what_was_set_is_sent(server):
    TGISLLM(base_url=server.tgis_url, api_key="k").invoke("Say hello.")
    (request,) = sent(server)
    assert request == messages.fmaas.BatchedGenerationRequest(
        requests=[messages.fmaas.GenerationRequest(text="Say hello.")], params=messages.fmaas.Parameters()
    )


def test_adapters_are_asked_for_when_set():
    with DevServer(tgis=True) as server:
        llm = TGISLLM(base_url=server.tgis_url, adapter_id="a", model="m")
        with pytest.raises(Exception, match="adapter"):
            llm.invoke("Say hello.")
        (request,) = sent(server)
        assert (request.adapter_id, request.model_id) == ("a", "m")
        with pytest.raises(Exception, match="adapter"):
            llm.invoke("Say hello.", adapter_id="b")
        assert sent(server)[-1].adapter_id == "b"
        llm.close()


@pytest.mark.parametrize("name", ["n", "frequency_penalty", "logit_bias", "route_prefix"])
def test_what_the_runtime_lacks_is_no_argument(name):
    for cls in (TGISLLM, ChatTGIS):
        with pytest.raises(ConfigurationError, match=name):
            cls(base_url=URL, **{name: 1})


def test_logprobs_and_alternatives(llm, chat):
    info = llm.generate(["Count to ten."], logprobs=2, max_tokens=3).generations[0][0].generation_info
    assert len(info["logprobs"]["tokens"]) == 3
    assert all(len(row) == 2 for row in info["logprobs"]["top_logprobs"])
    whole = chat.invoke("Count to ten.", logprobs=True, top_logprobs=2, max_tokens=3).response_metadata["logprobs"]
    assert [len(token["top_logprobs"]) for token in whole["content"]] == [2, 2, 2]
    streamed = joined(chat.stream("Count to ten.", logprobs=True, top_logprobs=2, max_tokens=3))
    assert streamed.response_metadata["logprobs"]["content"] == whole["content"]


# Chat


def test_a_chat_template_is_needed():
    with pytest.raises(ConfigurationError, match="ChatTGIS needs a chat_template"):
        ChatTGIS(base_url=URL)


def test_the_conversation_is_one_prompt_and_the_turns_end_a_stop(server, chat):
    assert chat.invoke("Say hello.").text
    assert joined(chat.stream("Say hello.")).text
    (whole,), (streamed,) = sent(server), sent(server, "GenerateStream")
    prompt = "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n"
    assert whole.requests[0].text == streamed.request.text == prompt
    for request in (whole, streamed):
        assert list(request.params.stopping.stop_sequences) == ["<|im_end|>"]
        assert request.params.stopping.include_stop_sequence is False


def test_there_are_no_tools(chat):
    with pytest.raises(Unsupported, match="ChatTGIS has no tools: TGIS completes text"):
        chat.bind_tools([get_weather])
    assert chat.profile["tool_calling"] is False


# Forms


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_structured_output_is_guided(server, chat, method):
    structured = chat.with_structured_output(Person, method=method)
    assert isinstance(structured.invoke("Ann is 30 years old."), Person)
    assert isinstance(await structured.ainvoke("Ann is 30 years old."), Person)
    assert all('"Person"' in request.params.decoding.json_schema for request in sent(server))
    assert all("JSON" not in request.requests[0].text for request in sent(server))
    assert list(structured.stream("Ann is 30 years old."))[-1].name


def test_json_mode(server, chat):
    assert isinstance(chat.with_structured_output(method="json_mode").invoke("Use the keys 'a' and 'b'."), dict)
    assert sent(server)[0].params.decoding.format == messages.fmaas.DecodingParameters.ResponseFormat.JSON


def test_forms_of_a_call(server, llm, chat):
    for model, text in ((llm, str), (chat, lambda message: message.text)):
        assert text(model.invoke("Is the sky blue?", guided_choice=["yes", "no"])) in {"yes", "no"}
        assert text(model.invoke("A number:", guided_regex="[0-9]{3}")).isdigit()
    assert list(sent(server)[0].params.decoding.choice.choices) == ["yes", "no"]
    with pytest.raises(ConfigurationError, match="two texts at least"):
        llm.invoke("x", guided_choice=["yes"])


def test_a_structured_output_that_was_cut_is_an_error(chat, llm):
    for model in (chat, llm):
        with pytest.raises(OutputParserException, match="max_tokens"):
            model.with_structured_output(Person, max_tokens=2).invoke("Ann is 30 years old.")


# Tokens, profile


def test_tokens_are_counted_as_the_server_does(llm, chat):
    count = chat.get_num_tokens_from_messages([HumanMessage("Say hello.")])
    assert count == chat.invoke("Say hello.").usage_metadata["input_tokens"]
    assert llm.get_num_tokens("Say hello.") == llm.generate(["Say hello."]).llm_output["token_usage"]["prompt_tokens"]
    with pytest.raises(Unsupported, match="does not tell their ids"):
        llm.get_token_ids("Say hello.")


def test_the_profile_learns_the_window_and_the_limit(chat):
    assert "max_input_tokens" not in chat.profile
    profile = chat.load_profile()
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (8192, 1024)
    assert profile["structured_output"] is True


def test_the_version_is_not_told(llm):
    with pytest.raises(Unsupported, match="does not tell its version"):
        llm.server_version()
    assert llm.is_ready()


# Errors


async def test_errors_are_langchains_too(server, chat):
    server.fault(code="INTERNAL", details="boom", times=None)
    with pytest.raises(ServerError, match="boom"):
        chat.bind().invoke("Say hello.")
    server.reset()
    server.fault(cut_after=3)
    with pytest.raises(StreamInterrupted) as raised:
        async for _ in chat.astream("Count to ten."):
            pass
    assert raised.value.partial_text
