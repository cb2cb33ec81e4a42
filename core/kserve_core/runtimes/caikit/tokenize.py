"""Tokens of texts."""

from __future__ import annotations

from typing import Any

from kserve_core.runtimes.caikit.errors import wrong_task
from kserve_core.runtimes.caikit.tasks import TOKENIZATION
from kserve_core.types import Tokenization


def read_tokens(raw: dict[str, Any], *, special: bool, model: str) -> Tokenization:
    """Reads a text's tokens; models for generation count them only.

    Args:
        raw: The server's answer.
        special: Whether to count what the tokenizer puts around a text. The listed tokens are without it; where
            none are listed the server's count stands.
        model: The model that was asked.

    Raises:
        BadResponseError: If it is the answer to another task.
    """
    count = raw.get("token_count")
    if type(count) is not int or count < 1:
        raise wrong_task(TOKENIZATION, model, "it has no `token_count`")
    results = raw.get("results")
    listed = [token.get("text") for token in results] if isinstance(results, list) and results else None
    return Tokenization(count if special or listed is None else len(listed), tokens=listed)
