"""What the tests of the chat classes of text-only runtimes share."""

from __future__ import annotations

from pydantic import BaseModel

JINJA = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>{% endfor %}<assistant>"
)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return "21"
