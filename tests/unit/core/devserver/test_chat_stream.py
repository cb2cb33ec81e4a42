"""Chat answers that stream."""

from __future__ import annotations

import json
import time

import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.wire import WEATHER, deltas, events


def test_the_bytes_of_the_first_and_last_events(chat):
    response = chat("Say hello.", stream=True, headers={"x-request-id": "abc"})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"
    created = events(response.text)[0]["created"]
    start = f'{{"id":"chatcmpl-abc","object":"chat.completion.chunk","created":{created},"model":"dev-model","choices":'
    lines = response.text.split("\n\n")
    assert lines[0] == (
        f'data: {start}[{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,'
        '"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}'
    )
    assert lines[1] == (
        f'data: {start}[{{"index":0,"delta":{{"content":"Hel"}},"logprobs":null,"finish_reason":null,'
        '"token_ids":null}]}'
    )
    last = json.loads(lines[-3].removeprefix("data: "))
    assert last["choices"][0]["delta"] == {}
    assert (last["choices"][0]["finish_reason"], last["choices"][0]["stop_reason"]) == ("stop", None)
    assert last["system_fingerprint"].startswith("vllm-0.32.0-")
    assert all("system_fingerprint" not in event for event in events(response.text)[:-1])


def test_the_pieces_join_to_the_whole_answer(chat):
    for said in ("Say hello.", "Count to ten.", "Grüße, 世界 🌍 e\u0301!"):
        whole = chat(said).json()["choices"][0]["message"]["content"]
        assert "".join(delta.get("content", "") for delta in deltas(chat(said, stream=True).text)) == whole


def test_usage_comes_in_an_event_of_its_own_and_only_on_demand(chat):
    assert all("usage" not in event for event in events(chat("Say hello.", stream=True).text))
    found = events(chat("Say hello.", stream=True, stream_options={"include_usage": True}).text)
    assert found[-1]["choices"] == []
    assert all("usage" not in event for event in found[:-1])
    assert "completion_tokens_details" not in found[-1]["usage"]
    assert set(found[-1]["usage"]["prompt_tokens_details"]) == {"cached_tokens", "created_cache_tokens"}
    whole = chat("Say hello.").json()["usage"]
    assert found[-1]["usage"]["completion_tokens"] == whole["completion_tokens"]
    assert found[-1]["usage"]["prompt_tokens"] == whole["prompt_tokens"]


def test_running_usage_counts_up(chat):
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = events(chat("Say hello.", stream=True, stream_options=options).text)
    counts = [event["usage"]["completion_tokens"] for event in found]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == counts[-2]
    assert set(found[0]["usage"]) == {"prompt_tokens", "total_tokens", "completion_tokens", "completion_tokens_details"}


def test_the_fingerprint_is_on_the_last_event_alone(chat):
    def marked(**fields):
        return [
            (event["choices"] or [{"index": "usage"}])[0]["index"]
            for event in events(chat("Say hello.", stream=True, **fields).text)
            if "system_fingerprint" in event
        ]

    assert marked() == [0]
    assert sorted(marked(n=2, temperature=1)) == [0, 1]
    assert marked(stream_options={"include_usage": True}) == ["usage"]


