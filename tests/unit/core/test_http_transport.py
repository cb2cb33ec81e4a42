"""What a call does on the wire: blocking and async, whole answers and streams."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import re
import socket
import threading
import time
import warnings
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from kserve_core import http_messages
from kserve_core.calls import Response
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    NameResolutionError,
    NotReadyError,
    RateLimitError,
    RedirectError,
    ServerError,
    StreamIdleError,
    StreamInterrupted,
)
from kserve_core.http_transport import HttpTransport
from kserve_core.retry import Send
from tests.unit.core.scripted import (
    DONE,
    ROUTER_PAGE,
    STREAM_END,
    STREAM_HEAD,
    Close,
    Hold,
    Reset,
    ServerSide,
    answer,
    chunk,
    event,
    get,
    post,
    read_json,
    streaming,
    whole_stream,
)

TOKEN = "sha256~canary-token-that-must-not-leak"
MODES = ["sync", "async"]


def transport(server: ServerSide, **options: Any) -> HttpTransport:
    return HttpTransport(Endpoint.create(server.url, **options))


def run(mode: str, transport: HttpTransport, call: Any) -> Any:
    if mode == "sync":
        return transport.run(call)
    return asyncio.run(transport.arun(call))


def collect(mode: str, transport: HttpTransport, call: Any) -> list[Any]:
    if mode == "sync":
        return list(transport.stream(call))

    async def pieces() -> list[Any]:
        async with aclosing(transport.astream(call)) as stream:
            return [piece async for piece in stream]

    return asyncio.run(pieces())


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at a tenth of the usual delays."""
    from kserve_core import retry, transport_base

    def policy(**limits: Any) -> retry.RetryPolicy:
        return retry.RetryPolicy(first_delay=0.02, longest_delay=0.1, **limits)

    monkeypatch.setattr(transport_base, "RetryPolicy", policy)


# What is sent


def test_request_has_only_the_promised_headers(mode: str) -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        assert run(mode, transport(server, api_key=TOKEN, default_headers={"X-Team": "blue"}), post()) == {"ok": 1}
    seen = server.requests[0]
    assert set(seen.headers) == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "authorization",
        "x-team",
    }
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    assert seen.headers["user-agent"].startswith("kserve-integrations/")
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert seen.body == b'{"prompt":"secret words"}'


def test_headers_of_a_call_win_over_defaults(mode: str) -> None:
    with ServerSide(answer()) as server:
        call = post(headers={"Content-Type": "application/octet-stream", "x-request-id": "r-1"})
        run(mode, transport(server, default_headers={"X-Request-Id": "default"}), call)
    assert server.requests[0].headers["content-type"] == "application/octet-stream"
    assert server.requests[0].headers["x-request-id"] == "r-1"


def test_get_has_no_body_and_no_content_type(mode: str) -> None:
    with ServerSide(answer()) as server:
        run(mode, transport(server), get("/v2/models/a/ready?x=1"))
    seen = server.requests[0]
    assert (seen.method, seen.path) == ("GET", "/v2/models/a/ready?x=1")
    assert not {"content-type", "content-length", "authorization"} & set(seen.headers)


@pytest.mark.parametrize("headers", [{"x-a": "1\r\nx-b: 2"}, {"x-a\r\nx-b": "1"}, {"content-length": "0"}])
def test_header_injection_is_refused_before_anything_is_sent(mode: str, headers: dict[str, str]) -> None:
    with ServerSide(answer()) as server:
        with pytest.raises(ConfigurationError):
            run(mode, transport(server), post(headers=headers))
        assert server.requests == []


def test_path_injection_is_refused(mode: str) -> None:
    with ServerSide(answer()) as server:
        with pytest.raises(ConfigurationError, match="path"):
            run(mode, transport(server), get("/v2/models/a b HTTP/1.1\r\nx: y"))
        assert server.requests == []


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


# Streams


def test_stream_is_delivered_piece_by_piece(mode: str) -> None:
    """The second event is only sent once the first was received."""
    received = threading.Event()
    steps = [STREAM_HEAD, event("a"), lambda: received.wait(5), event("b"), DONE + STREAM_END]
    with ServerSide(steps) as server:
        used = transport(server)
        if mode == "sync":
            stream = used.stream(streaming())
            assert next(stream) == "a"
            received.set()
            assert list(stream) == ["b"]
        else:

            async def main() -> None:
                stream = used.astream(streaming())
                assert await anext(stream) == "a"
                received.set()
                assert [piece async for piece in stream] == ["b"]

            asyncio.run(main())
    assert server.requests[0].headers["accept"] == "text/event-stream"


