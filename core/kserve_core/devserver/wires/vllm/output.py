"""What a model produced: runs of raw output, and the tokens they become."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from kserve_core.devserver.brain.conversation import Answer, Call

Kind = Literal["text", "reasoning", "name", "arguments", "hidden", "end"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of output text of one kind; `call` is the position of the tool call it belongs to."""

    kind: Kind
    text: str
    call: int = -1


@dataclass(slots=True, eq=False)
class Piece:
    """What one stream event carries: one token, or several where a character spans tokens."""

    kind: Kind
    text: str
    call: int
    ids: list[int]


@dataclass(slots=True)
class Output:
    """One generated choice, the end-of-turn token included."""

    pieces: list[Piece]
    finish_reason: str = "stop"
    stop_reason: str | int | None = None

    def text(self, *kinds: Kind, call: int | None = None) -> str:
        """The text of some kinds of pieces, of one tool call if given."""
        return "".join(p.text for p in self.pieces if p.kind in kinds and call in {None, p.call})

    def spelled(self, piece: Piece) -> bool:
        """Whether the name of the piece's tool call is complete in front of it."""
        names = [at for at, p in enumerate(self.pieces) if p.kind == "name" and p.call == piece.call]
        return bool(names) and self.pieces.index(piece) > names[-1]

    @property
    def ids(self) -> list[int]:
        """The token ids."""
        return [number for piece in self.pieces for number in piece.ids]

    @property
    def token_count(self) -> int:
        """How many tokens were generated."""
        return sum(len(piece.ids) for piece in self.pieces)

    @property
    def reasoning_count(self) -> int:
        """How many of them are reasoning."""
        return sum(len(piece.ids) for piece in self.pieces if piece.kind == "reasoning")

    @property
    def raw(self) -> str:
        """Everything that was generated, markup included."""
        return "".join(piece.text for piece in self.pieces)


def compact(value: Any) -> str:
    """JSON as a model writes it."""
    return json.dumps(value, ensure_ascii=False)


def segments(answer: Answer, *, reasons: bool = True) -> list[Segment]:
    """The raw output of a reasoning, tool-calling model, in runs."""
    made: list[Segment] = []
    if answer.reasoning is not None and reasons:
        made += [
            Segment("hidden", "<think>"),
            Segment("reasoning", f"\n{answer.reasoning}\n"),
            Segment("hidden", "</think>"),
        ]
        if answer.text or not answer.calls:
            made.append(Segment("text", f"\n\n{answer.text}"))
    elif answer.text:
        made.append(Segment("text", answer.text))
    for at, call in enumerate(answer.calls):
        made += call_segments(at, call)
    return made


def call_segments(at: int, call: Call) -> list[Segment]:
    """A tool call in the hermes markup."""
    opening = "<tool_call>\n" if at == 0 else "\n<tool_call>\n"
    return [
        Segment("hidden", f'{opening}{{"name": "', at),
        Segment("name", call.name, at),
        Segment("hidden", '", "arguments": ', at),
        Segment("arguments", compact(call.arguments), at),
        Segment("hidden", "}\n</tool_call>", at),
    ]
