"""What the rules look at: messages with plain text, and the tools on offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its parts joined to plain text."""

    role: str
    text: str
    images: int = 0
    calls: tuple[Call, ...] = ()
    name: str | None = None
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; the arguments are a JSON value."""

    name: str
    arguments: Any
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything an answer may depend on."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()

    @property
    def last(self) -> Message:
        """The newest message."""
        return self.messages[-1]

    @property
    def user(self) -> str:
        """Text of the newest user message; of the newest message when no user spoke."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return self.messages[-1].text

    @property
    def system(self) -> str:
        """Text of all system and developer messages."""
        return "\n".join(m.text for m in self.messages if m.role in {"system", "developer"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model would have produced."""

    text: str = ""
    reasoning: str | None = None
    calls: tuple[Call, ...] = ()