def test_leaving_a_stream_early_closes_its_connection(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("a"), event("b"), Hold()]) as server:
        used = transport(server)
        if mode == "sync":
            with closing(used.stream(streaming())) as stream:
                assert next(stream) == "a"
            assert server.client_left.wait(2)
        else:

            async def main() -> None:
                async with aclosing(used.astream(streaming())) as stream:
                    assert await anext(stream) == "a"
                assert await asyncio.to_thread(server.client_left.wait, 2)

            asyncio.run(main())


def test_stream_task_cancelled_between_pieces_closes_its_connection() -> None:
    with ServerSide([STREAM_HEAD, event("a"), Hold()]) as server:
        used = transport(server)

        async def consume() -> None:
            async for _ in used.astream(streaming()):
                pass

        async def main() -> None:
            task = asyncio.ensure_future(consume())
            while not server.requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.client_left.wait, 2)

        asyncio.run(main())


def test_stream_that_never_ends_after_its_end_marker_does_not_hang(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("a"), DONE, Hold()]) as server:
        began = time.monotonic()
        assert collect(mode, transport(server, idle_timeout=60), streaming()) == ["a"]
        assert time.monotonic() - began < 30
        assert server.client_left.wait(2)


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_cut_stream_raises_with_the_text_so_far(mode: str, end: object) -> None:
    with ServerSide([STREAM_HEAD, event("Hel"), event("lo"), 0.05, b"20\r\ndata: {", end]) as server:
        with pytest.raises(StreamInterrupted) as caught:
            collect(mode, transport(server), streaming())
    error = caught.value
    assert error.partial_text == "Hello"
    assert (error.status, error.attempts) == (200, 1)
    assert len(server.requests) == 1


def test_stream_that_ends_without_its_end_marker_raises(mode: str) -> None:
    steps = [STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: req-7\r\n\r\n"), event("Hel"), STREAM_END]
    with ServerSide(steps) as server:
        with pytest.raises(StreamInterrupted) as caught:
            collect(mode, transport(server), streaming())
    assert (caught.value.partial_text, caught.value.request_id) == ("Hel", "req-7")
    assert len(server.requests) == 1


def test_error_event_in_a_stream_is_completed(mode: str) -> None:
    steps = [STREAM_HEAD, event("Hel"), 0.05, chunk(b'data: {"error": "engine died"}\n\n'), DONE, STREAM_END]
    with ServerSide(steps) as server:
        with pytest.raises(KServeError, match="engine died") as caught:
            collect(mode, transport(server), streaming())
    assert (caught.value.partial_text, caught.value.status, caught.value.attempts) == ("Hel", 200, 1)


def test_stream_of_nonsense_is_a_bad_response(mode: str) -> None:
    with ServerSide([STREAM_HEAD, event("Hel"), 0.05, chunk(b"data: }{\n\n")]) as server:
        with pytest.raises(BadResponseError) as caught:
            collect(mode, transport(server), streaming())
    assert caught.value.partial_text == "Hel"


def test_stream_broken_before_its_first_piece_is_retried(mode: str) -> None:
    with ServerSide([STREAM_HEAD, Close()], whole_stream("a")) as server:
        assert collect(mode, transport(server), streaming()) == ["a"]
    assert len(server.requests) == 2


def test_silent_stream_raises_although_comments_arrive(mode: str) -> None:
    keepalive = [item for _ in range(20) for item in (chunk(b": ping\n\n"), 0.05)]
    with ServerSide([STREAM_HEAD, event("Hel"), *keepalive, event("lo"), DONE, STREAM_END]) as server:
        with pytest.raises(StreamIdleError) as caught:
            collect(mode, transport(server, idle_timeout=0.2), streaming())
    assert caught.value.partial_text == "Hel"
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, StreamInterrupted)
    assert len(server.requests) == 1


def test_slow_reader_does_not_use_up_the_idle_time() -> None:
    with ServerSide([STREAM_HEAD, event("a"), 0.1, event("b"), DONE, STREAM_END]) as server:
        stream = transport(server, idle_timeout=0.25).stream(streaming())
        assert next(stream) == "a"
        time.sleep(0.4)
        assert list(stream) == ["b"]


