"""`VLLMChat`: who applies the chat template. Nothing is sent; the server's refusal is its own bytes."""

from __future__ import annotations

import pickle
from pathlib import Path

import orjson
import pytest

from kserve_core.calls import Response
from kserve_core.capabilities import ChatRequest
from kserve_core.errors import InvalidRequestError, UnsupportedParameterError
from kserve_core.failures import error_from_response
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.runtimes.vllm.templated import VLLMChat

JINJA = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
REFUSAL = Path(__file__).parent / "fixtures/vllm/error_untrusted_template.json"
COMPLETION = orjson.dumps(
    {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": "m",
        "choices": [{"index": 0, "text": "Hello.", "finish_reason": "stop", "stop_reason": None, "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
)


def request(**params):
    return ChatRequest(messages=[{"role": "user", "content": "Hi"}], params=params)


def refused(call):
    response = Response(400, {"content-type": "application/json"}, REFUSAL.read_bytes())
    return error_from_response(response, explain=call.explain)


def completed(call):
    return call.read(Response(200, {"content-type": "application/json"}, COMPLETION))


def run(flow, *answers):
    """Drives a flow with an answer for each call; returns the calls' paths and bodies, and the result."""
    calls, move, value, given = [], flow.send, None, list(answers)
    while True:
        try:
            call = move(value)
        except StopIteration as stop:
            return calls, stop.value
        calls.append((call.path, orjson.loads(call.body)))
        value = given.pop(0)(call)
        move = flow.throw if isinstance(value, Exception) else flow.send


@pytest.fixture
def runtime():
    return VLLMRuntime(base_path="/v1", model="m")


def test_without_a_template_it_is_the_runtime(runtime):
    chat = VLLMChat(runtime)
    call = next(chat.chat(request()))
    assert call.path == "/v1/chat/completions"
    assert "chat_template" not in orjson.loads(call.body)


@pytest.mark.parametrize("given", ["made with it", "in the request"])
def test_a_refused_template_is_used_here_from_then_on(runtime, given):
    chat = VLLMChat(runtime, JINJA if given == "made with it" else None)
    asked = request() if given == "made with it" else request(chat_template=JINJA)
    calls, result = run(chat.chat(asked), refused, completed)
    assert [path for path, _ in calls] == ["/v1/chat/completions", "/v1/completions"]
    assert calls[0][1]["chat_template"] == JINJA
    assert "chat_template" not in calls[1][1]
    assert calls[1][1]["prompt"] in ("[Hi]", ["[Hi]"])
    assert result.choices[0].content == "Hello."
    for again in (chat, pickle.loads(pickle.dumps(chat))):
        calls, _ = run(again.chat(asked), completed)
        assert [path for path, _ in calls] == ["/v1/completions"]


@pytest.mark.parametrize(
    ("default", "params", "sent"),
    [(None, {}, None), (256, {}, 256), (256, {"max_tokens": 9}, 9), (256, {"max_completion_tokens": 9}, 9)],
)
def test_a_limit_for_prompts_written_here(runtime, default, params, sent):
    chat = VLLMChat(runtime, "chatml", default_max_tokens=default)
    calls, _ = run(chat.chat(request(**params)), completed)
    assert calls[0][1].get("max_tokens") == sent
    assert next(VLLMChat(runtime, JINJA, default_max_tokens=default).chat(request())).path == "/v1/chat/completions"


def test_a_stream_finds_out_first(runtime):
    chat = VLLMChat(runtime, JINJA)
    calls, stream = run(chat.stream_chat(request(temperature=0.5)), refused)
    ((path, trial),) = calls
    assert path == "/v1/chat/completions"
    assert trial == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "chat_template": JINJA,
        "max_tokens": 1,
    }
    assert stream.path == "/v1/completions"
    assert orjson.loads(stream.body)["stream"] is True


def test_tools_are_never_lost(runtime):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    asked = ChatRequest(messages=[{"role": "user", "content": "Hi"}], tools=tools)
    with pytest.raises(InvalidRequestError, match="trust-request-chat-template"):
        run(VLLMChat(runtime, JINJA).chat(asked), refused)
    with pytest.raises(UnsupportedParameterError, match="tools"):
        run(VLLMChat(runtime, "chatml").chat(asked))


def test_tokens_of_a_prompt_written_here(runtime):
    def counted(call):
        return call.read(Response(200, {"content-type": "application/json"}, b'{"count": 3, "tokens": [1, 2, 3]}'))

    calls, tokens = run(VLLMChat(runtime, "chatml").tokenize_messages(request()), counted)
    assert calls[0][1]["prompt"].startswith("<|im_start|>user\nHi")
    assert tokens.count == 3
    calls, _ = run(VLLMChat(runtime, JINJA).tokenize_messages(request()), refused, counted)
    assert [body.get("prompt") for _, body in calls] == [None, "[Hi]"]
