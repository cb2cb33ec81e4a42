"""What is said to the tiny model that generates, and what it answers."""

from __future__ import annotations

from typing import Any

from kserve_core.capabilities import TextRequest
from kserve_core.chat_template import ChatTemplate

CHATML = ChatTemplate.load("chatml")
HELLO = "Hello! How can I help you today?"
COUNT = "one two three four five six seven eight nine ten."
GREEDY = {"temperature": 0, "max_tokens": 64}
ENDLESS = {"temperature": 0, "min_tokens": 3800, "max_tokens": 3800}
"""Seconds of text on any machine, and just within the context window."""


def chatml(says: str) -> str:
    """The prompt that asks the model to answer."""
    return CHATML.render([{"role": "user", "content": says}])


def ask(*says: str, **fields: Any) -> TextRequest:
    """A request for answers; greedy unless told otherwise."""
    params = {**GREEDY, **fields.pop("params", {})}
    return TextRequest(prompts=[chatml(one) for one in says], params=params, **fields)
