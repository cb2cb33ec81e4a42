"""Token counts."""

from __future__ import annotations

from typing import Any

from kserve_core.types import Usage


def read_usage(value: Any) -> Usage | None:
    """The server's `usage` object; None if there is none.

    Rerank answers before 0.15 have only `total_tokens`; the prompt is all there is to count then.
    """
    if not isinstance(value, dict):
        return None
    prompt, completion, total = (
        _count(value.get(key)) for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if total is None:
        total = (prompt or 0) + (completion or 0)
    if prompt is None:
        prompt = max(total - (completion or 0), 0)
    prompt_details = _details(value.get("prompt_tokens_details"))
    completion_details = _details(value.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion or 0,
        total_tokens=total,
        cached_tokens=_count(prompt_details.get("cached_tokens")),
        reasoning_tokens=_count(completion_details.get("reasoning_tokens")),
        audio_tokens=_count(prompt_details.get("audio_tokens")),
    )


def _details(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int else None
