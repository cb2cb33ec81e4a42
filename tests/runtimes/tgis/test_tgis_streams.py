"""Leaving a stream early makes the engine stop."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest
from runtimes.engine import falls_to_zero, running_requests
from runtimes.prompts import ENDLESS, ask

from kserve_core.errors import EndpointTimeoutError


@pytest.fixture
def running(servers):
    """How many requests the engine is working on."""
    return lambda: running_requests(servers["plain"]["http"])


ENDLESSLY = ask("Say hello.", params=ENDLESS)


def test_closing_a_stream_frees_the_engine(plain, running):
    stream = plain.stream(plain.runtime.stream_generate(ENDLESSLY))
    for _, piece in zip(range(5), stream, strict=False):
        assert piece.finish_reason is None
    assert running() == 1
    stream.close()
    assert falls_to_zero(running)


async def test_closing_an_async_stream_frees_the_engine(plain, running):
    async with aclosing(plain.astream(plain.runtime.stream_generate(ENDLESSLY))) as stream:
        async for piece in stream:
            if piece.text:
                break
        assert await asyncio.to_thread(running) == 1
    assert await asyncio.to_thread(falls_to_zero, running)
    await plain.aclose()


async def test_a_cancelled_task_frees_the_engine(plain, running):
    async def read():
        async for _ in plain.astream(plain.runtime.stream_generate(ENDLESSLY)):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(falls_to_zero, running)
    await plain.aclose()


async def test_a_cancelled_request_for_a_whole_answer_frees_the_engine(plain, running):
    task = asyncio.create_task(plain.arun(plain.runtime.generate(ENDLESSLY)))
    end = time.monotonic() + 5
    while await asyncio.to_thread(running) == 0:
        assert time.monotonic() < end
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(falls_to_zero, running)
    await plain.aclose()


def test_a_time_budget_that_runs_out_frees_the_engine(connect, servers, running):
    client = connect(servers["plain"]["base_url"], timeout=1.0)
    with pytest.raises(EndpointTimeoutError):
        client.run(client.runtime.generate(ENDLESSLY))
    assert falls_to_zero(running)


def test_a_stream_of_hundreds_of_pieces(plain):
    request = ask("Say hello.", params={"min_tokens": 800, "max_tokens": 800})
    pieces = list(plain.stream(plain.runtime.stream_generate(request)))
    assert pieces[-1].usage.completion_tokens == 800
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]
