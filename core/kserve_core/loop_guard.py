"""Closing things together with the event loop they belong to."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol


class LoopBound(Protocol):
    """Something that belongs to one event loop."""

    def forget_loop(self) -> None:
        """Lets go of the event loop, which has ended."""


async def close_with_loop(
    owner: weakref.ref[LoopBound], close: Callable[[], Awaitable[None]]
) -> AsyncGenerator[None, None]:
    """Closes something when the event loop shuts down, or when nobody has its owner any more.

    An event loop that ends (as `asyncio.run` ends it) closes the async generators that were begun in it. So the owner
    begins this one and keeps it.
    """
    try:
        yield
    finally:
        await close()
        living = owner()
        if living is not None:
            living.forget_loop()
