"""Tool calls as a real server's parser and grammar make them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest


def joined(pieces):
    calls = {}
    for piece in pieces:
        for delta in piece.tool_calls:
            call = calls.setdefault(delta.index, {"id": None, "name": None, "arguments": ""})
            call["id"] = call["id"] or delta.id
            call["name"] = call["name"] or delta.name
            call["arguments"] += delta.arguments
    return [calls[index] for index in sorted(calls)]


SCRIPT = [
    ("Weather in Paris?", "", ["Paris"]),
    ("Weather in Paris and London?", "", ["Paris", "London"]),
    ("Look it up, then tell me.", "Let me look that up.", ["London"]),
]


@pytest.mark.parametrize(("says", "text", "cities"), SCRIPT)
def test_whole_calls(generator, ask, weather, says, text, cities):
    (choice,) = generator.run(generator.runtime.chat(ask(says, tools=[weather]))).choices
    assert [call.name for call in choice.tool_calls] == ["get_weather"] * len(cities)
    assert [json.loads(call.arguments) for call in choice.tool_calls] == [{"city": city} for city in cities]
    assert len({call.id for call in choice.tool_calls}) == len(cities)
    assert all(call.complete for call in choice.tool_calls)
    assert choice.content.strip() == text
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(("says", "text", "cities"), SCRIPT)
def test_streamed_calls(generator, ask, weather, says, text, cities):
    pieces = list(generator.stream(generator.runtime.stream_chat(ask(says, tools=[weather]))))
    calls = joined(pieces)
    assert [json.loads(call["arguments"]) for call in calls] == [{"city": city} for city in cities]
    assert {call["name"] for call in calls} == {"get_weather"}
    assert len({call["id"] for call in calls}) == len(cities)
    assert "".join(piece.content for piece in pieces).strip() == text
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["tool_calls"]


NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_demanded_call(generator, ask, weather, choice):
    request = ask("Weather in Paris?", tools=[weather], tool_choice=choice)
    (whole,) = generator.run(generator.runtime.chat(request)).choices
    assert [(call.name, json.loads(call.arguments)) for call in whole.tool_calls] == [
        ("get_weather", {"city": "Paris"})
    ]
    (streamed,) = joined(generator.stream(generator.runtime.stream_chat(request)))
    assert (streamed["name"], json.loads(streamed["arguments"])) == ("get_weather", {"city": "Paris"})


def test_two_demanded_calls(generator, ask, weather):
    request = ask("Weather in Paris and London?", tools=[weather], tool_choice="required")
    (whole,) = generator.run(generator.runtime.chat(request)).choices
    assert [json.loads(call.arguments)["city"] for call in whole.tool_calls] == ["Paris", "London"]
    streamed = joined(generator.stream(generator.runtime.stream_chat(request)))
    assert [json.loads(call["arguments"])["city"] for call in streamed] == ["Paris", "London"]


def test_one_call_at_most(generator, ask, weather):
    request = ask("Weather in Paris and London?", tools=[weather], parallel_tool_calls=False)
    (whole,) = generator.run(generator.runtime.chat(request)).choices
    assert [json.loads(call.arguments)["city"] for call in whole.tool_calls] == ["Paris"]
    streamed = joined(generator.stream(generator.runtime.stream_chat(request)))
    assert [json.loads(call["arguments"])["city"] for call in streamed] == ["Paris"]


def test_no_call_when_none_is_wanted(generator, ask, weather):
    request = ask("Weather in Paris?", tools=[weather], tool_choice="none")
    (choice,) = generator.run(generator.runtime.chat(request)).choices
    assert choice.tool_calls == []
    assert choice.content == "I cannot look that up without a tool."


def test_a_call_that_was_cut_off_is_no_complete_call(generator, ask, weather):
    request = ask("Weather in Paris?", tools=[weather], params={"max_tokens": 6})
    (choice,) = generator.run(generator.runtime.chat(request)).choices
    assert choice.finish_reason == "length"
    assert not any(call.complete for call in choice.tool_calls)
    pieces = list(generator.stream(generator.runtime.stream_chat(request)))
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]


def test_a_conversation_goes_on_after_the_call(generator, ask, weather):
    first = ask("Weather in Paris?", tools=[weather])
    (choice,) = generator.run(generator.runtime.chat(first)).choices
    (call,) = choice.tool_calls
    spoken = {
        "role": "assistant",
        "content": choice.content,
        "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        ],
    }
    told = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    result = generator.run(generator.runtime.chat(replace(first, messages=[*first.messages, spoken, told])))
    assert result.choices[0].content == "It is 21 degrees in Paris."


def test_tools_count_in_the_prompt(generator, ask, weather):
    request = ask("Weather in Paris?", tools=[weather])
    result = generator.run(generator.runtime.chat(request))
    assert generator.run(generator.runtime.tokenize_messages(request)).count == result.usage.prompt_tokens
    bare = generator.run(generator.runtime.tokenize_messages(replace(request, tools=())))
    assert bare.count < result.usage.prompt_tokens
