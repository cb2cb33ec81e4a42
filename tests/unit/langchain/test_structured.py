"""`with_structured_output`: three methods, every kind of schema."""

from __future__ import annotations

from typing import Annotated

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict
from unit.langchain.chat_fakes import chat, result

from kserve_core.capabilities import OutputConstraint
from kserve_core.types import ChatDelta, ToolCall
from langchain_kserve import ConfigurationError


class Joke(BaseModel):
    """A joke."""

    setup: str = Field(description="the question")
    rating: int | None = None


class JokeV1(BaseModelV1):
    """A joke."""

    setup: str
    rating: int = 0


class JokeDict(TypedDict):
    """A joke."""

    setup: Annotated[str, ..., "the question"]
    rating: int


JOKE_SCHEMA = {"title": "JokeSchema", "type": "object", "properties": {"setup": {"type": "string"}}}
SCHEMAS = [Joke, JokeV1, JokeDict, JOKE_SCHEMA, convert_to_openai_tool(Joke), convert_to_openai_tool(Joke)["function"]]
IDS = ["pydantic", "pydantic1", "typeddict", "json", "openai_tool", "openai_function"]
NAMES = ["Joke", "JokeV1", "JokeDict", "JokeSchema", "Joke", "Joke"]
ANSWER = '{"setup": "why?", "rating": 3}'


def is_right(schema, value):
    if schema in {Joke, JokeV1} if isinstance(schema, type) else False:
        return isinstance(value, schema) and value.setup == "why?"
    return value == {"setup": "why?", "rating": 3}


def answer_for(method, schema, name):
    if method == "function_calling":
        return result("", calls=[ToolCall("a", name, ANSWER)])
    return result(ANSWER)


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize(("schema", "name"), list(zip(SCHEMAS, NAMES, strict=True)), ids=IDS)
async def test_every_method_takes_every_schema(schema, name, method, include_raw):
    model, client = chat(answer_for(method, schema, name), answer_for(method, schema, name))
    structured = model.with_structured_output(schema, method=method, include_raw=include_raw)
    for answer in (structured.invoke("x"), await structured.ainvoke("x")):
        if include_raw:
            assert answer.keys() == {"raw", "parsed", "parsing_error"}
            assert answer["parsing_error"] is None
            assert is_right(schema, answer["parsed"])
        else:
            assert is_right(schema, answer)
    request = client.request
    if method == "json_mode":
        assert request.constraint == OutputConstraint(kind="json_object")
    elif method == "json_schema":
        assert request.constraint.kind == "json_schema"
        assert request.constraint.name == name
        assert "setup" in request.constraint.value["properties"]
        assert request.constraint.strict is None
        assert not request.tools
    else:
        assert request.tool_choice == {"type": "function", "function": {"name": name}}
        assert request.constraint is None
        assert request.parallel_tool_calls is None
        assert request.tools[0]["function"]["strict"] is True  # vLLM holds arguments to their schema only then
        assert "additionalProperties" not in request.tools[0]["function"]["parameters"]


def test_json_schema_is_the_default_and_the_schema_is_not_touched():
    model, client = chat(result(ANSWER))
    model.with_structured_output(Joke).invoke("x")
    assert client.request.constraint.value == Joke.model_json_schema()
    assert client.request.constraint.value["required"] == ["setup"]
    assert "additionalProperties" not in client.request.constraint.value


@pytest.mark.parametrize("strict", [True, False])
def test_strict_is_sent_when_set(strict):
    model, client = chat(result(ANSWER), result("", calls=[ToolCall("a", "Joke", ANSWER)]))
    model.with_structured_output(Joke, strict=strict).invoke("x")
    assert client.request.constraint.strict is strict
    model.with_structured_output(Joke, method="function_calling", strict=strict).invoke("x")
    assert client.request.tools[0]["function"]["strict"] is strict


@pytest.mark.parametrize(
    "arguments",
    [
        {"schema": Joke, "method": "magic"},
        {"schema": Joke, "method": "json_mode", "strict": True},
        {"schema": None},
        {"schema": None, "method": "function_calling"},
    ],
)
def test_what_does_not_go_together_is_refused(arguments):
    model, _ = chat()
    with pytest.raises(ValueError, match=r"."):
        model.with_structured_output(**arguments)


def test_something_that_is_no_schema_is_refused():
    model, _ = chat()
    with pytest.raises(ConfigurationError):
        model.with_structured_output(7)


def test_json_mode_needs_no_schema():
    model, _ = chat(result('```json\n{"a": 1}\n```'))
    assert model.with_structured_output(method="json_mode").invoke("x") == {"a": 1}


class Options(BaseCallbackHandler):
    def __init__(self):
        self.seen = None

    def on_chat_model_start(self, serialized, messages, *, options=None, invocation_params=None, **kwargs):
        self.seen = (options, invocation_params)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("schema", [Joke, JokeDict, JOKE_SCHEMA], ids=["pydantic", "typeddict", "json"])
