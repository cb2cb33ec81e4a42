"""Text completion."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.devserver.wire import events


def test_the_whole_answer(complete):
    body = complete("Say hello.", max_tokens=50).json()
    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {
            "index": 0,
            "text": "Hello! How can I help you today?",
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
    ]


def test_sixteen_tokens_unless_told(complete):
    body = complete("Count to ten.").json()
    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["finish_reason"] == "length"


def test_several_prompts_and_choices_keep_their_order(complete):
    body = complete(["Say hello.", "Count to ten."], n=2, temperature=1, max_tokens=60).json()
    texts = [choice["text"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert texts[0].startswith("Hello")
    assert texts[2].startswith("one two")
    assert texts[1] != texts[0]


def test_token_id_prompts_are_the_same_prompts(complete, http):
    ids = http.post("/tokenize", json={"prompt": "Say hello."}).json()["tokens"]
    plain = complete("Say hello.").json()
    for prompt in (ids, [ids], ["Say hello."]):
        body = complete(prompt).json()
        assert body["choices"][0]["text"] == plain["choices"][0]["text"]
        assert body["usage"]["prompt_tokens"] == len(ids)


def test_echo_and_logprobs(complete):
    choice = complete("Say hello.", echo=True, logprobs=2, max_tokens=3).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"].startswith("Say hello.Hel")
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert len(logprobs["top_logprobs"][1]) == 2
    assert logprobs["text_offset"][:3] == [0, 3, 7]


def test_echo_alone_generates_nothing(complete):
    body = complete("Say hello.", echo=True, max_tokens=0).json()
    assert body["choices"][0]["text"] == "Say hello."
    assert body["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"suffix": "x"}])
def test_what_is_refused(complete, fields):
    response = complete("Say hello.", **fields)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "BadRequestError"


@pytest.mark.parametrize("prompt", ["", [], None])
def test_an_empty_prompt_is_refused(complete, prompt):
    assert complete(prompt).status_code == 400


def test_stream(complete):
    text = complete("Say hello.", max_tokens=50, stream=True, stream_options={"include_usage": True}).text
    found = events(text)
    assert "".join(event["choices"][0]["text"] for event in found[:-1]) == "Hello! How can I help you today?"
    first = found[0]
    assert first["object"] == "text_completion"
    assert set(first["choices"][0]) == {
        "index",
        "text",
        "logprobs",
        "finish_reason",
        "stop_reason",
        "prompt_token_ids",
        "token_ids",
    }
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    whole = complete("Say hello.", max_tokens=50).json()["usage"]
    assert found[-1]["usage"] == {
        "prompt_tokens": whole["prompt_tokens"],
        "total_tokens": whole["total_tokens"],
        "completion_tokens": whole["completion_tokens"],
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_an_echoed_prompt_comes_with_the_first_token(complete):
    found = events(complete("Say hello.", echo=True, logprobs=1, max_tokens=3, stream=True).text)
    first = found[0]["choices"][0]
    assert first["text"] == "Say hello.Hel"
    assert first["prompt_token_ids"]
    assert first["logprobs"]["token_logprobs"][0] is None
    assert found[1]["choices"][0]["logprobs"]["text_offset"] == [len(first["text"])]
    assert found[-1]["choices"][0]["finish_reason"] == "length"
    assert found[-1]["system_fingerprint"]


def test_a_stream_of_several_prompts_takes_turns(complete):
    found = events(complete(["Say hello.", "Count to ten."], max_tokens=50, stream=True).text)
    joined = {0: "", 1: ""}
    for event in found:
        joined[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert joined == {
        0: "Hello! How can I help you today?",
        1: "one two three four five six seven eight nine ten.",
    }
    assert [event["choices"][0]["index"] for event in found[:4]] == [0, 1, 0, 1]


def test_reasoning_stays_in_the_text(complete):
    text = complete("Think: what is two plus two?", max_tokens=80).json()["choices"][0]["text"]
    assert text == "<think>\nTwo plus two makes four.\n</think>\n\nThe answer is four."


def test_constraints_work_here_too(complete):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = complete("The number is 7.", response_format=form, max_tokens=40).json()["choices"][0]["text"]
    assert json.loads(text) == {"n": 7}
