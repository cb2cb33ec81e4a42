"""Chat: one call, one stream, many streams, many calls; both frameworks, sync and async."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from floors import LangChainFloor, LangChainSmallest, LlamaIndexFloor, LlamaIndexSmallest, Wire
from harness import Case, Contestant
from llama_index.core.base.llms.types import ChatMessage, MessageRole

from langchain_kserve import ChatVLLM
from llamaindex_kserve import VLLM

os.environ.setdefault("OPENAI_API_KEY", "not-used")
HI = [ChatMessage(role=MessageRole.USER, content="hi")]
KEY = "x"


class Bench:
    """Makes every contestant for one canned answer."""

    def __init__(self, url: str, model: str, count: int) -> None:
        self.url, self.model, self.count = url, model, count
        self.wire = Wire(url)

    def langchain(self) -> dict[str, Any]:
        rows: dict[str, Any] = {
            "langchain-core alone": LangChainFloor(count=self.count),
            "smallest LangChain class": LangChainSmallest(wire=self.wire, name_=self.model),
            "ChatVLLM": ChatVLLM(base_url=self.url, api_key=KEY, model=self.model),
        }
        try:
            from langchain_openai import ChatOpenAI

            rows["ChatOpenAI"] = ChatOpenAI(base_url=f"{self.url}/v1", api_key=KEY, model=self.model, stream_usage=True)
        except ImportError:
            pass
        return rows

    def llamaindex(self) -> dict[str, Any]:
        rows: dict[str, Any] = {
            "llama-index-core alone": LlamaIndexFloor(count=self.count),
            "smallest LlamaIndex class": LlamaIndexSmallest(wire=self.wire, name_=self.model),
            "VLLM (LlamaIndex)": VLLM(base_url=self.url, api_key=KEY, model=self.model),
        }
        try:
            from llama_index.llms.openai_like import OpenAILike

            rows["OpenAILike"] = OpenAILike(
                api_base=f"{self.url}/v1", api_key=KEY, model=self.model, is_chat_model=True
            )
        except ImportError:
            pass
        return rows


def drained(pieces: Iterator[Any]) -> None:
    for _ in pieces:
        pass


async def adrained(pieces: Any) -> None:
    async for _ in pieces:
        pass


async def li_stream(llm: Any) -> None:
    await adrained(await llm.astream_chat(HI))


def looped(wire: Wire, work: Callable[[], Awaitable[Any]], *, runs: int, at_once: int, units: int) -> Callable[[], int]:
    """`runs` rounds of `at_once` concurrent pieces of work, in one fresh event loop."""

    async def main() -> None:
        async with wire.fresh_async():
            for _ in range(runs):
                await asyncio.gather(*(work() for _ in range(at_once)))

    def run() -> int:
        asyncio.run(main())
        return runs * at_once * units

    return run


def repeated(work: Callable[[], Any], runs: int, units: int) -> Callable[[], int]:
    def run() -> int:
        for _ in range(runs):
            work()
        return runs * units

    return run


def bars(names: list[str], mode: str, prefix: str) -> dict[str, tuple[tuple[str, ...], float]]:
    """Ours is the third contestant of each framework; its bar by kind of case."""
    alone, smallest, ours = names[:3]
    if mode == "burst":
        return {ours: ((alone, prefix), 1.25)}
    return {ours: ((smallest,), 1.15)}


def cases(url: str) -> Iterator[Case]:
    """Every chat case."""
    wire_name = "httpx + orjson"
    table = [
        # title, model, tokens, kind, mode, runs, at once, rounds
        ("one call, sync", "call-100", 100, "call", "sync", 60, 1, 9),
        ("one call, async", "call-100", 100, "call", "async", 60, 1, 9),
        ("64 parallel calls, async", "call-100", 100, "call", "async", 4, 64, 7),
        ("stream in a burst, sync", "burst-1000", 1000, "burst", "sync", 3, 1, 9),
        ("stream in a burst, async", "burst-1000", 1000, "burst", "async", 3, 1, 9),
        ("stream paced 1 ms, sync", "paced-200", 200, "paced", "sync", 2, 1, 7),
        ("stream paced 1 ms, async", "paced-200", 200, "paced", "async", 2, 1, 7),
        ("64 concurrent streams, async", "busy-100", 100, "busy", "async", 1, 64, 7),
    ]
    for title, model, count, kind, mode, runs, at_once, rounds in table:
        units = 1 if kind == "call" else count
        unit = "call" if kind == "call" else "token"
        for framework in ("LangChain", "LlamaIndex"):
            bench = Bench(url, model, count)
            wire = bench.wire
            contestants = []
            if mode == "sync":
                floor = (
                    (lambda w=wire, m=model: w.call(m))
                    if kind == "call"
                    else lambda w=wire, m=model: drained(w.stream(m))
                )
                contestants.append(Contestant(wire_name, repeated(floor, runs, units)))
            else:
                afloor = (
                    (lambda w=wire, m=model: w.acall(m))
                    if kind == "call"
                    else lambda w=wire, m=model: adrained(w.astream(m))
                )
                contestants.append(Contestant(wire_name, looped(wire, afloor, runs=runs, at_once=at_once, units=units)))
            rows = bench.langchain() if framework == "LangChain" else bench.llamaindex()
            for name, llm in rows.items():
                work = pick(framework, llm, kind, mode)
                if mode == "sync":
                    contestants.append(Contestant(name, repeated(work, runs, units)))
                else:
                    contestants.append(Contestant(name, looped(wire, work, runs=runs, at_once=at_once, units=units)))
            yield Case(
                f"{framework}: {title}",
                unit,
                contestants,
                wire_name,
                rounds,
                bars(list(rows), kind, wire_name),
            )


def pick(framework: str, llm: Any, kind: str, mode: str) -> Callable[[], Any]:
    """The contestant's method for this kind of case."""
    if framework == "LangChain":
        if kind == "call":
            return (lambda: llm.invoke("hi")) if mode == "sync" else (lambda: llm.ainvoke("hi"))
        return (lambda: drained(llm.stream("hi"))) if mode == "sync" else (lambda: adrained(llm.astream("hi")))
    if kind == "call":
        return (lambda: llm.chat(HI)) if mode == "sync" else (lambda: llm.achat(HI))
    return (lambda: drained(llm.stream_chat(HI))) if mode == "sync" else (lambda: li_stream(llm))
