"""Finds the context and the question in the prompts of retrieval chains."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kserve_core.devserver.brain.conversation import Conversation
from kserve_core.devserver.brain.extract import rank, sentences

_FENCED = re.compile(r"^\s*-{3,}\s*\n(.*?)\n?^\s*-{3,}\s*$", re.DOTALL | re.MULTILINE)
_TAGGED = re.compile(
    r"<(context|documents?|sources?|passages?|data|retrieved_context)>(.*?)</\1>", re.DOTALL | re.IGNORECASE
)
_LABELED = re.compile(
    r"(?:^|\n|\. )\s*(?:new |retrieved |relevant )?(?:context|documents|sources|passages|information)"
    r"(?: information)?\s*:[ \t]*\n?(.+?)(?=\n\s*(?:query|question|user question|(?:\w+ )?answer|original answer"
    r"|instruction)\s*:|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_QUESTION = re.compile(
    r"(?:^|\n)[ \t]*(?:(?:the|original|user|input) )*(?:query|question)\s*(?:is as follows)?\s*:[ \t]*\n?(.+?)"
    r"(?=\n[ \t]*(?:[\w ]{0,20}answer|context|sources?|documents?|we have provided)\b|\n[ \t]*\n|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_SPEAKS_OF_CONTEXT = re.compile(r"\b(context|documents?|sources?|passages?|pieces of)\b", re.IGNORECASE)
_INSTRUCTION = re.compile(
    r"^(?:[-*\d.]+\s*)?(?:you are|you're|use (?:the|only|three|this)|using (?:the|only)|keep the|based (?:only )?on"
    r"|answer (?:the|only|in|\"|'|any)|given (?:the|a|an|this|some)|please|do not|don't|never|always|respond|return"
    r"|if (?:you|the|none|it)\b.*\b(?:know|context|answer|return|repeat|user)|the following is|context information"
    r"|instruction:|here are the|some rules|provide|just say|think step|try to|write"
    r"|the assistant is|helpful answer)\b",
    re.IGNORECASE,
)
_METADATA = re.compile(r"^(?:file_path|file_name|page_label|doc_id|source|score|metadata|url|id)\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A context with the question asked about it."""

    context: str
    question: str


def passage(conversation: Conversation) -> Passage | None:
    """The context and the question of a retrieval prompt, or None when there is no context."""
    user = conversation.user
    question = question_in(user)
    here = block(user)
    if here is not None:
        asked = question or _tail(user.replace(here, " "))
        if asked is None:
            *known, asked = sentences(here)
            here = "\n".join(known)
        return Passage(here, asked)
    system = conversation.system
    if system and _SPEAKS_OF_CONTEXT.search(system):
        return Passage(block(system) or system, question or user)
    if question is not None and _SPEAKS_OF_CONTEXT.search(user):
        before = user[: user.rfind(question)]
        if before.strip():
            return Passage(before, question)
    return None


def block(text: str) -> str | None:
    """The marked part of a text that holds the context."""
    for form, group in ((_TAGGED, 2), (_FENCED, 1), (_LABELED, 1)):
        found = [match for match in form.finditer(text) if match[group].strip()]
        if found:
            return max((match[group] for match in found), key=len)
    return None


def question_in(text: str) -> str | None:
    """The last question that is marked as one."""
    found = _QUESTION.findall(text)
    return found[-1].strip().strip("'\"") if found else None


def facts(text: str) -> list[str]:
    """The sentences of a context without instructions and metadata lines."""
    return [
        sentence
        for sentence in sentences(text)
        if not _INSTRUCTION.match(sentence)
        and not _METADATA.match(sentence)
        and not re.fullmatch(r"[-=\s]*|(?:source|document|doc)\s*\d+\s*:?", sentence, re.IGNORECASE)
    ]


def best_fact(context: str, question: str) -> str | None:
    """The sentence of a context that answers the question best, or None when nothing fits."""
    known = facts(context)
    order = rank(known, question)
    if not order or order[0][1] <= 0:
        return None
    return known[order[0][0]]


def fitness(text: str, question: str, context: str) -> float:
    """How well one text answers a question, measured against a context's word frequencies."""
    known = [text, *facts(context)]
    return dict(rank(known, question))[0]


def _tail(text: str) -> str | None:
    asked = [sentence for sentence in sentences(text) if sentence.endswith("?")]
    said = [sentence for sentence in sentences(text) if not _INSTRUCTION.match(sentence) and sentence[-1] != ":"]
    return asked[-1] if asked else said[-1] if said else None
