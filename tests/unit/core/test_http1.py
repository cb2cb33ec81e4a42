"""The HTTP/1.1 parser: framing, limits, and agreement with h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kserve_core.errors import ConfigurationError
from kserve_core.http1 import MAX_HEAD, DisconnectedError, ProtocolError, ResponseParser, request_head

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0000A;ext=1\r\n0123456789\r\n1 \r\n!\r\n0\r\nX-Trailer: yes\r\n\r\n"
)
COUNTED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\nA: 1\r\nA: 2\r\n\r\nhello world"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\nhello world"
INFORMED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + COUNTED
SAMPLES = {"chunked": CHUNKED, "counted": COUNTED, "until close": UNTIL_CLOSE, "informed": INFORMED}


def read(*parts: bytes, closed: bool = False) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    body = b"".join(parser.feed(part) for part in parts)
    if closed:
        parser.eof()
    return parser, body


@pytest.mark.parametrize("name", SAMPLES)
def test_every_split_gives_the_same_answer(name: str) -> None:
    data = SAMPLES[name]
    expected = {"chunked": b"hello0123456789!"}.get(name, b"hello world")
    for split in range(len(data) + 1):
        parser, body = read(data[:split], data[split:], closed=name == "until close")
        assert body == expected, split
        assert parser.done, split
        assert parser.reusable == (name != "until close"), split


@given(st.sampled_from(sorted(SAMPLES)), st.data())
@settings(max_examples=80, deadline=None)
def test_random_splits(name: str, data: st.DataObject) -> None:
    sample = SAMPLES[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sample)), max_size=30)))
    parts = [sample[start:end] for start, end in zip([0, *cuts], [*cuts, len(sample)], strict=True)]
    parser, body = read(*parts, closed=name == "until close")
    assert parser.done
    assert body == ({"chunked": b"hello0123456789!"}.get(name, b"hello world"))


def test_head_is_read() -> None:
    parser, _ = read(COUNTED)
    assert parser.status == 404
    assert parser.headers == {"content-length": "11", "a": "1, 2"}


@pytest.mark.parametrize(("status", "kept"), [(200, True), (404, True), (500, False), (502, True), (503, True)])
def test_connection_is_not_kept_after_an_exception_that_the_server_did_not_catch(status: int, kept: bool) -> None:
    parser, body = read(b"HTTP/1.1 %d Words\r\nContent-Length: 2\r\n\r\nno" % status)
    assert (parser.done, body) == (True, b"no")
    assert parser.reusable == kept


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    status=st.integers(200, 599),
)
@settings(max_examples=80, deadline=None)
def test_agrees_with_h11_on_chunked_answers(chunks: list[bytes], cuts: list[int], status: int) -> None:
    data = f"HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    data += b"".join(b"%X\r\n%s\r\n" % (len(item), item) for item in chunks) + b"0\r\n\r\n"
    marks = sorted({min(cut, len(data)) for cut in cuts})
    parser, body = read(*(data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)))
    reference = h11.Connection(h11.CLIENT)
    reference.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    reference.send(h11.EndOfMessage())
    reference.receive_data(data)
    expected = b""
    while (item := reference.next_event()) is not h11.NEED_DATA:
        if isinstance(item, h11.Data):
            expected += bytes(item.data)
        if isinstance(item, (h11.EndOfMessage,)):
            break
    if status in {204, 304}:
        assert (body, parser.done) == (b"", True)
    else:
        assert (body, parser.done, parser.reusable) == (expected, True, status != 500)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            read(prefix + data, closed=True)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02F and more",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\nB: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 5000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 30_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD,
    ],
)
def test_broken_answers_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)
    with pytest.raises(ProtocolError):
        read(*(data[i : i + 1] for i in range(min(len(data), 200))), data[200:])


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", CHUNKED[:-2], COUNTED[:-1]])
def test_answer_that_breaks_off(data: bytes) -> None:
    with pytest.raises(DisconnectedError):
        read(data, closed=True)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nextra", False),
    ],
)
def test_when_a_connection_can_be_used_again(head: bytes, reusable: bool) -> None:
    parser, _ = read(head)
    assert parser.done
    assert parser.reusable is reusable


def test_bytes_after_the_answer_spoil_the_connection() -> None:
    parser, _ = read(COUNTED, b"more")
    assert not parser.reusable


def test_request_head() -> None:
    head = request_head("POST", "/v1/x?y=%20", "host:8080", {"accept": "*/*"}, 2)
    assert head == b"POST /v1/x?y=%20 HTTP/1.1\r\nhost: host:8080\r\naccept: */*\r\ncontent-length: 2\r\n\r\n"
    assert b"host: other\r\n" in request_head("GET", "/", "host", {"host": "other"}, None)
    assert request_head("GET", "/", "host", {"host": "other"}, None).count(b"host") == 1


@pytest.mark.parametrize("path", ["v1", "/a b", "/a\r\nb", "/ä", "", "http://other/"])
def test_paths_that_cannot_be_sent(path: str) -> None:
    with pytest.raises(ConfigurationError):
        request_head("GET", path, "host", {}, None)
