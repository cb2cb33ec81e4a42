"""What random answers have broken once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.core.scripted import STREAM_HEAD, ServerSide, answer, chunk

from kserve_core.errors import BadResponseError

LOGPROB = {"token": "hi", "logprob": -0.1, "top_logprobs": []}


def event(content: str, *, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a streamed chat."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish, **fields}
    return chunk(b"data: " + json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode() + b"\n\n")


def streamed(*events: bytes) -> list[bytes]:
    """A whole stream."""
    return [STREAM_HEAD, *events, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]


@pytest.mark.parametrize("odd", [0.5, [1], {"content": 5}, {"content": "x"}, "x"])
def test_log_probabilities_of_another_form_do_not_break_a_langchain_stream(odd: Any) -> None:
    from langchain_kserve import ChatVLLM

    events = [event("a", logprobs={"content": [LOGPROB]}), event("b", logprobs=odd), event("c", finish="stop")]
    with ServerSide(streamed(*events)) as server, ChatVLLM(base_url=f"{server.url}/v1", model="m") as model:
        assert "".join(str(piece.content) for piece in model.stream("x")) == "abc"


@pytest.mark.parametrize("odd", [[5], [{"token": "x"}], [[]], [{"token": 1, "logprob": "x", "bytes": 3}]])
def test_log_probabilities_llamaindex_cannot_read_are_a_bad_response(odd: Any) -> None:
    from llama_index.core.base.llms.types import ChatMessage

    from llamaindex_kserve import VLLM

    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": odd}}
    with ServerSide(answer(200, {"choices": [choice]})) as server:
        with VLLM(base_url=f"{server.url}/v1", model="m") as llm, pytest.raises(BadResponseError, match="log-prob"):
            llm.chat([ChatMessage("x")])


@pytest.mark.parametrize("odd", [5, 0.5, ["m"], {"name": "m"}, True])
def test_names_that_are_no_text_are_left_out(odd: Any) -> None:
    from langchain_kserve import ChatVLLM

    message = {"role": "assistant", "content": "hi", "refusal": odd}
    choice = {"index": odd, "message": message, "finish_reason": "stop"}
    body = {"id": odd, "model": odd, "system_fingerprint": odd, "created": odd, "choices": [choice]}
    with ServerSide(answer(200, body)) as server, ChatVLLM(base_url=f"{server.url}/v1", model="m") as model:
        assert model.invoke("x").content == "hi"


@pytest.mark.parametrize("odd", [5, ["f"], {"a": 1}, True])
def test_tool_calls_whose_names_are_no_text_are_not_made_into_calls(odd: Any) -> None:
    from langchain_kserve import ChatVLLM

    call = {"index": 0, "id": odd, "function": {"name": odd, "arguments": "{}"}}
    choice = {"index": 0, "delta": {"content": "hi", "tool_calls": [call]}, "finish_reason": "stop"}
    data = chunk(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
    with ServerSide(streamed(data)) as server, ChatVLLM(base_url=f"{server.url}/v1", model="m") as model:
        pieces = list(model.stream("x"))
    assert "".join(str(piece.content) for piece in pieces) == "hi"
    assert {call["name"] for piece in pieces for call in piece.tool_calls} <= {""}


def test_a_batch_dimension_of_zero_says_nothing_about_how_many_texts_may_be_sent() -> None:
    from langchain_kserve import MLServerEmbeddings

    texts = {"name": "text", "datatype": "BYTES", "shape": [0]}
    vectors = {"name": "embedding", "datatype": "FP32", "shape": [0, 2]}
    metadata = {"name": "m", "versions": [], "platform": "", "inputs": [texts], "outputs": [vectors]}
    given = {**vectors, "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}
    with ServerSide(answer(200, metadata), answer(200, {"model_name": "m", "outputs": [given]})) as server:
        with MLServerEmbeddings(base_url=server.url, model="m") as embeddings:
            assert embeddings.embed_documents(["a", "b"]) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("rows", [2**20, 2**40, 2**62])
def test_a_batch_dimension_nobody_can_fill_takes_no_memory(rows: int) -> None:
    from langchain_kserve import ConfigurationError, MLServerEmbeddings

    inputs = [{"name": "text", "datatype": "BYTES", "shape": [rows]}]
    outputs = [{"name": "embedding", "datatype": "FP32", "shape": [rows, 2]}]
    metadata = {"name": "m", "versions": [], "platform": "", "inputs": inputs, "outputs": outputs}
    with ServerSide(answer(200, metadata)) as server:
        with MLServerEmbeddings(base_url=server.url, model="m") as embeddings:
            with pytest.raises(ConfigurationError, match="more than can be filled up"):
                embeddings.embed_documents(["a", "b"])
