"""`stream_invoke`, `strict_stream` and `on_wait` of the LlamaIndex classes: whole answers over streams are the same."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from llama_index.core.base.llms.types import ChatMessage

from kserve_core.devserver import DevServer
from llamaindex_kserve import TGISLLM, VLLM, CaikitLLM

QUESTION = "Tell me about rivers and the sea."


@pytest.fixture(scope="module")
def vllm():
    with DevServer(models=("m",), tgis=True, cached_tokens=False) as server:
        yield server


@pytest.fixture(scope="module")
def caikit():
    with DevServer(models=("m",), runtime="caikit", caikit_grpc=True) as server:
        yield server


MODELS = {
    "vLLM": (VLLM, "vllm", {"additional_kwargs": {"logprobs": True}, "max_tokens": 6}),
    "vLLM, prompts": (VLLM, "vllm", {"is_chat_model": False, "max_tokens": 6}),
    "TGIS": (TGISLLM, "tgis", {"max_tokens": 6}),
    "TGIS, template": (TGISLLM, "tgis", {"max_tokens": 6, "chat_template": "chatml"}),
    "Caikit": (CaikitLLM, "caikit", {"max_tokens": 6, "stop": ["sea"]}),
    "Caikit over gRPC": (CaikitLLM, "caikit grpc", {"max_tokens": 6, "chat_template": "chatml"}),
}


@pytest.fixture(params=MODELS)
def make(request, vllm, caikit):
    urls = {
        "vllm": f"{vllm.url}/v1",
        "tgis": vllm.tgis_url,
        "caikit": caikit.url,
        "caikit grpc": caikit.caikit_grpc_url,
    }
    cls, server, fields = MODELS[request.param]
    vllm.reset()
    caikit.reset()
    return lambda **more: cls(base_url=urls[server], model="m", **fields, **more)


@pytest.mark.parametrize("method", ["chat", "complete", "achat", "acomplete"])
def test_the_response_is_the_same(make, method, vllm, caikit):
    shown = []
    for stream_invoke in (False, True):
        llm = make(stream_invoke=stream_invoke)
        given = [ChatMessage(content=QUESTION)] if "chat" in method else QUESTION
        response = getattr(llm, method)(given)
        if method.startswith("a"):

            async def wait(response=response):
                return await response

            response = asyncio.run(wait())
        assert response.raw["usage"]
        shown.append(response.model_dump(exclude={"raw"}))
    assert shown[1] == shown[0]
    assert len([*vllm.requests, *caikit.requests]) == 2


def test_new_fields_are_in_no_dump_and_travel_if_they_can():
    lock = threading.Lock()
    llm = VLLM(base_url="https://m.example.com", model="m", on_wait=lambda event: lock.locked())
    assert not {"on_wait", "strict_stream", "stream_invoke"} & set(llm.to_dict())
    assert "lambda" not in repr(llm)
    assert pickle.loads(pickle.dumps(llm)).on_wait is None
    assert llm.model_copy(deep=True).on_wait is llm.on_wait
    assert llm.endpoint.streams_whole_answers
    assert VLLM(base_url="https://m.example.com", strict_stream=False).endpoint.strict_stream is False


def test_on_wait_hears_of_a_cold_start(vllm):
    vllm.reset()
    vllm.fault(body="router-page", times=1)
    events = []
    assert VLLM(base_url=f"{vllm.url}/v1", model="m", on_wait=events.append).complete("Hello").text
    assert [event.attempt for event in events] == [1]
    assert [record.method for record in vllm.requests] == ["POST", "GET", "POST"]