def test_traces_are_told_the_schema(schema, method):
    model, client = chat(answer_for(method, schema, getattr(schema, "__name__", "JokeSchema")))
    seen = Options()
    model.with_structured_output(schema, method=method).invoke("x", {"callbacks": [seen]})
    noted = seen.seen[0]["ls_structured_output_format"]
    assert noted == {"kwargs": {"method": method}, "schema": convert_to_json_schema(schema)}
    assert "ls_structured_output_format" not in client.request.params


BAD = [
    (result("Sure! Here is a joke."), "not valid JSON"),
    (result('{"setup": "wh', finish_reason="length"), "cut off"),
    (result('{"rating": 3}'), "not a valid Joke"),
    (result("", refusal="I cannot joke."), "I cannot joke"),
    (result(""), "not valid JSON"),
]


@pytest.mark.parametrize(("answer", "message"), BAD)
def test_an_answer_that_does_not_fit_is_an_error(answer, message):
    model, _ = chat(answer, answer)
    with pytest.raises(Exception, match=message):
        model.with_structured_output(Joke).invoke("x")
    raw = model.with_structured_output(Joke, include_raw=True).invoke("x")
    assert raw["parsed"] is None
    assert message in str(raw["parsing_error"])
    assert raw["raw"].content == answer.choices[0].content


BAD_CALLS = [
    (result("I would rather talk."), "instead of calling"),
    (result("", calls=[ToolCall("a", "Joke", '{"setup": "wh', complete=False)]), "cut off"),
    (result("", calls=[ToolCall("a", "Joke", '{"setup": "wh')]), "not valid JSON"),
    (result("", calls=[ToolCall("a", "Joke", "{}")]), "setup"),
]


@pytest.mark.parametrize(("answer", "message"), BAD_CALLS)
def test_a_call_that_does_not_fit_is_an_error(answer, message):
    model, _ = chat(answer, answer)
    with pytest.raises((OutputParserException, ValueError), match=message):
        model.with_structured_output(Joke, method="function_calling").invoke("x")
    raw = model.with_structured_output(Joke, method="function_calling", include_raw=True).invoke("x")
    assert raw["parsed"] is None
    assert message in str(raw["parsing_error"])


def test_an_answer_delivered_as_reasoning_is_still_the_answer():
    model, _ = chat(result("", reasoning=ANSWER))
    assert model.with_structured_output(Joke).invoke("x").setup == "why?"


def test_reasoning_before_the_answer_is_not_parsed():
    model, _ = chat(result(ANSWER, reasoning='{"setup": "draft"}'))
    assert model.with_structured_output(Joke).invoke("x").setup == "why?"


def test_a_streamed_dict_grows():
    pieces = ['{"set', 'up": "wh', 'y?", "rat', 'ing": 3}']
    model, _ = chat([*[ChatDelta(content=piece) for piece in pieces], ChatDelta(finish_reason="stop")])
    seen = list(model.with_structured_output(JOKE_SCHEMA).stream("x"))
    assert seen[-1] == {"setup": "why?", "rating": 3}
    assert {"setup": "wh"} in seen


def test_a_streamed_object_is_valid_every_time():
    pieces = ['{"set', 'up": "wh', 'y?", "rating": 3}']
    model, _ = chat([*[ChatDelta(content=piece) for piece in pieces], ChatDelta(finish_reason="stop")])
    seen = list(model.with_structured_output(Joke).stream("x"))
    assert all(isinstance(one, Joke) for one in seen)
    assert seen[-1] == Joke(setup="why?", rating=3)


@pytest.mark.parametrize(
    ("kwargs", "constraint"),
    [
        ({"guided_regex": "[0-9]+"}, OutputConstraint(kind="regex", value="[0-9]+")),
        ({"guided_choice": ["yes", "no"]}, OutputConstraint(kind="choice", value=["yes", "no"])),
        ({"guided_grammar": "root ::= 'a'"}, OutputConstraint(kind="grammar", value="root ::= 'a'")),
        ({"structured_outputs": {"regex": "[0-9]+"}}, OutputConstraint(kind="regex", value="[0-9]+")),
        ({"structured_outputs": {"choice": ["a"]}}, OutputConstraint(kind="choice", value=["a"])),
        ({"response_format": {"type": "json_object"}}, OutputConstraint(kind="json_object")),
        ({"response_format": {"type": "text"}}, None),
    ],
)
def test_forms_beyond_schemas_are_arguments_of_a_call(kwargs, constraint):
    model, client = chat(result())
    model.invoke("x", **kwargs)
    assert client.request.constraint == constraint
    assert client.request.params == {}


def test_a_class_can_be_the_response_format_of_a_call():
    model, client = chat(result(), result())
    model.invoke("x", response_format=Joke)
    assert (client.request.constraint.name, client.request.constraint.value) == ("Joke", Joke.model_json_schema())
    model.bind_tools([], response_format=JokeDict).invoke("x")
    assert client.request.constraint.name == "JokeDict"


def test_two_forms_at_once_are_refused():
    model, client = chat()
    with pytest.raises(ConfigurationError):
        model.invoke("x", guided_regex="a", guided_choice=["b"])
    assert client.requests == []
