"""Finds values in a prompt: quoted texts, numbers, names, and the sentence that answers a question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from kserve_core.devserver.brain.features import keywords, stem

_QUOTED = re.compile(r"\"([^\"\n]{1,400})\"|“([^”\n]{1,400})”|`([^`\n]{1,400})`|(?<!\w)'([^'\n]{1,400})'(?!\w)")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_NAME = re.compile(r"\b[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*")
_INSIDE = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,;&/")
_SENTENCE = re.compile(r"(?<=[.!?。!?])[\"')\]]*\s+|\n+")
_NOT_NAMES = frozenset(
    [
        "I",
        "What",
        "Which",
        "Who",
        "When",
        "Where",
        "Why",
        "How",
        "Is",
        "Are",
        "Do",
        "Does",
        "Did",
        "Can",
        "Could",
        "Please",
        "Tell",
        "Give",
        "Show",
        "Find",
        "Get",
        "Use",
        "Using",
        "Create",
        "Make",
        "Write",
        "Say",
        "Call",
        "Return",
        "The",
        "A",
        "An",
        "My",
        "Your",
        "In",
        "On",
        "At",
        "If",
        "And",
        "Or",
        "But",
        "It",
        "This",
        "That",
        "Weather",
        "Calculate",
        "Compute",
        "Add",
        "Multiply",
        "Search",
        "Look",
        "Think",
        "Answer",
        "Question",
        "JSON",
        "Extract",
        "Generate",
        "Send",
        "Set",
    ]
)


def quoted(text: str) -> list[str]:
    """Texts in quotation marks, in order."""
    return [next(filter(None, found)) for found in _QUOTED.findall(text)]


def numbers(text: str) -> list[float]:
    """Numbers in the text, in order."""
    return [float(found) for found in _NUMBER.findall(text)]


def names(text: str) -> list[str]:
    """Capitalized names in the text, in order.

    Single words that start a sentence only count when there is nothing else.
    """
    strong: list[str] = []
    weak: list[str] = []
    for match in _NAME.finditer(text):
        parts = match[0].split()
        opens = not text[: match.start()].rstrip(" \"'([").endswith(_INSIDE)
        while parts and parts[0] in _NOT_NAMES:
            parts.pop(0)
            opens = False
        name = " ".join(parts).strip("'").removesuffix("'s")
        if name and name not in _NOT_NAMES:
            (weak if opens and len(parts) == 1 else strong).append(name)
    return list(dict.fromkeys(strong or weak))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text."""
    return [part.strip() for part in _SENTENCE.split(text) if part and part.strip()]


def rank(candidates: Sequence[str], question: str) -> list[tuple[int, float]]:
    """Positions of texts with their scores, best first."""
    bags = [Counter(keywords(text)) for text in candidates]
    spread = Counter(word for bag in bags for word in bag)
    wanted = list(dict.fromkeys(keywords(question)))
    total = len(candidates)

    def score(at: int) -> float:
        bag = bags[at]
        value = 0.0
        for word in wanted:
            weight = math.log(1 + total / spread[word]) if spread[word] else 0.0
            if word in bag:
                value += weight
            elif len(word) > 4 and any(len(w) > 4 and _near(word, w) for w in bag):
                value += 0.5
        return value / (1 + 0.01 * sum(bag.values()))

    return sorted(((at, score(at)) for at in range(total)), key=lambda item: -item[1])


def _near(one: str, two: str) -> bool:
    return one[:5] == two[:5] or stem(one) == stem(two)
