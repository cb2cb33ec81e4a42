"""What the server tells about its model, as LangChain's model profile."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from langchain_core.language_models import ModelProfile

from kserve_core.calls import Exchange
from kserve_core.types import ModelInfo

T = TypeVar("T")


def filled(profile: ModelProfile | None, info: ModelInfo) -> ModelProfile:
    """A profile with what the server told in its gaps; what it said before stays."""
    learned: ModelProfile = {}
    if info.id:
        learned["name"] = info.id
    if info.max_model_len:
        learned["max_input_tokens"] = info.max_model_len
    if longest := info.extra.get("max_new_tokens"):
        learned["max_output_tokens"] = longest
    return {**learned, **(profile or {})}


def already_known(exchange: Exchange[T]) -> T | None:
    """An exchange's result if it can be had without sending anything, else None; nothing is sent."""
    if not isinstance(exchange, Generator):
        return None
    try:
        next(exchange)
    except StopIteration as stop:
        value: T = stop.value
        return value
    exchange.close()
    return None
