"""The event decoder gives the same events however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kserve_core.errors import BadResponseError
from kserve_core.sse import SSEDecoder, SSEEvent

SAMPLE = (
    b"\xef\xbb\xbf: hello\n"
    b'data: {"a": 1}\n\n'
    b'data: {"b": "\xc3\xa4"}\n\n'
    b"event: message\r\ndata: caikit\r\n\r\n\r\n"
    b"id: 7\nretry: 100\ndata:no space\ndata:  two spaces\rdata\r\r"
    b": ping\n\n"
    b"event: error\ndata: one\r\ndata: two\n\r\n"
    b"unknown: field\ndata: last\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    SSEEvent("message", b'{"a": 1}'),
    SSEEvent("message", b'{"b": "\xc3\xa4"}'),
    SSEEvent("message", b"caikit"),
    SSEEvent("message", b"no space\n two spaces\n", "7"),
    SSEEvent("error", b"one\ntwo", "7"),
    SSEEvent("message", b"last", "7"),
    SSEEvent("message", b"[DONE]", "7"),
]


def decode(*parts: bytes, max_line: int = 1 << 20) -> list[SSEEvent]:
    decoder = SSEDecoder(max_line)
    return [item for part in parts for item in decoder.feed(part)]


def test_whole_sample() -> None:
    assert decode(SAMPLE) == EVENTS


def test_every_split_in_two() -> None:
    for split in range(len(SAMPLE) + 1):
        assert decode(SAMPLE[:split], SAMPLE[split:]) == EVENTS, split


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_small_parts(size: int) -> None:
    assert decode(*(SAMPLE[i : i + size] for i in range(0, len(SAMPLE), size))) == EVENTS


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_line_endings(ending: bytes) -> None:
    data = ending.join([b"event: x", b"data: a", b"data: b", b"", b"data: c", b"", b""])
    for split in range(len(data) + 1):
        assert decode(data[:split], data[split:]) == [SSEEvent("x", b"a\nb"), SSEEvent("message", b"c")], split


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_random_splits(cuts: list[int]) -> None:
    marks = sorted(cuts)
    parts = [SAMPLE[a:b] for a, b in zip([0, *marks], [*marks, len(SAMPLE)], strict=True)]
    assert decode(*parts) == EVENTS


@given(
    st.lists(st.binary(max_size=60).filter(lambda item: not set(item) & set(b"\r\n")), max_size=10), st.integers(1, 30)
)
@settings(max_examples=80, deadline=None)
def test_any_data_comes_through(payloads: list[bytes], size: int) -> None:
    data = b"".join(b"data: %s\n\n" % item for item in payloads)
    events = decode(*(data[i : i + size] for i in range(0, len(data), size)))
    assert [item.data for item in events] == payloads


def test_event_at_once_when_its_empty_line_has_come() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [SSEEvent("message", b"a")]
    assert decoder.feed(b"data: b\r\n\r") == [SSEEvent("message", b"b")]
    assert decoder.feed(b"\ndata: c\n\n") == [SSEEvent("message", b"c")]


def test_event_type_without_data_is_no_event() -> None:
    assert decode(b"event: x\n\ndata: a\n\n") == [SSEEvent("message", b"a")]


def test_id_with_a_zero_byte_is_ignored() -> None:
    assert decode(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n") == [
        SSEEvent("message", b"a", "1"),
        SSEEvent("message", b"b", "1"),
    ]


def test_bom_only_at_the_start() -> None:
    assert decode(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [SSEEvent("message", b"a")]
    assert decode(b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n") == [SSEEvent("message", b"a")]


def test_close_gives_what_lacks_only_its_empty_line() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: a\n\ndata: [DONE]")
    assert decoder.close() == [SSEEvent("message", b"[DONE]")]
    assert decoder.close() == []


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: " + b"x" * 2000 + b"\n\n"],
        [b"data: " + b"x" * 500] * 5,
        [b"data: " + b"x" * 100 + b"\n"] * 20,
        [b"x" * 2000],
        [b"event: y\n", b"data: " + b"x" * 2000 + b"\n\n"],
    ],
)
def test_too_large_an_event_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(BadResponseError, match="1000 bytes"):
        decode(*parts, max_line=1000)


def test_many_small_events_are_not_mistaken_for_a_large_one() -> None:
    assert len(decode(*[b"data: 0123456789\n\n"] * 500, max_line=100)) == 500


def test_large_event_in_small_parts_takes_time_in_proportion() -> None:
    """Sixteen megabytes in 8 KiB parts; copying all of it for every part would take minutes."""
    decoder = SSEDecoder()
    decoder.feed(b"data: ")
    for _ in range(2048):
        assert decoder.feed(b"x" * 8192) == []
    assert len(decoder.feed(b"\n\n")[0].data) == 2048 * 8192
