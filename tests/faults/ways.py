"""The ways a user reaches an endpoint: four kinds of exchange, blocking and from an event loop, in both frameworks.

Each is watched: it may not hang, and when it is over no task and no socket of it may be left.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kserve_core.errors import KServeError

KINDS = ("rest", "sse", "grpc", "grpc-stream")
MODES = ("sync", "async")
FRAMEWORKS = ("langchain", "llamaindex")

PROMPT = "Count to ten."
ANSWER = "one two three four five six seven eight nine ten"
LIMIT = 15.0
"""Seconds after which an exchange hangs, whatever it is waiting for."""


@dataclass
class Outcome:
    """How an exchange ended.

    Attributes:
        error: What was raised, or None.
        text: The text handed out: the whole answer's, or that of a stream's pieces until it ended.
    """

    error: BaseException | None = None
    text: str = ""

    @property
    def name(self) -> str:
        """The error's class by the name users import, or `ok`."""
        return "ok" if self.error is None else type(self.error).__name__


@dataclass(frozen=True)
class Way:
    """One of the sixteen.

    Attributes:
        kind: `rest`, `sse`, `grpc` or `grpc-stream`.
        mode: `sync` or `async`.
        framework: `langchain` or `llamaindex`.
    """

    kind: str
    mode: str
    framework: str

    @property
    def over_grpc(self) -> bool:
        return self.kind.startswith("grpc")

    @property
    def streamed(self) -> bool:
        return self.kind in {"sse", "grpc-stream"}

    def __str__(self) -> str:
        return f"{self.kind}-{self.mode}-{self.framework}"

    def model(self, url: str, **fields: Any) -> Any:
        """An instance of the class for this way."""
        fields = {**({"max_tokens": 64} if self.over_grpc else {"model": "dev-model"}), **fields}
        if self.framework == "langchain":
            import langchain_kserve

            made = langchain_kserve.TGISLLM if self.over_grpc else langchain_kserve.ChatVLLM
        else:
            import llamaindex_kserve

            made = llamaindex_kserve.TGISLLM if self.over_grpc else llamaindex_kserve.VLLM
        return made(base_url=url, **fields)

    def ask(self, model: Any, outcome: Outcome) -> None:
        """Asks once, blocking; text goes to `outcome` as it comes."""
        if self.framework == "langchain":
            if self.streamed:
                for piece in model.stream(PROMPT):
                    outcome.text += _text(piece)
            else:
                outcome.text += _text(model.invoke(PROMPT))
        elif self.streamed:
            for piece in model.stream_complete(PROMPT) if self.over_grpc else model.stream_chat(_chat()):
                outcome.text += piece.delta or ""
        elif self.over_grpc:
            outcome.text += model.complete(PROMPT).text
        else:
            outcome.text += model.chat(_chat()).message.content or ""

    async def aask(self, model: Any, outcome: Outcome) -> None:
        """As `ask`, from an event loop."""
        if self.framework == "langchain":
            if self.streamed:
                async for piece in model.astream(PROMPT):
                    outcome.text += _text(piece)
            else:
                outcome.text += _text(await model.ainvoke(PROMPT))
        elif self.streamed:
            pieces = await (model.astream_complete(PROMPT) if self.over_grpc else model.astream_chat(_chat()))
            async for piece in pieces:
                outcome.text += piece.delta or ""
        elif self.over_grpc:
            outcome.text += (await model.acomplete(PROMPT)).text
        else:
            outcome.text += (await model.achat(_chat())).message.content or ""

    def run(self, url: str, *, times: int = 1, between: Callable[[], object] | None = None, **fields: Any) -> Outcome:
        """Asks (with one instance, `times` times) and says how the last one ended.

        Args:
            url: The endpoint.
            times: How often to ask.
            between: Called between two questions.
            **fields: Constructor arguments.

        Raises:
            AssertionError: It hung, or left a task behind.
        """
        model = self.model(url, **fields)
        return (
            bounded(lambda: self._sync(model, times, between))
            if self.mode == "sync"
            else self._async(model, times, between)
        )

    def _sync(self, model: Any, times: int, between: Callable[[], object] | None) -> Outcome:
        try:
            for turn in range(times):
                outcome = Outcome()
                if turn and between is not None:
                    between()
                try:
                    self.ask(model, outcome)
                except KServeError as exc:
                    outcome.error = exc
            return outcome
        finally:
            model.close()

    def _async(self, model: Any, times: int, between: Callable[[], object] | None) -> Outcome:
        async def work() -> Outcome:
            try:
                for turn in range(times):
                    outcome = Outcome()
                    if turn and between is not None:
                        await asyncio.to_thread(between)
                    try:
                        await self.aask(model, outcome)
                    except KServeError as exc:
                        outcome.error = exc
                return outcome
            finally:
                await model.aclose()

        return arun(work())


def ways(*kinds: str) -> list[Way]:
    """All ways of some kinds; of every kind if none is named."""
    return [Way(kind, mode, name) for kind in kinds or KINDS for mode in MODES for name in FRAMEWORKS]


def bounded(work: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Does `work` in a thread of its own; raises what it raises, and AssertionError when it hangs."""
    ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as exc:
            ended.put((None, exc))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = ended.get(timeout=seconds)
    except queue.Empty:
        msg = f"it hung for {seconds:g} s"
        raise AssertionError(msg) from None
    if error is not None:
        raise error
    return value


def arun(work: Coroutine[Any, Any, Any], seconds: float = LIMIT) -> Any:
    """Does `work` in a new event loop; AssertionError when it hangs or leaves a task behind."""

    async def main() -> Any:
        try:
            value = await asyncio.wait_for(work, seconds)
        except asyncio.TimeoutError as exc:
            if isinstance(exc, KServeError):
                raise
            msg = f"it hung for {seconds:g} s"
            raise AssertionError(msg) from None
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for _ in range(20):  # what was told to end may take a turn or two to do so
            if not left:
                break
            await asyncio.sleep(0.01)
            left = [task for task in left if not task.done()]
        assert not left, f"tasks left behind: {left}"
        return value

    return asyncio.run(main())


def sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except OSError:
            continue  # closed since it was listed
    return count


@dataclass
class Sockets:
    """Compares the sockets open before and after.

    Attributes:
        before: How many there were.
    """

    before: int = field(default_factory=sockets)

    def check(self, seconds: float = 5.0) -> None:
        """Waits until no more are open than before; both ends of loopback connections and gRPC's closing take a moment.

        Raises:
            AssertionError: Some stay open.
        """
        began = time.monotonic()
        while (now := sockets()) > self.before:
            waited = time.monotonic() - began
            if waited > seconds:
                msg = f"{now - self.before} sockets more than before are open"
                raise AssertionError(msg)
            if waited > 0.02:
                gc.collect()  # grpcio keeps two pairs while any of its asyncio objects is left
            time.sleep(0.002)


def _text(piece: Any) -> str:
    return piece if isinstance(piece, str) else str(piece.content)


def _chat() -> list[Any]:
    from llama_index.core.base.llms.types import ChatMessage

    return [ChatMessage(PROMPT)]
