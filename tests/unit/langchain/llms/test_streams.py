"""Answers in pieces."""

from __future__ import annotations

import asyncio
import gc

import pytest
from langchain_core import exceptions as lc
from langchain_core.callbacks import AsyncCallbackHandler
from unit.langchain.llms.seen import Seen, bodies

from kserve_core import errors as core


async def test_streams_add_up_to_the_whole_answer(llm):
    whole = llm.invoke("Count to ten.")
    pieces = list(llm.stream("Count to ten."))
    assert "".join(pieces) == whole
    assert len(pieces) > 2
    assert "".join([piece async for piece in llm.astream("Count to ten.")]) == whole


def test_each_chunk_is_told_once_with_its_logprobs(make):
    seen = Seen()
    pieces = list(make(logprobs=1).stream("Count to ten.", config={"callbacks": [seen]}))
    assert seen.tokens == pieces
    assert [chunk.text for chunk in seen.chunks] == pieces
    assert all(logprobs for token, logprobs in zip(seen.tokens, seen.logprobs, strict=True) if token)


async def test_each_async_chunk_is_told_once(llm):
    class AsyncSeen(AsyncCallbackHandler):
        def __init__(self):
            self.tokens = []

        async def on_llm_new_token(self, token, **kwargs):
            self.tokens.append(token)

    seen = AsyncSeen()
    pieces = [piece async for piece in llm.astream("Count to ten.", config={"callbacks": [seen]})]
    assert seen.tokens == pieces


def test_a_stream_tells_usage_model_and_reason_once(make):
    llm, seen = make(max_tokens=64), Seen()
    list(llm.stream("Count to ten.", config={"callbacks": [seen]}))
    info = seen.ends[0].generations[0][0].generation_info
    whole = llm.generate(["Count to ten."])
    assert info["token_usage"] == whole.llm_output["token_usage"]
    assert info["model_name"] == "dev-model"
    assert info["finish_reason"] == "stop"


def test_usage_of_a_stream_can_be_switched_off(server, make):
    list(make(stream_usage=False).stream("Say hello."))
    list(make().stream("Say hello.", stream_usage=False))
    list(make().stream("Say hello.", stream_options={"include_usage": False}))
    assert [body.get("stream_options") for body in bodies(server)] == [None, None, None]


async def test_streaming_shows_tokens_of_an_invoke(server, make):
    seen, llm = Seen(), make(streaming=True)
    text = llm.invoke("Count to ten.", config={"callbacks": [seen]})
    assert "".join(seen.tokens) == text
    assert len(seen.tokens) > 2
    assert seen.ends[0].llm_output["token_usage"]["completion_tokens"] > 0
    result = await llm.agenerate(["Count to ten."])
    assert result.generations[0][0].text == text
    assert all(body["stream"] for body in bodies(server))


def test_streaming_leaves_batches_and_choices_whole(server, make):
    llm = make(streaming=True)
    assert len(llm.batch(["Say hello.", "Count to ten."])) == 2
    assert len(llm.generate(["Say hello."], n=2, temperature=1.0).generations[0]) == 2
    assert not any(body.get("stream") for body in bodies(server))


async def test_a_stream_of_several_completions_is_refused(server, llm):
    with pytest.raises(lc.ModelInvalidRequestError, match="n is more than 1"):
        list(llm.stream("Say hello.", n=2))
    with pytest.raises(core.ConfigurationError):
        [piece async for piece in llm.astream("Say hello.", n=2)]
    assert bodies(server) == []


def test_leaving_a_stream_early_ends_the_request(server, make):
    server.fault(slow_body=0.05, path="/completions")
    stream = make().stream("Count to ten.")
    next(stream)
    stream.close()
    (record,) = server.requests.wait(closed=True)
    assert record.cancelled is not None


async def test_leaving_an_async_stream_early_ends_the_request(server, llm):
    server.fault(slow_body=0.05, path="/completions")
    async for _ in llm.astream("Count to ten."):
        break
    gc.collect()
    (record,) = await asyncio.to_thread(server.requests.wait, closed=True)
    assert record.cancelled is not None


def test_a_broken_stream_raises_with_the_text_so_far(server, llm):
    server.fault(cut_after=3, cut="clean", path="/completions")
    seen = Seen()
    pieces = []
    with pytest.raises(core.StreamInterrupted) as caught:
        pieces.extend(iter(llm.stream("Count to ten.", config={"callbacks": [seen]})))
    assert isinstance(caught.value, lc.ModelConnectionError)
    assert caught.value.partial_text == "".join(seen.tokens) != ""
    assert seen.errors == [caught.value]
