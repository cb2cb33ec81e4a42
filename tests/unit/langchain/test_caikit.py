"""The Caikit classes over the development server: what is sent, and what the runtime cannot do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from unit.langchain.chat_fakes import joined
from unit.langchain.text_only import JINJA, Person, get_weather

from kserve_core.chat_template import ChatTemplate
from kserve_core.devserver import DevServer
from langchain_kserve import (
    CaikitEmbeddings,
    CaikitLLM,
    CaikitRerank,
    ChatCaikit,
    ConfigurationError,
    UnsupportedParameterError,
)

URL = "https://model.example.com"
CLASSES = [CaikitLLM, ChatCaikit, CaikitEmbeddings, CaikitRerank]


@pytest.fixture(scope="module")
def running():
    with DevServer(runtime="caikit", caikit_grpc=True, api_key="k", models=("dev-model",)) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture(params=["rest", "grpc"])
def url(request, server):
    return server.url if request.param == "rest" else server.caikit_grpc_url


@pytest.fixture
def chat(url):
    def chat(**fields):
        return ChatCaikit(**{"base_url": url, "api_key": "k", "chat_template": "chatml", "max_tokens": 64, **fields})

    return chat


def bodies(server):
    return [record.json for record in server.requests.to("/task/text-generation")]


# Where the server is


@pytest.mark.parametrize("cls", CLASSES)
def test_a_grpc_url_is_spoken_to_in_grpc(cls):
    extra = {"chat_template": "chatml"} if cls is ChatCaikit else {}
    for given, spoken in (
        ({"base_url": URL}, "rest"),
        ({"base_url": f"{URL}:8443", "protocol": "grpc"}, "grpc"),
        ({"base_url": "grpcs://model.example.com:443"}, "grpc"),
        ({"base_url": "grpc://localhost:8085"}, "grpc"),
    ):
        assert cls(**given, **extra)._get_client().runtime.protocol == spoken


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_url": "grpcs://model.example.com:443", "protocol": "rest"}, "protocol='rest' does not go with"),
        ({"base_url": f"{URL}/v1", "protocol": "grpc"}, "has a path"),
    ],
)
def test_what_cannot_be_reached_is_said_by_the_constructor(given, message):
    with pytest.raises(ConfigurationError, match=message):
        CaikitLLM(**given)


def test_the_route_prefix_is_the_servers(server):
    llm = CaikitLLM(base_url=server.url, api_key="k", model="m", route_prefix="elsewhere/v2", max_retries=0)
    with pytest.raises(Exception, match=r"."):
        llm.invoke("x")
    assert server.requests[-1].path == "/elsewhere/v2/task/text-generation"


# Requests


def test_only_what_was_set_is_sent(server):
    CaikitLLM(base_url=server.url, api_key="k", model="dev-model").invoke("Say hello.")
    (body,) = bodies(server)
    assert body == {"inputs": "Say hello.", "parameters": {"preserve_input_text": False}, "model_id": "dev-model"}


def test_the_names_are_those_of_the_other_classes(server):
    llm = CaikitLLM(
        base_url=server.url, api_key="k", max_new_tokens=9, temperature=0.5, top_p=0.9, seed=1, stop="x", time_limit=5
    )
    llm.invoke("Say hello.", min_tokens=2, length_penalty=(3, 1.5))
    assert bodies(server)[0]["parameters"] == {
        "decoding_method": "SAMPLING",
        "exponential_decay_length_penalty": {"start_index": 3, "decay_factor": 1.5},
        "max_new_tokens": 9,
        "max_time": 5.0,
        "min_new_tokens": 2,
        "preserve_input_text": False,
        "seed": 1,
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "top_p": 0.9,
    }


@pytest.mark.parametrize("name", ["n", "frequency_penalty", "logit_bias", "top_logprobs", "dimensions"])
def test_what_the_runtime_lacks_is_no_argument(name):
    for cls in CLASSES:
        with pytest.raises(ConfigurationError, match=name):
            cls(base_url=URL, **{name: 1})


async def test_what_the_runtime_lacks_is_refused_in_calls(server, chat):
    for arguments in ({"frequency_penalty": 1.0}, {"n": 2}, {"guided_choice": ["yes", "no"]}):
        with pytest.raises(UnsupportedParameterError):
            chat().invoke("x", **arguments)
        with pytest.raises(UnsupportedParameterError):
            await CaikitLLM(base_url=server.url, api_key="k", model="dev-model").ainvoke("x", **arguments)
    assert not bodies(server)


def test_prompts_of_a_batch_are_side_by_side_within_the_limit(server):
    server.fault(delay=0.05, path="/task/text-generation", times=None)
    llm = CaikitLLM(base_url=server.url, api_key="k", model="dev-model", max_concurrency=3)
    texts = llm.batch([f"Repeat {number}." for number in range(9)])
    assert len(texts) == 9
    assert 2 <= server.max_in_flight <= 3


def test_token_details_are_in_the_generation_info(url):
    llm = CaikitLLM(base_url=url, api_key="k", logprobs=True, max_tokens=5, seed=3, temperature=0.5)
    info = llm.generate(["Count to ten."]).generations[0][0].generation_info
    assert info["server_finish_reason"] == "MAX_TOKENS"
    assert info["finish_reason"] == "length"
    assert info["seed"] == 3
    assert len(info["tokens"]) == len(info["logprobs"]["tokens"]) == 5


# Chat


def test_a_chat_template_is_needed_and_the_error_lists_those_there_are():
    with pytest.raises(ConfigurationError, match="ChatCaikit needs a chat_template") as raised:
        ChatCaikit(base_url=URL)
    for name in ("chatml", "llama3", "granite", "tokenizer_config.json"):
        assert name in raised.value.hint


@pytest.mark.parametrize("template", ["no-such-format", Path("no/such/file.jinja"), "{% for %}"])
def test_a_template_that_cannot_be_used_is_said_by_the_constructor(template):
    with pytest.raises(ConfigurationError):
        ChatCaikit(base_url=URL, chat_template=template)


def test_the_conversation_is_one_prompt_and_the_turns_end_a_stop(server):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml", stop=["x"])
    model.invoke([SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello."), HumanMessage("Say hello.")])
    (body,) = bodies(server)
    assert body["inputs"] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert body["parameters"]["stop_sequences"] == ["<|im_end|>", "x"]


@pytest.mark.parametrize("kind", ["text", "file", "object"])
def test_a_template_may_be_text_a_file_or_an_object(server, tmp_path, kind):
    file = tmp_path / "template.jinja"
    file.write_text(JINJA)
    template = {"text": JINJA, "file": file, "object": ChatTemplate.load(JINJA)}[kind]
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template=template)
    model.invoke("Say hello.")
    assert bodies(server)[0]["inputs"] == "<user>Say hello.</user><assistant>"
    assert pickle.loads(pickle.dumps(model)).invoke("Say hello.").text


def test_another_template_after_construction(server):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml")
    model.invoke("Say hello.")
    model.chat_template = "zephyr"
    model.invoke("Say hello.")
    model.invoke("Say hello.", chat_template=JINJA)
    starts = [body["inputs"][:6] for body in bodies(server)]
    assert starts == ["<|im_s", "<|user", "<user>"]


def test_the_template_is_part_of_the_caches_key(server):
    cache = InMemoryCache()
    for template in ("chatml", "zephyr", ChatTemplate.load(JINJA), ChatTemplate.load(f"{JINJA} ")) * 2:
        fields = {"base_url": server.url, "api_key": "k", "model": "dev-model", "cache": cache}
        assert ChatCaikit(**fields, chat_template=template).invoke("Say hello.").text
    assert len(bodies(server)) == 4


async def test_answers_and_streams_are_equal(chat):
    model = chat()
    whole, streamed = model.invoke("Count to ten."), joined(model.stream("Count to ten."))
    again = joined([chunk async for chunk in model.astream("Count to ten.")])
    assert whole.text == streamed.text == again.text == (await model.ainvoke("Count to ten.")).text
    assert whole.usage_metadata == streamed.usage_metadata == again.usage_metadata
    for message in (whole, streamed, again):
        assert message.response_metadata["finish_reason"] == "stop"
        assert message.response_metadata["model_name"] == "dev-model"
        assert message.response_metadata["server_finish_reason"] == "EOS_TOKEN"


def test_the_end_of_a_turn_is_never_shown(server, chat):
    model = chat(stop=["seven"])
    assert model.invoke("Count to ten.").text == "one two three four five six "
    assert joined(model.stream("Count to ten.")).text == "one two three four five six "


def test_there_are_no_tools(chat):
    model = chat()
    with pytest.raises(UnsupportedParameterError, match="ChatCaikit has no tools"):
        model.bind_tools([get_weather])
    with pytest.raises(UnsupportedParameterError, match="no tools"):
        model.invoke("x", tools=[get_weather])
    assert model.bind_tools([]).invoke("Say hello.").text  # agents without tools call it, too
    assert model.profile["tool_calling"] is False
    with pytest.raises(UnsupportedParameterError, match="image"):
        model.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])])


# Forms


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_a_form_is_asked_for_in_the_prompt_and_checked(server, method):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml", max_tokens=256)
    structured = model.with_structured_output(Person, method=method)
    assert isinstance(structured.invoke("Ann is 30 years old."), Person)
    assert isinstance(await structured.ainvoke("Ann is 30 years old."), Person)
    for body in bodies(server):
        assert "Ann is 30 years old.\n\nAnswer with JSON that fits this JSON schema" in body["inputs"]
        assert '"properties"' in body["inputs"]


def test_so_is_json_of_any_form(server):
    scripted(server, '{"a": 1}')
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml")
    assert model.with_structured_output(method="json_mode").invoke("Use the key 'a'.") == {"a": 1}
    assert "Use the key 'a'.\n\nAnswer with one JSON object" in bodies(server)[0]["inputs"]


def test_text_completion_asks_in_the_same_way(server):
    llm = CaikitLLM(base_url=server.url, api_key="k", model="dev-model", max_tokens=256)
    assert isinstance(llm.with_structured_output(Person).invoke("Ann is 30 years old."), Person)
    assert bodies(server)[0]["inputs"].startswith("Ann is 30 years old.\n\nAnswer with JSON")


def scripted(server, text):
    server.fault(
        status=200,
        body={"generated_text": text, "generated_tokens": 3, "finish_reason": "EOS_TOKEN", "input_token_count": 1},
        path="/task/text-generation",
    )


def test_words_around_the_answer_are_overlooked(server):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml")
    scripted(server, 'Sure, here you are:\n```json\n{"name": "Ann", "age": 30}\n```\nAnything else?')
    assert model.with_structured_output(Person).invoke("x") == Person(name="Ann", age=30)


@pytest.mark.parametrize("text", ["I would rather not.", '{"name": "Ann"', '{"name": "Ann"}'])
def test_an_answer_that_does_not_fit_is_an_error(server, text):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml")
    scripted(server, text)
    with pytest.raises(OutputParserException):
        model.with_structured_output(Person).invoke("x")
    scripted(server, text)
    found = model.with_structured_output(Person, include_raw=True).invoke("x")
    assert found["raw"].text == text
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], OutputParserException)


def test_the_instruction_goes_to_the_last_user_message(server):
    model = ChatCaikit(base_url=server.url, api_key="k", model="dev-model", chat_template="chatml", max_tokens=256)
    structured = model.with_structured_output(Person)
    given = [HumanMessage([{"type": "text", "text": "Ann is 30."}])]
    structured.invoke(given)
    structured.invoke([HumanMessage("Ann is 30."), AIMessage("I see.")])
    first, second = (body["inputs"] for body in bodies(server))
    assert first.count("<|im_start|>user") == 1
    assert second.count("<|im_start|>user") == 2
    assert given == [HumanMessage([{"type": "text", "text": "Ann is 30."}])]


# Tokens, profile


def test_tokens_are_counted_but_have_no_ids(chat, url):
    llm = CaikitLLM(base_url=url, api_key="k", model="dev-model")
    assert llm.get_num_tokens("Say hello.") > 0
    with pytest.raises(UnsupportedParameterError, match="does not tell their ids"):
        llm.get_token_ids("Say hello.")
    model = chat()
    count = model.get_num_tokens_from_messages([HumanMessage("Say hello.")])
    assert count == model.invoke("Say hello.").usage_metadata["input_tokens"]
    with pytest.raises(UnsupportedParameterError, match="does not tell their ids"):
        model.get_token_ids("Say hello.")
    with pytest.raises(UnsupportedParameterError, match="no tools"):
        model.get_num_tokens_from_messages([HumanMessage("x")], tools=[get_weather])
    assert ChatCaikit.get_token_ids(chat(custom_get_token_ids=lambda text: [1, 2]), "x") == [1, 2]


async def test_the_profile_says_what_cannot_be_done_and_learns_the_window(chat):
    model = chat()
    assert model.profile["structured_output"] is False
    assert "max_input_tokens" not in model.profile
    assert (await model.aload_profile())["max_input_tokens"] > 0
    assert model.profile["name"] == "dev-model"


class Start(BaseCallbackHandler):
    params = None

    def on_chat_model_start(self, serialized, messages, *, invocation_params=None, **kwargs):
        self.params = invocation_params


def test_traces_and_dumps_tell_the_template_and_no_secret(chat):
    model, seen = chat(), Start()
    model.invoke("Say hello.", config={"callbacks": [seen]})
    assert seen.params["chat_template"] == "chatml"
    assert seen.params["_type"] == "kserve-caikit-chat"
    assert '"chatml"' in dumps(model)
    assert '"k"' not in dumps(model)


# Embeddings, similarity


async def test_similarity(url, server):
    embeddings = CaikitEmbeddings(base_url=url, api_key="k", truncate=True)
    scores = embeddings.similarity("The train leaves.", ["The train leaves.", "Cats purr."])
    assert scores[0] == pytest.approx(1.0, abs=1e-5)
    assert scores[1] < 0.9
    assert await embeddings.asimilarity("The train leaves.", ["The train leaves.", "Cats purr."]) == scores
    count = len(server.requests)
    assert embeddings.similarity("a", []) == []
    assert len(server.requests) == count
    for wrong in (("a", "b"), (["a"], "b")):
        with pytest.raises(ConfigurationError, match="list"):
            embeddings.similarity(*wrong) if isinstance(wrong[0], str) else embeddings.similarities(*wrong)


def test_truncate_is_passed_on(server):
    for truncate, sent in ((None, None), (False, None), (True, -1), (7, 7)):
        server.requests.clear()
        embeddings = CaikitEmbeddings(base_url=server.url, api_key="k", model="dev-model", truncate=truncate)
        embeddings.similarity("a", ["b"])
        assert server.requests[-1].json.get("parameters", {}).get("truncate_input_tokens") == sent
