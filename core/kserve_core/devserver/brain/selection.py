"""Prompts that want a choice, a list or JSON in plain text."""

from __future__ import annotations

import json
import re
from typing import Any

from kserve_core.devserver.brain.extract import names, rank
from kserve_core.devserver.brain.features import keywords, relevance, sigmoid
from kserve_core.devserver.brain.schema import Filler

_CHOICES = re.compile(r"^\s*\((\d+)\)\s*(.+?)(?=^\s*\(\d+\)|^\s*-{3,}|\Z)", re.DOTALL | re.MULTILINE)
_ASKED = re.compile(r"question: ?'(.+?)'\s*(?:\n|$)", re.DOTALL)
_TOOLS = re.compile(r"<Tools>\s*```json\s*(\{.*?\})\s*```\s*<User Question>\s*(.+?)\s*<Output>", re.DOTALL)
_DOCUMENT = re.compile(r"^Document (\d+):\s*\n(.+?)(?=^Document \d+:|^Question:|\Z)", re.DOTALL | re.MULTILINE)


def selected(text: str) -> str | None:
    """The answer to a prompt that lists choices, tools or documents; None for other prompts."""
    for rule in (_sub_questions, _router, _relevant_documents, _keyword_list, _schema_in_prompt):
        found = rule(text)
        if found is not None:
            return found
    return None


def hints(text: str) -> dict[str, Any]:
    """Values for schema properties of the same name, from a prompt that lists choices."""
    number = _best_choice(text)
    if number is None:
        return {}
    return {"choice": number, "index": number, "selection": number, "reason": "It fits the question best."}


def _best_choice(text: str) -> int | None:
    if "choices" not in text.lower():
        return None
    options = [(int(number), summary.strip()) for number, summary in _CHOICES.findall(text)]
    asked = _ASKED.search(text)
    if not options or asked is None:
        return None
    order = rank([summary for _, summary in options], asked[1])
    return options[order[0][0]][0]


def _router(text: str) -> str | None:
    number = _best_choice(text)
    if number is None:
        return None
    if "ANSWER:" in text:
        return f"ANSWER: {number}\nThis choice shares the most words with the question."
    return json.dumps([{"choice": number, "reason": "This choice shares the most words with the question."}])


def _sub_questions(text: str) -> str | None:
    if "sub_question" not in text and "sub-question" not in text:
        return None
    found = _TOOLS.findall(text)
    if not found:
        return None
    listed, question = found[-1]
    tools: dict[str, str] = json.loads(listed)
    items = []
    for name, description in tools.items():
        about = set(keywords(f"{name.replace('_', ' ')} {description}"))
        if about & set(keywords(question)):
            items.append({"sub_question": _narrowed(question, name, description, tools), "tool_name": name})
    if not items and tools:
        items = [{"sub_question": question, "tool_name": next(iter(tools))}]
    return "```json\n" + json.dumps({"items": items}, indent=4) + "\n```"


def _narrowed(question: str, name: str, description: str, tools: dict[str, str]) -> str:
    """The part of a question that is about one tool's subject."""
    own = _about(name, description)
    others = {word for other, text in tools.items() if other != name for word in _about(other, text)} - own
    clauses = [clause.strip() for clause in re.split(r",?\s+and\s+|;\s*", question.rstrip("?")) if clause.strip()]
    fitting = [clause for clause in clauses if set(keywords(clause)) & (own - _shared(name, tools))]
    if fitting and len(fitting) < len(clauses) and all(len(clause.split()) > 2 for clause in fitting):
        asked = " and ".join(fitting)
        return asked[:1].upper() + asked[1:] + "?"
    asked = question
    for subject in names(question):
        if set(keywords(subject)) and set(keywords(subject)) <= others:
            asked = re.sub(rf"\s*(?:,|\band\b|\bor\b|\bwith\b)?\s*{re.escape(subject)}(?:'s)?(?:\s+and\b)?", " ", asked)
    return " ".join(asked.split())


def _about(name: str, description: str) -> set[str]:
    return set(keywords(f"{name.replace('_', ' ')} {description}"))


def _shared(name: str, tools: dict[str, str]) -> set[str]:
    return {word for other, text in tools.items() if other != name for word in _about(other, text)}


def _relevant_documents(text: str) -> str | None:
    if "Relevance:" not in text or "Doc:" not in text:
        return None
    tail = text.rsplit("Let's try this now", 1)[-1]
    asked = re.search(r"^Question:\s*(.+)$", tail, re.MULTILINE)
    documents = [(number, body.strip()) for number, body in _DOCUMENT.findall(tail)]
    if asked is None or not documents:
        return None
    scored = sorted(
        ((sigmoid(relevance(asked[1], body)), number) for number, body in documents), key=lambda item: -item[0]
    )
    lines = [f"Doc: {number}, Relevance: {max(1, round(10 * score))}" for score, number in scored if score > 0.05]
    return "\n".join(lines or [f"Doc: {scored[0][1]}, Relevance: 1"])


def _keyword_list(text: str) -> str | None:
    if "KEYWORDS:" not in text:
        return None
    found = re.search(r"-{3,}\s*\n(.*?)\n-{3,}", text, re.DOTALL)
    most = re.search(r"up to (\d+)", text)
    words = list(dict.fromkeys(keywords(found[1] if found else text)))
    return "KEYWORDS: " + ", ".join(words[: int(most[1]) if most else 10])


def _schema_in_prompt(text: str) -> str | None:
    if not re.search(r"json schema|JSON instance|output schema", text, re.IGNORECASE):
        return None
    schema = _last_schema(text) or _last_schema(text.replace("{{", "{").replace("}}", "}"))
    if schema is None:
        return None
    rest = re.sub(r"\{.*\}", " ", text, flags=re.DOTALL)
    rest = re.split(r"Here's a JSON schema|The output should be formatted|Here is the output schema", rest)[0]
    return json.dumps(Filler(rest, root=schema).fill(schema), ensure_ascii=False)


def _last_schema(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    found = None
    at = text.find("{")
    while at >= 0:
        try:
            value, length = decoder.raw_decode(text[at:])
        except json.JSONDecodeError:
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict) and ("properties" in value or "$defs" in value):
            found = value
        at = text.find("{", at + max(1, length))
    return found
