"""Leaving a stream early makes the server stop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from runtimes.engine import Watch

from kserve_core.errors import EndpointTimeoutError

LONG = {"ignore_eos": True, "max_tokens": 3500}


@pytest.fixture
def stopped_early(vllm):
    """Whether the engine generated something, but not all it was asked for."""
    watch = Watch(vllm.servers["generate"]["origin"])
    return lambda: 0 < watch.tokens() < LONG["max_tokens"]


def test_closing_a_stream_frees_the_engine(generator, ask, stopped_early):
    stream = generator.stream(generator.runtime.stream_chat(ask("Say hello.", params=LONG)))
    for _, piece in zip(range(5), stream, strict=False):
        assert piece.finish_reason is None
    stream.close()
    assert stopped_early()


async def test_closing_an_async_stream_frees_the_engine(generator, ask, stopped_early):
    async with aclosing(generator.astream(generator.runtime.stream_chat(ask("Say hello.", params=LONG)))) as stream:
        async for piece in stream:
            if piece.content:
                break
    assert await asyncio.to_thread(stopped_early)
    await generator.aclose()


async def test_a_cancelled_task_frees_the_engine(generator, ask, stopped_early):
    async def read():
        async for _ in generator.astream(generator.runtime.stream_chat(ask("Say hello.", params=LONG))):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stopped_early)
    await generator.aclose()


def test_a_time_budget_that_runs_out_frees_the_engine(connect, vllm, ask, stopped_early):
    client = connect(vllm.chat, timeout=1.0)
    with pytest.raises(EndpointTimeoutError):
        client.run(client.runtime.chat(ask("Say hello.", params=LONG)))
    assert stopped_early()


def test_a_stream_of_thousands_of_pieces(generator, ask):
    pieces = list(
        generator.stream(generator.runtime.stream_chat(ask("Say hello.", params={**LONG, "max_tokens": 1500})))
    )
    assert pieces[-1].usage.completion_tokens == 1500
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]
