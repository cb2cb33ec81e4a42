"""Token ids of texts, made here by the model's own `tokenizer.json`.

A tokenizer is read from a file and never fetched. It is read once per file and shared by everything that names it;
a file that changes is read again. Nothing here changes a tokenizer after it was read, which is what makes it safe to
share between threads: padding and cutting, which the library does by settings on the tokenizer, are done outside it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kserve_core.errors import ConfigurationError, ContextOverflowError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INSTALL = 'pip install "kserve-integrations[tokenizers]"'
_FILE = "tokenizer.json"
_PAD_TOKENS = ("[PAD]", "<pad>", "<PAD>", "<|pad|>", "<|endoftext|>", "<|finetune_right_pad_id|>", "</s>")
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as a table of token ids, one row a text, all rows of one length.

    Attributes:
        ids: The ids, int64 `[texts, length]`; the pad token's where a text is shorter.
        mask: 1 for a token, 0 for padding.
        types: Which of the two texts of a pair a token is of; 0 for single texts.
    """

    ids: NDArray[np.int64] = field(repr=False)
    mask: NDArray[np.int64]
    types: NDArray[np.int64]

    @property
    def positions(self) -> NDArray[np.int64]:
        """The tokens' places, counted from 0 at a text's first token whichever side is padded."""
        return (self.mask.cumsum(axis=1) - 1).clip(min=0)


