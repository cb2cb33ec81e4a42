"""What the text models say: the development server's rules, spoken token by token by a real server.

For servers' processes only: importing this leaves a `kserve_core.devserver` that has nothing but these rules. The
sentences in a prompt that make a model misbehave are in `sentences`.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.v2.sentences import FAILS_AT_ONCE, FAILS_MIDWAY, GOES_ON

CORE = Path(__file__).resolve().parents[3] / "core"
CONTEXT = 4096  # tokens of prompt and answer together
DEFAULT_TOKENS = 256
FAILURE = "generation failed midway"


class TooLongError(ValueError):
    """A text is longer than a model takes."""


def _rules() -> tuple[Any, Any, Any]:
    """The functions that answer a prompt, without the development server around them.

    A server has a process for each model, and needs neither sockets nor wires there.
    """
    if str(CORE) not in sys.path:
        sys.path.append(str(CORE))
    name = "kserve_core.devserver"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(CORE / "kserve_core" / "devserver")]
        importlib.import_module("kserve_core")
        sys.modules[name] = package
    answers = importlib.import_module(f"{name}.brain.answers")
    dialogue = importlib.import_module(f"{name}.brain.dialogue")
    return answers.answer, dialogue.unflattened, importlib.import_module(f"{name}.tokens")


_answer, _unflattened, _tokens = _rules()


@dataclass(frozen=True)
class Speech:
    """An answer.

    Attributes:
        pieces: Its text in tokens.
        finish_reason: `stop` or `length`.
        prompt_tokens: How long the prompt was.
        fails_at: The piece in whose place an error comes, or None.
        slow: Whether the pieces take their time.
    """

    pieces: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    fails_at: int | None = None
    slow: bool = False

    @property
    def text(self) -> str:
        """The whole text.

        Raises:
            RuntimeError: If the prompt asked for that.
        """
        if self.fails_at is not None:
            raise RuntimeError(FAILURE)
        return "".join(self.pieces)

    def spoken(self) -> Iterator[str]:
        """Piece by piece.

        Raises:
            RuntimeError: On the way, if the prompt asked for that.
        """
        for at, piece in enumerate(self.pieces):
            if at == self.fails_at:
                raise RuntimeError(FAILURE)
            yield piece


def answer(prompt: str, *, max_tokens: int | None = None, stop: Sequence[str] = (), too_long: str = "") -> Speech:
    """Answers a prompt.

    Args:
        prompt: Chat markup or plain text.
        max_tokens: Most tokens of the answer.
        stop: Texts that end it; they are not part of it.
        too_long: What to say when the prompt does not fit, with `{tokens}` and `{limit}`.

    Raises:
        TooLongError: The prompt does not fit.
    """
    length = _tokens.count(prompt)
    if length >= CONTEXT:
        text = too_long or "prompt of {tokens} tokens is longer than the maximum sequence length {limit}"
        raise TooLongError(text.format(tokens=length, limit=CONTEXT))
    room = min(DEFAULT_TOKENS if max_tokens is None else max_tokens, CONTEXT - length)
    slow = GOES_ON in prompt
    said = " and on" * room if slow else _answer(_unflattened(prompt), may_call=False).text
    said, stopped = _until(said, [text for text in stop if text])
    pieces = _pieces(said)
    reason = "length" if len(pieces) > room or (slow and not stopped) else "stop"
    fails_at = 0 if FAILS_AT_ONCE in prompt else 2 if FAILS_MIDWAY in prompt else None
    return Speech(tuple(pieces[:room]), reason, length, fails_at, slow)


def _until(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    ends = [text.find(one) for one in stop if one in text]
    return (text[: min(ends)], True) if ends else (text, False)


def _pieces(text: str) -> list[str]:
    """The tokens of a text; those of one character stay together."""
    pieces, waiting = [], b""
    for number in _tokens.encode(text, special=False):
        waiting += _tokens.piece_of(number)
        try:
            pieces.append(waiting.decode())
        except UnicodeDecodeError:
            continue
        waiting = b""
    return pieces
