"""Guided decoding: a JSON Schema, any JSON, a regex, a choice, a grammar.

The vLLM-backed server decodes under guidance. The classic one skips the fields, which it does not know, without a
word: there the answer has to be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kserve_core.capabilities import OutputConstraint, Params
from kserve_core.errors import ConfigurationError
from kserve_core.protos import messages

KINDS = frozenset({"json_schema", "json_object", "regex", "choice", "grammar"})

_BY_NAME: Mapping[str, Any] = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
NAMES = frozenset(_BY_NAME)
"""The names a constraint may have among the parameters, the same as with vLLM."""


def constraint_of(constraint: OutputConstraint | None, params: Params) -> OutputConstraint | None:
    """The constraint of a request, which may also have come among the parameters.

    Raises:
        ConfigurationError: If there are several, or it is not a valid one.
    """
    found = [] if constraint is None else [constraint]
    found += [
        OutputConstraint(kind=kind, value=params[name])
        for name, kind in _BY_NAME.items()
        if params.get(name) is not None
    ]
    if len(found) > 1:
        msg = "Only one form can be asked of an answer, but several were given."
        raise ConfigurationError(msg, hint="Give one of: a schema, a regex, a choice, a grammar.")
    if not found:
        return None
    _check(found[0])
    return found[0]


def set_constraint(decoding: messages.fmaas.DecodingParameters, constraint: OutputConstraint) -> None:
    """Writes a constraint that was checked into the message."""
    kind, value = constraint.kind, constraint.value
    if kind == "json_object":
        decoding.format = messages.fmaas.DecodingParameters.ResponseFormat.JSON
    elif kind == "json_schema":
        decoding.json_schema = value if isinstance(value, str) else orjson.dumps(value).decode()
    elif kind == "regex":
        decoding.regex = value
    elif kind == "choice":
        decoding.choice.choices.extend(value)
    else:
        decoding.grammar = value


def _check(constraint: OutputConstraint) -> None:
    kind, value = constraint.kind, constraint.value
    problem = ""
    if kind not in KINDS:
        problem = f"there is no constraint of kind {kind!r}"
    elif kind == "json_schema":
        problem = _schema_problem(value)
    elif kind in {"regex", "grammar"} and not (isinstance(value, str) and value):
        problem = f"a {kind} must be a non-empty string"
    elif kind == "choice":
        if (
            isinstance(value, (str, bytes))
            or not isinstance(value, Sequence)
            or not all(isinstance(item, str) and item for item in value)
        ):
            problem = "a choice must be a list of non-empty strings"
        elif len(value) < 2:
            problem = "TGIS chooses between two texts at least"
    if problem:
        msg = f"The answer cannot be constrained: {problem}."
        raise ConfigurationError(msg)


def _schema_problem(value: Any) -> str:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return f"the JSON Schema is not JSON ({error})"
    return "" if isinstance(value, Mapping) else "a JSON Schema must be a dict"
