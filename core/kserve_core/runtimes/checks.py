"""Checks of single parameters: each takes a name and a value and returns what goes on the wire."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeAlias

from kserve_core.errors import ConfigurationError

Check: TypeAlias = Callable[[str, Any], Any]

INT64_MAX = 2**63 - 1
OMIT = object()
"""What a check returns for a value that says the same as leaving the parameter out."""


def refuse(name: str, value: Any, wanted: str, *, hint: str = "") -> NoReturn:
    """Raises the error for a value that the server would refuse."""
    shown = repr(value)
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    msg = f"{name} must be {wanted}, not {shown}."
    raise ConfigurationError(msg, hint=hint)


def number(low: float | None = None, high: float | None = None, *, above: float | None = None) -> Check:
    """A finite number, `low` and `high` allowed, `above` not."""
    wanted = _range_words("a number", low, high, above)

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            refuse(name, value, wanted)
        plain = int(value) if isinstance(value, Integral) else float(value)
        if _outside(plain, low, high, above):
            refuse(name, value, wanted)
        return plain

    return check


def integer(low: int | None = None, high: int | None = INT64_MAX) -> Check:
    """A whole number within limits that are both allowed."""
    wanted = _range_words("a whole number", low, None if high == INT64_MAX else high, None)

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            refuse(name, value, wanted)
        plain = int(value)
        if _outside(plain, low, high, None):
            too_wide = high == INT64_MAX and plain > INT64_MAX
            refuse(name, value, f"{wanted} of at most 63 bits" if too_wide else wanted)
        return plain

    return check


def boolean(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        refuse(name, value, "True or False")
    return value


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        refuse(name, value, "a string")
    return value


def one_of(*words: str) -> Check:
    """One of a few words."""

    def check(name: str, value: Any) -> str:
        if value not in words:
            refuse(name, value, f"one of {', '.join(map(repr, words))}")
        return str(value)

    return check


def texts(name: str, value: Any) -> Any:
    """A list of non-empty strings, or one string; an empty list is left out."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        refuse(name, value, "a list of strings")
    if not all(value):
        refuse(name, value, "a list of strings none of which is empty")
    return list(value) if value else OMIT


def check_texts(what: str, texts: Sequence[Any]) -> None:
    """Raises unless there are texts and all of them are strings.

    Args:
        what: What one of them is called in errors.
        texts: The texts; they are not shown.
    """
    if not texts:
        msg = f"At least one {what} is needed."
        raise ConfigurationError(msg)
    if not set(map(type, texts)) <= {str} and not all(isinstance(text, str) for text in texts):
        position = next(index for index, text in enumerate(texts) if not isinstance(text, str))
        msg = f"The {what} at position {position} is of type {type(texts[position]).__name__}, not a string."
        raise ConfigurationError(msg)


def token_ids(name: str, value: Any) -> Any:
    """A list of token ids; an empty list is left out."""
    wanted = "a list of token ids (whole numbers from 0)"
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        refuse(name, value, wanted)
    ids = [int(item) if isinstance(item, Integral) and not isinstance(item, bool) else -1 for item in value]
    if any(token < 0 for token in ids):
        refuse(name, value, wanted)
    return ids or OMIT


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(name, value, "a dict with string keys")
    return dict(value)


def mappings(name: str, value: Any) -> Any:
    """A list of mappings; an empty list is left out."""
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        refuse(name, value, "a list of dicts")
    return [dict(item) for item in value] if value else OMIT


def logit_bias(name: str, value: Any) -> Any:
    """Token ids mapped to a number from -100 to 100; ids may be numbers or digits."""
    if not isinstance(value, Mapping):
        refuse(name, value, "a dict of token ids and numbers")
    bias = number(-100, 100)
    checked: dict[str, Any] = {}
    for key, amount in value.items():
        token = str(key)
        if not token.isdigit():
            refuse(name, key, "a dict whose keys are token ids", hint="tokenize() tells a text's token ids.")
        checked[token] = bias(f"{name}[{token}]", amount)
    return checked or OMIT


def _outside(value: Any, low: float | None, high: float | None, above: float | None) -> bool:
    return (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    )


def _range_words(what: str, low: float | None, high: float | None, above: float | None) -> str:
    if above is not None:
        return f"{what} above {above}" + (f" and at most {high}" if high is not None else "")
    if low is not None and high is not None:
        return f"{what} from {low} to {high}"
    if low is not None:
        return f"{what} of at least {low}"
    return what
