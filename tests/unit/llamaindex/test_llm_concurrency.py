"""One instance in many tasks, threads and event loops."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.base.llms.types import ChatMessage

from kserve_core.devserver import DevServer
from llamaindex_kserve import VLLM

HELLO = [ChatMessage("Say hello.")]
ANSWER = "Hello! How can I help you today?"


@pytest.fixture(scope="module")
def running():
    with DevServer() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def make(server, **fields):
    return VLLM(**{"base_url": f"{server.url}/v1", "model": "dev-model", **fields})


def connections(server):
    return {request.connection for request in server.requests}


async def test_500_calls_at_once_keep_to_the_bound(server):
    llm = make(server, max_connections=20)
    answers = await asyncio.gather(*(llm.achat(HELLO) for _ in range(500)))
    assert {answer.message.content for answer in answers} == {ANSWER}
    assert len(server.requests) == 500
    assert server.max_in_flight <= 20
    assert len(connections(server)) <= 20
    await llm.aclose()
    for _ in range(100):
        if not server.open_connections:
            break
        await asyncio.sleep(0.01)
    assert server.open_connections == 0


async def test_slow_calls_overlap(server):
    server.fault(delay=0.4, times=4)
    llm = make(server)
    await asyncio.gather(llm.achat(HELLO), llm.acomplete("Say hello."), llm.achat(HELLO), llm.acomplete("Say hello."))
    assert server.max_in_flight == 4


async def test_many_streams_at_once_do_not_mix(server):
    llm = make(server, max_connections=10)

    async def numbers():
        return "".join([item.delta async for item in await llm.astream_chat([ChatMessage("Count to ten.")])])

    assert set(await asyncio.gather(*(numbers() for _ in range(40)))) == {
        "one two three four five six seven eight nine ten."
    }


def test_sixteen_threads_share_one_instance(server):
    llm = make(server)
    with ThreadPoolExecutor(16) as pool:
        whole = list(pool.map(lambda _: llm.chat(HELLO).message.content, range(64)))
        streamed = list(pool.map(lambda _: list(llm.stream_chat(HELLO))[-1].message.content, range(64)))
    assert set(whole + streamed) == {ANSWER}
    assert len(server.requests) == 128
    assert len(connections(server)) <= 32


def test_event_loops_one_after_another_send_nothing_twice(server):
    llm = make(server)

    async def ask():
        first = await llm.achat(HELLO)
        stream = [item async for item in await llm.astream_chat(HELLO)]
        return first.message.content, stream[-1].message.content

    for _ in range(3):
        assert asyncio.run(ask()) == (ANSWER, ANSWER)
    assert len(server.requests) == 6


def test_blocking_calls_reuse_their_connection(server):
    llm = make(server)
    for _ in range(10):
        llm.chat(HELLO)
        list(llm.stream_chat(HELLO))
    assert len(connections(server)) == 1


async def test_async_calls_reuse_theirs(server):
    llm = make(server)
    for _ in range(10):
        await llm.achat(HELLO)
    assert len(connections(server)) == 1


def test_an_unpickled_copy_works_after_the_original_was_used(server):
    llm = make(server)
    llm.chat(HELLO)
    asyncio.run(llm.achat(HELLO))
    assert pickle.loads(pickle.dumps(llm)).chat(HELLO).message.content == ANSWER


def test_an_unnamed_model_is_looked_up_once_by_everybody(server):
    llm = make(server, model=None)

    async def many():
        await asyncio.gather(*(llm.achat(HELLO) for _ in range(50)))

    asyncio.run(many())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: llm.chat(HELLO), range(16)))
    assert [request.path for request in server.requests].count("/v1/models") == 1
    assert llm.metadata.model_name == "dev-model"
    assert llm.metadata.context_window == 8192


async def test_closing_ends_the_connections_and_leaves_it_usable(server):
    async def closed():
        for _ in range(200):
            if not server.open_connections:
                return True
            await asyncio.sleep(0.01)
        return False

    with make(server) as llm:
        assert llm.chat(HELLO).message.content == ANSWER
    assert await closed()
    async with llm:
        assert (await llm.achat(HELLO)).message.content == ANSWER
        assert llm.chat(HELLO).message.content == ANSWER
    assert await closed()
    assert llm.chat(HELLO).message.content == ANSWER
    llm.close()
