"""Reading JSON documents of the Kubernetes API, where any field may be missing or of another type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]

SHOWN = 300
"""The most characters of somebody else's words that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What was read about one service.

    Attributes:
        main: The InferenceService, LLMInferenceService or InferenceGraph.
        found: The other documents, by what they are (`"runtime"`, `"service"`, `"route"`, ...).
        missing: Why the others could not be read, by the same names.
    """

    main: Json
    found: Mapping[str, Json] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Json | None:
        """One of the other documents, or None."""
        return self.found.get(name)


def dig(value: Any, *path: str) -> Any:
    """What is at a path of keys, or None."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text(value: Any, *path: str) -> str:
    """The text at a path, or `""`."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def mapping(value: Any, *path: str) -> Json:
    """The object at a path, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, Mapping) else {}


def objects(value: Any, *path: str) -> list[Json]:
    """The objects of the list at a path."""
    found = dig(value, *path)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def texts(value: Any, *path: str) -> list[str]:
    """The texts of the list at a path."""
    found = dig(value, *path)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def annotation(document: Any, name: str) -> str:
    """One of a document's annotations, or `""`."""
    return text(document, "metadata", "annotations", name)


def label(document: Any, name: str) -> str:
    """One of a document's labels, or `""`."""
    return text(document, "metadata", "labels", name)


def switch(value: str) -> bool | None:
    """What an annotation that is `"true"` or `"false"` says; None if it says neither."""
    return {"true": True, "false": False}.get(value.strip().lower())


def one_line(value: str) -> str:
    """Somebody else's words on one line, bounded."""
    words = " ".join(value.split())
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 3]}..."
