"""The pools themselves: order of reuse, age, bounds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kserve_core import http_pool
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.http_pool import AsyncPool, SyncPool, proxy_for
from kserve_core.http_request import PoolTimedOutError, Request, host_header
from tests.unit.core.scripted import Close, Hold, ServerSide, answer


def request(deadline: float | None = 5.0, **options: Any) -> Request:
    return Request("GET", "/", {}, None, Deadline.after(deadline), 5.0, **options)


def read_all(source: Any) -> bytes:
    parts = []
    while (part := source.read()) is not None:
        parts.append(part)
    return b"".join(parts)


async def aread_all(source: Any) -> bytes:
    parts = []
    while (part := await source.read()) is not None:
        parts.append(part)
    return b"".join(parts)


def test_last_used_connection_is_taken_first() -> None:
    with ServerSide(answer(body=b"x")) as server:
        pool = SyncPool(Endpoint.create(server.url))
        answers = [pool.send(request()) for _ in range(3)]
        for item in answers:
            assert read_all(item) == b"x"
        for _ in range(3):
            read_all(pool.send(request()))
        assert [seen.connection for seen in server.requests] == [1, 2, 3, 3, 3, 3]
        pool.close()
        assert server.wait_until_live(0)


def test_last_used_connection_is_taken_first_async() -> None:
    with ServerSide(answer(body=b"x")) as server:

        async def main() -> None:
            pool = AsyncPool(Endpoint.create(server.url))
            answers = [await pool.send(request()) for _ in range(3)]
            for item in answers:
                assert await aread_all(item) == b"x"
            for _ in range(3):
                await aread_all(await pool.send(request()))
            await pool.aclose()

        asyncio.run(main())
        assert [seen.connection for seen in server.requests] == [1, 2, 3, 3, 3, 3]
        assert server.wait_until_live(0)


def test_old_connections_are_not_used_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "KEPT_SECONDS", 0.05)
    with ServerSide(answer(body=b"x")) as server:
        pool = SyncPool(Endpoint.create(server.url))
        for item in [pool.send(request()) for _ in range(3)]:
            read_all(item)
        time.sleep(0.06)
        read_all(pool.send(request()))
        assert server.connections == 4
        assert server.wait_until_live(1)
        pool.close()

        async def main() -> None:
            pool = AsyncPool(Endpoint.create(server.url))
            for item in [await pool.send(request()) for _ in range(3)]:
                await aread_all(item)
            await asyncio.sleep(0.06)
            await aread_all(await pool.send(request()))
            assert await asyncio.to_thread(server.wait_until_live, 1)

        asyncio.run(main())
        assert server.connections == 8


def test_fresh_connection_on_request() -> None:
    with ServerSide(answer(body=b"x")) as server:
        pool = SyncPool(Endpoint.create(server.url))
        read_all(pool.send(request()))
        read_all(pool.send(request(fresh=True)))
        assert server.connections == 2
        pool.close()


def test_failures_give_their_place_back() -> None:
    with ServerSide([Close()], [Close()], [Hold()], answer(body=b"x")) as server:
        endpoint = Endpoint.create(server.url, max_connections=1)
        pool = SyncPool(endpoint)
        for _ in range(2):
            with pytest.raises(Exception, match="answer"):
                pool.send(request())
        with pytest.raises(TimeoutError):
            pool.send(request(0.05))
        assert read_all(pool.send(request())) == b"x"
        pool.close()


def test_answer_left_unread_closes_its_connection() -> None:
    with ServerSide(answer(body=b"x" * 3_000_000)) as server:
        pool = SyncPool(Endpoint.create(server.url, max_connections=1))
        first = pool.send(request())
        first.close()
        first.close()
        assert server.wait_until_live(0)
        second = pool.send(request())
        with pytest.raises(PoolTimedOutError):
            pool.send(request(0.05))
        read_all(second)
        read_all(pool.send(request()))
        assert server.connections == 2
        pool.close()


def test_connection_with_bytes_nobody_asked_for_is_not_reused() -> None:
    with ServerSide([answer(body=b"x"), 0.02, b"HTTP/1.1 200 OK\r\n"], answer(body=b"y")) as server:
        pool = SyncPool(Endpoint.create(server.url))
        assert read_all(pool.send(request())) == b"x"
        time.sleep(0.1)
        assert read_all(pool.send(request())) == b"y"
        assert server.connections == 2
        pool.close()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://m.example.com", "m.example.com"),
        ("https://m.example.com:8443", "m.example.com:8443"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[fe80::1%25eth0]", "[fe80::1]"),
    ],
)
def test_host_header(url: str, host: str) -> None:
    assert host_header(Endpoint.create(url)) == host


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://m.example.com", None),
        ({"https_proxy": "http://p:3128"}, "https://m.example.com", "http://p:3128"),
        ({"https_proxy": "p:3128"}, "https://m.example.com", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "http://m.example.com", None),
        ({"all_proxy": "http://p:3128"}, "http://m.example.com", "http://p:3128"),
        ({"https_proxy": "http://p:3128", "no_proxy": "example.com"}, "https://m.example.com", None),
        ({"https_proxy": "http://p:3128", "no_proxy": ".svc"}, "https://m.ns.svc", None),
        ({"http_proxy": "http://p:3128"}, "http://localhost:8000", None),
        ({"http_proxy": "http://p:3128"}, "http://127.0.0.1:8000", None),
    ],
)
def test_proxy_of_the_environment(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(Endpoint.create(url)) == proxy
