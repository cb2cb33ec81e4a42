"""Requests the runtime refuses, in the version's own error shape."""

from __future__ import annotations

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.wire import WEATHER

NAMED = {"type": "function", "function": {"name": "other"}}
BROKEN_HISTORY = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}]},
]

REFUSED = [
    ({"max_tokens": 100_000}, "BadRequestError", "max_tokens"),
    ({"max_tokens": 0}, "BadRequestError", "max_tokens"),
    ({"temperature": 2.1}, "BadRequestError", "temperature"),
    ({"temperature": -0.1}, "BadRequestError", "temperature"),
    ({"top_p": 0}, "BadRequestError", "top_p"),
    ({"top_p": 1.1}, "BadRequestError", "top_p"),
    ({"min_p": 1.5}, "BadRequestError", None),
    ({"top_k": -2}, "BadRequestError", None),
    ({"presence_penalty": 3}, "BadRequestError", None),
    ({"repetition_penalty": 0}, "BadRequestError", None),
    ({"min_tokens": 5, "max_tokens": 3}, "BadRequestError", None),
    ({"logit_bias": {"999999999": 1}}, "BadRequestError", "logit_bias"),
    ({"logit_bias": {"a": 1}}, "BadRequestError", "logit_bias"),
    ({"n": 0}, "BadRequestError", None),
    ({"n": 2, "temperature": 0}, "BadRequestError", None),
    ({"stop": [""]}, "BadRequestError", None),
    ({"stop": list("abcde")}, "Bad Request", "body.stop"),
    ({"seed": 2**63}, "Bad Request", "body.seed"),
    ({"temperature": "hot"}, "Bad Request", "body.temperature"),
    ({"max_tokens": "many"}, "Bad Request", "body.max_tokens"),
    ({"messages": "hi"}, "Bad Request", "body.messages"),
    ({"messages": None}, "BadRequestError", None),
    ({"messages": []}, "BadRequestError", None),
    ({"messages": [{"content": "no role"}]}, "Bad Request", "body.messages.0.ChatCompletionDeveloperMessageParam.role"),
    ({"messages": BROKEN_HISTORY}, "Bad Request", "body.0.ChatCompletionMessageFunctionToolCallParam.function"),
    ({"tools": []}, "BadRequestError", "tools"),
    ({"tools": [{"type": "x"}]}, "Bad Request", "body.tools.0.type"),
    ({"tool_choice": "auto"}, "BadRequestError", "tool_choice"),
    ({"tool_choice": "required"}, "BadRequestError", "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": NAMED}, "BadRequestError", "tool_choice"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
        "BadRequestError",
        "tool_choice.function",
    ),
    ({"stream_options": {"include_usage": True}}, "BadRequestError", "stream_options"),
    ({"top_logprobs": 2}, "BadRequestError", "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "BadRequestError", "logprobs"),
    ({"response_format": {"type": "json_schema"}}, "BadRequestError", "response_format"),
    ({"response_format": {"type": "xml"}}, "Bad Request", "body.response_format.type"),
    ({"response_format": {}}, "Bad Request", "body.response_format.type"),
    ({"prompt_logprobs": 21}, "BadRequestError", "prompt_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "BadRequestError", "prompt_logprobs"),
    ({"structured_outputs": {}}, "BadRequestError", None),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "BadRequestError", None),
    ({"structured_outputs": {"choice": []}}, "BadRequestError", None),
    ({"structured_outputs": {"regex": "(("}}, "BadRequestError", None),
    ({"structured_outputs": {"json": {"type": "strange"}}}, "BadRequestError", None),
    ({"structured_outputs": {"grammar": "nonsense"}}, "BadRequestError", None),
]


@pytest.mark.parametrize(("fields", "kind", "param"), REFUSED)
def test_refused_chat_requests(chat, fields, kind, param):
    response = chat("hi", **fields)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == (kind, param, 400)
    assert error["message"]


def test_an_unknown_model_is_not_found(chat, http):
    error = chat("hi", model="nope").json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)
    assert "`nope`" in error["message"]
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/rerank", {"query": "a", "documents": ["a"]})):
        response = http.post(path, json={**body, "model": "nope"})
        assert (response.status_code, response.json()["error"]["param"]) == (404, None)


@pytest.mark.parametrize(
    ("content", "kind", "param"),
    [
        (b"", "application/json", "body"),
        (b"{not json", "application/json", "body.1"),
        (b"[]", "application/json", "body"),
        (b'{"messages": []}', "text/plain", None),
    ],
)
def test_bodies_that_are_no_json_objects(http, content, kind, param):
    response = http.post("/v1/chat/completions", content=content, headers={"content-type": kind})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("Bad Request", param)
    assert "\n" in error["message"], "one line per problem"


def test_every_problem_is_listed(http):
    error = http.post("/v1/chat/completions", json={"temperature": "x", "n": "y"}).json()["error"]
    assert error["message"].startswith("3 validation errors:")
    assert error["param"] == "body.messages"


def test_context_overflow(chat):
    error = chat("word " * 100, model="dev-small").json()["error"]
    assert (error["type"], error["param"]) == ("BadRequestError", "input_tokens")
    assert "maximum context length is 64 tokens" in error["message"]


def test_an_answer_is_clamped_to_the_room_left(chat):
    body = chat("Count to ten.", model="dev-small", max_tokens=60, ignore_eos=True).json()
    assert body["usage"]["total_tokens"] == 64
    assert body["choices"][0]["finish_reason"] == "length"


def test_automatic_tools_need_a_parser():
    with DevServer(auto_tools=False) as server:
        body = {"messages": [{"role": "user", "content": "Weather in Paris?"}], "tools": [WEATHER]}
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=body)
        assert refused.status_code == 400
        assert "--enable-auto-tool-choice" in refused.json()["error"]["message"]
        forced = httpx.post(f"{server.url}/v1/chat/completions", json={**body, "tool_choice": "required"})
        assert forced.status_code == 200


def test_numbers_written_as_text_are_understood(chat):
    body = chat("Count to ten.", max_tokens="3", temperature="0.5", n="1").json()
    assert body["usage"]["completion_tokens"] == 3


def test_what_was_sent_is_shown_shortened(http):
    error = http.post("/v1/chat/completions", json={"secret": "x" * 500}).json()["error"]
    assert error["message"] == (
        "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
        "'input': '<dict of 1 items>'}"
    )


def test_the_named_parameter_ends_the_message(chat):
    assert chat("hi", temperature=3).json()["error"]["message"].endswith("(parameter=temperature, value=3.0)")
    assert chat("hi", tools=[]).json()["error"]["message"].endswith("(parameter=tools)")
    assert "parameter" not in chat("hi", top_k=-2).json()["error"]["message"]
