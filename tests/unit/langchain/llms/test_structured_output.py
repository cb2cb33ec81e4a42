"""Answers forced into a form."""

from __future__ import annotations

import json

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel
from unit.langchain.llms.seen import bodies


class Person(BaseModel):
    """A person."""

    name: str
    age: int


async def test_structured_output_is_an_object(server, make):
    structured = make(max_tokens=64).with_structured_output(Person)
    assert isinstance(structured.invoke("Who?"), Person)
    assert isinstance(await structured.ainvoke("Who?"), Person)
    assert all("structured_outputs" in body or "response_format" in body for body in bodies(server))


def test_structured_output_of_a_schema_is_a_dict(make):
    llm = make(max_tokens=64)
    schema = {
        "title": "person",
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    assert isinstance(llm.with_structured_output(schema).invoke("Who?")["name"], str)


def test_structured_output_with_the_raw_text(make):
    answer = make(max_tokens=64).with_structured_output(Person, include_raw=True).invoke("Who?")
    assert answer["parsed"] == Person(**json.loads(answer["raw"]))
    assert answer["parsing_error"] is None


@pytest.mark.parametrize(
    "schema", [Person, {"title": "person", "type": "object", "properties": {"a": {"type": "string"}}}]
)
def test_a_structured_output_that_was_cut_is_an_error(make, schema):
    answer = make(max_tokens=2).with_structured_output(schema, include_raw=True).invoke("Who?")
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], OutputParserException)
    with pytest.raises(OutputParserException, match="max_tokens"):
        make().with_structured_output(schema, max_tokens=2).invoke("Who?")
