"""What a guardrails gateway in front of the model says: a blocked prompt or answer is HTTP 200 with `warnings`.

The orchestrator keeps OpenAI's shape and adds two lists: `detections` (for `input` and `output`, what each detector
found where) and `warnings` (`type`, for example `UNSUITABLE_INPUT`, and a `message`). Of a blocked prompt there is no
choice at all; of a flagged answer the choices may be empty, or hold the gateway's own fallback text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BLOCKED = "content_filter"
"""The finish reason of an answer that guardrails withheld."""

_FIELDS = ("warnings", "detections")
_NO_WORDS = "The guardrails in front of the model withheld the answer."


def guarded(value: Mapping[str, Any]) -> dict[str, Any]:
    """What the guardrails added to an answer or to an event of a stream; empty if they found nothing."""
    found = {}
    for name in _FIELDS:
        said = value.get(name)
        if said and any(True for _ in _entries(said)):
            found[name] = said
    return found


def refusal_of(found: Mapping[str, Any]) -> str:
    """The refusal in words: the warnings, and the kinds of what was detected, never the text it was found in."""
    texts = [str(warning.get("message") or warning.get("type") or "") for warning in _entries(found.get("warnings"))]
    kinds = sorted({str(kind) for entry in _entries(found.get("detections")) if (kind := _kind(entry))})
    text = " ".join(dict.fromkeys(text.strip() for text in texts if text.strip())) or _NO_WORDS
    return f"{text} (detected: {', '.join(kinds)})" if kinds else text


def blocks(found: Mapping[str, Any], content: object) -> bool:
    """Whether this is a refusal: there was a warning, or there is no answer beside what was detected."""
    return bool(found) and ("warnings" in found or not content)


def _kind(entry: Mapping[str, Any]) -> Any:
    return entry.get("detection_type") or entry.get("detection") or entry.get("detector_id")


def _entries(value: Any) -> Iterator[Mapping[str, Any]]:
    """The innermost objects of nested lists: warnings as they are, detections from under `input`/`output`/`results`."""
    if isinstance(value, Mapping):
        inner = [value[name] for name in ("input", "output", "results") if name in value]
        if not inner:
            yield value
        for part in inner:
            yield from _entries(part)
    elif isinstance(value, list):
        for part in value:
            yield from _entries(part)
