"""Who asks what during a soak: workers, their mix of faults, and how each question has to end."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any

from kserve_core.errors import KServeError

PROMPT = "Count to ten."
ANSWER = "one two three four five six seven eight nine ten"
IDLE = 0.5
"""The idle time-out where a stream is made to fall silent, so that it is given up soon."""
PATIENCE = 30.0
"""That of all others: a machine with more to do may be slow."""

# The faults, and the errors they may end in.
OVER_HTTP: tuple[tuple[dict[str, Any], str], ...] = (
    ({"status": 503}, "ServerError"),
    ({"status": 429}, "RateLimitError"),
    ({"status": 500}, "ServerError"),
    ({"body": "oauth-sign-in"}, "PermissionDeniedError"),
    ({"body": "html"}, "AuthenticationError"),
    ({"redirect": "https://model.example.com/"}, "RedirectError"),
    ({"reset": "before-headers"}, "EndpointConnectionError"),
    ({"reset": "after-headers"}, "StreamInterrupted"),
    ({"cut_after": 3}, "StreamInterrupted"),
    ({"cut_after": 3, "cut": "mid-piece"}, "StreamInterrupted"),
    ({"cut_after": 3, "cut": "clean"}, "StreamInterrupted"),
    ({"error_after": 3}, "ServerError"),
    ({"malformed_after": 3}, "BadResponseError"),
    ({"idle_after": 3, "keepalive": 1}, "StreamIdleError"),
    ({"gzip_bomb": 1 << 20}, "BadResponseError"),
)
OVER_GRPC: tuple[tuple[dict[str, Any], str], ...] = (
    ({"code": "UNAVAILABLE", "details": "try later"}, "ServerError"),
    ({"code": "INVALID_ARGUMENT"}, "InvalidRequestError"),
    ({"code": "UNAUTHENTICATED"}, "AuthenticationError"),
    ({"reset": "before-headers"}, "EndpointConnectionError"),
    ({"cut_after": 3}, "StreamInterrupted"),
    ({"cut_after": 3, "cut": "clean"}, "StreamInterrupted"),
    ({"error_after": 3}, "ServerError"),
    ({"malformed_after": 3}, "BadResponseError"),
    ({"idle_after": 3}, "StreamIdleError"),
)


@dataclass
class Tally:
    """What became of the questions.

    Attributes:
        asked: How many were begun.
        finished: How many gave the whole answer.
        left: How many were left on purpose before they were complete.
        failed: How many ended in an error, by its name.
        wrong: What must not be: other exceptions, wrong texts, faults without their error.
        expected: Requests that the servers must have seen, by server.
    """

    asked: int = 0
    finished: int = 0
    left: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Instance:
    """A model object and what is to come of it; `error` is None for the whole answer."""

    model: Any
    error: str | None = None


@dataclass
class Kind:
    """A way of asking.

    Attributes:
        name: For the summary.
        make: Makes an instance; given the fault, if it is to have one.
        ask: Asks an instance and gives the texts as they come (a generator, async or not).
        faults: Those it may meet.
        server: Which server it asks: `vllm` (with TGIS) or `triton`.
        instances: The one without a fault, and one per fault.
    """

    name: str
    make: Callable[[dict[str, str] | None], Any]
    ask: Callable[[Any], Any]
    faults: tuple[tuple[dict[str, Any], str], ...]
    server: str = "vllm"
    instances: list[Instance] = field(default_factory=list)

    def prepare(self) -> None:
        """Makes the instances."""
        self.instances = [Instance(self.make(None))]
        for fault, error in self.faults:
            self.instances.append(Instance(self.make({"x-devserver-fault": json.dumps(fault)}), error))

    def pick(self, rng: random.Random, share: float) -> Instance:
        """The instance for the next question."""
        return rng.choice(self.instances[1:]) if rng.random() < share else self.instances[0]


def blocking(kind: Kind, rng: random.Random, tally: Tally, stop: threading.Event, share: float) -> None:
    """A thread that asks again and again."""
    while not stop.is_set():
        instance = kind.pick(rng, share)
        leave = instance.error is None and rng.random() < 0.02
        text, error, left = "", None, False
        try:
            with closing(kind.ask(instance.model)) as pieces:
                for piece in pieces:
                    text += piece
                    if leave and text:
                        left = True
                        break
        except Exception as exc:
            error = exc
        note(kind, instance, tally, text, error, left=left)


async def looping(kind: Kind, rng: random.Random, tally: Tally, stop: threading.Event, share: float) -> None:
    """As `blocking`, a task."""
    while not stop.is_set():
        instance = kind.pick(rng, share)
        leave = instance.error is None and rng.random() < 0.02
        text, error, left = "", None, False
        try:
            async with aclosing(kind.ask(instance.model)) as pieces:
                async for piece in pieces:
                    text += piece
                    if leave and text:
                        left = True
                        break
        except Exception as exc:
            error = exc
        note(kind, instance, tally, text, error, left=left)
        await asyncio.sleep(0)


def note(kind: Kind, instance: Instance, tally: Tally, text: str, error: Exception | None, *, left: bool) -> None:
    """Counts a question that is over, and says so if it did not end as it has to."""
    names = {cls.__name__ for cls in type(error).__mro__} if error is not None else set()
    if left:
        wrong = None
    elif error is None:
        wrong = None if instance.error is None and text.strip(" .") == ANSWER else f"whole answer {text[:60]!r}"
    elif not isinstance(error, KServeError) or instance.error not in names:
        wrong = f"{type(error).__name__}: {error}"[:300]
    elif not error.partial_text.startswith(text):
        wrong = f"{text!r} was handed out, but the error has {error.partial_text!r}"
    else:
        wrong = None
    with tally.lock:
        tally.asked += 1
        tally.expected[kind.server] += error.attempts if isinstance(error, KServeError) else 1
        if wrong is not None and len(tally.wrong) < 50:
            tally.wrong.append(f"{kind.name}, {instance.error or 'no fault'}: {wrong}")
        if left:
            tally.left += 1
        elif error is None:
            tally.finished += 1
        else:
            tally.failed[instance.error or type(error).__name__] += 1


def kinds(vllm: str, tgis: str, triton: str) -> dict[str, list[tuple[Kind, int]]]:
    """The mix: 200 streams, tasks and threads."""
    from llama_index.core.base.llms.types import ChatMessage

    import langchain_kserve as lc
    import llamaindex_kserve as li
    from kserve_core.capabilities import ChatRequest
    from kserve_core.client import RuntimeClient
    from kserve_core.endpoint import Endpoint
    from kserve_core.runtimes.vllm import VLLMRuntime

    chat = {"base_url": f"{vllm}/v1", "model": "dev-model"}
    text = {"base_url": tgis, "max_tokens": 64}
    tensors = {"base_url": triton, "model": "dev-model", "max_tokens": 64}

    def limits(headers: dict[str, str] | None) -> dict[str, Any]:
        silent = headers is not None and "idle_after" in str(headers)
        return {"idle_timeout": IDLE if silent else PATIENCE, "timeout": 60.0, "default_headers": headers}

    def maker(cls: Any, fields: dict[str, Any]) -> Callable[[dict[str, str] | None], Any]:
        return lambda headers: cls(**fields, **limits(headers))

    def raw(headers: dict[str, str] | None) -> Any:
        endpoint = Endpoint.create(chat["base_url"], **limits(headers))
        return RuntimeClient(endpoint, VLLMRuntime(base_path=endpoint.base_path, model="dev-model"))

    request = ChatRequest(messages=[{"role": "user", "content": PROMPT}])

    async def ask_raw(client: Any) -> AsyncIterator[str]:
        async with aclosing(client.astream(client.runtime.stream_chat(request))) as pieces:
            async for piece in pieces:
                yield piece.content or ""

    async def ask_lc(model: Any) -> AsyncIterator[str]:
        async with aclosing(model.astream(PROMPT)) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else str(piece.content)

    async def ask_li_chat(model: Any) -> AsyncIterator[str]:
        async with aclosing(await model.astream_chat([ChatMessage(PROMPT)])) as pieces:
            async for piece in pieces:
                yield piece.delta or ""

    async def ask_li_text(model: Any) -> AsyncIterator[str]:
        async with aclosing(await model.astream_complete(PROMPT)) as pieces:
            async for piece in pieces:
                yield piece.delta or ""

    def ask_lc_sync(model: Any) -> Iterator[str]:
        with closing(model.stream(PROMPT)) as pieces:
            for piece in pieces:
                yield piece if isinstance(piece, str) else str(piece.content)

    def ask_li_chat_sync(model: Any) -> Iterator[str]:
        with closing(model.stream_chat([ChatMessage(PROMPT)])) as pieces:
            for piece in pieces:
                yield piece.delta or ""

    def ask_li_text_sync(model: Any) -> Iterator[str]:
        with closing(model.stream_complete(PROMPT)) as pieces:
            for piece in pieces:
                yield piece.delta or ""

    return {
        "tasks": [
            (Kind("raw client, SSE", raw, ask_raw, OVER_HTTP), 50),
            (Kind("LangChain, SSE", maker(lc.ChatVLLM, chat), ask_lc, OVER_HTTP), 50),
            (Kind("LlamaIndex, SSE", maker(li.VLLM, chat), ask_li_chat, OVER_HTTP), 40),
            (Kind("LangChain, TGIS", maker(lc.TGISLLM, text), ask_lc, OVER_GRPC), 10),
            (Kind("LlamaIndex, TGIS", maker(li.TGISLLM, text), ask_li_text, OVER_GRPC), 10),
            (Kind("LangChain, V2", maker(lc.TritonLLM, tensors), ask_lc, OVER_GRPC, "triton"), 5),
        ],
        "threads": [
            (Kind("LangChain, SSE, blocking", maker(lc.ChatVLLM, chat), ask_lc_sync, OVER_HTTP), 10),
            (Kind("LlamaIndex, SSE, blocking", maker(li.VLLM, chat), ask_li_chat_sync, OVER_HTTP), 10),
            (Kind("LangChain, TGIS, blocking", maker(lc.TGISLLM, text), ask_lc_sync, OVER_GRPC), 5),
            (Kind("LlamaIndex, TGIS, blocking", maker(li.TGISLLM, text), ask_li_text_sync, OVER_GRPC), 5),
            (Kind("LangChain, V2, blocking", maker(lc.TritonLLM, tensors), ask_lc_sync, OVER_GRPC, "triton"), 5),
        ],
    }
