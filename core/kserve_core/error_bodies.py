"""What an error answer's body says, with any echo of the request taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import orjson

MAX_MESSAGE = 500
"""The most characters of a server's message that an error carries."""
MAX_BODY = 16 * 1024
"""The most bytes of an error answer's body that an error carries."""

_ECHOES = frozenset({"input", "input_value"})
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_INVISIBLE = re.compile(r"<(script|style|svg)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_BLANKS = re.compile(r"\s+")
_ECHO_START = re.compile(r"""(['"])input(?:_value)?\1\s*:\s*|\binput_value=""")


@dataclass(slots=True)
class ErrorBody:
    """The readable parts of an error answer.

    Attributes:
        message: The server's words: one line, bounded.
        kind: `json`, `html`, `text` or `empty`.
        type: The error's type, where it is named.
        code: The error's own code, where there is one.
        param: The parameter it complains about, where it is named.
        id: The request's id, where the body has one.
        value: The decoded JSON, without echoes.
    """

    message: str = ""
    kind: str = "empty"
    type: str = ""
    code: str = ""
    param: str = ""
    id: str | None = None
    value: Any = field(default=None, repr=False)


def read_error_body(body: bytes) -> ErrorBody:
    """Reads a body in any of the known shapes; the content type is not asked, since servers get it wrong."""
    stripped = body.strip()
    if not stripped:
        return ErrorBody()
    if is_html(stripped):
        return ErrorBody(_page_text(stripped), "html")
    raw = stripped
    if raw.startswith((b"data:", b"event:")):  # an event stream that only says what went wrong
        raw = next((line[5:] for line in raw.splitlines() if line.startswith(b"data:")), b"")
    try:
        value = orjson.loads(raw)
    except ValueError:
        return ErrorBody(tidy(strip_echo(stripped[: 8 * MAX_BODY].decode("utf-8", "replace"))), "text")
    value = without_echo(value)
    parsed = ErrorBody(kind="json", value=value)
    _read_json(value, parsed)
    return parsed


def is_html(body: bytes) -> bool:
    """Whether a body is a web page, whatever its content type says."""
    return _HTML.match(body[:4096]) is not None


def bounded_body(body: bytes, parsed: ErrorBody) -> bytes:
    """The body as an error may carry it: no echo of the request, not more than `MAX_BODY` bytes."""
    if parsed.kind == "json":
        return orjson.dumps(parsed.value, option=orjson.OPT_NON_STR_KEYS)[:MAX_BODY]
    if parsed.kind == "text":
        return strip_echo(body[: 8 * MAX_BODY].decode("utf-8", "replace")).encode()[:MAX_BODY]
    return body[:MAX_BODY]


def without_echo(value: Any, depth: int = 0) -> Any:
    """JSON without the members in which servers repeat the request, and without such text inside strings."""
    if depth > 20:
        return None
    if isinstance(value, dict):
        return {key: without_echo(item, depth + 1) for key, item in value.items() if key not in _ECHOES}
    if isinstance(value, list):
        return [without_echo(item, depth + 1) for item in value[:100]]
    return strip_echo(value) if isinstance(value, str) else value


def strip_echo(text: str) -> str:
    """Takes `'input': <value>` and `input_value=<value>` out of a validation message."""
    if "input" not in text:
        return text
    parts: list[str] = []
    position = 0
    while (match := _ECHO_START.search(text, position)) is not None:
        parts += (text[position : match.end()], "...")
        position = _value_end(text, match.end())
    parts.append(text[position:])
    return "".join(parts)


def tidy(text: str) -> str:
    """One line of at most `MAX_MESSAGE` characters, without tags and control characters."""
    text = _BLANKS.sub(" ", _TAG.sub(" ", text[: 64 * 1024])).strip()
    text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3].rstrip()}..."


def _value_end(text: str, position: int) -> int:
    """Where a Python or JSON literal that starts at `position` ends."""
    depth = 0
    quote = ""
    escaped = False
    for index in range(position, len(text)):
        char = text[index]
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            if depth == 0:
                return index
            depth -= 1
        elif char == "," and depth == 0:
            return index
    return len(text)


def _page_text(body: bytes) -> str:
    text = _INVISIBLE.sub(" ", body[: 64 * 1024].decode("utf-8", "replace"))
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    rest = re.sub(r"<head\b.*?</head>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    lines = tidy(unescape(rest))
    named = tidy(unescape(title.group(1))) if title else ""
    return lines if not named or lines.startswith(named) else tidy(f"{named}: {lines}" if lines else named)


def _read_json(value: Any, into: ErrorBody) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        into.message = tidy(value if isinstance(value, str) else orjson.dumps(value).decode())
        return
    into.id = next((value[key] for key in ("id", "request_id") if isinstance(value.get(key), str)), None)
    error = value.get("error")
    source = error if isinstance(error, dict) else value
    into.type = _word(source.get("type"))
    into.code = _word(source.get("code"))
    into.param = _word(source.get("param"))
    candidates = [source.get("message"), error, value.get("details"), value.get("detail"), value.get("message")]
    candidates += [value.get(key) for key in ("error_description", "msg", "error_message", "reason", "title")]
    into.message = next((text for text in map(_words, candidates) if text), "")
    if not into.message:
        into.message = tidy(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())


def _word(value: object) -> str:
    return str(value)[:100] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _words(value: object) -> str:
    """Text out of a message in any form: text, FastAPI's list of problems, an object."""
    if isinstance(value, str):
        return tidy(value)
    if isinstance(value, list):
        return tidy("; ".join(filter(None, map(_problem, value[:10]))))
    if isinstance(value, dict) and value:
        inner = value.get("message") or value.get("msg")
        return _words(inner) if inner else tidy(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())
    return ""


def _problem(item: object) -> str:
    if not isinstance(item, dict):
        return _words(item)
    where = item.get("loc")
    name = ".".join(str(part) for part in where) if isinstance(where, list) else ""
    what = _words(item.get("msg") or item.get("message") or "")
    return f"{name}: {what}" if name and what else name or what
