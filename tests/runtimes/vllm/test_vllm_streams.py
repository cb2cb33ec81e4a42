"""Leaving a stream early makes the server stop."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing

import httpx
import pytest

from kserve_core.errors import EndpointTimeoutError

LONG = {"ignore_eos": True, "max_tokens": 3500}


@pytest.fixture
def running(vllm):
    """How many requests the engine is working on."""
    origin = vllm.servers["generate"]["origin"]
    with httpx.Client(base_url=origin, headers={"authorization": f"Bearer {vllm.chat['api_key']}"}) as client:

        def running() -> int:
            text = client.get("/metrics").raise_for_status().text
            return round(
                sum(float(n) for n in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE))
            )

        yield running


def falls_to_zero(running, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if running() == 0:
            return True
        time.sleep(0.05)
    return False


def test_closing_a_stream_frees_the_engine(generator, ask, running):
    stream = generator.stream(generator.runtime.stream_chat(ask("Say hello.", params=LONG)))
    for _, piece in zip(range(5), stream, strict=False):
        assert piece.finish_reason is None
    assert running() == 1
    stream.close()
    assert falls_to_zero(running)


async def test_closing_an_async_stream_frees_the_engine(generator, ask, running):
    async with aclosing(generator.astream(generator.runtime.stream_chat(ask("Say hello.", params=LONG)))) as stream:
        async for piece in stream:
            if piece.content:
                break
    assert await asyncio.to_thread(falls_to_zero, running)
    await generator.aclose()


async def test_a_cancelled_task_frees_the_engine(generator, ask, running):
    async def read():
        async for _ in generator.astream(generator.runtime.stream_chat(ask("Say hello.", params=LONG))):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(falls_to_zero, running)
    await generator.aclose()


def test_a_time_budget_that_runs_out_frees_the_engine(connect, vllm, ask, running):
    client = connect(vllm.chat, timeout=1.0)
    with pytest.raises(EndpointTimeoutError):
        client.run(client.runtime.chat(ask("Say hello.", params=LONG)))
    assert falls_to_zero(running)


def test_a_stream_of_thousands_of_pieces(generator, ask):
    pieces = list(
        generator.stream(generator.runtime.stream_chat(ask("Say hello.", params={**LONG, "max_tokens": 1500})))
    )
    assert pieces[-1].usage.completion_tokens == 1500
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]
