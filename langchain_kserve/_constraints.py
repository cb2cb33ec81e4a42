"""The ways LangChain users say what form an answer must take, read into one value."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, TypeAlias

import orjson
from langchain_core.utils.function_calling import convert_to_json_schema

from kserve_core.capabilities import OutputConstraint
from kserve_core.errors import ConfigurationError

ConstraintKind: TypeAlias = Literal["json_schema", "json_object", "regex", "choice", "grammar"]

_GUIDED: dict[str, ConstraintKind] = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
_STRUCTURED: dict[str, ConstraintKind] = {
    "json": "json_schema",
    "json_object": "json_object",
    "regex": "regex",
    "choice": "choice",
    "grammar": "grammar",
}
_OTHER_FORMS = "Pass other forms as the server's own fields in `extra_body`."

CONSTRAINT_ARGUMENTS = frozenset({*_GUIDED, "structured_outputs", "response_format"})
"""Keyword arguments of a call that say what form the answer must take."""


def take_constraint(arguments: MutableMapping[str, Any]) -> OutputConstraint | None:
    """Removes the arguments that constrain the answer and returns what they ask for.

    Understood are `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar`, vLLM's
    `structured_outputs={"json" | "regex" | "choice" | "grammar" | "json_object": ...}` and OpenAI's
    `response_format`. A schema may be a JSON Schema, its JSON text, a pydantic class or a `TypedDict`.

    Raises:
        ConfigurationError: If they cannot be understood, or ask for more than one form.
    """
    given = {name: arguments.pop(name) for name in CONSTRAINT_ARGUMENTS & arguments.keys()}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        msg = f"An answer can have one form only; got {', '.join(sorted(given))}."
        raise ConfigurationError(msg)
    for name, value in given.items():
        if name == "response_format":
            return _from_response_format(value)
        if name == "structured_outputs":
            return _from_structured_outputs(value)
        return _constraint(_GUIDED[name], value, name)
    return None


def json_schema_of(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a pydantic class, a `TypedDict`, JSON text, or a schema as it is.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            msg = "The JSON Schema given as text is not valid JSON."
            raise ConfigurationError(msg) from None
    if isinstance(schema, Mapping):
        return dict(schema)
    if isinstance(schema, type):
        return convert_to_json_schema(schema)
    msg = f"A JSON Schema is a mapping, a class or JSON text, not {type(schema).__name__}."
    raise ConfigurationError(msg)


def _constraint(kind: ConstraintKind, value: Any, name: str) -> OutputConstraint:
    if kind == "json_schema":
        schema = json_schema_of(value)
        title = schema.get("title")
        return OutputConstraint(kind=kind, value=schema, name=title if isinstance(title, str) else None)
    if kind == "json_object":
        return OutputConstraint(kind=kind)
    if kind == "choice":
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            msg = f"`{name}` is a list of at least one text to choose from."
            raise ConfigurationError(msg)
        return OutputConstraint(kind=kind, value=list(value))
    if not isinstance(value, str) or not value:
        msg = f"`{name}` is a text."
        raise ConfigurationError(msg)
    return OutputConstraint(kind=kind, value=value)


def _from_structured_outputs(value: Any) -> OutputConstraint | None:
    if not isinstance(value, Mapping):
        msg = "`structured_outputs` is a mapping such as {'regex': '[0-9]+'}."
        raise ConfigurationError(msg)
    forms = {name: form for name, form in value.items() if form is not None and form is not False}
    if len(forms) != 1 or not forms.keys() <= _STRUCTURED.keys():
        msg = f"`structured_outputs` has one of {', '.join(_STRUCTURED)}; got {', '.join(forms) or 'none'}."
        raise ConfigurationError(msg, hint=_OTHER_FORMS)
    ((name, form),) = forms.items()
    return _constraint(_STRUCTURED[name], form, f"structured_outputs[{name!r}]")


def _from_response_format(value: Any) -> OutputConstraint | None:
    if isinstance(value, type):
        return _constraint("json_schema", value, "response_format")
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputConstraint(kind="json_object")
    wrapped = value.get("json_schema") if kind == "json_schema" else None
    if isinstance(wrapped, Mapping) and "schema" in wrapped:
        return OutputConstraint(
            kind="json_schema",
            value=json_schema_of(wrapped["schema"]),
            name=wrapped.get("name"),
            strict=wrapped.get("strict"),
        )
    msg = "`response_format` is a class, or {'type': 'text' | 'json_object' | 'json_schema', ...}."
    raise ConfigurationError(msg, hint=_OTHER_FORMS)
