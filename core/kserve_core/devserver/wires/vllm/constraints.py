"""Output constraints: response_format, structured_outputs and the older guided_* fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from kserve_core.devserver.brain.features import keywords
from kserve_core.devserver.brain.json_mode import object_for
from kserve_core.devserver.brain.patterns import example
from kserve_core.devserver.brain.schema import Filler
from kserve_core.devserver.brain.selection import hints
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.vllm.errors import ApiError, missing, problem, schema_error, wrong_type

_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_TYPES = {"string", "integer", "number", "boolean", "object", "array", "null"}


def constrained(body: Mapping[str, Any], prompt: str, settings: Settings) -> str | None:
    """The text for a constrained request, or None when it is free.

    Raises:
        ApiError: The constraint itself is wrong.
    """
    form = body.get("response_format")
    if form is not None and form.get("type") != "text":
        return _formatted(form, prompt)
    if settings.release >= (0, 11) and body.get("structured_outputs") is not None:
        return _structured(body["structured_outputs"], prompt)
    if settings.release < (0, 12):
        guided = {kind: body[f"guided_{kind}"] for kind in _KINDS if body.get(f"guided_{kind}") is not None}
        if len(guided) > 1:
            msg = "You can only use one kind of guided decoding ('guided_json', 'guided_regex' or 'guided_choice')."
            raise ApiError(msg)
        if guided:
            return _one(*next(iter(guided.items())), prompt)
    return None


def _formatted(form: Mapping[str, Any], prompt: str) -> str | None:
    if "type" not in form:
        raise missing(("body", "response_format", "type"), dict(form))
    kind = form["type"]
    if kind == "json_object":
        return _dump(object_for(prompt))
    if kind == "json_schema":
        wrapped = form.get("json_schema")
        if isinstance(wrapped, dict) and not isinstance(wrapped.get("name"), str):
            raise missing(("body", "response_format", "json_schema", "name"), wrapped)
        if not isinstance(wrapped, dict):
            msg = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
            raise ApiError(msg, param="response_format")
        return _schema(wrapped.get("schema") or {}, prompt)
    if kind == "structural_tag":
        return None
    text = f"Input tag '{kind}' is not one of 'text', 'json_object', 'json_schema', 'structural_tag'"
    raise schema_error(problem("literal_error", ("body", "response_format", "type"), text, kind))


def _structured(given: Any, prompt: str) -> str | None:
    if not isinstance(given, dict):
        raise wrong_type(("body", "structured_outputs"), "dictionary", given)
    kinds = [kind for kind in _KINDS if given.get(kind) is not None]
    if not kinds:
        msg = f"You must use one kind of structured outputs constraint but none are specified: {given}"
        raise ApiError(msg)
    if len(kinds) > 1:
        msg = "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice')."
        raise ApiError(msg)
    return _one(kinds[0], given[kinds[0]], prompt)


def _one(kind: str, value: Any, prompt: str) -> str | None:
    if kind == "json":
        return _schema(value, prompt)
    if kind == "json_object":
        return _dump(object_for(prompt)) if value else None
    if kind == "regex":
        try:
            return example(str(value))
        except re.error as error:
            msg = f"Failed to convert the regex: {error}"
            raise ApiError(msg) from error
    if kind == "choice":
        if not isinstance(value, list) or not value:
            msg = "Choice constraint cannot be an empty list."
            raise ApiError(msg)
        return choose([str(option) for option in value], prompt)
    if kind == "grammar":
        return _grammar(str(value))
    return None


def choose(options: list[str], prompt: str) -> str:
    """The option that is said last, or shares words with the prompt, or is the first."""
    low = prompt.lower()
    bag = set(keywords(prompt))

    def score(at: int) -> tuple[int, int, int]:
        return (len(bag & set(keywords(options[at]))), int(options[at].lower() in low), -at)

    return options[max(range(len(options)), key=score)]


def _schema(schema: Any, prompt: str) -> str:
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError as error:
            msg = f"Invalid JSON grammar specification: {error}"
            raise ApiError(msg) from error
    if not isinstance(schema, dict):
        msg = "The JSON schema must be an object."
        raise ApiError(msg)
    _check(schema)
    return _dump(Filler(prompt, root=schema, hints=hints(prompt)).fill(schema))


def _check(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check(part)
        return
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    for one in kinds:
        if isinstance(one, str) and one not in _TYPES:
            msg = f"Grammar error: unsupported JSON schema type {one!r}"
            raise ApiError(msg)
    for key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
        _check(schema.get(key))
    for key in ("properties", "$defs", "definitions"):
        part = schema.get(key)
        if isinstance(part, dict):
            for value in part.values():
                _check(value)


def _grammar(text: str) -> str:
    rules = dict(re.findall(r"^\s*([\w-]+)\s*(?:::=|:)\s*(.+?)\s*$", text, re.MULTILINE))
    if "root" not in rules and "start" not in rules:
        msg = "Grammar error: no root rule"
        raise ApiError(msg)

    def produce(rule: str, depth: int) -> str:
        if depth > 20:
            return ""
        first = re.split(r"\s\|\s", rules.get(rule, ""))[0]
        made = ""
        for literal, name in re.findall(r'"((?:[^"\\]|\\.)*)"|([A-Za-z_][\w-]*)', first):
            made += json.loads(f'"{literal}"') if literal else produce(name, depth + 1) if name in rules else ""
        return made

    return produce("root" if "root" in rules else "start", 0)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
