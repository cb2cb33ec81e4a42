"""Connections of the HTTP transport: kept, replaced, shared, left behind, and by way of proxies."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import warnings
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    EndpointConnectionError,
    EndpointTimeoutError,
    NameResolutionError,
    StreamIdleError,
    StreamInterrupted,
)
from kserve_core.http_transport import HttpTransport
from tests.unit.core.http_calls import collect, run, transport
from tests.unit.core.scripted import (
    DONE,
    STREAM_HEAD,
    Close,
    Hold,
    Reset,
    ServerSide,
    answer,
    event,
    get,
    post,
    streaming,
    whole_stream,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Connections


def test_connection_is_reused(mode: str) -> None:
    with ServerSide(answer()) as server:
        used = transport(server)
        if mode == "sync":
            for _ in range(3):
                used.run(get())
        else:

            async def main() -> None:
                for _ in range(3):
                    await used.arun(get())

            asyncio.run(main())
        assert server.connections == 1
        assert len(server.requests) == 3
        used.close()


def test_connection_is_reused_after_a_complete_stream(mode: str) -> None:
    with ServerSide(whole_stream("a", "b"), answer(body={"ok": 1})) as server:
        used = transport(server)
        if mode == "sync":
            assert list(used.stream(streaming())) == ["a", "b"]
            used.run(get())
        else:

            async def main() -> None:
                assert [piece async for piece in used.astream(streaming())] == ["a", "b"]
                await used.arun(get())

            asyncio.run(main())
        assert server.connections == 1
        used.close()


def test_connection_the_server_closed_while_idle_is_replaced(mode: str) -> None:
    with ServerSide([answer(), Close()], answer(body={"second": 1})) as server:
        used = transport(server, max_retries=0)
        if mode == "sync":
            used.run(get())
            server.wait_until_live(0)
            assert used.run(get()) == {"second": 1}
        else:

            async def main() -> None:
                await used.arun(get())
                server.wait_until_live(0)
                await asyncio.sleep(0.05)
                assert await used.arun(get()) == {"second": 1}

            asyncio.run(main())
        assert len(server.requests) == 2
        used.close()


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_request_on_a_dying_connection_is_sent_once_more(mode: str, end: object) -> None:
    """The server reads the second request and closes without a byte, as on a keep-alive timeout's race."""
    with ServerSide(answer(), [end], answer(body={"third": 1})) as server:
        used = transport(server)
        if mode == "sync":
            used.run(get())
            assert used.run(post()) == {"third": 1}
        else:

            async def main() -> None:
                await used.arun(get())
                assert await used.arun(post()) == {"third": 1}

            asyncio.run(main())
        assert [seen.connection for seen in server.requests] == [1, 1, 2]
        used.close()


def test_dying_connection_is_not_retried_for_a_call_that_must_be_sent_once() -> None:
    with ServerSide(answer(), [Close()], answer()) as server:
        used = transport(server)
        used.run(get())
        with pytest.raises(EndpointConnectionError) as caught:
            used.run(post(retry=False))
        assert caught.value.attempts == 1
        assert len(server.requests) == 2


def test_one_instance_in_three_event_loops_leaves_nothing_open() -> None:
    with ServerSide(answer(body={"ok": 1})) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        used = transport(server)

        async def main() -> list[Any]:
            return await asyncio.gather(*(used.arun(get()) for _ in range(5)))

        for _ in range(3):
            assert asyncio.run(main()) == [{"ok": 1}] * 5
            assert server.wait_until_live(0), "the loop's connections outlived it"
        gc.collect()
        assert len(used._loops) == 0


def test_sixteen_threads_share_one_instance() -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server, max_connections=4)
        results: list[Any] = []

        def work() -> None:
            for _ in range(5):
                results.append(used.run(post()))

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert results == [{"ok": 1}] * 80
        assert server.connections <= 4
        used.close()
        assert server.wait_until_live(0)


def test_async_calls_wait_for_a_free_connection() -> None:
    with ServerSide([0.02, answer(body={"ok": 1})]) as server:
        used = transport(server, max_connections=3)

        async def main() -> list[Any]:
            return await asyncio.gather(*(used.arun(post()) for _ in range(12)))

        assert asyncio.run(main()) == [{"ok": 1}] * 12
        assert server.connections == 3