def test_slow_first_piece_is_bounded_by_the_budget_not_by_the_idle_time(mode: str) -> None:
    with ServerSide([STREAM_HEAD, 0.3, event("a"), DONE, STREAM_END]) as server:
        assert collect(mode, transport(server, idle_timeout=0.1, timeout=5), streaming()) == ["a"]
    with ServerSide([STREAM_HEAD, Hold()]) as server:
        with pytest.raises(EndpointTimeoutError) as caught:
            collect(mode, transport(server, timeout=1.0), streaming())
        assert not isinstance(caught.value, StreamInterrupted)
        assert server.client_left.wait(2)


def test_error_status_of_a_stream_is_read_like_any_other(mode: str) -> None:
    body = {"error": {"message": "temperature must be non-negative", "code": 400}}
    with ServerSide(answer(400, body)) as server:
        with pytest.raises(InvalidRequestError, match="temperature must be"):
            collect(mode, transport(server), streaming())


def test_json_instead_of_a_stream(mode: str) -> None:
    with ServerSide(answer(200, {"error": "generate expects model to produce exactly 1 response"})) as server:
        with pytest.raises(ServerError, match="exactly 1 response"):
            collect(mode, transport(server), streaming())
    with ServerSide(answer(200, {"details": "Model 'nope' not loaded", "code": 404, "id": "ab"})) as server:
        with pytest.raises(KServeError, match="not loaded") as caught:
            collect(mode, transport(server), streaming())
        assert caught.value.request_id == "ab"
    with ServerSide(answer(200, {"text": "whole answer"})) as server:
        with pytest.raises(BadResponseError, match="no event stream"):
            collect(mode, transport(server), streaming())


# Whole answers


def test_reader_that_fails_is_a_bad_response(mode: str) -> None:
    with ServerSide(answer(200, b"not json", "text/plain", {"X-Request-Id": "r-9"})) as server:
        with pytest.raises(BadResponseError, match="text/plain, 8 bytes") as caught:
            run(mode, transport(server), post())
    assert (caught.value.status, caught.value.request_id, caught.value.attempts) == (200, "r-9", 1)
    assert isinstance(caught.value.__cause__, ValueError)


def test_error_of_the_reader_is_completed(mode: str) -> None:
    def read(_: Response) -> None:
        raise BadResponseError("wrong shape")

    with ServerSide(answer(200, b"{}", headers={"X-Request-Id": "r-9"})) as server:
        with pytest.raises(BadResponseError, match="wrong shape") as caught:
            run(mode, transport(server), post(read=read))
    assert (caught.value.status, caught.value.request_id, caught.value.attempts) == (200, "r-9", 1)


def test_chunked_and_close_delimited_answers(mode: str) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"a"') + chunk(b":1}") + STREAM_END
    with ServerSide(chunked, [b'HTTP/1.0 200 OK\r\n\r\n{"b":2}', Close()]) as server:
        used = transport(server)
        assert run(mode, used, get()) == {"a": 1}
        assert run(mode, used, get()) == {"b": 2}
        used.close()


def test_empty_answer_is_handed_to_the_reader(mode: str) -> None:
    with ServerSide(answer(200, b"", None)) as server:
        assert run(mode, transport(server), get("/health", read=lambda response: response.status == 200)) is True


def test_dripping_answer_is_bounded_by_the_budget(mode: str) -> None:
    steps: list[Any] = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"]
    steps += [item for _ in range(40) for item in (b"x", 0.05)]
    with ServerSide(steps) as server:
        with pytest.raises(EndpointTimeoutError):
            run(mode, transport(server, timeout=0.3), post())


def test_a_calls_own_deadline_comes_before_the_budget(mode: str) -> None:
    with ServerSide([Hold()]) as server:
        with pytest.raises(EndpointTimeoutError):
            run(mode, transport(server, timeout=None), post(deadline=Deadline.after(0.2)))
        with pytest.raises(EndpointTimeoutError):
            run(mode, transport(server, timeout=0.2), post(deadline=Deadline()))


def test_too_large_answer_is_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_messages, "MAX_ANSWER", 1000)
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 600) * 2
    with ServerSide(answer(200, b"x" * 1001), [endless, Hold()]) as server:
        for _ in range(2):
            with pytest.raises(BadResponseError, match="larger than 1000"):
                run(mode, transport(server), get())


