"""Leaving a stream early, long streams, and many requests at once.

Over gRPC the news that nobody listens any more travels through Caikit to the engine behind it. Over REST it does not:
Caikit lets the engine finish, and there is nothing a client can do about that.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from runtimes.engine import Watch
from runtimes.prompts import ENDLESS, ask

ENDLESSLY = ask("Say hello.", params=ENDLESS)


ATTEMPTS = 4
"""A server that gets no processor time hears of a closed stream when the answer is complete: then once more. Were the
stream not closed, no attempt would show anything else."""


def stopped(watch):
    return 0 < watch.tokens() < ENDLESS["max_tokens"]


def test_closing_a_stream_frees_the_engine(grpc, servers):
    def close_early():
        watch = Watch(servers["backend"]["plain"]["http"])
        stream = grpc.stream(grpc.runtime.stream_generate(ENDLESSLY))
        for _, piece in zip(range(5), stream, strict=False):
            assert piece.finish_reason is None
        stream.close()
        return stopped(watch)

    assert any(close_early() for _ in range(ATTEMPTS))


async def test_closing_an_async_stream_frees_the_engine(grpc, servers):
    for _ in range(ATTEMPTS):
        watch = await asyncio.to_thread(Watch, servers["backend"]["plain"]["http"])
        async with aclosing(grpc.astream(grpc.runtime.stream_generate(ENDLESSLY))) as stream:
            async for piece in stream:
                if piece.text:
                    break
        early = await asyncio.to_thread(stopped, watch)
        if early:
            break
    assert early
    await grpc.aclose()


def test_closing_a_stream_closes_the_connection(connect, servers):
    """Over REST too, the client itself is done at once."""
    client = connect(servers["plain"]["rest"])
    stream = client.stream(
        client.runtime.stream_generate(ask("Say hello.", params={"min_tokens": 300, "max_tokens": 300}))
    )
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 1
    assert client.run(client.runtime.health()) is True


def test_a_stream_of_hundreds_of_pieces(client):
    request = ask("Say hello.", params={"min_tokens": 600, "max_tokens": 600})
    pieces = list(client.stream(client.runtime.stream_generate(request)))
    assert pieces[-1].usage.completion_tokens == 600
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]


async def test_many_at_once(client):
    request = ask(*["Say hello.", "Count to ten."] * 8)
    result = await client.arun(client.runtime.generate(request))
    assert len({generation.text for (generation,) in result.generations}) == 2
    assert result.generations[0] == result.generations[2]
    await client.aclose()
