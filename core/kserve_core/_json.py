"""JSON in and out with this package's own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kserve_core.calls import Response
from kserve_core.errors import BadResponseError, ConfigurationError

_SHOWN = 200


def encode(value: Any) -> bytes:
    """The value as compact JSON.

    Numpy arrays and numbers, dataclasses and any mapping are understood; keys become text.

    Raises:
        ConfigurationError: If something in it has no JSON form.
    """
    try:
        return orjson.dumps(value, _plain, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        msg = f"The request cannot be written as JSON: {error}"
        raise ConfigurationError(msg, hint="Pass only text, numbers, booleans, None, lists and dicts.") from error


def decode(data: bytes | str, what: str, *, status: int | None = None) -> Any:
    """The value of a piece of JSON.

    Args:
        data: The JSON text.
        what: What it was meant to be, for the error message (`"a list of models"`).
        status: The status of the answer it came with.

    Raises:
        BadResponseError: If it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    # Not inside the handler: the library's exception holds the whole text, and must not hang on ours.
    raise unreadable(data, what, problem, status=status)


def decode_object(response: Response, what: str) -> dict[str, Any]:
    """The JSON object an answer's body holds.

    Raises:
        BadResponseError: If the body is not JSON, or not an object.
    """
    value = decode(response.body, what, status=response.status)
    if not isinstance(value, dict):
        problem = f"a JSON {_kind(value)} came instead of an object"
        raise unreadable(response.body, what, problem, status=response.status)
    return value


def unexpected(what: str, problem: str, *, status: int | None = None, hint: str = "") -> BadResponseError:
    """The error for an answer that is JSON but does not say what it should."""
    return BadResponseError(f"The answer is not {what}: {problem}.", status=status, hint=hint)


def unreadable(data: bytes | str, what: str, problem: str, *, status: int | None = None) -> BadResponseError:
    """The error for something that is not JSON at all; it shows the beginning, and says what it looks like."""
    start = data[:_SHOWN]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    lowered = text.lstrip().lower()
    hint = ""
    if lowered.startswith(("<!doctype", "<html")):
        hint = "This is a web page: a sign-in page or a router answered in the runtime's place."
    elif not lowered:
        problem = "it is empty"
    elif any(word in _raw(data) for word in (b"NaN", b"Infinity")):
        hint = "It may hold NaN or Infinity, which JSON does not have: the model computed no proper number."
    return BadResponseError(
        f"The answer is not {what}: {problem}.",
        status=status,
        server_message=" ".join(text.split()),
        hint=hint,
    )


def word(value: Any) -> str | None:
    """Text, or None for whatever else a server put in its place."""
    return value if isinstance(value, str) else None


def columns(value: Any) -> dict[str, Any] | None:
    """A JSON object of lists, or None for whatever else a server put in its place; members that are none are left out.

    Log-probabilities have this form. The pieces of a stream are put together list by list, which anything else breaks.
    """
    if not isinstance(value, dict):
        return None
    if all(item is None or isinstance(item, list) for item in value.values()):
        return value
    return {key: item for key, item in value.items() if item is None or isinstance(item, list)}


def _raw(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _kind(value: Any) -> str:
    names = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, range):
        return list(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)
