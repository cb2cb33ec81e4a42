"""Takes a flat prompt apart again: the messages a chat template or a framework put together."""

from __future__ import annotations

import re

from kserve_core.devserver.brain.conversation import Conversation, Message

_ROLES = "system|user|assistant|tool|human|ai|developer"
_MARKUP = (
    re.compile(rf"<\|im_start\|>({_ROLES})(?:\n|<\|im_sep\|>)(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL),
    re.compile(
        rf"<\|(?:start_header_id|start_of_role)\|>({_ROLES})<\|(?:end_header_id|end_of_role)\|>\s*"
        r"(.*?)(?:<\|eot_id\|>|<\|end_of_text\|>|\Z)",
        re.DOTALL,
    ),
    re.compile(rf"<\|({_ROLES})\|>\n?(.*?)(?=<\|(?:{_ROLES})\|>|</s>|<\|end\|>|\Z)", re.DOTALL),
    re.compile(r"<start_of_turn>(user|model)\n(.*?)(?:<end_of_turn>|\Z)", re.DOTALL),
)
_INST = re.compile(
    r"\[INST\]\s*(?:<<SYS>>\s*(.*?)\s*<</SYS>>)?\s*(.*?)\s*\[/INST\]\s*(.*?)(?=</s>|<s>|\[INST\]|\Z)", re.DOTALL
)
_SYSTEM_PROMPT = re.compile(r"\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.DOTALL)
_LABEL = re.compile(rf"^({_ROLES}): ?", re.IGNORECASE | re.MULTILINE)
_NAMES = {"human": "user", "ai": "assistant", "model": "assistant"}


def unflattened(prompt: str) -> Conversation:
    """The conversation behind a prompt; a single user message when it shows no roles."""
    for form in _MARKUP:
        found = [(_role(role), text) for role, text in form.findall(prompt)]
        if found:
            return _conversation(found)
    if "[INST]" in prompt:
        turns = [("system", text) for text in _SYSTEM_PROMPT.findall(prompt)]
        for system, user, assistant in _INST.findall(prompt):
            turns += [("system", system), ("user", user), ("assistant", assistant)]
        if turns:
            return _conversation(turns)
    if re.search(r"^(?:assistant|ai):\s*\Z", prompt.rstrip() + "\n", re.IGNORECASE | re.MULTILINE):
        before, *parts = _LABEL.split(prompt.replace("</s>", ""))
        turns = [("system", before)]
        turns += [(_role(parts[at]), parts[at + 1]) for at in range(0, len(parts) - 1, 2)]
        if any(role == "user" for role, _ in turns):
            return _conversation(turns)
    return Conversation((Message("user", prompt),))


def _role(name: str) -> str:
    low = name.lower()
    return _NAMES.get(low, low)


def _conversation(turns: list[tuple[str, str]]) -> Conversation:
    made = [Message(role, text.strip()) for role, text in turns if text.strip()]
    return Conversation(tuple(made) or (Message("user", ""),))
