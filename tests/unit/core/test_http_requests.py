"""What an HTTP call sends, and how its answer is read."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from kserve_core import http_messages
from kserve_core.calls import Response
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
)
from kserve_core.http_transport import HttpTransport
from tests.unit.core.http_calls import TOKEN, run, transport
from tests.unit.core.scripted import (
    STREAM_END,
    Close,
    Hold,
    ServerSide,
    answer,
    chunk,
    get,
    post,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

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
