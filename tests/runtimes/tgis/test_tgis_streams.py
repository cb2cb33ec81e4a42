"""Leaving a stream early makes the engine stop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from runtimes.engine import Watch
from runtimes.prompts import ENDLESS, ask

from kserve_core.errors import EndpointTimeoutError

ENDLESSLY = ask("Say hello.", params=ENDLESS)


def stopped(watch):
    return 0 < watch.tokens() < ENDLESS["max_tokens"]


@pytest.fixture
def stopped_early(servers):
    """Whether the engine has stopped before the answer was complete."""
    watch = Watch(servers["plain"]["http"])
    return lambda: stopped(watch)


ATTEMPTS = 4
"""A server that gets no processor time hears of a closed stream when the answer is complete: then once more. Were the
stream not closed, no attempt would show anything else."""


def test_closing_a_stream(plain, servers):
    def close_early():
        watch = Watch(servers["plain"]["http"])
        stream = plain.stream(plain.runtime.stream_generate(ENDLESSLY))
        for _, piece in zip(range(5), stream, strict=False):
            assert piece.finish_reason is None
        stream.close()
        return stopped(watch)

    assert any(close_early() for _ in range(ATTEMPTS))


async def test_closing_an_async_stream(plain, servers):
    for _ in range(ATTEMPTS):
        watch = await asyncio.to_thread(Watch, servers["plain"]["http"])
        async with aclosing(plain.astream(plain.runtime.stream_generate(ENDLESSLY))) as stream:
            async for piece in stream:
                if piece.text:
                    break
        early = await asyncio.to_thread(stopped, watch)
        if early:
            break
    assert early
    await plain.aclose()


async def stopped_by_cancelling(servers, work, begun):
    """Whether the engine stops when a task is cancelled.

    A server that gets no processor time hears of it when the answer is complete, or is asked when it has not begun:
    then once more. A client that does not cancel the call never gets through.
    """
    for _ in range(4):
        watch = await asyncio.to_thread(Watch, servers["plain"]["http"])
        task = asyncio.create_task(work())
        await begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if await asyncio.to_thread(stopped, watch):
            return True
    return False


async def test_a_cancelled_task_that_streams(plain, servers):
    started = asyncio.Event()

    async def read():
        started.clear()
        async for _ in plain.astream(plain.runtime.stream_generate(ENDLESSLY)):
            started.set()

    async def begun():
        await asyncio.sleep(0)
        await started.wait()

    assert await stopped_by_cancelling(servers, read, begun)
    await plain.aclose()


async def test_a_cancelled_task_that_waits_for_a_whole_answer(plain, servers):
    async def answer():
        await plain.arun(plain.runtime.generate(ENDLESSLY))

    assert await stopped_by_cancelling(servers, answer, lambda: asyncio.sleep(0.7))
    await plain.aclose()


def test_a_time_budget_that_runs_out(connect, servers, stopped_early):
    client = connect(servers["plain"]["base_url"], timeout=1.0)
    with pytest.raises(EndpointTimeoutError):
        client.run(client.runtime.generate(ENDLESSLY))
    assert stopped_early()


def test_a_stream_of_hundreds_of_pieces(plain):
    request = ask("Say hello.", params={"min_tokens": 800, "max_tokens": 800})
    pieces = list(plain.stream(plain.runtime.stream_generate(request)))
    assert pieces[-1].usage.completion_tokens == 800
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]