class LocalTokenizer:
    """A `tokenizer.json`; see `load_tokenizer`. It pickles as its path.

    Attributes:
        path: The file.
        max_length: The length the file says texts are cut to, or None. Nothing is cut to it unless asked for.
        pad_id: The pad token's id, or None where the file has no pad token.
        pad_side: The side that is padded, `right` or `left`.
    """

    def __init__(self, path: str, tokenizer: Any) -> None:
        self.path = path
        padding, truncation = tokenizer.padding or {}, tokenizer.truncation or {}
        self.max_length: int | None = truncation.get("max_length")
        self.pad_side: str = padding.get("direction", "right")
        self.pad_id: int | None = padding.get("pad_id")
        self._pad_type: int = padding.get("pad_type_id", 0)
        self._cut_side: str = truncation.get("direction", "right")
        if self.pad_id is None:
            found = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
            self.pad_id = next((token for token in found if token is not None), None)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (load_tokenizer, (self.path,))

    def encode(
        self,
        texts: Sequence[str],
        *,
        pairs: Sequence[str] | None = None,
        limit: int | None = None,
        cut: int | None = None,
        length: int | None = None,
        what: str = "text",
    ) -> Tokens:
        """The texts' tokens, with the special tokens that the model wants around them.

        Args:
            texts: The texts.
            pairs: For each text the one that follows it in the same row.
            limit: Most tokens of a row; None for any number.
            cut: Tokens to cut longer rows to. A single text loses its end (or its beginning, if the file says so); of
                a pair the longer text is cut until both are of one length.
            length: The length all rows are padded to; the longest row's when None.
            what: What a row is called in errors.

        Raises:
            ConfigurationError: If something is not a text, or `cut` leaves no room for a token.
            ContextOverflowError: If a row is longer than `limit` and not to be cut.
        """
        _check_encodable(texts if pairs is None else (*texts, *pairs))
        rows = self._rows(texts if pairs is None else list(zip(texts, pairs, strict=True)))
        if cut is not None:
            for index, row in enumerate(rows):
                if len(row) > cut:
                    rows[index] = self._shortened(texts[index], None if pairs is None else pairs[index], cut)
        if limit is not None:
            for index, row in enumerate(rows):
                if len(row) > limit:
                    raise _too_long(what, index, len(row), limit)
        return self._table(rows, length)

    def count(self, text: str, *, special: bool = True) -> list[int]:
        """A text's token ids, with or without the special tokens around it."""
        _check_encodable([text])
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens' own text."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones included.

        Raises:
            ConfigurationError: If an id is not a whole number from 0 to 2**32 - 1.
        """
        try:
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        except (TypeError, OverflowError):
            msg = "Token ids must be whole numbers from 0."
            raise ConfigurationError(msg) from None
        return text

    def _rows(self, texts: Sequence[Any]) -> list[Any]:
        encode = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)
        rows: list[Any] = encode(list(texts))
        return rows

    def _shortened(self, text: str, pair: str | None, cut: int) -> Any:
        """A row cut to a length: special tokens come after the cut, so that none is lost."""
        room = cut - self._tokenizer.num_special_tokens_to_add(pair is not None)
        if room < (1 if pair is None else 2):
            msg = f"Texts cannot be cut to {cut} tokens: the model's special tokens leave no room."
            raise ConfigurationError(msg)
        first = self._tokenizer.encode(text, add_special_tokens=False)
        if pair is None:
            first.truncate(room, direction=self._cut_side)
            return self._tokenizer.post_process(first)
        second = self._tokenizer.encode(pair, add_special_tokens=False)
        shares = _shares(len(first), len(second), room)
        first.truncate(shares[0], direction=self._cut_side)
        second.truncate(shares[1], direction=self._cut_side)
        return self._tokenizer.post_process(first, second)

    def _table(self, rows: Sequence[Any], length: int | None) -> Tokens:
        import numpy as np

        width = length if length is not None else max(1, max(map(len, rows), default=1))
        shape = (len(rows), width)
        ids = np.full(shape, self.pad_id or 0, np.int64)
        mask = np.zeros(shape, np.int64)
        types = np.full(shape, self._pad_type, np.int64)
        for index, row in enumerate(rows):
            count = len(row)
            place = slice(width - count, width) if self.pad_side == "left" else slice(count)
            ids[index, place] = row.ids
            mask[index, place] = 1
            types[index, place] = row.type_ids
        return Tokens(ids, mask, types)


def load_tokenizer(path: str | os.PathLike[str]) -> LocalTokenizer:
    """The tokenizer of a `tokenizer.json`, or of a folder that has one; read once for each file.

    Raises:
        ConfigurationError: If there is no such file (a model's name on a hub is not looked up), it is not a tokenizer,
            or the `tokenizers` package is missing.
    """
    file = _file(path)
    stat = file.stat()
    key = (str(file), stat.st_mtime_ns, stat.st_size)
    with _lock:
        found = _read.get(key)
        if found is None:
            found = _read[key] = _load(key[0])
            while len(_read) > _KEPT:
                _read.popitem(last=False)
        else:
            _read.move_to_end(key)
    return found


_lock = threading.Lock()
_read: OrderedDict[tuple[str, int, int], LocalTokenizer] = OrderedDict()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # a thread that is not in the child may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _file(path: str | os.PathLike[str]) -> Path:
    given = Path(path).expanduser()
    file = given / _FILE if given.is_dir() else given
    if file.is_file():
        return file.absolute()
    msg = (
        f"The folder {str(given)!r} holds no {_FILE}."
        if given.is_dir()
        else f"There is no tokenizer at {str(given)!r}."
    )
    hint = (
        f"tokenizer is the path of a {_FILE} on this machine, or of the folder that holds it; a model's name is not "
        "looked up and nothing is downloaded. The file is next to the model's weights wherever those are published."
    )
    raise ConfigurationError(msg, hint=hint)


def _load(path: str) -> LocalTokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        msg = "Reading a tokenizer needs the tokenizers package, which is not installed."
        raise ConfigurationError(msg, hint=f"Install it: {_INSTALL}") from error
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:
        msg = f"{path!r} cannot be read as a tokenizer: {str(error)[:200]}"
        hint = f"It must be the {_FILE} of a fast tokenizer; vocab.txt, tokenizer.model and the like are other formats."
        raise ConfigurationError(msg, hint=hint) from error
    return LocalTokenizer(path, tokenizer)


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each text of a pair keeps: the shorter one all, as long as that is not more than half."""
    if first + second <= room:
        return first, second
    if first <= second:
        kept = min(first, room // 2)
        return kept, room - kept
    kept = min(second, room // 2)
    return room - kept, kept


def _too_long(what: str, position: int, count: int, limit: int) -> ContextOverflowError:
    return ContextOverflowError(
        f"The {what} at position {position} of the request has {count} tokens; the limit is {limit}.",
        hint="Split the text, have it cut (truncate=-1), or set max_length if the model takes more.",
        layer="client",
    )


def _check_encodable(texts: Sequence[Any]) -> None:
    """Asked before the library is: older ones take half a character for another one."""
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError):
        raise _not_text() from None


def _not_text() -> ConfigurationError:
    return ConfigurationError("Something to be tokenized is not a string of valid Unicode.")
