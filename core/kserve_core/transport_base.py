"""What the transports have in common: the frame around an attempt, and the pools of a process and its event loops."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Generic, TypeAlias, TypeVar

from kserve_core.calls import AnyCall
from kserve_core.drive import adrive, drive
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError
from kserve_core.readiness import Waiting
from kserve_core.retry import Action, Probe, RetryPolicy, Send, converse

T = TypeVar("T")
P = TypeVar("P")
L = TypeVar("L")

ProbeMaker: TypeAlias = "Callable[[], AnyCall[bool] | None]"
"""Makes the call that asks a runtime whether the model is ready; None if there is none."""


class BaseTransport(ABC, Generic[P, L]):
    """Runs calls to one endpoint: the conversation around each, and what is kept open for them.

    What blocking calls keep open (`P`) is one per process, what async ones do (`L`) one per event loop; a forked child
    starts anew and leaves its parent's alone.

    Args:
        endpoint: Where to send.
        probe: Makes the call that asks whether the model is ready, for calls that bring none themselves.
    """

    _call_type: type[Any]

    def __init__(self, endpoint: Endpoint, *, probe: ProbeMaker | None = None) -> None:
        self.endpoint = endpoint
        self._probe_maker = probe
        self._policy = RetryPolicy(
            budget=endpoint.timeout, max_retries=endpoint.max_retries, wait_refused=endpoint.is_in_cluster
        )
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pool: P | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, L] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_remake, (type(self), self.endpoint, self._probe_maker))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    # Whole answers

    def run(self, call: AnyCall[T]) -> T:
        """Sends a call and waits for its answer.

        Raises:
            KServeError: If there is no answer, or it is an error, after all attempts.
        """
        sending = self._sending(call)
        answer: T = sending.finish(call, self._drive(sending))
        return answer

    async def arun(self, call: AnyCall[T]) -> T:
        """As `run`, from an event loop."""
        sending = self._sending(call)
        answer: T = sending.finish(call, await self._adrive(sending))
        return answer

    # One attempt

    @abstractmethod
    def _sending(self, call: Any) -> Any:
        """A call on its way: the same for all attempts."""

    @abstractmethod
    def _send(self, sending: Any, action: Send) -> Any:
        """Makes one attempt; returns the answer, or the open stream."""

    @abstractmethod
    async def _asend(self, sending: Any, action: Send) -> Any:
        """As `_send`, from an event loop."""

    # The conversation

    def _drive(self, sending: Any) -> Any:
        probe = self._probe(sending)
        try:
            return drive(
                self._talk(sending, probe),
                self.endpoint.token,
                lambda action: self._send(sending, action),
                lambda action: self._ask(probe, action),
            )
        except KServeError as exc:
            sending.complete(exc)
            raise

    async def _adrive(self, sending: Any) -> Any:
        probe = self._probe(sending)
        try:
            return await adrive(
                self._talk(sending, probe),
                self.endpoint.token,
                lambda action: self._asend(sending, action),
                lambda action: self._aask(probe, action),
            )
        except KServeError as exc:
            sending.complete(exc)
            raise

    def _talk(self, sending: Any, probe: ProbeMaker | None) -> Generator[Action, Any, Any]:
        token = self.endpoint.token
        policy, left = self._policy, None if sending.call.deadline is None else sending.call.deadline.left()
        if left is not None and (policy.budget is None or left < policy.budget):
            policy = replace(policy, budget=left)
        return converse(
            policy,
            judge=sending.judge,
            has_token=token is not None,
            refreshable=token is not None and token.refreshable,
            retry=sending.call.retry,
            probing=probe is not None,
            waiting=Waiting(self.endpoint.on_wait),
            stopped=self.endpoint.stopped,
            watch=sending.watch,
        )

    def _probe(self, sending: Any) -> ProbeMaker | None:
        """What makes the call to ask whether the model is ready; None where sending it again costs no more."""
        call = sending.call
        if call.probe is not None:
            return lambda: call.probe
        return self._probe_maker if sending.is_costly else None

    def _ask(self, probe: ProbeMaker | None, action: Probe) -> bool:
        asking = self._asking(probe)
        answer = self._send(asking, Send(action.token, action.deadline, False, 0))
        return self._told(asking, answer, action)

    async def _aask(self, probe: ProbeMaker | None, action: Probe) -> bool:
        asking = self._asking(probe)
        answer = await self._asend(asking, Send(action.token, action.deadline, False, 0))
        return self._told(asking, answer, action)

    def _asking(self, probe: ProbeMaker | None) -> Any:
        call = probe() if probe is not None else None
        if not isinstance(call, self._call_type):
            msg = "There is no way to ask whether the model is ready."
            raise KServeError(msg, layer="client")
        return self._sending(call)

    def _told(self, asking: Any, answer: Any, action: Probe) -> bool:
        error = asking.judge(answer, action.token is not None)
        if error is not None:
            raise error
        return bool(asking.finish(asking.call, answer))

    # What is kept open

    def _check_process(self) -> None:
        """In a forked child: forgets the parent's connections, and leaves them open."""
        if self._pid != os.getpid():
            _parents.append((self._pool, self._loops))
            self._start()

    def close(self) -> None:
        """Closes the connections of blocking calls; later calls open new ones."""
        if self._pid != os.getpid():
            return
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        """Closes the connections of this event loop and those of blocking calls; later calls open new ones."""
        self.close()
        if self._pid != os.getpid():
            return
        pool = self._loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()  # type: ignore[attr-defined]

    def _forget_closed_loops(self) -> None:
        for other in [other for other in self._loops if other.is_closed()]:
            del self._loops[other]


_parents: list[Any] = []
"""What a forked child inherited: closing or collecting it would disturb the parent."""


def _remake(cls: type[BaseTransport[Any, Any]], endpoint: Endpoint, probe: ProbeMaker | None) -> Any:
    return cls(endpoint, probe=probe)