def test_the_last_token_carries_the_finish_reason(chat):
    last = events(chat("Count to ten.", stream=True, max_tokens=2, return_token_ids=True).text)[-1]["choices"][0]
    assert list(last) == ["index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"]
    assert (last["finish_reason"], len(last["token_ids"])) == ("length", 1)
    assert last["delta"]["content"]
    last = events(chat("Count to ten.", stream=True, return_token_ids=True).text)[-1]["choices"][0]
    assert (last["finish_reason"], last["delta"], len(last["token_ids"])) == ("stop", {}, 1)
    last = events(chat("Count to ten.", stream=True, stop="three").text)[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", "three")
    assert last["delta"]["content"]


def test_choices_take_turns(chat):
    found = events(chat("Count to ten.", stream=True, n=2, temperature=1).text)
    order = [event["choices"][0]["index"] for event in found]
    assert order[:6] == [0, 1, 0, 1, 0, 1]
    for index in (0, 1):
        own = [event["choices"][0] for event in found if event["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in own[-1:]] == ["stop"]


def test_tool_call_deltas(chat):
    found = deltas(chat("Weather in Paris and London?", tools=[WEATHER], stream=True).text)
    calls = [delta["tool_calls"][0] for delta in found if delta.get("tool_calls")]
    assert all(delta["content"] is None for delta in found if delta.get("tool_calls"))
    opening = [call for call in calls if "id" in call]
    assert [call["index"] for call in opening] == [0, 1]
    for call in opening:
        assert set(call) == {"id", "type", "index", "function"}
        assert call["function"] == {"name": "get_weather"}
    for index, city in enumerate(("Paris", "London")):
        pieces = [c["function"]["arguments"] for c in calls if c["index"] == index and "id" not in c]
        assert len(pieces) > 1
        assert json.loads("".join(pieces)) == {"city": city}
    assert found[-1] == {}


def test_finish_reasons_of_streamed_calls(chat):
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, finish in (("auto", "tool_calls"), ("required", "tool_calls"), (named, "stop")):
        text = chat("Weather in Paris?", tools=[WEATHER], tool_choice=choice, stream=True).text
        assert events(text)[-1]["choices"][0]["finish_reason"] == finish


def test_a_call_cut_right_behind_its_name_still_shows_arguments(chat):
    for limit in range(8, 60):
        text = chat("Weather in Paris?", tools=[WEATHER], stream=True, max_tokens=limit).text
        calls = [delta["tool_calls"][0]["function"] for delta in deltas(text) if delta.get("tool_calls")]
        if calls:
            break
    assert calls == [{"name": "get_weather", "arguments": "{}"}]
    assert events(text)[-1]["choices"][0]["finish_reason"] == "length"


def test_reasoning_deltas_come_before_the_answer(chat):
    found = deltas(chat("Think: what is two plus two?", stream=True).text)
    kinds = ["reasoning" if "reasoning" in delta else "content" for delta in found[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert "".join(delta.get("reasoning", "") for delta in found) == "\nTwo plus two makes four.\n"
    assert "".join(delta.get("content", "") for delta in found) == "\n\nThe answer is four."


def test_logprobs_and_token_ids_per_event(chat):
    found = events(chat("Say hello.", stream=True, logprobs=True, return_token_ids=True).text)
    assert found[0]["prompt_token_ids"]
    for event in found[1:-1]:
        choice = event["choices"][0]
        assert len(choice["token_ids"]) == len(choice["logprobs"]["content"])


def test_a_stop_text_never_shows_partly(chat):
    text = chat("Count to ten.", stream=True, stop=["three"]).text
    assert "".join(delta.get("content", "") for delta in deltas(text)) == "one two "
    assert events(text)[-1]["choices"][0]["stop_reason"] == "three"


def test_a_wrong_request_is_answered_without_a_stream(chat):
    response = chat("hi", stream=True, temperature=9)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


def test_pace_spreads_the_tokens_over_time():
    import httpx

    with DevServer(pace=0.02) as server, httpx.Client(base_url=server.url) as http:
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 10, "stream": True}
        arrived = []
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            for _ in response.iter_raw():
                arrived.append(time.monotonic())
        assert arrived[-1] - arrived[0] > 0.15
        assert len(arrived) >= 10


@pytest.mark.parametrize("options", [{}, {"include_usage": True}])
def test_a_server_can_force_usage_on_every_event(options):
    import httpx

    with DevServer(force_usage=True) as server:
        body = {"messages": [{"role": "user", "content": "Say hello."}], "stream": True, "stream_options": options}
        found = events(httpx.post(f"{server.url}/v1/chat/completions", json=body).text)
    assert all("usage" in event for event in found)
    assert found[-1]["choices"] == []
