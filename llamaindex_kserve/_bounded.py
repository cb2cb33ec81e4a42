"""Bounded concurrency: so many requests in flight per event loop, and none left behind when one fails."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class RunState:
    """What an object gathers while it works: a semaphore and a lock per event loop, and what the server taught.

    Copies and unpickled ones start anew; any two are equal.

    Attributes:
        largest_batch: The most texts of one request that the server took after it refused a larger one.
    """

    __slots__ = ("_gates", "_lock", "largest_batch")

    def __init__(self) -> None:
        self.largest_batch: int | None = None
        self._gates: dict[asyncio.AbstractEventLoop, tuple[int, asyncio.Semaphore, asyncio.Lock]] = {}
        self._lock = threading.Lock()

    def gate(self, limit: int) -> tuple[asyncio.Semaphore, asyncio.Lock]:
        """The running loop's semaphore of `limit` places, and a lock to do something once under."""
        loop = asyncio.get_running_loop()
        with self._lock:
            gate = self._gates.get(loop)
            if gate is None or gate[0] != limit:
                # A semaphore refers to its loop, so that closed loops have to be let go of here.
                self._gates = {other: kept for other, kept in self._gates.items() if not other.is_closed()}
                gate = self._gates[loop] = (limit, asyncio.Semaphore(limit), asyncio.Lock())
            return gate[1], gate[2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunState)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (RunState, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> "RunState":
        return RunState()

    def __copy__(self) -> "RunState":
        return RunState()


class _Scope:
    """The requests of one call of the user's."""

    __slots__ = ("error", "tasks")

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.error: BaseException | None = None

    async def run(self, jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
        if self.error is not None:
            raise self.error
        tasks = [asyncio.ensure_future(_call(job)) for job in jobs]
        self.tasks.update(tasks)
        try:
            return await asyncio.gather(*tasks)
        except BaseException as error:
            if self.error is None:
                self.error = error
            raise

    async def aclose(self) -> None:
        running = [task for task in self.tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _call(job: Callable[[], Awaitable[T]]) -> T:
    return await job()


_current: ContextVar[_Scope | None] = ContextVar("kserve_task_scope", default=None)


@contextlib.asynccontextmanager
async def task_scope() -> AsyncIterator[None]:
    """Makes one unit of every `run_together` called within it, from tasks started within it too.

    Once it is left, with an error or without, none of its jobs is running, and none is started any more after an
    error: the framework leaves the batches behind a failed one running.
    """
    scope = _Scope()
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)
        await scope.aclose()


async def run_together(jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Runs the jobs at once and returns their results in order.

    Raises:
        BaseException: The first error, of these jobs or of others in the same `task_scope`.
    """
    if (scope := _current.get()) is not None:
        return await scope.run(jobs)
    async with task_scope():
        return await run_together(jobs)
