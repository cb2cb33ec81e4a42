"""Secrets that nobody else has, put where secrets are, and looked for where none may be."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

TOKEN = "sha256~canary-in-the-token"
HEADER = "canary-in-a-header"
PASSWORD = "canary-of-the-client-key"
PROMPT = "The canary sings of Paris. Count to ten."
SECRETS = (TOKEN, HEADER, PASSWORD)

REAL = {"api_key": TOKEN, "default_headers": {"x-tenant-key": HEADER}, "client_cert": ("c.pem", "k.pem", PASSWORD)}
"""Constructor arguments with every secret there is."""


def classes() -> Iterator[tuple[str, type[Any]]]:
    """Every class of both packages that connects to an endpoint."""
    import langchain_kserve
    import llamaindex_kserve

    for package in (langchain_kserve, llamaindex_kserve):
        for name in package.__all__:
            found = getattr(package, name)
            if "base_url" in getattr(found, "model_fields", {}):
                yield f"{package.__name__}.{name}", found


def make(cls: type[Any], **fields: Any) -> Any:
    """An instance, with a URL of the form its runtime takes unless one is given."""
    needs = {name for name in ("TGIS",) if name in cls.__name__}
    url = "grpcs://model.example.com:443" if needs else "https://model.example.com/v1"
    if not needs and "VLLM" not in cls.__name__:
        url = "https://model.example.com"
    templated = cls.__name__ in {"ChatCaikit", "ChatTGIS", "ChatTriton", "ChatMLServer"}
    form = {"chat_template": "chatml"} if templated else {}
    return cls(**{"base_url": url, "model": "m", **form, **fields})


def found_in(*things: Any, secrets: tuple[str, ...] = SECRETS) -> list[str]:
    """The secrets that are somewhere in what is given."""
    text = "\n".join(thing if isinstance(thing, str) else _all_of(thing) for thing in things)
    return [secret for secret in secrets if secret in text]


def _all_of(thing: Any) -> str:
    forms: list[Callable[[Any], str]] = [repr, str, _as_json]
    return "\n".join(form(thing) for form in forms)


def _as_json(thing: Any) -> str:
    return json.dumps(thing, default=repr, skipkeys=True)


def error_texts(error: BaseException) -> Iterator[str]:
    """Everything an error tells, that of the errors behind it included."""
    yield "".join(traceback.format_exception(type(error), error, error.__traceback__))
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{one} {one!r} {one.args!r}"
        yield repr({key: _shown(value) for key, value in vars(one).items()})
        todo += [one.__cause__, one.__context__]


def _shown(value: Any) -> Any:
    if hasattr(value, "content") and hasattr(value, "headers"):
        return value.content, dict(value.headers)
    return dict(value) if isinstance(value, Mapping) else value
