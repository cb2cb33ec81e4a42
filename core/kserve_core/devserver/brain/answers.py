"""Chooses the rule that answers a conversation."""

from __future__ import annotations

import re

from kserve_core.devserver.brain.conversation import Answer, Call, Conversation, Message
from kserve_core.devserver.brain.passages import best_fact
from kserve_core.devserver.brain.react import react
from kserve_core.devserver.brain.script import scripted
from kserve_core.devserver.brain.templates import templated
from kserve_core.devserver.brain.tools import after_tools, automatic_calls

_GREETING = re.compile(r"^\s*(hi|hello|hey|good (morning|day|evening))\b", re.IGNORECASE)
_THINK = re.compile(r"^\s*think\b", re.IGNORECASE)


def answer(conversation: Conversation, *, reasoning: bool = False, may_call: bool = True) -> Answer:
    """What a model would say.

    Args:
        conversation: Messages and tools.
        reasoning: Whether the model always reasons first.
        may_call: Whether tool calls are allowed.
    """
    found = scripted(conversation)
    if found is None or (found.calls and not may_call):
        found = _answer(conversation, may_call=may_call)
    if found.reasoning is None and (reasoning or _THINK.match(conversation.user)):
        question = " ".join(conversation.user.split())[:80]
        found = Answer(found.text, f"The user says: {question}", found.calls)
    return found


def _answer(conversation: Conversation, *, may_call: bool) -> Answer:
    if may_call and conversation.tools:
        calls: tuple[Call, ...] = automatic_calls(conversation)
        if calls:
            return Answer(calls=calls)
    if conversation.last.role == "tool":
        return Answer(react(conversation) or after_tools(conversation))
    return Answer(templated(conversation) or _talk(conversation))


def _talk(conversation: Conversation) -> str:
    said = conversation.user.strip()
    remembered = "\n".join(m.text for m in _before(conversation) if m.text.strip() != said)
    if remembered and said.endswith("?"):
        found = best_fact(remembered, said)
        if found is not None:
            return found
    images = conversation.last.images
    if images:
        return f"I see {images} image{'s' if images > 1 else ''}. {said}".strip()
    if _GREETING.match(said):
        return "Hello! How can I help you today?"
    return f"You said: {said[:400]}" if said else "I am listening."


def _before(conversation: Conversation) -> list[Message]:
    return [m for m in conversation.messages[:-1] if m.role in {"user", "system", "developer", "tool"}]
