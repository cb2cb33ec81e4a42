"""Text similarity without a model: hashed words and letter triples."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from zlib import crc32

_WORD = re.compile(r"[a-z0-9]+|[^\W\d_]", re.IGNORECASE)
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "have",
        "has",
        "had",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "with",
        "about",
        "as",
        "and",
        "or",
        "but",
        "not",
        "no",
        "so",
        "if",
        "then",
        "than",
        "that",
        "this",
        "these",
        "those",
        "it",
        "its",
        "i",
        "you",
        "he",
        "she",
        "we",
        "they",
        "me",
        "my",
        "your",
        "his",
        "her",
        "our",
        "their",
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "why",
        "how",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "may",
        "might",
        "must",
        "there",
        "here",
        "please",
        "tell",
        "give",
        "say",
        "me",
        "us",
        "them",
    ]
)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its most common endings."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    root = word
    if root.endswith("s") and not root.endswith("ss") and len(root) > 3:
        root = root[:-2] if root.endswith(("ches", "shes", "xes", "zes", "sses")) else root[:-1]
    for ending in ("ing", "ed"):
        if root.endswith(ending) and len(root) - len(ending) >= 3:
            root = root[: -len(ending)]
            if root[-1] == root[-2] and root[-1] not in "ls":
                root = root[:-1]
            break
    return root[:-1] if root.endswith("e") and len(root) > 3 else root


def words(text: str) -> list[str]:
    """Lower-case words; every letter of a script without spaces is a word."""
    return [word.lower() for word in _WORD.findall(text)]


def keywords(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    return [stem(word) for word in words(text) if word not in _STOP]


@lru_cache(maxsize=65536)
def _word_features(word: str) -> tuple[tuple[int, float], ...]:
    weight = 0.1 if word in _STOP else 1.0
    found = [(crc32(b"w" + stem(word).encode()), weight)]
    padded = f"^{word}$"
    found += [(crc32(b"t" + padded[at : at + 3].encode()), 0.25 * weight) for at in range(max(1, len(padded) - 2))]
    return tuple(found)


def embed(text: str, dimensions: int = 256) -> array[float]:
    """A vector of length one whose neighbours are texts with the same words."""
    vector = [0.0] * dimensions
    for word in words(text):
        for key, weight in _word_features(word):
            vector[key % dimensions] += weight if key & 0x80000000 else -weight
    if not any(vector):
        vector[crc32(text.encode()) % dimensions] = 1.0
    return normalized(vector)


def normalized(vector: Iterable[float]) -> array[float]:
    """The vector at length one, as 32-bit floats."""
    values = list(vector)
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return array("f", [value / length for value in values])


def cosine(one: Sequence[float], two: Sequence[float]) -> float:
    """Cosine of two vectors of length one."""
    return sum(a * b for a, b in zip(one, two, strict=True))


def overlap(query: str, text: str) -> float:
    """Share of the query's keywords that occur in the text, 0 to 1."""
    wanted = set(keywords(query)) or set(words(query))
    if not wanted:
        return 0.0
    return len(wanted & (set(keywords(text)) or set(words(text)))) / len(wanted)


def relevance(query: str, text: str) -> float:
    """How well a text answers a query, as a logit: about -6 for no relation, 6 for the same text."""
    near = cosine(embed(query), embed(text))
    return 7.0 * overlap(query, text) + 5.0 * near - 6.0


def sigmoid(value: float) -> float:
    """The logistic function, 0 to 1."""
    return 1.0 / (1.0 + math.exp(-value))
