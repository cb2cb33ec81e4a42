"""Chat templates as a field: names, texts, paths, and templates that a dump has written down."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

if TYPE_CHECKING:
    from kserve_core.chat_template import ChatTemplate


def _revived(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    from kserve_core.chat_template import ChatTemplate

    return ChatTemplate(**{**value, "stop": tuple(value.get("stop", ()))})


def _written_down(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return {name: getattr(value, name) for name in ("name", "source", "stop", "bos", "eos")}


if TYPE_CHECKING:
    ChatTemplateField = str | os.PathLike[str] | ChatTemplate | None
else:
    ChatTemplateField = Annotated[Any, BeforeValidator(_revived), PlainSerializer(_written_down)]