def test_waiting_for_a_connection_counts_against_the_budget(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("a"), Hold()]) as server:
        used = transport(server, max_connections=1, timeout=1.0)
        if mode == "sync":
            with closing(used.stream(streaming())) as stream:
                assert next(stream) == "a"
                with pytest.raises(EndpointTimeoutError, match="in use"):
                    used.run(get())
        else:

            async def main() -> None:
                async with aclosing(used.astream(streaming())) as stream:
                    assert await anext(stream) == "a"
                    with pytest.raises(EndpointTimeoutError, match="in use"):
                        await used.arun(get())

            asyncio.run(main())
        assert len(server.requests) == 1


def test_pickled_instance_works_and_leaves_connections_behind() -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server)
        used.run(get())
        copy = pickle.loads(pickle.dumps(used))
        assert copy.run(get()) == {"ok": 1}
        assert server.connections == 2
        assert copy.endpoint == used.endpoint
        used.close()
        copy.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_opens_its_own_connection() -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server)
        used.run(get())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 3.12 warns of forking with threads
            child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if used.run(get()) == {"ok": 1} else 1
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert used.run(get()) == {"ok": 1}
        assert [seen.connection for seen in server.requests] == [1, 2, 1]
        used.close()


def test_instance_works_again_after_close(mode: str) -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server)
        if mode == "sync":
            used.run(get())
            used.close()
            assert server.wait_until_live(0)
            assert used.run(get()) == {"ok": 1}
            used.close()
        else:

            async def main() -> None:
                await used.arun(get())
                await used.aclose()
                assert server.wait_until_live(0)
                assert await used.arun(get()) == {"ok": 1}

            asyncio.run(main())


def test_dropped_instance_closes_its_connections() -> None:
    with ServerSide(answer()) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        used = transport(server)
        used.run(get())
        del used
        gc.collect()
        assert server.wait_until_live(0)


def test_cancelled_call_closes_its_connection() -> None:
    with ServerSide([Hold()]) as server:
        used = transport(server)

        async def main() -> None:
            task = asyncio.ensure_future(used.arun(post()))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.client_left.wait, 2)

        asyncio.run(main())


def test_cancelled_waiters_do_not_lose_connections() -> None:
    with ServerSide([0.05, answer(body={"ok": 1})]) as server:
        used = transport(server, max_connections=1)

        async def main() -> None:
            tasks = [asyncio.ensure_future(used.arun(post())) for _ in range(6)]
            await asyncio.sleep(0.02)
            for task in tasks[1:5]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [results[0], results[5]] == [{"ok": 1}] * 2
            assert await used.arun(post()) == {"ok": 1}

        asyncio.run(main())


# Proxies


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_proxy_of_the_environment_is_used(mode: str, outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerSide(answer(body={"ok": 1}), whole_stream("a", "b")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        used = HttpTransport(Endpoint.create("http://model.invalid/v1"))
        assert run(mode, used, post()) == {"ok": 1}
        assert collect(mode, used, streaming()) == ["a", "b"]
        used.close()
    assert proxy.requests[0].path == "http://model.invalid/v1/chat/completions"
    assert proxy.requests[0].headers["host"] == "model.invalid"


def test_proxy_is_not_used_for_loopback_or_excluded_hosts(
    mode: str, outside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerSide(answer(body={"proxied": 1})) as proxy, ServerSide(answer(body={"ok": 1})) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert run(mode, transport(server), get()) == {"ok": 1}
        monkeypatch.setenv("no_proxy", ".invalid")
        with pytest.raises(NameResolutionError):
            run(mode, HttpTransport(Endpoint.create("http://model.invalid")), get())
    assert proxy.requests == []


def test_failures_behind_a_proxy(mode: str, outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = [STREAM_HEAD, event("Hel"), 0.05, Close()]
    silent = [STREAM_HEAD, event("Hel"), Hold()]
    endless = [STREAM_HEAD, event("Hel"), DONE, Hold()]
    with ServerSide(cut, silent, endless, [Hold()]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        used = HttpTransport(Endpoint.create("http://model.invalid", timeout=2.0, idle_timeout=0.2))
        for error in (StreamInterrupted, StreamIdleError):
            with pytest.raises(error) as caught:
                collect(mode, used, streaming())
            assert caught.value.partial_text == "Hel"
        assert collect(mode, used, streaming()) == ["Hel"]
        with pytest.raises(EndpointTimeoutError):
            run(mode, used, post())
        used.close()


def test_importing_the_package_loads_no_http_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, kserve_core; kserve_core.Endpoint, kserve_core.HttpTransport, kserve_core.RuntimeClient; "
        "print([name for name in ('httpx', 'numpy', 'grpc', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_python_path())
    assert done.stdout.strip() == "[]"


def _python_path() -> dict[str, str]:
    import kserve_core

    return {**os.environ, "PYTHONPATH": str(Path(kserve_core.__file__).parent.parent)}
