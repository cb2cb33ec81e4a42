"""Bytes from a server, at the places where they are first looked at: HTTP, events, tensors, messages."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from fuzz.replay import spoilt, spoilt_bytes
from fuzz.settings import few
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.calls import Response
from kserve_core.errors import KServeError
from kserve_core.http1 import ProtocolError, ResponseParser
from kserve_core.sse import SSEDecoder

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\ntrailer: x\r\n\r\n"
EVENTS = b"\xef\xbb\xbfdata: one\n\nevent: x\r\ndata: two\r\ndata\r\n\r\n: note\rid: 7\rdata: three\r\r\ndata:four\n\n"

cuts = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    at = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in pairwise(at)]


def parse(pieces: list[bytes]) -> tuple[Any, ...]:
    """What the parser makes of an answer that comes in pieces."""
    parser = ResponseParser()
    body = b""
    try:
        for piece in pieces:
            body += parser.feed(piece)
            if parser.done:
                break
        if not parser.done:
            parser.eof()
    except ProtocolError as error:
        return ("error", body if parser.status else b"", type(error).__name__)
    return (parser.status, parser.headers, body)


@few(300)
@given(st.sampled_from((WHOLE, CHUNKED)), st.integers(0, 2**32), cuts)
def test_http_is_read_or_refused(answer: bytes, seed: int, places: list[int]) -> None:
    data = spoilt_bytes(answer, random.Random(seed))
    assert parse(cut(data, places)) is not None


@few(200)
@given(st.sampled_from((WHOLE, CHUNKED)), cuts)
def test_http_is_the_same_however_it_was_cut(answer: bytes, places: list[int]) -> None:
    assert parse(cut(answer, places)) == parse([answer])


@few(200)
@given(st.binary(max_size=300), cuts)
def test_http_of_any_bytes_is_read_or_refused(data: bytes, places: list[int]) -> None:
    assert parse(cut(data, places)) is not None


def test_a_head_or_chunk_line_without_end_takes_no_memory() -> None:
    for start in (b"HTTP/1.1 200 OK\r\nx: ", CHUNKED[:46] + b"5;"):
        parser = ResponseParser()
        tracemalloc.start()
        with pytest.raises(ProtocolError):
            _feed_all(parser, [start, *[b"x" * 10_000] * 1000])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 << 20


def _feed_all(parser: ResponseParser, pieces: list[bytes]) -> None:
    for piece in pieces:
        parser.feed(piece)


def events(pieces: list[bytes]) -> list[Any]:
    """What the decoder makes of a stream that comes in pieces."""
    decoder = SSEDecoder(max_line=4096)
    out: list[Any] = []
    try:
        for piece in pieces:
            out += decoder.feed(piece)
        return [*out, *decoder.close()]
    except KServeError as error:
        return [*out, type(error).__name__]


@few(300)
@given(st.integers(0, 2**32), cuts)
def test_events_are_the_same_however_they_were_cut(seed: int, places: list[int]) -> None:
    data = spoilt_bytes(EVENTS * 3, random.Random(seed))
    assert events(cut(data, places)) == events([data])


@few(200)
@given(st.binary(max_size=300), cuts)
def test_events_of_any_bytes_are_the_same_however_they_were_cut(data: bytes, places: list[int]) -> None:
    assert events(cut(data, places)) == events([data])


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 5000, b"x" * 5000, b"data: x\n" * 100, b"\r: x"])
def test_an_event_without_end_takes_no_memory(piece: bytes) -> None:
    decoder = SSEDecoder(max_line=100_000)
    tracemalloc.start()
    try:
        for _ in range(3000):
            decoder.feed(piece)
    except KServeError:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20


# Tensors

DATATYPES = (
    "BOOL",
    "INT8",
    "UINT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
    "ODD",
)
shapes = st.lists(st.one_of(st.integers(-3, 6), st.just(2**40)), max_size=4)


@few(400)
@given(st.sampled_from(DATATYPES), shapes, st.integers(0, 2**32), st.binary(max_size=80))
def test_raw_tensors_are_read_or_refused(datatype: str, shape: list[int], seed: int, raw: bytes) -> None:
    from kserve_core.tensors import tensor_from_json

    rng = random.Random(seed)
    entry: Any = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    if rng.random() < 0.5:
        entry[rng.choice(list(entry))] = rng.choice((None, -1, 2**70, "x", [], {}, [None], True))
    _use(lambda: tensor_from_json(entry, memoryview(raw)))


@few(400)
@given(
    st.sampled_from(DATATYPES),
    shapes,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    ),
)
def test_tensors_of_json_are_read_or_refused(datatype: str, shape: list[int], data: Any) -> None:
    from kserve_core.tensors import tensor_from_json

    _use(lambda: tensor_from_json({"name": "x", "datatype": datatype, "shape": shape, "data": data}, None))


def _use(make: Any) -> None:
    try:
        tensor = make()
        for view in (tensor.numpy, tensor.flat, tensor.texts, tensor.rows):
            try:
                view()
            except KServeError:
                continue
    except KServeError:
        return


@few(300)
@given(st.integers(0, 2**32), st.booleans())
def test_answers_with_binary_tensors_are_read_or_refused(seed: int, lie: bool) -> None:
    from kserve_core.runtimes.open_inference.bodies import read_infer
    from kserve_core.runtimes.open_inference.dialects import TRITON
    from kserve_core.runtimes.open_inference.errors import Asked

    rng = random.Random(seed)
    outputs = (
        b'{"name":"a","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},'
        b'{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}'
    )
    head = b'{"model_name":"m","outputs":[' + outputs + b"]}"
    raw = spoilt_bytes(bytes(16) + b"\x02\x00\x00\x00hi", rng)
    head = spoilt(head, rng) if rng.random() < 0.5 else head
    size = rng.choice((len(head), 0, -1, 10**12, len(head) - 3)) if lie else len(head)
    headers = {"inference-header-content-length": str(size), "content-type": "application/octet-stream"}
    try:
        result = read_infer(Asked(TRITON, "infer", "m"), Response(200, headers, head + raw))
        for tensor in result.outputs.values():
            _use(lambda tensor=tensor: tensor)
    except KServeError:
        return
