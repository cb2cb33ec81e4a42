"""Every scripted fault, as a client sees it."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from kserve_core.devserver import DevServer, Fault
from kserve_core.devserver.pages import PAGES
from tests.unit.core.devserver.wire import events

SAY = {"messages": [{"role": "user", "content": "Say hello."}]}
STREAM = {**SAY, "stream": True}


def read(http, body=STREAM, timeout=10.0):
    """The text of a stream until its end, and the error that ended it, if one did."""
    received = b""
    try:
        with http.stream("POST", "/v1/chat/completions", json=body, timeout=timeout) as response:
            for part in response.iter_raw():
                received += part
    except httpx.TransportError as error:
        return received.decode(), error
    return received.decode(), None


@pytest.mark.parametrize("name", sorted(PAGES))
def test_named_pages(server, chat, name):
    page = PAGES[name]
    server.fault(body=name)
    response = chat("hi")
    assert (response.status_code, response.text) == (page.status, page.text)
    assert response.headers["content-type"] == page.content_type
    assert chat("hi").status_code == 200


def test_pages_users_meet(server, chat):
    server.fault(body="router-page")
    server.fault(body="not-ready")
    assert "<h1>Application is not available</h1>" in chat("hi").text
    assert chat("hi").content == b'{"error":"Model m is not ready yet."}'


def test_own_status_body_headers_and_type(server, chat):
    server.fault(status=429, body={"detail": "slow down"}, headers={"retry-after": "7"})
    response = chat("hi")
    assert (response.status_code, response.json()) == (429, {"detail": "slow down"})
    assert response.headers["retry-after"] == "7"
    server.fault(status=502, body="upstream said no", content_type="text/html")
    response = chat("hi")
    assert (response.text, response.headers["content-type"]) == ("upstream said no", "text/html")
    server.fault(status=500)
    assert chat("hi").json()["error"]["code"] == 500


def test_a_real_answer_under_a_wrong_content_type(server, chat):
    server.fault(content_type="text/html")
    response = chat("Say hello.")
    assert response.headers["content-type"] == "text/html"
    assert response.json()["choices"]


def test_times_skip_path_and_method_choose_the_requests(server, http, chat):
    server.fault(status=503, times=2, skip=1, path="/v1/chat/completions")
    assert http.get("/v1/models").status_code == 200
    assert [chat("hi").status_code for _ in range(4)] == [200, 503, 503, 200]
    server.fault(status=500, path="/v1/*", method="get")
    assert chat("hi").status_code == 200
    assert http.get("/v1/models").status_code == 500
    server.fault(status=500, times=None)
    assert {chat("hi").status_code for _ in range(3)} == {500}
    server.faults.clear()
    assert chat("hi").status_code == 200


def test_faults_queue_up_in_order(server, chat):
    for status in (500, 502, 503):
        server.fault(status=status)
    assert len(server.faults) == 3
    assert [chat("hi").status_code for _ in range(4)] == [500, 502, 503, 200]


def test_a_header_brings_a_fault_for_one_request(server, chat):
    fault = {"status": 503, "body": "router-page"}
    assert chat("hi", headers={"x-devserver-fault": json.dumps(fault)}).status_code == 503
    assert chat("hi").status_code == 200
    for wrong in ("not json", "[]", '{"no_such": 1}', '{"reset": "maybe"}'):
        assert chat("hi", headers={"x-devserver-fault": wrong}).status_code == 422


@pytest.mark.parametrize("fields", [{"reset": "later"}, {"cut": "softly"}])
def test_a_fault_that_makes_no_sense_is_refused_at_once(fields):
    with pytest.raises(ValueError, match="not '"):
        Fault(**fields)


def test_redirects(server, chat):
    server.fault(redirect="http://127.0.0.1:1/elsewhere")
    response = chat("hi")
    assert (response.status_code, response.headers["location"]) == (307, "http://127.0.0.1:1/elsewhere")
    server.fault(redirect="https://other.example/", status=302)
    assert chat("hi").status_code == 302


def test_delay_and_slow_headers(server, chat):
    server.fault(delay=0.2)
    start = time.monotonic()
    assert chat("hi").status_code == 200
    assert time.monotonic() - start > 0.19
    server.fault(slow_headers=0.05)
    start = time.monotonic()
    assert chat("Say hello.").json()["choices"]
    assert time.monotonic() - start > 0.2


def test_slow_bodies(server, http, chat):
    server.fault(slow_body=0.02)
    start = time.monotonic()
    assert chat("Say hello.").json()["choices"]
    assert time.monotonic() - start > 0.15
    server.fault(slow_body=0.02)
    start = time.monotonic()
    text, error = read(http)
    assert error is None
    assert time.monotonic() - start > 0.02 * len(events(text)) * 0.9


def test_reset_before_and_after_the_headers(server, http, chat):
    server.fault(reset="before-headers")
    with pytest.raises(httpx.NetworkError):
        chat("hi")
    server.fault(reset="after-headers", times=2)
    with pytest.raises(httpx.TransportError):
        chat("hi")
    text, error = read(http)
    assert text == ""
    assert error is not None


def test_a_stream_cut_abruptly(server, http):
    server.fault(cut_after=3)
    text, error = read(http)
    assert text.count("data: ") == 3
    assert text.endswith("\n\n")
    assert isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)


def test_a_stream_that_ends_cleanly_without_its_marker(server, http):
    server.fault(cut_after=3, cut="clean")
    text, error = read(http)
    assert text.count("data: ") == 3
    assert "[DONE]" not in text
    assert error is None


def test_a_stream_cut_inside_a_piece(server, http):
    server.fault(cut_after=2, cut="mid-piece")
    text, error = read(http)
    assert error is not None
    assert text.count("data: ") == 3
    assert not text.endswith("\n\n")


def test_a_whole_body_cut_short(server, chat):
    for cut in ("abrupt", "clean"):
        server.fault(cut_after=40, cut=cut)
        with pytest.raises(httpx.TransportError):
            chat("hi")


def test_an_error_event_then_the_end_marker(server, http):
    server.fault(error_after=2)
    text, _ = read(http)
    blocks = text.strip().split("\n\n")
    assert len(blocks) == 4
    assert blocks[2].startswith('data: {"error": {"message": "EngineCore encountered an issue.')
    assert blocks[3] == "data: [DONE]"
    server.fault(error_after=0, error={"message": "own", "code": 418})
    assert events(read(http)[0]) == [{"error": {"message": "own", "code": 418}}]


def test_a_malformed_piece_in_a_stream_that_goes_on(server, http):
    server.fault(malformed_after=2)
    text, _ = read(http)
    blocks = text.strip().split("\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(blocks[2].removeprefix("data: "))
    assert json.loads(blocks[3].removeprefix("data: "))["choices"]
    assert blocks[-1] == "data: [DONE]"


def test_keepalive_comments(server, http):
    server.fault(keepalive=2)
    text, _ = read(http)
    blocks = text.strip().split("\n\n")
    assert blocks[:2] == [": keepalive", ": keepalive"]
    assert blocks.count(": keepalive") == 2 * (len(blocks) - blocks.count(": keepalive"))


def test_a_silent_stream(server, http):
    server.fault(idle_after=2)
    text, error = read(http, timeout=0.3)
    assert isinstance(error, httpx.ReadTimeout)
    assert text.count("data: ") == 2
    (record,) = server.requests.wait(1, closed=True)
    assert record.cancelled is not None
    server.fault(idle_after=2, idle=0.1)
    assert events(read(http)[0])


def test_comments_in_the_silence(server, http):
    server.fault(idle_after=1, idle=0.3, keepalive=1)
    text, _ = read(http)
    assert text.count(": keepalive\n\n") > text.count("data: ") + 2


def test_a_compressed_bomb_is_small_on_the_wire(server, http):
    server.fault(gzip_bomb=5_000_000)
    with http.stream("GET", "/v1/models") as response:
        assert response.headers["content-encoding"] == "gzip"
        assert int(response.headers["content-length"]) < 20_000
        assert len(response.read()) == 5_000_000


def test_an_oversized_line(server, http, chat):
    server.fault(long_line=100_000)
    text, _ = read(http)
    assert len(text.split("\n", 1)[0]) == 100_006
    server.fault(long_line=100_000)
    assert len(chat("hi").content) == 100_002


def test_closing_after_the_answer(server, chat):
    chat("hi")
    server.fault(close=True)
    assert chat("hi").headers["connection"] == "close"
    chat("hi")
    server.fault(drop=True)
    assert "connection" not in chat("hi").headers
    deadline = time.monotonic() + 5
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    chat("hi")
    assert [record.connection for record in server.requests[:2]] == [server.requests[0].connection] * 2
    assert len({record.connection for record in server.requests}) == 3


def test_control_routes(server, http):
    added = http.post("/_devserver/faults", json=[{"status": 503, "path": "/v1/models"}, {"delay": 0.01}])
    assert added.status_code == 201
    assert http.get("/_devserver/faults").json() == {"faults": [{"status": 503, "path": "/v1/models"}, {"delay": 0.01}]}
    assert http.get("/v1/models", headers={"authorization": "Bearer canary"}).status_code == 503
    seen = http.get("/_devserver/requests")
    assert [entry["path"] for entry in seen.json()["requests"]] == ["/v1/models"]
    assert "canary" not in seen.text
    assert http.delete("/_devserver/faults").status_code == 200
    assert http.delete("/_devserver/requests").status_code == 200
    assert len(server.faults) == len(server.requests) == 0
    assert http.post("/_devserver/faults", json={"nope": 1}).status_code == 422
    assert http.get("/_devserver/else").status_code == 404
    assert http.put("/_devserver/faults").status_code == 405


def test_faults_do_not_wait_for_each_other():
    with DevServer() as server:
        server.fault(delay=30, path="/version")
        with httpx.Client(base_url=server.url) as http:
            with pytest.raises(httpx.ReadTimeout):
                http.get("/version", timeout=0.1)
            start = time.monotonic()
            assert http.get("/version").status_code == 200
            assert time.monotonic() - start < 15