def test_large_error_page_is_cut(mode: str) -> None:
    with ServerSide([answer(400, b"word " * 100_000, "text/plain"), Hold()]) as server:
        with pytest.raises(InvalidRequestError) as caught:
            run(mode, transport(server), post())
    assert len(caught.value.server_message) <= 500
    assert caught.value.response is not None
    assert len(caught.value.response.content) <= 16 * 1024


def test_compressed_answer_is_refused(mode: str) -> None:
    with ServerSide(answer(200, b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"})) as server:
        with pytest.raises(BadResponseError, match="compressed"):
            run(mode, transport(server), get())


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x15\x03\x01\x00\x02\x02F"]
)
def test_server_that_does_not_speak_http(mode: str, garbage: bytes) -> None:
    with ServerSide([garbage, Close()]) as server:
        with pytest.raises((BadResponseError, EndpointConnectionError)) as caught:
            run(mode, transport(server, max_retries=0), get())
    assert caught.value.hint


def test_answer_before_the_body_was_read(mode: str) -> None:
    """A proxy that refuses a large body answers at once and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        sock.recv(1024)
        sock.sendall(answer(413, b"too large", "text/plain", {"Connection": "close"}))
        time.sleep(0.2)
        sock.close()

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(InvalidRequestError, match="413"):
        run(mode, HttpTransport(Endpoint.create(url, max_retries=0)), post(body=b"x" * 200_000))
    listener.close()


# Retries and the time budget


def test_overloaded_server_is_asked_again(mode: str) -> None:
    with ServerSide(answer(503, {"error": "busy"}), answer(502, b"", None), answer(body={"ok": 1})) as server:
        assert run(mode, transport(server), post()) == {"ok": 1}
    assert len(server.requests) == 3
    assert len({seen.body for seen in server.requests}) == 1


def test_retries_are_bounded_and_counted(mode: str) -> None:
    with ServerSide(answer(503, {"error": "busy"})) as server:
        with pytest.raises(ServerError) as caught:
            run(mode, transport(server, max_retries=3), post())
    assert caught.value.attempts == len(server.requests) == 4
    assert "requests sent: 4" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(503, ROUTER_PAGE, "text/html"), NotReadyError),
        (answer(429, {"error": "slow down"}), RateLimitError),
        (answer(400, {"error": "Model m is not ready yet."}), NotReadyError),
        ([Close()], EndpointConnectionError),
        (answer(401, {"error": "Unauthorized"}), AuthenticationError),
    ],
)
def test_max_retries_zero_sends_exactly_once(mode: str, script: Any, error: type[KServeError], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with ServerSide(script) as server:
        with pytest.raises(error) as caught:
            run(mode, transport(server, max_retries=0, api_key=token), post())
    assert caught.value.attempts == len(server.requests) == 1


def test_plain_failures_are_not_retried(mode: str) -> None:
    with ServerSide(
        answer(400, {"error": "bad"}), answer(500, {"error": "worse"}), answer(404, {"detail": "x"})
    ) as server:
        used = transport(server)
        for _ in range(3):
            with pytest.raises(KServeError) as caught:
                run(mode, used, post())
            assert caught.value.attempts == 1
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "cold",
    [
        answer(503, ROUTER_PAGE, "text/html"),
        answer(400, {"error": "Model m is not ready yet."}),
        answer(
            504,
            b"<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>",
            "text/html",
        ),
        answer(504, b"activator request timeout", "text/plain"),
        answer(503, b"no healthy upstream", "text/plain"),
    ],
)
def test_cold_start_is_waited_out_beyond_max_retries(mode: str, cold: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with ServerSide(*[cold] * 5, answer(body={"ok": 1})) as server, caplog.at_level(logging.INFO, "kserve_core"):
        assert run(mode, transport(server, max_retries=1), post()) == {"ok": 1}
    assert len(server.requests) == 6
    assert any("not ready" in record.getMessage() for record in caplog.records)
    assert "secret words" not in caplog.text


def test_cold_start_of_a_stream_is_waited_out(mode: str) -> None:
    with ServerSide(*[answer(503, ROUTER_PAGE, "text/html")] * 4, whole_stream("a")) as server:
        assert collect(mode, transport(server), streaming()) == ["a"]
    assert len(server.requests) == 5


def test_cold_start_longer_than_the_budget(mode: str) -> None:
    cold = answer(503, ROUTER_PAGE, "text/html")
    last = answer(503, ROUTER_PAGE, "text/html", {"Retry-After": "400"})
    with ServerSide(cold, cold, cold, cold, last) as server:
        with pytest.raises(NotReadyError) as caught:
            run(mode, transport(server, timeout=300), post())
    assert caught.value.attempts == len(server.requests) == 5
    assert caught.value.layer == "router"
    assert "timeout" in caught.value.hint


def test_retry_after_is_honored(mode: str) -> None:
    with ServerSide(answer(429, b"", None, {"Retry-After": "0.3"}), answer(body={"ok": 1})) as server:
        assert run(mode, transport(server), post()) == {"ok": 1}
    assert server.requests[1].at - server.requests[0].at >= 0.29


def test_retry_after_beyond_the_budget_is_not_waited_for(mode: str) -> None:
    with ServerSide(answer(429, b"", None, {"Retry-After": "3600"})) as server:
        with pytest.raises(RateLimitError) as caught:
            run(mode, transport(server), post())
    assert caught.value.retry_after == 3600
    assert caught.value.attempts == len(server.requests) == 1


def test_refused_connection(mode: str) -> None:
    with ServerSide(answer()) as server:
        url = server.url
    with pytest.raises(EndpointConnectionError, match="refused") as caught:
        run(mode, HttpTransport(Endpoint.create(url)), get())
    assert caught.value.attempts == 3
    assert caught.value.layer == "network"


def test_refused_connection_of_a_host_with_several_addresses(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerSide(answer()) as server:
        port = server.port
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    with pytest.raises(EndpointConnectionError, match="refused"):
        run(mode, HttpTransport(Endpoint.create("http://localhost", max_retries=0)), get())


def test_unknown_host_is_not_retried(mode: str) -> None:
    with pytest.raises(NameResolutionError, match=r"model\.invalid") as caught:
        run(mode, HttpTransport(Endpoint.create("http://model.invalid")), get())
    assert caught.value.attempts == 1


def test_call_that_must_be_sent_once_is(mode: str) -> None:
    with ServerSide(answer(503, ROUTER_PAGE, "text/html")) as server:
        with pytest.raises(NotReadyError):
            run(mode, transport(server), post(retry=False))
        with pytest.raises(NotReadyError):
            collect(mode, transport(server), streaming(retry=False))
    assert len(server.requests) == 2


# Tokens


def test_rotated_token_file_is_picked_up_after_a_401(mode: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    def rotate() -> None:
        token.write_text("new\n")

    refused = answer(401, {"error": "Unauthorized"})
    with ServerSide([rotate, refused], answer(body={"ok": 1})) as server:
        assert run(mode, transport(server, api_key=token), post()) == {"ok": 1}
    assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer old", "Bearer new"]


def test_refused_token_is_refreshed_once_only(mode: str) -> None:
    asked: list[int] = []

    def source() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    with ServerSide(answer(401, {"error": "Unauthorized"})) as server:
        with pytest.raises(AuthenticationError) as caught:
            run(mode, transport(server, api_key=source), post())
    assert caught.value.attempts == len(server.requests) == 2
    assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer token-1", "Bearer token-2"]
    assert "refused" in caught.value.hint


def test_text_token_is_not_sent_again(mode: str) -> None:
    with ServerSide(answer(401, {"error": "Unauthorized"})) as server:
        with pytest.raises(AuthenticationError):
            run(mode, transport(server, api_key=TOKEN), post())
    assert len(server.requests) == 1


def test_coroutine_function_as_token_works_blocking_and_async(mode: str) -> None:
    async def source() -> str:
        await asyncio.sleep(0)
        return "from-coroutine"

    with ServerSide(answer()) as server:
        run(mode, transport(server, api_key=source), post())
    assert server.requests[0].headers["authorization"] == "Bearer from-coroutine"


def test_blocking_call_inside_a_running_loop_can_use_a_coroutine_token() -> None:
    async def source() -> str:
        return "from-coroutine"

    with ServerSide(answer(body={"ok": 1})) as server:
        used = transport(server, api_key=source)

        async def main() -> Any:
            return used.run(post())

        assert asyncio.run(main()) == {"ok": 1}


# Redirects, pages, secrets


def test_sent_request_id_names_the_request_where_the_server_does_not(mode: str) -> None:
    with ServerSide(answer(400, {"error": "x"}), [STREAM_HEAD, event("a"), STREAM_END], answer(200, b"x")) as server:
        used = transport(server)
        with pytest.raises(InvalidRequestError) as caught:
            run(mode, used, post(headers={"x-request-id": "mine"}))
        assert caught.value.request_id == "mine"
        with pytest.raises(StreamInterrupted) as cut:
            collect(mode, used, streaming(headers={"x-request-id": "mine"}))
        assert cut.value.request_id == "mine"
        with pytest.raises(BadResponseError) as strange:
            run(mode, used, post(headers={"x-request-id": "mine"}))
        assert strange.value.request_id == "mine"
        used.close()


def test_redirect_is_not_followed(mode: str) -> None:
    with ServerSide(answer(200, {"stolen": 1})) as other:
        location = f"{other.url}/v1/chat/completions?state=abc"
        with ServerSide(answer(307, b"", None, {"Location": location})) as server:
            with pytest.raises(RedirectError, match=r"127\.0\.0\.1") as caught:
                run(mode, transport(server, api_key=TOKEN), post())
        assert other.requests == []
    assert "state=abc" not in repr(vars(caught.value))


def test_redirect_to_https_says_so(mode: str) -> None:
    with ServerSide(answer(302, b"", None, {"Location": "https://127.0.0.1/v1/chat/completions"})) as server:
        with pytest.raises(RedirectError) as caught:
            run(mode, transport(server), post())
    assert "https://" in caught.value.hint


def test_redirect_to_a_sign_in_page_is_an_authentication_error(mode: str) -> None:
    location = "https://oauth-openshift.apps.example.com/oauth/authorize?client_id=x"
    with ServerSide(answer(302, b"", None, {"Location": location})) as server:
        with pytest.raises(AuthenticationError, match=r"oauth-openshift\.apps\.example\.com"):
            run(mode, transport(server, api_key=TOKEN), post())
        with pytest.raises(AuthenticationError):
            collect(mode, transport(server, api_key=TOKEN), streaming())


def test_page_with_status_200_is_an_authentication_error(mode: str) -> None:
    page = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Log in with OpenShift</body></html>"
    with ServerSide(answer(200, page, "text/html; charset=utf-8")) as server:
        with pytest.raises(AuthenticationError) as caught:
            run(mode, transport(server), post())
        assert "api_key" in caught.value.hint
        with pytest.raises(AuthenticationError):
            collect(mode, transport(server), streaming())


def test_no_secret_leaves(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    echo = {"error": f"Invalid token {TOKEN} for you"}
    headers = {"Set-Cookie": f"session={TOKEN}", "X-Request-Id": "r-1"}
    with caplog.at_level(logging.DEBUG), ServerSide(answer(403, echo, headers=headers)) as server:
        used = transport(server, api_key=TOKEN, default_headers={"X-Key": "second-canary"})
        with pytest.raises(KServeError) as caught:
            run(mode, used, post())
        with pytest.raises(KServeError):
            collect(mode, used, streaming())
    error = caught.value
    sending = http_messages.Sending(used.endpoint, post())
    request = sending.request(Send(TOKEN, None, fresh=False, attempt=1))
    assert TOKEN in request.headers["authorization"]
    shown = [repr(Send(TOKEN, None, fresh=False, attempt=1)), repr(request), repr(sending), repr(vars(used))]
    shown += [repr(used), repr(used.endpoint), str(error), repr(error), repr(vars(error)), caplog.text]
    shown += [repr(pickle.loads(pickle.dumps(error)).details()), str(error.response), str(pickle.dumps(error))]
    for text in shown:
        assert TOKEN not in text
        assert "second-canary" not in text
        assert "secret words" not in text


def test_debug_log_has_sizes_and_times_only(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), ServerSide(answer(body={"answer": "private"})) as server:
        run(mode, transport(server, api_key=TOKEN), post())
    lines = [record.getMessage() for record in caplog.records if record.name == "kserve_core.http"]
    assert len(lines) == 2
    assert lines[0] == "POST /v1/chat/completions: sending 25 bytes, attempt 1"
    assert re.fullmatch(r"POST /v1/chat/completions: 200 with 21 bytes after \d\.\d{3} s, attempt 1", lines[1])
    assert "private" not in caplog.text


def test_explain_of_the_runtime_is_asked_first(mode: str) -> None:
    def explain(response: Response) -> KServeError | None:
        return ServerError("backend gone") if read_json(response).get("code") == 501 else None

    with ServerSide(answer(501, {"details": "x", "code": 501, "id": "abc"})) as server:
        with pytest.raises(ServerError, match="backend gone") as caught:
            run(mode, transport(server), post(explain=explain))
    assert (caught.value.status, caught.value.request_id, caught.value.server_message) == (501, "abc", "x")


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
