"""Made-up but stable log-probabilities, in the runtime's two shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.wires.vllm.output import Piece
from kserve_core.devserver.wires.vllm.sampling import Sampling


def logprob(number: int, rank: int = 0) -> float:
    """A made-up but stable log-probability."""
    return round(-0.05 - (number % 17) / 40 - 1.5 * rank, 6)


def token_name(number: int, *, as_id: bool) -> str:
    """A token as logprobs name it."""
    return f"token_id:{number}" if as_id else tokens.decode([number])


def alternatives(number: int, count: int) -> list[int]:
    """The token and its made-up runners-up."""
    return [(number + 7 * rank) % tokens.VOCABULARY_SIZE for rank in range(max(1, count))]


def chat_logprobs(pieces: Iterable[Piece], sampling: Sampling) -> list[dict[str, Any]]:
    """`logprobs.content` of a chat choice."""
    made = []
    for piece in pieces:
        for number in piece.ids:
            options = [
                {
                    "token": token_name(option, as_id=sampling.token_id_names),
                    "logprob": logprob(number, rank),
                    "bytes": list(tokens.piece_of(option)),
                }
                for rank, option in enumerate(alternatives(number, sampling.logprobs or 0))
            ]
            made.append({**options[0], "top_logprobs": options if sampling.logprobs else []})
    return made


def completion_logprobs(ids: list[int], sampling: Sampling, *, offset: int, first_null: bool) -> dict[str, Any]:
    """`logprobs` of a completion choice."""
    names: list[str] = []
    values: list[float | None] = []
    offsets: list[int] = []
    tops: list[dict[str, float] | None] = []
    for at, number in enumerate(ids):
        name = token_name(number, as_id=sampling.token_id_names)
        names.append(name)
        offsets.append(offset)
        offset += len(tokens.decode([number]))
        if at == 0 and first_null:
            values.append(None)
            tops.append(None)
            continue
        values.append(logprob(number))
        tops.append(
            {
                token_name(option, as_id=sampling.token_id_names): logprob(number, rank)
                for rank, option in enumerate(alternatives(number, sampling.logprobs or 0))
            }
        )
    return {"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops}


def prompt_logprobs(ids: list[int], count: int) -> list[dict[str, Any] | None]:
    """`prompt_logprobs`: nothing for the first token, then one table per token."""
    made: list[dict[str, Any] | None] = [None]
    made.extend(
        {
            str(option): {"logprob": logprob(number, rank), "rank": rank + 1, "decoded_token": tokens.decode([option])}
            for rank, option in enumerate(alternatives(number, count))
        }
        for number in ids[1:]
    )
    return made
