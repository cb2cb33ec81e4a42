"""Makes JSON values that are valid for a JSON schema, with contents taken from a prompt."""

from __future__ import annotations

import re
from typing import Any

from kserve_core.devserver.brain.extract import names, numbers, quoted, sentences
from kserve_core.devserver.brain.features import keywords, words

_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "P1D",
    "email": "user@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}
_MAX_DEPTH = 12


class Filler:
    """Fills schemas from one prompt; every value found in the prompt is used once, then again from the start."""

    def __init__(self, prompt: str, *, root: dict[str, Any] | None = None, hints: dict[str, Any] | None = None) -> None:
        self._prompt = prompt
        self._root = root or {}
        self._hints = hints or {}
        self._quoted = quoted(prompt)
        self._numbers = numbers(prompt)
        self._names = names(prompt)
        self._used: dict[str, int] = {}

    def fill(self, schema: Any, *, key: str = "", depth: int = 0) -> Any:
        """A value for `schema`, which describes the property `key`."""
        schema = self._resolved(schema)
        if key in self._hints:
            return self._hints[key]
        if not isinstance(schema, dict):
            return self._text(key, {}) if schema is not False else None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"])
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self._union(schema, union, key, depth)
        if schema.get("allOf"):
            return self.fill(_merged(schema, [self._resolved(s) for s in schema["allOf"]]), key=key, depth=depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, key, depth)
        if kind in {"integer", "number"}:
            return self._number(schema, kind)
        if kind == "boolean":
            return not re.search(r"\b(no|not|false|never|disable)\b", self._prompt, re.IGNORECASE)
        if kind == "null":
            return None
        return self._text(key, schema)

    def _resolved(self, schema: Any) -> Any:
        for _ in range(8):
            if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str)):
                break
            target: Any = self._root
            for part in schema["$ref"].lstrip("#/").split("/"):
                if part:
                    target = target.get(part.replace("~1", "/").replace("~0", "~"), {})
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        return schema

    def _union(self, schema: dict[str, Any], union: str, key: str, depth: int) -> Any:
        options = [self._resolved(option) for option in schema[union]]
        real = [option for option in options if not (isinstance(option, dict) and option.get("type") == "null")]
        rest = {k: v for k, v in schema.items() if k != union}
        for option in real:
            if isinstance(option, dict) and option.get("type") in {"integer", "number"} and self._numbers:
                return self.fill({**rest, **option}, key=key, depth=depth)
        first = real[0] if real and depth < _MAX_DEPTH else {"type": "null"}
        return self.fill({**rest, **first} if isinstance(first, dict) else first, key=key, depth=depth)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = set(schema.get("required") or ())
        made: dict[str, Any] = {}
        for name, part in properties.items():
            if name in required or (depth < _MAX_DEPTH // 2 and self._wanted(name, part)):
                made[name] = self.fill(part, key=name, depth=depth + 1)
        for name in required - set(properties):
            made[name] = self._text(name, {})
        extra = schema.get("additionalProperties")
        if not properties and isinstance(extra, dict):
            made["value"] = self.fill(extra, key="value", depth=depth + 1)
        return made

    def _wanted(self, name: str, part: Any) -> bool:
        """Whether an optional property is mentioned: by name, or by its description's words."""
        text = name.replace("_", " ")
        if isinstance(part, dict):
            text += " " + str(part.get("description", ""))
        said = set(keywords(self._prompt))
        if re.search(rf"\bno\s+{re.escape(name)}\b", self._prompt, re.IGNORECASE):
            return False
        return bool(said & set(keywords(text))) or not said

    def _array(self, schema: dict[str, Any], key: str, depth: int) -> list[Any]:
        prefix = schema.get("prefixItems")
        if isinstance(prefix, list):
            return [self.fill(part, key=key, depth=depth + 1) for part in prefix]
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1 << 30)
        items = schema.get("items", {})
        resolved = self._resolved(items)
        size = 1
        if isinstance(resolved, dict) and resolved.get("type") in {"integer", "number"}:
            size = len(self._numbers) or 1
        elif isinstance(resolved, dict) and resolved.get("type") == "string" and not resolved.get("enum"):
            size = len(self._quoted) or len(self._names) or 1
        if depth >= _MAX_DEPTH:
            size = 0
        size = max(least, min(size, most, 16))
        return [self.fill(items, key=key.rstrip("s"), depth=depth + 1) for _ in range(size)]

    def _choice(self, options: list[Any]) -> Any:
        said = f" {' '.join(words(self._prompt))} "
        places = {at: said.rfind(f" {' '.join(words(str(option)))} ") for at, option in enumerate(options)}
        best = max(places, key=lambda at: (places[at] >= 0, -at))
        return options[best]

    def _next(self, kind: str, values: list[Any]) -> Any:
        at = self._used.get(kind, 0)
        self._used[kind] = at + 1
        return values[at % len(values)]

    def _number(self, schema: dict[str, Any], kind: str) -> float | int:
        value = self._next("number", self._numbers) if self._numbers else 1.0
        low, high = schema.get("minimum"), schema.get("maximum")
        if schema.get("exclusiveMinimum") is not None and not isinstance(schema["exclusiveMinimum"], bool):
            low = schema["exclusiveMinimum"] + 1
        if schema.get("exclusiveMaximum") is not None and not isinstance(schema["exclusiveMaximum"], bool):
            high = schema["exclusiveMaximum"] - 1
        if low is not None:
            value = max(value, low)
        if high is not None:
            value = min(value, high)
        if schema.get("multipleOf"):
            value = round(value / schema["multipleOf"]) * schema["multipleOf"]
        return int(value) if kind == "integer" or float(value).is_integer() else float(value)

    def _text(self, key: str, schema: dict[str, Any]) -> str:
        if schema.get("pattern"):
            from kserve_core.devserver.brain.patterns import example

            return example(schema["pattern"])
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._phrase(key, str(schema.get("description", "")))
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if len(text) < least:
            text = (text + " " + "more " * least)[:least]
        return text if most is None else text[:most]

    def _phrase(self, key: str, description: str) -> str:
        if self._quoted:
            return str(self._next("quoted", self._quoted))
        label = f"{key} {description}".lower()
        if re.search(r"expression|formula|equation", label):
            found = re.search(r"[\d(][\d\s.+*/()^-]*[\d)]", self._prompt)
            if found:
                return found[0].strip()
        if re.search(r"quer|question|input|prompt|request|text|search|message|greeting", label):
            spoken = sentences(self._prompt)
            return spoken[-1] if spoken else self._prompt.strip()
        if self._names:
            return str(self._next("name", self._names))
        topic = " ".join(dict.fromkeys(w for w in words(self._prompt) if len(w) > 3)) or "text"
        return f"{key.replace('_', ' ') or 'value'} about {topic[:60]}".strip()


def _merged(schema: dict[str, Any], parts: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
    for part in parts:
        for name, value in part.items():
            if name == "properties":
                made[name] = {**made.get(name, {}), **value}
            elif name == "required":
                made[name] = [*made.get(name, []), *value]
            else:
                made.setdefault(name, value)
    return made
