"""The filters, functions and methods that chat templates use, those that could make much of little rewritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2.runtime import Undefined
from jinja2.sandbox import safe_range
from jinja2.utils import Namespace

from kserve_core.errors import ConfigurationError
from kserve_core.jinja_limits import MAX_ITEMS, budget, passed, too_large, weigh


def raise_exception(text: object) -> NoReturn:
    """What templates call to refuse a conversation."""
    msg = f"The chat template refuses this conversation: {str(text)[:300]}"
    raise ConfigurationError(msg, hint="See which roles, and in which order, the model's template takes.")


def strftime_now(form: str) -> str:
    """The date and time now, formatted."""
    return datetime.now().astimezone().strftime(str(form)[:100])


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    for value in (*args, *kwargs.values()):
        weigh(value)
    made: dict[Any, Any] = passed(dict(*args, **kwargs))
    return made


def _namespace(*args: Any, **kwargs: Any) -> Namespace:
    for value in (*args, *kwargs.values()):
        weigh(value)
    return Namespace(*args, **kwargs)


def _range(*args: int) -> range:
    return safe_range(*args)


GLOBALS: Mapping[str, Callable[..., Any]] = {
    "range": _range,
    "dict": _dict,
    "namespace": _namespace,
    "raise_exception": raise_exception,
    "strftime_now": strftime_now,
}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(value, Undefined):
        value = None
    width = min(indent, 8) if indent else None
    budget().make(weigh(value) * (1 + (width or 0)))
    if separators is not None and max(map(len, separators)) > 4:
        too_large()
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=width, separators=separators, sort_keys=sort_keys)


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    source, old, new = str(text), str(old), str(new)
    limit = -1 if count is None else count
    hits = source.count(old) if limit < 0 else min(source.count(old), limit)
    budget().make(len(source) + hits * len(new))
    return source.replace(old, new, limit)


def _join(values: Any, d: str = "", attribute: str | int | None = None) -> str:
    if isinstance(values, Undefined):
        return ""
    parts: list[str] = []
    for value in values:
        item = value
        if attribute is not None:
            item = value.get(attribute, "") if isinstance(value, Mapping) else ""
        budget().make(weigh(item) + len(d))
        parts.append(str(item))
    return str(d).join(parts)


def _int(value: Any, default: int = 0, base: int = 10) -> int:
    try:
        return int(value[:100], base) if isinstance(value, str) else int(value)
    except (TypeError, ValueError, OverflowError):
        try:
            return int(float(value[:100] if isinstance(value, str) else value))
        except (TypeError, ValueError, OverflowError):
            return default


def _string(value: Any) -> str:
    weigh(value)
    return value if isinstance(value, str) else str(value)


_AS_IN_JINJA = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "items"),
    *("last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe", "select"),
    *("selectattr", "sort", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)

FILTERS: Mapping[str, Callable[..., Any] | None] = {
    **dict.fromkeys(_AS_IN_JINJA),
    "int": _int,
    "join": _join,
    "replace": _replace,
    "string": _string,
    "tojson": _tojson,
}
"""The filters by name; None for Jinja's own."""


def _split(text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    if maxsplit < 0 and (len(text) if sep is None else text.count(sep)) > MAX_ITEMS:
        too_large()
    budget().make(2 * len(text))
    return text.split(sep, maxsplit)


def _rsplit(text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    if maxsplit < 0:
        return _split(text, sep)
    budget().make(2 * len(text))
    return text.rsplit(sep, maxsplit)


REPLACED: Mapping[str, Callable[..., Any]] = {
    "join": lambda text, values: _join(values, text),
    "replace": _replace,
    "split": _split,
    "rsplit": _rsplit,
}
"""Methods of texts that could make much of little."""

_TEXT_METHODS = (
    *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal", "isdigit", "islower"),
    *("isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition", "removeprefix"),
    *("removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines"),
    *("startswith", "strip", "swapcase", "title", "upper"),
)

METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_TEXT_METHODS)),
    (dict, frozenset({"get", "items", "keys", "values", "copy"})),
    (list, frozenset({"count", "index", "copy"})),
    (tuple, frozenset({"count", "index"})),
)
"""The methods a template may call, by the type of their object."""
