"""Constrained answers: a JSON Schema, any JSON object, a regex, a choice, a grammar.

vLLM renamed the fields: `guided_regex` and its siblings work up to 0.11, `structured_outputs` from 0.11, and since
0.12 the old names are ignored without a word. JSON for chats goes through `response_format`, which all versions
have; for everything else the server's version decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kserve_core.capabilities import OutputConstraint, Params
from kserve_core.errors import ConfigurationError

_RENAMED_IN = (0, 11)
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def parse_version(text: str | None) -> tuple[int, int] | None:
    """Major and minor of a version such as `0.11.0+rhai1`; None if there is no telling."""
    match = _VERSION.match(text or "")
    return (int(match[1]), int(match[2])) if match else None


def needs_version(task: Literal["chat", "completion"], constraint: OutputConstraint | None) -> bool:
    """Whether the way to send this constraint depends on the server's version."""
    if constraint is None or constraint.kind == "json_object":
        return False
    return task == "completion" or constraint.kind != "json_schema"


def constraint_of(
    constraint: OutputConstraint | None, params: Params, extra_body: Mapping[str, Any]
) -> OutputConstraint | None:
    """The constraint of a request, which may also have come under its old name among the parameters.

    Raises:
        ConfigurationError: If there are several, or it is not a valid one.
    """
    found = [] if constraint is None else [constraint]
    for kind, name in (
        ("json_schema", "guided_json"),
        ("regex", "guided_regex"),
        ("choice", "guided_choice"),
        ("grammar", "guided_grammar"),
    ):
        if params.get(name) is not None:
            found.append(OutputConstraint(kind=kind, value=params[name]))  # type: ignore[arg-type]
    raw = [
        name for name in ("response_format", "structured_outputs") if params.get(name) is not None or name in extra_body
    ]
    if len(found) + (len(raw) if found else 0) > 1:
        msg = "Only one form can be asked of an answer, but several were given."
        raise ConfigurationError(msg, hint="Give one of: a schema, a regex, a choice, a grammar, response_format.")
    if not found:
        return None
    _check(found[0])
    return found[0]


def wire_constraint(
    task: Literal["chat", "completion"], constraint: OutputConstraint, version: tuple[int, int] | None
) -> dict[str, Any]:
    """The request fields that ask for the constraint; an unknown version counts as a current one."""
    kind, value = constraint.kind, constraint.value
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if kind == "json_schema":
        if task == "chat":
            return {"response_format": {"type": "json_schema", "json_schema": _json_schema(constraint)}}
        kind_on_wire = "json"
    else:
        kind_on_wire = kind
    if version is not None and version < _RENAMED_IN:
        return {f"guided_{kind_on_wire}": value}
    return {"structured_outputs": {kind_on_wire: value}}


def _json_schema(constraint: OutputConstraint) -> dict[str, Any]:
    name = constraint.name
    if not name and isinstance(constraint.value, Mapping):
        name = constraint.value.get("title")
    wire: dict[str, Any] = {
        "name": _NAME.sub("_", name)[:64] if name else "answer",
        "schema": constraint.value,
    }
    if constraint.strict is not None:
        wire["strict"] = constraint.strict
    return wire


def _check(constraint: OutputConstraint) -> None:
    kind, value = constraint.kind, constraint.value
    problem = ""
    if kind == "json_schema" and not isinstance(value, (Mapping, bool)):
        problem = "a JSON Schema must be a dict"
    elif kind in {"regex", "grammar"} and not (isinstance(value, str) and value):
        problem = f"a {kind} must be a non-empty string"
    elif kind == "choice" and (
        isinstance(value, (str, bytes))
        or not isinstance(value, Sequence)
        or not value
        or not all(isinstance(item, str) and item for item in value)
    ):
        problem = "a choice must be a non-empty list of non-empty strings"
    elif kind not in {"json_schema", "json_object", "regex", "grammar", "choice"}:
        problem = f"there is no constraint of kind {kind!r}"
    if problem:
        msg = f"The answer cannot be constrained: {problem}."
        raise ConfigurationError(msg)
