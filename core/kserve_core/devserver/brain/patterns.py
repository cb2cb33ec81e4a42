"""Makes a text that matches a regular expression."""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants as constants  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as constants
    import sre_parse as parser


def example(pattern: str) -> str:
    """A short text that matches the whole pattern.

    Raises:
        re.error: The pattern is not valid.
    """
    groups: dict[int, str] = {}
    return _sequence(parser.parse(pattern), groups)


def _sequence(parts: Any, groups: dict[int, str]) -> str:
    return "".join(_one(op, value, groups) for op, value in parts)


def _one(op: Any, value: Any, groups: dict[int, str]) -> str:
    if op is constants.LITERAL:
        return chr(value)
    if op is constants.NOT_LITERAL:
        return "a" if value != ord("a") else "b"
    if op is constants.ANY:
        return "a"
    if op is constants.IN:
        return _from_set(value)
    if op is constants.BRANCH:
        return _sequence(value[1][0], groups)
    if op is constants.SUBPATTERN:
        text = _sequence(value[-1], groups)
        if value[0] is not None:
            groups[value[0]] = text
        return text
    if op is constants.GROUPREF:
        return groups.get(value, "")
    if str(op).endswith("REPEAT"):
        least, most, inner = value
        count = max(least, min(1 if least == 0 else least, most))
        return "".join(_sequence(inner, groups) for _ in range(count))
    if str(op) == "ATOMIC_GROUP":
        return _sequence(value, groups)
    return ""  # anchors and look-arounds


def _from_set(items: Any) -> str:
    negated = items[0][0] is constants.NEGATE
    if not negated:
        for op, value in items:
            if op is constants.LITERAL:
                return chr(value)
            if op is constants.RANGE:
                return chr(value[0])
            if op is constants.CATEGORY:
                return _category(value)
        return ""
    for candidate in "a1 _-.Z\u00e9":
        if not any(_contains(op, value, candidate) for op, value in items[1:]):
            return candidate
    return "~"


def _contains(op: Any, value: Any, text: str) -> bool:
    if op is constants.LITERAL:
        return chr(value) == text
    if op is constants.RANGE:
        return bool(value[0] <= ord(text) <= value[1])
    names = {"DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w", "NOT_WORD": r"\W", "SPACE": r"\s", "NOT_SPACE": r"\S"}
    return bool(re.match(names.get(str(value).removeprefix("CATEGORY_"), "$^"), text))


def _category(value: Any) -> str:
    kind = str(value).removeprefix("CATEGORY_")
    return {"DIGIT": "1", "NOT_DIGIT": "a", "WORD": "a", "NOT_WORD": " ", "SPACE": " ", "NOT_SPACE": "a"}.get(kind, "a")
