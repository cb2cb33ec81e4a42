"""What one rendering of a chat template may use: steps, time, and the text and lists it makes.

Jinja's sandbox keeps a template from Python's internals, but not from running for ever or filling the memory. Every
operation a template can name goes through one of these checks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from jinja2.runtime import Context
from jinja2.utils import Namespace

from kserve_core.errors import ConfigurationError

MAX_STEPS = 500_000
"""Turns of all loops and calls of all functions, together."""
MAX_SECONDS = 5.0
MAX_TEXT = 8_000_000
"""Longest text one operation may make, in characters."""
MAX_TOTAL = 64_000_000
"""Characters and list items all operations together may make."""
MAX_ITEMS = 200_000
"""Most items of a list, nested ones included."""

_SCALARS = frozenset({int, float, bool, type(None)})


class Budget:
    """What is left for one rendering."""

    __slots__ = ("_deadline", "_made", "_steps")

    def __init__(self) -> None:
        self._steps = 0
        self._made = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def step(self, count: int = 1) -> None:
        """Takes steps.

        Raises:
            ConfigurationError: If there are none left, or no time.
        """
        self._steps += count
        if self._steps > MAX_STEPS or time.monotonic() > self._deadline:
            msg = "The chat template ran too long and was stopped."
            raise ConfigurationError(msg, hint="A template's work should grow with the number of messages only.")

    def make(self, size: int) -> None:
        """Makes room for a text or a list of a size; call it before the text is there.

        Raises:
            ConfigurationError: If it is too large, or too much was made already.
        """
        self._made += size
        if size > MAX_TEXT or self._made > MAX_TOTAL:
            too_large()
        self.step()


_current: ContextVar[Budget] = ContextVar("kserve_template_budget")


@contextmanager
def limited() -> Iterator[None]:
    """Gives what runs inside a budget of its own."""
    token = _current.set(Budget())
    try:
        yield
    finally:
        _current.reset(token)


def budget() -> Budget:
    """The budget of the rendering that is going on; a new one outside of any."""
    found = _current.get(None)
    return Budget() if found is None else found


def too_large() -> NoReturn:
    """Stops a template that builds too much."""
    msg = "The chat template built a value that is too large and was stopped."
    raise ConfigurationError(msg)


def weigh(value: Any) -> int:
    """How large a value is, everything in it counted as often as it occurs: what writing it out would cost.

    Raises:
        ConfigurationError: If that is too much.
    """
    if isinstance(value, str):
        return len(value)
    if type(value) in _SCALARS:
        return 1
    items = size = 0
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        items += 1
        if isinstance(item, str):
            size += len(item)
        elif kind in _SCALARS:
            continue
        elif kind is list or kind is tuple:
            waiting.extend(item)
        elif isinstance(item, Namespace):
            waiting.append(item._Namespace__attrs)
        elif isinstance(item, Mapping) and not isinstance(item, Context):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        if items > MAX_ITEMS or size > 2 * MAX_TEXT or len(waiting) > 2 * MAX_ITEMS:
            too_large()
    budget().step(items // 50)
    return items + size


def passed(value: Any) -> Any:
    """A value just made, after it was looked at; what is not a text or a container costs nothing."""
    if isinstance(value, (str, list, tuple, dict)):
        budget().make(len(value))
        if not isinstance(value, str):
            weigh(value)
    return value
