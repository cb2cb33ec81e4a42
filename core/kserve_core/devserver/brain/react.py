"""Agents that speak Thought / Action / Observation instead of calling tools."""

from __future__ import annotations

import json
import re

import orjson

from kserve_core.devserver.brain.conversation import Conversation, Message, Tool
from kserve_core.devserver.brain.tools import arguments, best_tool

_LISTED = re.compile(r"Tool Name:\s*(\S+)\s*\nTool Description:\s*(.*?)\nTool Args:\s*(\{.*?\})\s*(?=\n|$)", re.DOTALL)
_SIGNATURE = re.compile(r"^\s*[-*>]?\s*(\w+)\s*\(([^)\n]*)\)\s*(?:->\s*[\w\[\], ]+)?\s*[-:]\s*(.+)$", re.MULTILINE)
_PLAIN = re.compile(r"^\s*[-*>]?\s*(\w+)\s*:\s*(.+)$", re.MULTILINE)
_ONE_OF = re.compile(r"one of \[?([\w, ]+)\]?")
_OBSERVATION = re.compile(
    r"Observation:\s*(.*?)(?=\n\s*(?:Thought|Action|Answer|Final Answer|Question)\b|\Z)", re.DOTALL
)
_ASKED = re.compile(r"Question:\s*((?:(?!Question:).)+?)\s*(?=\n\s*Thought:|\Z)", re.DOTALL)
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "list": "array", "dict": "object"}


def react(conversation: Conversation) -> str | None:
    """The next step of such an agent, or None when the prompt is no such prompt."""
    frame = conversation.system or conversation.messages[0].text
    if "Action Input:" not in frame or "Observation:" not in frame:
        return None
    tools = _tools(frame)
    if not tools:
        return None
    question, seen = _progress(conversation)
    final = "Final Answer" if "Final Answer:" in frame else "Answer"
    if seen is not None:
        return f"Thought: I can answer without using any more tools.\n{final}: {_sentence(seen)}"
    tool = best_tool(tools, question)
    if tool is None:
        return f"Thought: I can answer without using any more tools.\n{final}: I cannot look that up: {question}"
    given = arguments(tool, question)
    text = json.dumps(given, ensure_ascii=False)
    if not tool.parameters and len(given) <= 1:
        text = question
    return f"Thought: I need to use a tool to help me answer the question.\nAction: {tool.name}\nAction Input: {text}"


def _progress(conversation: Conversation) -> tuple[str, str | None]:
    """The question that is being worked on, and what the last tool said about it."""
    if len(conversation.messages) == 1:
        text = conversation.messages[0].text
        asked = _ASKED.findall(text)
        question = asked[-1] if asked else text
        work = text[text.rfind(question) + len(question) :]
        found = _OBSERVATION.findall(work)
        return question.strip(), found[-1].strip() if found else None
    question, seen = "", None
    for message in conversation.messages:
        if message.role in {"system", "developer"}:
            continue
        observed = _observed(message)
        if observed is not None:
            seen = observed
        elif message.role == "user":
            question, seen = message.text, None
    return question, seen


def _observed(message: Message) -> str | None:
    if message.role == "tool":
        return message.text.removeprefix("Observation:").strip()
    if message.role == "user" and message.text.lstrip().startswith("Observation:"):
        return message.text.lstrip().removeprefix("Observation:").strip()
    return None


def _tools(frame: str) -> tuple[Tool, ...]:
    made = []
    for name, description, args in _LISTED.findall(frame):
        try:
            parameters = orjson.loads(args)
        except orjson.JSONDecodeError:
            parameters = {}
        made.append(Tool(name, description.strip(), parameters))
    if made:
        return tuple(made)
    named = _ONE_OF.search(frame)
    allowed = {word.strip() for word in named[1].split(",")} if named else set()
    for name, signature, description in _SIGNATURE.findall(frame):
        if name in allowed:
            made.append(Tool(name, description, _signature(signature)))
    if not made:
        made = [Tool(name, description) for name, description in _PLAIN.findall(frame) if name in allowed]
    return tuple(made)


def _signature(text: str) -> dict[str, object]:
    properties: dict[str, object] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, kind = part.partition(":")
        properties[name.strip()] = {"type": _TYPES.get(kind.split("=")[0].strip(), "string")}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _sentence(text: str) -> str:
    return text if text[-1:] in {".", "!", "?"} else f"{text}."
