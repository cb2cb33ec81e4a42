"""Answers in a given form, as a real grammar engine holds a model to it."""

from __future__ import annotations

import json
import re

import pytest

from kserve_core.capabilities import OutputConstraint, TextRequest
from kserve_core.errors import InvalidRequestError

JOKE = {
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
    "required": ["setup", "punchline"],
}
GRAMMAR = 'root ::= "The answer is " ("yes" | "no")'


def as_joke(text):
    return set(json.loads(text)) == {"setup", "punchline"}


FORMS = [
    pytest.param(OutputConstraint("json_schema", JOKE, name="joke"), as_joke, id="json_schema"),
    pytest.param(
        OutputConstraint("regex", r"[0-9]{3}-[a-f]{4}"), re.compile("[0-9]{3}-[a-f]{4}").fullmatch, id="regex"
    ),
    pytest.param(OutputConstraint("choice", ["left", "right"]), {"left", "right"}.__contains__, id="choice"),
    pytest.param(
        OutputConstraint("grammar", GRAMMAR), {"The answer is yes", "The answer is no"}.__contains__, id="grammar"
    ),
    pytest.param(OutputConstraint("json_object"), as_joke, id="json_object"),
]


@pytest.mark.parametrize(("constraint", "fits"), FORMS)
def test_chat(generator, ask, constraint, fits):
    request = ask("Tell me a joke about cats.", constraint=constraint, params={"max_tokens": 120})
    (choice,) = generator.run(generator.runtime.chat(request)).choices
    assert choice.finish_reason == "stop"
    assert fits(choice.content)


@pytest.mark.parametrize(("constraint", "fits"), FORMS)
def test_streamed_chat(generator, ask, constraint, fits):
    request = ask("Tell me a joke about cats.", constraint=constraint, params={"max_tokens": 120})
    assert fits("".join(piece.content for piece in generator.stream(generator.runtime.stream_chat(request))))


@pytest.mark.parametrize(("constraint", "fits"), FORMS)
def test_completions(generator, constraint, fits):
    params = {"temperature": 0, "max_tokens": 120}
    request = TextRequest(prompts=["Tell me a joke about cats."], constraint=constraint, params=params)
    ((generation,),) = generator.run(generator.runtime.generate(request)).generations
    assert fits(generation.text)


@pytest.mark.parametrize(
    "constraint",
    [
        OutputConstraint("regex", "(unclosed"),
        OutputConstraint("grammar", "nothing ::="),
        OutputConstraint("json_schema", {"type": "pear"}),
    ],
    ids=lambda constraint: constraint.kind,
)
def test_a_form_that_is_none_is_refused(generator, ask, constraint):
    with pytest.raises(InvalidRequestError) as caught:
        generator.run(generator.runtime.chat(ask("Say hello.", constraint=constraint)))
    assert caught.value.status == 400
    assert caught.value.server_message
