"""What users write to constrain an answer, read into one value."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from kserve_core.errors import ConfigurationError
from langchain_kserve._constraints import take_constraint


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str | None = None


class JokeDict(TypedDict):
    """A joke."""

    setup: str


SCHEMA = {"title": "joke", "type": "object", "properties": {"setup": {"type": "string"}}}


def take(**arguments):
    return take_constraint(arguments)


def test_no_constraint_leaves_the_arguments_alone():
    arguments = {"temperature": 0.5, "guided_regex": None}
    assert take_constraint(arguments) is None
    assert arguments == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        ({"guided_regex": "[0-9]+"}, "regex", "[0-9]+"),
        ({"guided_choice": ("yes", "no")}, "choice", ["yes", "no"]),
        ({"guided_grammar": "root ::= 'a'"}, "grammar", "root ::= 'a'"),
        ({"guided_json": SCHEMA}, "json_schema", SCHEMA),
        ({"guided_json": '{"type": "object"}'}, "json_schema", {"type": "object"}),
        ({"structured_outputs": {"regex": "a+", "json": None}}, "regex", "a+"),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json_object", None),
        ({"response_format": {"type": "json_object"}}, "json_object", None),
    ],
)
def test_every_spelling_is_understood_and_taken_out(given, kind, value):
    arguments = {**given, "seed": 1}
    constraint = take_constraint(arguments)
    assert constraint is not None
    assert (constraint.kind, constraint.value) == (kind, value)
    assert arguments == {"seed": 1}


def test_response_format_keeps_name_and_strict():
    constraint = take(
        response_format={"type": "json_schema", "json_schema": {"name": "j", "strict": True, "schema": SCHEMA}}
    )
    assert (constraint.name, constraint.strict, constraint.value) == ("j", True, SCHEMA)


@pytest.mark.parametrize("schema", [Joke, JokeDict])
def test_classes_become_schemas_with_their_name(schema):
    constraint = take(guided_json=schema)
    assert constraint.value["properties"]["setup"]["type"] == "string"
    assert constraint.name == schema.__name__
    assert "punchline" not in constraint.value.get("required", [])


def test_a_response_format_of_plain_text_is_none():
    assert take(response_format={"type": "text"}) is None


@pytest.mark.parametrize(
    "given",
    [
        {"guided_regex": "a", "guided_choice": ["b"]},
        {"guided_choice": []},
        {"guided_choice": "yes"},
        {"guided_regex": 7},
        {"guided_json": "{not json"},
        {"guided_json": 7},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a", "choice": ["b"]}},
        {"structured_outputs": {"structural_tag": "x"}},
        {"structured_outputs": "regex"},
        {"response_format": {"type": "json_schema"}},
        {"response_format": "json"},
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_refused_before_anything_is_sent(given):
    with pytest.raises(ConfigurationError):
        take_constraint(dict(given))
