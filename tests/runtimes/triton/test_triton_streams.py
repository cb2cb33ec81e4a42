"""Streams of tensors from Triton, and streams that nobody reads to their end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from runtimes.v2.clients import PROTOCOLS, servers_of
from runtimes.v2.sentences import GOES_ON

from kserve_core.capabilities import TextRequest
from kserve_core.errors import KServeError, UnsupportedParameterError

pytestmark = pytest.mark.runtime("triton")


def test_pieces_of_a_decoupled_model(tensors):
    client = tensors("triton", "grpc", model="tiny")
    inputs = {"text_input": ["Say hello."], "stream": [True]}
    found = list(client.stream_infer(inputs, outputs=["text_output"]))
    assert len(found) > 5
    assert "".join(one.texts("text_output")[0] for one in found) == "Hello! How can I help you today?"


async def test_by_asyncio(tensors):
    client = tensors("triton", "grpc", model="tiny")
    stream = client.astream_infer({"text_input": ["Say hello."], "stream": [True]}, outputs=["text_output"])
    found = [one.texts("text_output")[0] async for one in stream]
    assert "".join(found) == "Hello! How can I help you today?"
    await client.aclose()


def test_a_plain_model_streams_its_one_answer(tensors):
    (found,) = tensors("triton", "grpc").stream_infer({"text": ["a"]}, model="versioned")
    assert found.texts("text_output") == ["v7:a"]


def test_errors_inside_the_stream(tensors):
    client = tensors("triton", "grpc", model="fails")
    with pytest.raises(KServeError, match="asked for UNAVAILABLE"):
        list(client.stream_infer({"code": ["UNAVAILABLE"]}))


def test_rest_has_no_streams_of_tensors(tensors):
    with pytest.raises(UnsupportedParameterError):
        list(tensors("triton", "rest", model="tiny").stream_infer({"text_input": ["a"]}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_leaving_a_stream_stops_the_model(connect, protocol):
    log = Path(servers_of("triton")["plain"]["log"])
    before = log.read_text(encoding="utf-8", errors="replace").count("cancelled after")
    client = connect("triton", protocol, model="tiny")
    stream = client.stream(client.runtime.stream_generate(TextRequest(prompts=[GOES_ON], params={"max_tokens": 3000})))
    assert next(stream).text
    stream.close()
    end = time.monotonic() + 20  # left alone it would go on for 30 seconds
    while log.read_text(encoding="utf-8", errors="replace").count("cancelled after") == before:
        assert time.monotonic() < end, "the model goes on"
        time.sleep(0.1)
