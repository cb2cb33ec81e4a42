"""Token accounting, with a memory of prompt beginnings that were seen before."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

_BLOCK = 16


class PrefixCache:
    """Remembers which blocks of prompt tokens were processed, per model."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._capacity = capacity

    def use(self, model: str, ids: list[int]) -> tuple[int, int]:
        """How many tokens at the start of `ids` were cached, and how many more are from now on."""
        hits = end = 0
        key, missed = hash(model), False
        for end in range(_BLOCK, len(ids), _BLOCK):
            key = hash((key, *ids[end - _BLOCK : end]))
            if not missed and key in self._seen:
                hits = end
                self._seen.move_to_end(key)
            else:
                missed = True
                self._seen[key] = None
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return hits, end - hits

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()


def running(prompt: int, completion: int) -> dict[str, Any]:
    """The three counts every `usage` object starts with."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def usage(
    prompt: int,
    completion: int,
    *,
    cached: int | None = None,
    created: int | None = None,
    reasoning: int | None = None,
) -> dict[str, Any]:
    """The `usage` object of a whole answer; details are null where the server does not report them."""
    details = None
    if cached is not None:
        details = {"cached_tokens": cached, "created_cache_tokens": created, "multimodal_tokens": None}
    return {
        **running(prompt, completion),
        "prompt_tokens_details": details,
        "completion_tokens_details": None if reasoning is None else {"reasoning_tokens": reasoning},
    }


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """The same object as the last event of a stream has it: nulls are left out."""
    made = {}
    for key, item in value.items():
        if item is not None:
            made[key] = without_nulls(item) if isinstance(item, dict) else item
    return made
