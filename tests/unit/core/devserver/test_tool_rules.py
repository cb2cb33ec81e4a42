"""Which tool is called, with which arguments; values that fit any schema."""

from __future__ import annotations

import json
import re

import pytest

from kserve_core.devserver.brain.patterns import example
from kserve_core.devserver.brain.schema import Filler


def tool(name, description="", **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TEXT, WHOLE, REAL = {"type": "string"}, {"type": "integer"}, {"type": "number"}
MULTIPLY = tool("multiply", "Multiply two numbers", a=WHOLE, b=WHOLE)
ADD = tool("add", "Add two numbers", a=WHOLE, b=WHOLE)
WEATHER = tool("get_weather", "Get the weather at a location.", location=TEXT)


@pytest.fixture
def calls(chat):
    def post(said, *tools, history=(), **fields):
        messages = [{"role": "user", "content": said}, *history]
        message = chat(messages, tools=list(tools), **fields).json()["choices"][0]["message"]
        found = message.get("tool_calls") or []
        return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]

    return post


def test_numbers_go_into_a_tool_named_in_the_prompt(calls):
    magic = tool("magic_function", "Applies a magic function.", input=WHOLE)
    said = "What is the value of magic_function(3)? Use the tool."
    assert calls(said, magic) == [("magic_function", {"input": 3})]
    empty = tool("magic_function_no_args")
    assert calls("What is magic_function_no_args()? Use the tool.", magic, empty) == [("magic_function_no_args", {})]


def test_places_and_sums_find_their_tools(calls):
    tools = (WEATHER, MULTIPLY, ADD)
    assert calls("What is the weather in San Francisco, CA?", *tools) == [
        ("get_weather", {"location": "San Francisco"})
    ]
    assert calls("What is 6 times 7?", *tools) == [("multiply", {"a": 6, "b": 7})]
    assert calls("What is 6 + 7?", *tools) == [("add", {"a": 6, "b": 7})]
    assert calls("Tell me a story.", *tools) == []


def test_quoted_text_of_any_script_is_taken_over(calls):
    create = tool("create_customer", "Create a customer.", customer_name=TEXT)
    assert calls("Create a customer named '你好啊集团'", create) == [
        ("create_customer", {"customer_name": "你好啊集团"})
    ]


def test_a_choice_is_taken_from_the_prompt(calls):
    convert = tool("convert", "Convert money to a currency", amount=REAL, to={"enum": ["EUR", "USD"]})
    assert calls("Convert 25.5 to USD", convert) == [("convert", {"amount": 25.5, "to": "USD"})]


def result(name, arguments, value):
    call = {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": value},
    ]


def test_a_second_step_starts_from_the_first_result(calls):
    said = "Multiply 3 by 4, then add 5"
    first = result("multiply", {"a": 3, "b": 4}, "12")
    second = result("add", {"a": 12, "b": 5}, "17")
    assert calls(said, ADD, MULTIPLY) == [("multiply", {"a": 3, "b": 4})]
    assert calls(said, ADD, MULTIPLY, history=first) == [("add", {"a": 12, "b": 5})]
    assert calls(said, ADD, MULTIPLY, history=[*first, *second]) == []


def test_a_tool_result_ends_the_calls(calls, chat):
    history = result("get_weather", {"location": "Rome"}, "sunny")
    assert calls("What is the weather in Rome?", WEATHER, history=history) == []
    long = result("search", {"query": "x"}, "Dogs bark. The bill is 20 euros. Cats sleep. Birds sing.")
    messages = [{"role": "user", "content": "Search: how much is the bill?"}, *long]
    answer = chat(messages, tools=[tool("search", "Search", query=TEXT)]).json()["choices"][0]["message"]["content"]
    assert answer == "The bill is 20 euros."


