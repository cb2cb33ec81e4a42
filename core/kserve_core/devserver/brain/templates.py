"""Answers the prompt forms of retrieval chains, chat engines and summarizers."""

from __future__ import annotations

import re

from kserve_core.devserver.brain.conversation import Conversation
from kserve_core.devserver.brain.extract import names, sentences
from kserve_core.devserver.brain.passages import best_fact, block, facts, fitness, passage, question_in
from kserve_core.devserver.brain.react import react
from kserve_core.devserver.brain.selection import selected

UNKNOWN = "I don't know."

_EXISTING = re.compile(
    r"(?:existing answer|original answer)\s*:[ \t]*\n?(.+?)"
    r"(?=\n\s*(?:we (?:have|can|may)|new answer|refined answer|instruction|-{3,}|given)|below are several|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_SOURCE = re.compile(
    r"^\s*(?:Source|\[)\s*(\d+)\]?\s*:?\s*\n(.*?)(?=^\s*(?:Source|\[)\s*\d+\]?\s*:?\s*\n|^-{3,}|\Z)",
    re.DOTALL | re.MULTILINE,
)
_FOLLOW_UP = re.compile(
    r"follow[- ]?up (?:input|question|message)\s*[:>]\s*(.+?)\s*"
    r"(?=\n\s*(?:<?standalone question)|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_HISTORY = re.compile(r"chat history\s*[:>]\s*(.+?)\s*(?=\n\s*(?:<?follow[- ]?up))", re.DOTALL | re.IGNORECASE)
_SUB_ANSWER = re.compile(r"^Sub question:.*?\nResponse:\s*(.+?)\s*(?=^Sub question:|\Z)", re.DOTALL | re.MULTILINE)
_PRONOUN = re.compile(r"\b(it|its|they|them|their|he|him|his|she|her|that|this|there)\b", re.IGNORECASE)
_POSSESSIVE = frozenset({"its", "their", "his"})


def templated(conversation: Conversation) -> str | None:
    """The answer to a recognized prompt form, or None."""
    for rule in (react, _listed, _condensed, _refined, _cited, _summary, _asked):
        found = rule(conversation)
        if found is not None:
            return found
    return None


def _listed(conversation: Conversation) -> str | None:
    return selected(conversation.user) or (
        selected(conversation.system + "\n" + conversation.user) if conversation.system else None
    )


def _condensed(conversation: Conversation) -> str | None:
    text = conversation.user
    if re.search(r"standalone question", text, re.IGNORECASE):
        follow_up, history = _FOLLOW_UP.search(text), _HISTORY.search(text)
        if follow_up is None:
            return None
        return standalone(follow_up[1], history[1] if history else "")
    if re.search(r"standalone question", conversation.system, re.IGNORECASE):
        return standalone(text, "\n".join(f"{m.role}: {m.text}" for m in conversation.messages[:-1]))
    return None


def standalone(question: str, history: str) -> str:
    """The question with its first pronoun replaced by the newest name of the history."""
    turns = re.split(r"^\s*(user|assistant|human|ai|system):\s*", history, flags=re.IGNORECASE | re.MULTILINE)
    asked = " \n".join(turns[at + 1] for at in range(1, len(turns) - 1, 2) if turns[at].lower() in {"user", "human"})
    person = re.search(r"\b(he|him|his|she|her)\b", question, re.IGNORECASE)
    everything = " \n".join(turns[2::2]) or history
    spoken: list[str] = []
    for source in (everything,) if person else (asked, everything):
        spoken = [name for name in names(source) if name.lower() not in question.lower()]
        if spoken:
            break
    if not spoken:
        return question.strip()

    def put(match: re.Match[str]) -> str:
        return spoken[-1] + ("'s" if match[0].lower() in _POSSESSIVE else "")

    return _PRONOUN.sub(put, question.strip(), count=1)


def _refined(conversation: Conversation) -> str | None:
    system = conversation.system
    text = conversation.user
    framed = text
    if not re.search(r"(existing|original) answer\s*:", text, re.IGNORECASE):
        if not re.search(r"existing answer\s*:", system, re.IGNORECASE):
            return None
        framed = system
    existing = _EXISTING.search(framed)
    asked = question_in(framed) or (text if framed is system else None)
    if existing is None or asked is None:
        return None
    old = existing[1].strip()
    context = (block(framed) or framed).replace(old, " ")
    new = best_fact(context, asked)
    if new is None or fitness(old, asked, context) >= fitness(new, asked, context):
        return old
    return new


def _cited(conversation: Conversation) -> str | None:
    text = conversation.user
    if "cite" not in text.lower() and "citation" not in text.lower():
        return None
    asked = question_in(text)
    body = re.split(r"Now it's your turn", text)[-1]
    sources = [(number, content.strip()) for number, content in _SOURCE.findall(body)]
    if asked is None or not sources:
        return None
    owner = {fact: number for number, content in reversed(sources) for fact in facts(content)}
    best = best_fact("\n".join(content for _, content in sources), asked)
    if best is None:
        return UNKNOWN
    ending = best[-1] if best[-1] in ".!?" else "."
    return f"{best.rstrip('.!?')} [{owner.get(best, sources[0][0])}]{ending}"


def _summary(conversation: Conversation) -> str | None:
    text = conversation.user
    if not re.search(
        r"\b(summary of the following|summari[sz]e|write a (?:concise )?summary|SUMMARY:)", text, re.IGNORECASE
    ):
        return None
    found = passage(conversation)
    if found is not None and found.question != text and re.search(r"query\s*:", text, re.IGNORECASE):
        lines = facts(found.context)
    else:
        lines = [
            line
            for line in facts(block(text) or text)
            if not re.match(r"\W*(?:concise )?summary\b|write a|summari[sz]e", line, re.IGNORECASE)
        ]
    return " ".join(lines[:2]) or None


def _asked(conversation: Conversation) -> str | None:
    if conversation.last.role != "user":
        return None
    found = passage(conversation)
    if found is None:
        return None
    parts = _SUB_ANSWER.findall(found.context)
    if parts:
        return " ".join(part.strip() for part in parts)
    best = best_fact(found.context, found.question)
    if best is not None:
        return best
    return UNKNOWN if len(sentences(found.context)) > 0 else None
