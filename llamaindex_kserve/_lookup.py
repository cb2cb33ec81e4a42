"""Finding out once which model is served, however many calls want to know at the same moment."""

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from kserve_core.client import RuntimeClient
from kserve_core.errors import KServeError
from kserve_core.types import ModelInfo


class ModelLookup:
    """Has one lookup in flight per event loop, and one among threads; the others wait for its answer.

    A lookup that fails fails for all who waited for it; the next call tries again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocking: Future[None] | None = None
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Any]] = WeakKeyDictionary()

    def run(self, client: RuntimeClient[Any]) -> None:
        """Makes sure the client's runtime knows its model.

        Raises:
            KServeError: If the endpoint cannot be reached, refuses, or serves several models.
        """
        if _knows(client):
            return
        with self._lock:
            running = self._blocking
            if running is None:
                mine = self._blocking = Future()
        if running is not None:
            running.result()
            return
        try:
            client.run(client.runtime.resolve_model())
        except KServeError as error:
            mine.set_exception(error)
            raise
        finally:
            self._blocking = None
            if not mine.done():
                mine.set_result(None)

    async def arun(self, client: RuntimeClient[Any]) -> None:
        """Like `run`.

        Raises:
            KServeError: If the endpoint cannot be reached, refuses, or serves several models.
        """
        if _knows(client):
            return
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or task.done():
            task = self._tasks[loop] = loop.create_task(client.arun(client.runtime.resolve_model()))
            task.add_done_callback(_seen)
        # One caller's cancellation must not take the answer from the others.
        await asyncio.shield(task)


def _knows(client: RuntimeClient[Any]) -> bool:
    runtime = client.runtime
    return runtime.model is not None or not hasattr(runtime, "resolve_model")


def _seen(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


def known_info(client: RuntimeClient[Any], model: str | None) -> ModelInfo | None:
    """What the runtime has already learned about a model; None rather than asking anybody."""
    ask = getattr(client.runtime, "model_info", None)
    flow: Any = ask(model) if ask is not None else None
    if not isinstance(flow, Generator):
        return None
    try:
        next(flow)  # it would yield the request it needs
    except StopIteration as done:
        info: ModelInfo | None = done.value
        return info
    except KServeError:
        return None
    finally:
        flow.close()
    return None
