"""What comes back besides the text: why it ended, token counts, token details."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kserve_core.protos import messages
from kserve_core.types import Usage

FINISH_REASONS = {
    "MAX_TOKENS": "length",
    "TOKEN_LIMIT": "length",
    "TIME_LIMIT": "length",
    "EOS_TOKEN": "stop",
    "STOP_SEQUENCE": "stop",
}
"""OpenAI's words for the server's. `TOKEN_LIMIT` is the server's own limit, or the end of the context window."""


def stop_reason_name(number: int) -> str:
    """The server's word for why an answer ended; a number it got after this was written stays one."""
    try:
        return messages.fmaas.StopReason.Name(number)
    except ValueError:
        return str(number)


def trimmed(text: str, reason: str, matched: str, stops: Sequence[str], *, keep: bool) -> str:
    """The text as it was asked for, whatever the server did with the stop text.

    Args:
        text: The text, or its last part.
        reason: The server's word for why it ended.
        matched: The stop text or end-of-text token the server names.
        stops: The stop texts that were asked for.
        keep: Whether the stop text belongs to the answer.
    """
    if reason == "EOS_TOKEN":
        return text.removesuffix(matched) if matched else text
    if reason == "STOP_SEQUENCE" and not keep and not matched:
        # Servers that do not name the match do not know include_stop_sequence either, and keep it.
        for stop in sorted(stops, key=len, reverse=True):
            if text.endswith(stop):
                return text[: -len(stop)]
    return text


def usage_of(prompt: int, generated: int) -> Usage:
    """Token counts."""
    return Usage(prompt, generated, prompt + generated)


def logprobs_of(tokens: Iterable[messages.fmaas.TokenInfo], *, first_bare: bool = False) -> dict[str, Any] | None:
    """Token details in the shape text completions have: parallel lists.

    Args:
        tokens: The details. Their texts are pieces of the vocabulary, not decoded text.
        first_bare: Whether the first token has no probability, as the first one of a prompt.
    """
    names: list[str] = []
    values: list[float | None] = []
    ranks: list[int | None] = []
    tops: list[dict[str, float] | None] = []
    for position, token in enumerate(tokens):
        bare = first_bare and position == 0
        names.append(token.text)
        values.append(None if bare else token.logprob)
        ranks.append(token.rank or None)
        tops.append({top.text: top.logprob for top in token.top_tokens} or None)
    if not names:
        return None
    found: dict[str, Any] = {"tokens": names, "token_logprobs": values, "top_logprobs": tops}
    if any(rank is not None for rank in ranks):
        found["token_ranks"] = ranks
    return found
