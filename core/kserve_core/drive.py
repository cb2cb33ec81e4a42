"""Carries out a conversation's actions, blocking or in an event loop; how a request is sent is the transport's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from kserve_core.credentials import TokenSource
from kserve_core.errors import KServeError
from kserve_core.retry import Action, GetToken, Probe, Send


def drive(
    talk: Generator[Action, Any, Any],
    token: TokenSource | None,
    send: Callable[[Send], Any],
    probe: Callable[[Probe], Any],
) -> Any:
    """Runs a conversation to its end and returns what it returns.

    Args:
        talk: The conversation.
        token: Where its token comes from.
        send: Sends one request and returns what came.
        probe: Asks once whether the model is ready.

    Raises:
        KServeError: What the conversation raises.
    """
    value: Any = None
    error: KServeError | None = None
    try:
        while True:
            action = talk.send(value) if error is None else talk.throw(error)
            value = error = None
            try:
                if isinstance(action, Send):
                    value = send(action)
                elif isinstance(action, GetToken):
                    value = token and token.token(refresh=action.refresh)
                elif isinstance(action, Probe):
                    value = probe(action)
                else:
                    time.sleep(action.seconds)
            except KServeError as exc:
                error = exc
    except StopIteration as stop:
        return stop.value


async def adrive(
    talk: Generator[Action, Any, Any],
    token: TokenSource | None,
    send: Callable[[Send], Awaitable[Any]],
    probe: Callable[[Probe], Awaitable[Any]],
) -> Any:
    """As `drive`, in an event loop."""
    value: Any = None
    error: KServeError | None = None
    try:
        while True:
            action = talk.send(value) if error is None else talk.throw(error)
            value = error = None
            try:
                if isinstance(action, Send):
                    value = await send(action)
                elif isinstance(action, GetToken):
                    value = token and await token.atoken(refresh=action.refresh)
                elif isinstance(action, Probe):
                    value = await probe(action)
                else:
                    await asyncio.sleep(action.seconds)
            except KServeError as exc:
                error = exc
    except StopIteration as stop:
        return stop.value
