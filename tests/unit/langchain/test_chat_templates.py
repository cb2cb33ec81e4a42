"""`ChatVLLM` with a model that has no chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from unit.langchain.chat_fakes import joined
from unit.langchain.text_only import JINJA, Person, get_weather

from kserve_core.devserver import DevServer
from langchain_kserve import ChatVLLM, ConfigurationError, InvalidRequestError, UnsupportedParameterError

# A server's own bytes; see that folder.
REFUSAL = json.loads(
    (Path(__file__).parents[1] / "core/runtimes/fixtures/vllm/error_untrusted_template.json").read_text()
)
PROMPT = "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def running():
    with DevServer() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def refusing(server):
    server.fault(status=400, body=REFUSAL, path="/chat/completions", times=None)
    return server


@pytest.fixture
def make(server):
    def make(**fields):
        return ChatVLLM(**{"base_url": server.url, "model": "dev-model", "max_tokens": 64, **fields})

    return make


def paths(server):
    return [record.path.rpartition("/v1/")[2] for record in server.requests]


def prompt(record):
    sent = record.json["prompt"]
    return sent if isinstance(sent, str) else "".join(sent)


async def test_a_built_in_format_is_used_here(server, make):
    model = make(chat_template="chatml", stop=["x"])
    whole = model.invoke("Say hello.")
    assert whole.text == joined(model.stream("Say hello.")).text == (await model.ainvoke("Say hello.")).text
    assert whole.usage_metadata["input_tokens"] > 0
    assert set(paths(server)) == {"completions"}
    for record in server.requests:
        assert prompt(record) == PROMPT
        assert record.json["stop"] == ["<|im_end|>", "x"]
        assert "chat_template" not in record.json


def test_so_is_a_file(server, make, tmp_path):
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"chat_template": JINJA}))
    assert make(chat_template=file).invoke("Say hello.").text
    assert make().invoke("Say hello.", chat_template=str(file)).text
    assert [prompt(record) for record in server.requests] == ["<user>Say hello.</user><assistant>"] * 2


async def test_jinja_text_goes_to_a_server_that_takes_it(server, make):
    model = make(chat_template=JINJA)
    model.invoke("Say hello.")
    list(model.stream("Say hello."))
    await model.ainvoke("Say hello.", tools=[get_weather])
    assert paths(server) == ["chat/completions"] * 3
    assert all(record.json["chat_template"] == JINJA for record in server.requests)


async def test_it_is_used_here_once_the_server_has_refused_it(refusing, make):
    model = make(chat_template=JINJA)
    assert model.invoke("Say hello.").text
    assert (await model.ainvoke("Say hello.")).text
    assert joined(model.stream("Say hello.")).text
    assert paths(refusing) == ["chat/completions", "completions", "completions", "completions"]
    assert prompt(refusing.requests[1]) == "<user>Say hello.</user><assistant>"


async def test_a_stream_finds_out_before_it_begins(refusing, make):
    model = make(chat_template=JINJA)
    pieces = [chunk.text async for chunk in model.astream("Say hello.")]
    assert "".join(pieces) == model.invoke("Say hello.").text
    assert paths(refusing) == ["chat/completions", "completions", "completions"]
    assert refusing.requests[0].json["max_tokens"] == 1


def test_a_stream_asks_once_where_templates_are_taken(server, make):
    model = make(chat_template=JINJA)
    list(model.stream("Say hello."))
    list(model.stream("Say hello."))
    assert paths(server) == ["chat/completions"] * 3
    assert [record.json.get("stream", False) for record in server.requests] == [False, True, True]


def test_another_refusal_is_the_users(server, make):
    server.fault(status=400, body={"error": {"message": "no", "code": 400}}, path="/chat/completions", times=None)
    model = make(chat_template=JINJA)
    with pytest.raises(InvalidRequestError):
        model.invoke("Say hello.")
    with pytest.raises(InvalidRequestError):
        list(model.stream("Say hello."))
    assert "completions" not in paths(server)


def test_tools_need_a_template_of_the_server(refusing, make):
    with pytest.raises(InvalidRequestError, match="trust-request-chat-template"):
        make(chat_template=JINJA).bind_tools([get_weather]).invoke("Weather in Paris?")
    with pytest.raises(UnsupportedParameterError, match="needs the server's chat template"):
        make(chat_template="chatml").bind_tools([get_weather]).invoke("Weather in Paris?")


def test_answers_are_held_to_a_form_here_as_well(make):
    assert isinstance(make(chat_template="chatml").with_structured_output(Person).invoke("Ann is 30."), Person)


def test_tokens_are_counted_with_the_template(server, make):
    model = make(chat_template="chatml")
    count = model.get_num_tokens_from_messages([HumanMessage("Say hello.")])
    assert count == model.invoke("Say hello.").usage_metadata["input_tokens"]


def test_an_unknown_format_is_an_error(server, make):
    with pytest.raises(ConfigurationError, match="no chat template 'chatmll'"):
        make(chat_template="chatmll").invoke("Say hello.")
    assert len(server.requests) == 0
