"""Guided decoding: answers in a given form, as the engine's grammar holds the model to it."""

from __future__ import annotations

import json
import re

import pytest
from runtimes.prompts import ask

from kserve_core.capabilities import OutputConstraint
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
def test_whole_and_streamed(plain, constraint, fits):
    request = ask("Tell me a joke about cats.", constraint=constraint, params={"max_tokens": 120})
    ((generation,),) = plain.run(plain.runtime.generate(request)).generations
    assert generation.finish_reason == "stop"
    assert fits(generation.text)
    assert fits("".join(piece.text for piece in plain.stream(plain.runtime.stream_generate(request))))


def test_each_prompt_of_a_batch_is_held_to_it(plain):
    request = ask("Say hello.", "Count to ten.", constraint=OutputConstraint("choice", ["left", "right"]))
    for (generation,) in plain.run(plain.runtime.generate(request)).generations:
        assert generation.text in {"left", "right"}


@pytest.mark.parametrize(
    "constraint",
    [
        OutputConstraint("regex", "(unclosed"),
        OutputConstraint("grammar", "nothing ::="),
        OutputConstraint("json_schema", {"type": "pear"}),
    ],
    ids=lambda constraint: constraint.kind,
)
def test_a_form_that_is_none_is_refused(plain, constraint):
    """The server reports these as UNKNOWN, in words only; see the wire's page."""
    request = ask("Say hello.", constraint=constraint)
    with pytest.raises(InvalidRequestError) as caught:
        plain.run(plain.runtime.generate(request))
    assert caught.value.server_message
    assert not caught.value.retryable
    with pytest.raises(InvalidRequestError):
        list(plain.stream(plain.runtime.stream_generate(request)))
