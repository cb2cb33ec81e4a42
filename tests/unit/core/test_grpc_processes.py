"""gRPC transports in event loops, threads and processes."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import grpc
import pytest

from kserve_core.calls import Parallel
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    StreamInterrupted,
)
from tests.unit.core.grpc_calls import CORE, TOKEN, count, transport, words
from tests.unit.core.grpc_scripted import (
    END,
    GrpcServer,
    count_call,
    raised,
    stream_call,
    tokens,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Loops, threads, processes


def test_one_channel_for_all_threads(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        if mode == "sync":
            threads = [threading.Thread(target=client.run, args=(count_call(),)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:

            async def together() -> None:
                await asyncio.gather(*(client.arun(count_call()) for _ in range(8)))

            asyncio.run(together())
        assert (len(server.calls), len(server.peers)) == (8, 1)


def test_one_client_in_many_event_loops() -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        results: list[int] = []

        async def twice() -> None:
            results.append(await client.arun(count_call()))
            results.append(await client.arun(count_call()))

        threads = [threading.Thread(target=asyncio.run, args=(twice(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(twice())
        assert len(results) == 8
        assert len(server.peers) == 4
        assert len(client._loops) <= 1


def test_closing_is_not_the_end(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        if mode == "sync":
            assert client.run(count_call()) == 1
            client.close()
            assert client.run(count_call()) == 2
        else:

            async def reopen() -> None:
                assert await client.arun(count_call()) == 1
                await client.aclose()
                assert await client.arun(count_call()) == 2

            asyncio.run(reopen())
        assert len(server.peers) == 2


def test_closing_while_a_stream_is_read_interrupts_it(mode: str) -> None:
    with GrpcServer(words("a", 10.0)) as server:
        client = transport(server)
        if mode == "sync":
            threading.Timer(0.3, client.close).start()
            error = raised(lambda: list(client.stream(stream_call())))
        else:

            async def close() -> None:
                asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(client.aclose()))
                async for _ in client.astream(stream_call()):
                    pass

            error = raised(lambda: asyncio.run(close()))
    assert isinstance(error, StreamInterrupted)


def test_pickled_transports_work() -> None:
    with GrpcServer(count) as server:
        client = transport(server, api_key=TOKEN)
        client.run(count_call())
        copy = pickle.loads(pickle.dumps(client))
        assert copy.run(count_call()) == 2
        assert TOKEN not in repr(copy)


def test_a_client_carries_grpc_calls_flows_and_streams() -> None:
    def flow() -> Any:
        numbers = yield Parallel(calls=[count_call(), count_call()], limit=2)
        return sorted(numbers)

    def choose() -> Any:
        yield count_call()
        return stream_call()

    with GrpcServer(count) as server:
        client = RuntimeClient(Endpoint.create(server.url), None)
        assert client.run(count_call()) == 1
        assert client.run(flow()) == [2, 3]
        assert asyncio.run(client.arun(flow())) == [4, 5]
        client.close()

    def both(request: bytes, context: Any, number: int) -> Any:
        return words("a", END)(request, context, number) if number % 2 == 0 else tokens(1)

    with GrpcServer(both) as server:
        assert list(RuntimeClient(Endpoint.create(server.url), None).stream(choose())) == ["a"]


CHILD = """
import asyncio, os, signal, sys
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from tests.unit.core.grpc_scripted import count_call

client = RuntimeClient(Endpoint.create(sys.argv[1], timeout=5, max_retries=0), None)

def tell(who, call):
    try:
        outcome = "worked" if call() else "odd"
    except Exception as error:
        outcome = type(error).__name__
    print(who, outcome, flush=True)

def blocking():
    return client.run(count_call())

def async_():
    return asyncio.run(client.arun(count_call()))

tell("parent", blocking)
if sys.argv[2] == "aio":
    tell("parent", async_)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    tell("child", blocking)
    tell("child", async_)
    os._exit(0)
os.waitpid(pid, 0)
tell("parent", blocking)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("used", ["sync", "aio"])
def test_a_forked_child_works_or_says_why_not(used: str) -> None:
    with GrpcServer(count) as server:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, server.url, used],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=_environment(),
        )
    lines = done.stdout.split("\n")
    no = "ConfigurationError"
    able = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 83)
    blocking, from_loop = ("worked" if able else no), ("worked" if able and used == "sync" else no)
    children = [line for line in lines if line.startswith("child")]
    assert children == [f"child {blocking}", f"child {from_loop}"], done.stderr
    assert [line for line in lines if line.startswith("parent")] == ["parent worked"] * (2 if used == "sync" else 3)


def test_the_grpc_library_is_loaded_only_for_a_call() -> None:
    code = (
        "import sys; from kserve_core.client import RuntimeClient; from kserve_core.endpoint import Endpoint\n"
        "from kserve_core.calls import GrpcCall; from kserve_core.protos import messages\n"
        "RuntimeClient(Endpoint.create('grpcs://m.example.com'), None)\n"
        "print([name for name in ('grpc', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{CORE}{os.pathsep}{CORE.parent}"}