def test_a_handoff_goes_to_the_agent_that_fits(calls):
    handoff = tool(
        "handoff",
        "Hand off to another agent.\nCurrently available agents:\n{'Writer': 'Writes poems', 'Cook': 'Knows recipes'}",
        to_agent=TEXT,
        reason=TEXT,
    )
    ((name, given),) = calls("I need a recipe for soup.", MULTIPLY, handoff)
    assert (name, given["to_agent"]) == ("handoff", "Cook")
    assert calls("What is 2 times 3?", MULTIPLY, handoff) == [("multiply", {"a": 2, "b": 3})]
    recipe = tool("find_recipe", "Find a recipe", dish=TEXT)
    done = result("handoff", given, "Agent Cook is now handling the request. Please continue with the current request.")
    assert calls("I need a recipe for soup.", recipe, handoff, history=done)[0][0] == "find_recipe"


def test_required_calls_after_a_result_take_the_tool_not_called_yet(calls):
    report = tool("report", "Final report", text=TEXT)
    history = result("get_weather", {"location": "Rome"}, "sunny")
    (call,) = calls("Weather in Rome?", WEATHER, report, history=history, tool_choice="required")
    assert call[0] == "report"


@pytest.mark.parametrize(
    "pattern", [r"^\d{4}-\d{2}-\d{2}$", r"[A-Z]{2,3}", r"(yes|no)!", r"[^abc]x+", r"(\w)\1", r"\s?a*b?", r"a{2,}.\."]
)
def test_texts_made_for_patterns_match_them(pattern):
    assert re.fullmatch(pattern, example(pattern))


NESTED = {
    "$defs": {
        "Song": {"type": "object", "properties": {"title": TEXT, "year": WHOLE}, "required": ["title"]},
        "Mood": {"type": "string", "enum": ["happy", "sad"]},
        "Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}},
    },
    "type": "object",
    "properties": {
        "songs": {"type": "array", "items": {"$ref": "#/$defs/Song"}, "minItems": 2},
        "mood": {"$ref": "#/$defs/Mood"},
        "maybe": {"anyOf": [{"type": "null"}, WHOLE]},
        "both": {"allOf": [{"properties": {"x": TEXT}, "required": ["x"]}, {"properties": {"y": WHOLE}, "required": ["y"]}]},
        "rating": {"type": "integer", "minimum": 1, "maximum": 5},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "when": {"type": "string", "format": "date"},
        "short": {"type": "string", "maxLength": 3},
        "long": {"type": "string", "minLength": 40},
        "flag": {"type": "boolean"},
        "fixed": {"const": "v1"},
        "pair": {"type": "array", "prefixItems": [TEXT, WHOLE]},
        "union": {"type": ["string", "null"]},
        "chain": {"$ref": "#/$defs/Node"},
    },
    "required": [
        "songs", "mood", "maybe", "both", "rating", "code", "when", "short", "long", "flag", "fixed", "pair", "union", "chain",
    ],
}  # fmt: skip


def test_values_fit_a_schema_with_everything_in_it():
    made = Filler("The song 'Blue' from 1971 is sad.", root=NESTED).fill(NESTED)
    assert set(made) == set(NESTED["required"])
    assert len(made["songs"]) >= 2
    assert all(isinstance(song["title"], str) for song in made["songs"])
    assert made["mood"] == "sad"
    assert made["maybe"] is None or isinstance(made["maybe"], int)
    assert isinstance(made["both"]["x"], str)
    assert isinstance(made["both"]["y"], int)
    assert 1 <= made["rating"] <= 5
    assert re.fullmatch("[A-Z]{3}", made["code"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["when"])
    assert len(made["short"]) <= 3
    assert len(made["long"]) >= 40
    assert isinstance(made["flag"], bool)
    assert made["fixed"] == "v1"
    assert [type(part) for part in made["pair"]] == [str, int]
    json.dumps(made)


def test_optional_values_appear_when_they_are_mentioned():
    joke = {
        "type": "object",
        "properties": {"setup": TEXT, "punchline": {"anyOf": [TEXT, {"type": "null"}]}},
        "required": ["setup"],
    }
    assert "punchline" in Filler("A joke with a punchline.").fill(joke)
    assert "punchline" not in Filler("A joke, no punchline.").fill(joke)
