"""A small reversible tokenizer with a fixed vocabulary, so that counts agree everywhere.

Ids: 0-255 single bytes, then the special tokens, then an optional space with two letters, then with three.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>")
END_OF_TEXT, START, END, IMAGE = range(256, 260)

_TWO = 260
_THREE = _TWO + 2 * 52 * 26
VOCABULARY_SIZE = _THREE + 2 * 52 * 26 * 26

_FIRST = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SPECIAL_IDS = {text.encode(): 256 + at for at, text in enumerate(SPECIAL)}
_SPLIT = re.compile(b"|".join(map(re.escape, _SPECIAL_IDS)) + rb"| ?[A-Za-z][a-z]{1,2}|.", re.DOTALL)
_SPLIT_PLAIN = re.compile(rb" ?[A-Za-z][a-z]{1,2}|.", re.DOTALL)


class _Ids(dict[bytes, int]):
    def __missing__(self, piece: bytes) -> int:
        number = self[piece] = _number(piece)
        return number


class _Pieces(dict[int, bytes]):
    def __missing__(self, number: int) -> bytes:
        piece = self[number] = _piece(number)
        return piece


_ids = _Ids(_SPECIAL_IDS)
_pieces = _Pieces({number: text for text, number in _SPECIAL_IDS.items()})


def encode(text: str, *, special: bool = True) -> list[int]:
    """Token ids of a text; `special` also finds the special tokens in it."""
    ids = _ids
    split = _SPLIT if special else _SPLIT_PLAIN
    return [ids[piece] for piece in split.findall(text.encode("utf-8", "surrogatepass"))]


def count(text: str) -> int:
    """How many tokens a text has."""
    return len(_SPLIT.findall(text.encode("utf-8", "surrogatepass")))


def piece_of(number: int) -> bytes:
    """The bytes of one token; nothing for an id outside the vocabulary."""
    return _pieces[number] if 0 <= number < VOCABULARY_SIZE else b""


def decode(numbers: Iterable[int]) -> str:
    """The text of token ids."""
    return b"".join(map(piece_of, numbers)).decode("utf-8", "replace")


def raw_piece(number: int) -> str:
    """A token the way a byte-level vocabulary writes it: a space shows as U+0120, a line break as U+010A."""
    text = piece_of(number).decode("utf-8", "replace")
    return text.replace(" ", "\u0120").replace("\n", "\u010a")


def tokenizer_json() -> str:
    """A `tokenizer.json` for clients of models that take token ids: one token per byte, in this vocabulary's numbers.

    A text is put between `<|im_start|>` and `<|im_end|>`, a pair of texts has another `<|im_end|>` between them.
    """
    vocabulary = {letter: number for number, letter in enumerate(_letters())}
    added = [
        {
            "id": number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, text in enumerate(SPECIAL, start=END_OF_TEXT)
    ]
    first: list[dict[str, Any]] = [_special(START, 0), {"Sequence": {"id": "A", "type_id": 0}}, _special(END, 0)]
    second: list[dict[str, Any]] = [{"Sequence": {"id": "B", "type_id": 1}}, _special(END, 1)]
    named = {
        SPECIAL[number - END_OF_TEXT]: {
            "id": SPECIAL[number - END_OF_TEXT],
            "ids": [number],
            "tokens": [SPECIAL[number - END_OF_TEXT]],
        }
        for number in (START, END)
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": first,
                "pair": first + second,
                "special_tokens": named,
            },
            "decoder": level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": vocabulary,
                "merges": [],
            },
        }
    )


def _special(number: int, kind: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": SPECIAL[number - END_OF_TEXT], "type_id": kind}}


def _letters() -> list[str]:
    """The letter a byte-level vocabulary writes for every byte: itself where it shows, one above 255 otherwise."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, spare = [], 0x100
    for byte in range(256):
        if byte in shown:
            letters.append(chr(byte))
        else:
            letters.append(chr(spare))
            spare += 1
    return letters


def _number(piece: bytes) -> int:
    if len(piece) == 1:
        return piece[0]
    space = piece[0] == 0x20
    letters = piece[1:] if space else piece
    value = (52 if space else 0) + _FIRST.index(letters[0])
    for letter in letters[1:]:
        value = value * 26 + letter - 97
    return value + (_TWO if len(letters) == 2 else _THREE)


def _piece(number: int) -> bytes:
    if number < 256:
        return bytes((number,))
    size = 1 if number < _THREE else 2
    value = number - (_TWO if size == 1 else _THREE)
    tail = b""
    for _ in range(size):
        value, rest = divmod(value, 26)
        tail = bytes((rest + 97,)) + tail
    space, first = divmod(value, 52)
    return (b" " if space else b"") + _FIRST[first : first + 1] + tail
