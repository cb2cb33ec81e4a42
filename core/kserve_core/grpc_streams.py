"""Reading one streamed gRPC answer, with a deadline that can be moved.

A gRPC deadline holds for a whole call, so it cannot bound the silence between two messages. Here a call is cancelled
from outside when its `Deadline` has passed: by one thread for all blocking streams, by the event loop for async ones.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from typing import Any

from kserve_core.deadline import Deadline
from kserve_core.errors import EndpointConnectionError
from kserve_core.grpc_library import grpc


class SyncStream:
    """A streamed answer for a blocking reader.

    Args:
        rpc: The library's call.
        deadline: When to give up; moved as messages come, None while nobody waits for one.
        every: A moved deadline is at least so many seconds away; None if it never is.
    """

    def __init__(self, rpc: Any, deadline: Deadline, every: float | None) -> None:
        self._rpc = rpc
        self._ended = False
        self._watched = Watched(rpc.cancel, deadline, every)
        if deadline.at is not None or every is not None:
            WATCHDOG.watch(self._watched)

    def read(self) -> bytes | None:
        """The next message, or None if the status was OK.

        Raises:
            TimeoutError: If the deadline passed.
            grpc.RpcError: If the status was another.
        """
        try:
            return next(self._rpc, None)
        except grpc.RpcError:
            self._ended = True
            if self._watched.fired:
                raise TimeoutError from None
            raise

    def hurry(self, seconds: float) -> None:
        """Gives up so many seconds from now."""
        self._watched.deadline.set(seconds)
        WATCHDOG.watch(self._watched)

    def close(self) -> None:
        """Ends the call; the server is told if it was not over yet."""
        WATCHDOG.forget(self._watched)
        if self._ended:
            return
        self._rpc.cancel()
        with suppress(grpc.RpcError, ValueError):
            while next(self._rpc, None) is not None:
                pass  # what had arrived before; the library frees the call when it has seen its end


class AsyncStream:
    """As `SyncStream`, in an event loop."""

    def __init__(self, rpc: Any, deadline: Deadline, every: float | None) -> None:
        self._rpc = rpc
        self._deadline = deadline
        self._every = every
        self._fired = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if deadline.at is not None or every is not None:
            self._check()

    async def read(self) -> bytes | None:
        """As `SyncStream.read`."""
        try:
            message = await self._rpc.read()
        except asyncio.CancelledError:
            if self._fired and being_cancelled() is not True:
                raise TimeoutError from None
            if being_cancelled() is not False:
                raise
            msg = "The channel was closed while a stream was read."
            raise EndpointConnectionError(msg) from None
        return None if message is grpc.aio.EOF else message

    def hurry(self, seconds: float) -> None:
        """As `SyncStream.hurry`."""
        self._deadline.set(seconds)
        if self._timer is not None:
            self._timer.cancel()
        self._check()

    def close(self) -> None:
        """As `SyncStream.close`; does not suspend."""
        if self._timer is not None:
            self._timer.cancel()
        self._rpc.cancel()

    def _check(self) -> None:
        seconds = _next_check(self._deadline, self._every)
        if seconds is None:
            self._fired = True
            self._rpc.cancel()
        else:
            self._timer = self._loop.call_later(seconds, self._check)


class Watched:
    """A call that `Watchdog` ends when its deadline has passed."""

    __slots__ = ("cancel", "deadline", "every", "fired")

    def __init__(self, cancel: Callable[[], object], deadline: Deadline, every: float | None) -> None:
        self.cancel = cancel
        self.deadline = deadline
        self.every = every
        self.fired = False


class Watchdog:
    """One thread that ends calls whose deadline has passed; it stops when there are none.

    A deadline may be moved without telling, so every call is looked at when its deadline would have passed, and at
    least every so many seconds (its `every`).
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._checks: dict[Watched, float] = {}
        self._running = False

    def watch(self, item: Watched) -> None:
        """Watches a call, from now on by its deadline as it is now."""
        seconds = _next_check(item.deadline, item.every) or 0.0
        with self._condition:
            self._checks[item] = time.monotonic() + seconds
            if self._running:
                self._condition.notify()
            else:
                self._running = True
                threading.Thread(target=self._run, name="kserve-grpc-watchdog", daemon=True).start()

    def forget(self, item: Watched) -> None:
        """Stops watching a call."""
        with self._condition:
            self._checks.pop(item, None)

    @property
    def watched(self) -> int:
        """How many calls are watched."""
        return len(self._checks)

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._checks:
                    self._running = False
                    return
                item, at = min(self._checks.items(), key=itemgetter(1))
                wait = at - time.monotonic()
                if wait > 0:
                    self._condition.wait(wait)
                    continue
                seconds = _next_check(item.deadline, item.every)
                if seconds is not None:
                    self._checks[item] = time.monotonic() + seconds
                    continue
                del self._checks[item]
                item.fired = True
            item.cancel()


def being_cancelled() -> bool | None:
    """Whether the running task is asked to stop; None on Python 3.10, which does not tell."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return None if cancelling is None else cancelling() > 0


def _next_check(deadline: Deadline, every: float | None) -> float | None:
    """Seconds until a deadline may have passed; None if it has."""
    left = deadline.left()
    limits = [seconds for seconds in (left, every) if seconds is not None]
    return None if left == 0 else min(limits, default=3600.0)


def _after_fork() -> None:
    global WATCHDOG  # noqa: PLW0603 - the parent's thread is not here
    WATCHDOG = Watchdog()


WATCHDOG = Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
