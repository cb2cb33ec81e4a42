"""`VLLM` with a chat template of the user's: used by the server where it takes one, else on this side."""

from __future__ import annotations

import pickle

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from unit.llamaindex.text_llms import COUNTED, FORMS, ask, text_of

from kserve_core.chat_template import ChatTemplate
from kserve_core.devserver import DevServer
from llamaindex_kserve import VLLM, UnsupportedParameterError

JINJA = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
PROMPT = "<|im_start|>user\nCount to ten.<|im_end|>\n<|im_start|>assistant\n"
# What vLLM answers unless it was started with --trust-request-chat-template.
UNTRUSTED = {
    "error": {
        "message": (
            "Chat template is passed with request, but --trust-request-chat-template is not set. "
            "Refused request with untrusted chat template."
        ),
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }
}


@pytest.fixture(scope="module")
def running():
    with DevServer(models=("tiny",)) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def make(server, **fields):
    return VLLM(**{"base_url": f"{server.url}/v1", "model": "tiny", "temperature": 0, "timeout": 30, **fields})


def paths(server):
    return [record.path.removeprefix("/v1/") for record in server.requests]


class TestWrittenHere:
    @pytest.mark.parametrize("form", FORMS)
    async def test_every_endpoint(self, server, form):
        responses = await ask(make(server, chat_template="chatml"), form)
        assert text_of(responses[-1]) == COUNTED
        assert responses[-1].additional_kwargs["total_tokens"] > 10
        assert paths(server) == ["completions"]
        body = server.requests[-1].json
        assert body["prompt"] == PROMPT
        assert body["stop"] == ["<|im_end|>"]
        assert body["max_tokens"] == 256
        assert "chat_template" not in body

    def test_from_a_file_or_a_template(self, server, tmp_path):
        path = tmp_path / "chat.jinja"
        path.write_text(JINJA)
        for template in (path, str(path), ChatTemplate.load(JINJA)):
            llm = make(server, chat_template=template)
            for one in (llm, pickle.loads(pickle.dumps(llm)), VLLM.from_dict(llm.to_dict(), base_url=llm.base_url)):
                assert text_of(one.complete("Count to ten.")) == COUNTED
        assert set(paths(server)) == {"completions"}

    def test_has_no_tools(self, server):
        tool = FunctionTool.from_defaults(lambda city: city, name="get_weather", description="The weather.")
        with pytest.raises(UnsupportedParameterError, match="tools"):
            make(server, chat_template="chatml").chat_with_tools([tool], user_msg="Weather in Paris?")
        assert len(server.requests) == 0

    def test_tokens_are_counted_as_they_are_sent(self, server):
        llm = make(server, chat_template="chatml")
        talk = [ChatMessage("Count to ten.")]
        assert llm.count_tokens(talk) == llm.chat(talk).additional_kwargs["prompt_tokens"]


class TestJinjaText:
    @pytest.mark.parametrize("form", ["chat", "acomplete"])
    async def test_goes_to_the_server(self, server, form):
        await ask(make(server, chat_template=JINJA), form)
        assert paths(server) == ["chat/completions"]
        assert server.requests[-1].json["chat_template"] == JINJA

    @pytest.mark.parametrize("form", FORMS)
    async def test_is_used_here_where_the_server_takes_none_which_is_learned_once(self, server, form):
        server.fault(status=400, body=UNTRUSTED, path="/chat/completions", times=None)
        llm = make(server, chat_template=JINJA)
        for _ in range(2):
            assert text_of((await ask(llm, form))[-1]) == COUNTED
        assert paths(server) == ["chat/completions", "completions", "completions"]

    def test_for_one_call(self, server):
        llm = make(server)
        llm.chat([ChatMessage("Count to ten.")], chat_template="chatml")
        llm.chat([ChatMessage("Count to ten.")])
        assert paths(server) == ["completions", "chat/completions"]
