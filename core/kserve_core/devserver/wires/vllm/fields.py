"""Checks of types and required fields, before anything else is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kserve_core.devserver.messages import Request
from kserve_core.devserver.wires.vllm.errors import ApiError, missing, problem, schema_error

_INT64 = 2**63 - 1
_TRUTH = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}
_PLAIN: Mapping[str, tuple[type, str]] = {
    "str": (str, "string"),
    "list": (list, "list"),
    "dict": (dict, "dictionary"),
}

SAMPLING: Mapping[str, str] = {
    "model": "str",
    "temperature": "float",
    "top_p": "float",
    "top_k": "int",
    "min_p": "float",
    "max_tokens": "int",
    "min_tokens": "int",
    "n": "int",
    "seed": "int64",
    "stop": "texts",
    "stop_token_ids": "list",
    "stream": "bool",
    "stream_options": "dict",
    "presence_penalty": "float",
    "frequency_penalty": "float",
    "repetition_penalty": "float",
    "logit_bias": "dict",
    "ignore_eos": "bool",
    "user": "str",
}
CHAT: Mapping[str, str] = {
    **SAMPLING,
    "messages": "list",
    "max_completion_tokens": "int",
    "logprobs": "bool",
    "top_logprobs": "int",
    "tools": "list",
    "parallel_tool_calls": "bool",
    "response_format": "dict",
    "chat_template_kwargs": "dict",
    "add_generation_prompt": "bool",
    "continue_final_message": "bool",
    "include_reasoning": "bool",
    "echo": "bool",
}
COMPLETION: Mapping[str, str] = {
    **SAMPLING,
    "logprobs": "int",
    "echo": "bool",
    "suffix": "str",
}


def body_of(request: Request) -> dict[str, Any]:
    """The request body as an object.

    Raises:
        ApiError: Not JSON, not an object, or not declared as JSON.
    """
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        msg = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(msg, kind="Bad Request")
    if not request.body:
        raise missing(("body",), None)
    try:
        body = request.json()
    except orjson.JSONDecodeError as error:
        what = problem("json_invalid", ("body", error.pos), "JSON decode error", {})
        raise schema_error({**what, "ctx": {"error": error.msg}}) from error
    if not isinstance(body, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise schema_error(problem("model_attributes_type", ("body",), text, body))
    return body


def check(body: dict[str, Any], types: Mapping[str, str], *, required: tuple[str, ...] = ()) -> None:
    """Check presence and types of fields; numbers written as text are converted in place.

    Raises:
        ApiError: With every problem found.
    """
    problems = [
        problem("missing", ("body", name), "Field required", dict(body)) for name in required if name not in body
    ]
    for name, kind in types.items():
        if body.get(name) is None:
            continue
        where = ("body", name)
        try:
            body[name] = _converted(body[name], kind)
        except _MismatchError as error:
            problems += [problem(code, where, text, body[name]) for code, text in error.args]
            continue
        if kind == "int64" and body[name] > _INT64:
            text = f"Input should be less than or equal to {_INT64}"
            problems.append({**problem("less_than_equal", where, text, body[name]), "ctx": {"le": _INT64}})
    if problems:
        raise schema_error(*problems)


class _MismatchError(Exception):
    """What is wrong with a value: pairs of code and text."""


def _converted(value: Any, kind: str) -> Any:
    if kind in {"int", "int64"}:
        return _number(value, int, "int", "integer")
    if kind == "float":
        return _number(value, float, "float", "number")
    if kind == "bool":
        found = value if isinstance(value, bool) else _TRUTH.get(str(value).lower())
        if found is None:
            raise _MismatchError(("bool_parsing", "Input should be a valid boolean, unable to interpret input"))
        return found
    if kind == "texts":
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return value
        texts = (("string_type", "Input should be a valid string"), ("list_type", "Input should be a valid list"))
        raise _MismatchError(*texts)
    plain, named = _PLAIN[kind]
    if not isinstance(value, plain):
        raise _MismatchError((f"{named.removesuffix('ionary')}_type", f"Input should be a valid {named}"))
    return value


def _number(value: Any, kind: type[int] | type[float], code: str, named: str) -> int | float:
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            article = "an" if named == "integer" else "a"
            text = f"Input should be a valid {named}, unable to parse string as {article} {named}"
            raise _MismatchError((f"{code}_parsing", text)) from None
    if not isinstance(value, int | float):
        raise _MismatchError((f"{code}_type", f"Input should be a valid {named}"))
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise _MismatchError(("int_from_float", "Input should be a valid integer, got a number with a fractional part"))
    return kind(value)
