"""Tools, tool choices and response formats, in all the shapes people give them in."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict
from unit.langchain.chat_fakes import chat, result

from kserve_core.capabilities import OutputConstraint
from kserve_core.types import ToolCall
from langchain_kserve import ConfigurationError
from langchain_kserve._tools import to_tool_choice

OPENAI = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object"}}}
ANTHROPIC = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def get_weather(city: str) -> str:
    """Tells the weather."""
    return city


class GetWeather(BaseModel):
    """Tells the weather."""

    city: str = Field(description="a city")


class WeatherDict(TypedDict):
    """Tells the weather."""

    city: str


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (get_weather, "get_weather"),
        (tool(get_weather), "get_weather"),
        (GetWeather, "GetWeather"),
        (WeatherDict, "WeatherDict"),
        (OPENAI, "get_weather"),
        (ANTHROPIC, "get_weather"),
    ],
)
def test_tools_of_every_kind_are_sent(given, name):
    model, client = chat(result())
    bound = model.bind_tools([given])
    assert isinstance(bound, RunnableBinding)
    assert bound.bound is model
    bound.invoke("x")
    (sent,) = client.request.tools
    assert sent["type"] == "function"
    assert sent["function"]["name"] == name
    assert "strict" not in sent["function"]
    assert client.request.tool_choice is None
    assert client.request.parallel_tool_calls is None


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (False, None),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ("get_weather", NAMED),
        (NAMED, NAMED),
        ({"type": "tool", "name": "get_weather"}, NAMED),
        ({"type": "function", "name": "get_weather"}, NAMED),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
)
@pytest.mark.parametrize("way", ["bind", "call"])
def test_tool_choices_of_every_kind(choice, sent, way):
    model, client = chat(result())
    if way == "bind":
        model.bind_tools([get_weather], tool_choice=choice).invoke("x")
    else:
        model.invoke("x", tools=[get_weather], tool_choice=choice)
    assert client.request.tool_choice == sent
    assert client.request.tools[0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize("choice", ["nonsense", {"type": "function", "function": {"name": "x"}}, {"x": 1}, 7])
def test_a_choice_that_names_no_tool_is_refused_before_sending(choice):
    model, _ = chat()
    with pytest.raises(ConfigurationError):
        model.bind_tools([get_weather], tool_choice=choice)


def test_a_choice_without_tools_is_left_out_or_refused():
    assert to_tool_choice("auto", []) is None
    with pytest.raises(ConfigurationError, match="no tools"):
        to_tool_choice("any", [])


def test_no_tools_means_no_tools_field():
    model, client = chat(result())
    model.bind_tools([], parallel_tool_calls=False).invoke("x")
    assert client.request.tools == []
    assert client.request.parallel_tool_calls is None


def test_strict_and_parallel_calls_are_passed_on_when_set():
    model, client = chat(result(), result())
    model.bind_tools([GetWeather], strict=True, parallel_tool_calls=False).invoke("x")
    assert client.request.tools[0]["function"]["strict"] is True
    assert client.request.parallel_tool_calls is False
    model.bind_tools([OPENAI], strict=True).invoke("x")
    assert client.request.tools[0]["function"]["strict"] is True
    assert "strict" not in OPENAI["function"]


def test_agents_can_bind_tools_and_a_response_format_together():
    model, client = chat(result())
    form = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": {"type": "object"}, "strict": True}}
    model.bind_tools([get_weather], response_format=form, temperature=0.1).invoke("x")
    assert client.request.constraint == OutputConstraint(
        kind="json_schema", value={"type": "object"}, name="Answer", strict=True
    )
    assert client.request.params == {"temperature": 0.1}


@pytest.mark.parametrize("form", [{"response_format": GetWeather}, {"guided_regex": "a+"}])
def test_tools_beside_a_form_are_strict_or_the_server_never_calls_them(form):
    model, client = chat(result(), result(), result())
    model.bind_tools([get_weather, OPENAI], **form).invoke("x")
    assert [tool["function"]["strict"] for tool in client.request.tools] == [True, True]
    assert "additionalProperties" not in client.request.tools[0]["function"]["parameters"]
    model.bind_tools([get_weather], strict=False, **form).invoke("x")
    assert client.request.tools[0]["function"]["strict"] is False
    model.bind_tools([get_weather]).invoke("x")
    assert "strict" not in client.request.tools[0]["function"]


def test_calls_are_read_back():
    calls = [ToolCall("a", "f", '{"city": "Paris"}'), ToolCall("b", "g", ""), ToolCall("c", "h", "null")]
    model, _ = chat(result("", calls=calls))
    answer = model.invoke("x")
    assert isinstance(answer, AIMessage)
    assert [(call["id"], call["name"], call["args"]) for call in answer.tool_calls] == [
        ("a", "f", {"city": "Paris"}),
        ("b", "g", {}),
        ("c", "h", {}),
    ]
    assert [block["type"] for block in answer.content_blocks] == ["tool_call"] * 3
    assert "tool_calls" not in answer.additional_kwargs


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (ToolCall("a", "f", '{"city": "Par'), "not valid JSON"),
        (ToolCall("a", "f", "[1]"), "not a JSON object"),
        (ToolCall("a", "f", '{"city": "Paris"}', complete=False), "cut off"),
        (ToolCall("a", "f", "{}", complete=False), "cut off"),
    ],
)
def test_calls_that_cannot_be_used_are_invalid(call, error):
    model, _ = chat(result("", calls=[call]))
    answer = model.invoke("x")
    assert answer.tool_calls == []
    (invalid,) = answer.invalid_tool_calls
    assert error in invalid["error"]
    assert (invalid["id"], invalid["name"], invalid["args"]) == ("a", "f", call.arguments)
