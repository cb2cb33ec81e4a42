"""`stream_invoke`, `strict_stream` and `on_wait` of the LangChain classes: whole answers over streams are the same."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps

from kserve_core.devserver import DevServer
from langchain_kserve import TGISLLM, VLLM, CaikitLLM, ChatCaikit, ChatTGIS, ChatVLLM, QuotaExceededError

QUESTION = "Tell me about rivers and the sea."


@pytest.fixture(scope="module")
def vllm():
    with DevServer(models=("m",), tgis=True, cached_tokens=False) as server:
        yield server


@pytest.fixture(scope="module")
def caikit():
    with DevServer(models=("m",), runtime="caikit", caikit_grpc=True) as server:
        yield server


class Tokens(BaseCallbackHandler):
    def __init__(self):
        self.tokens = []
        self.ended = 0

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ended += 1


MODELS = {
    "ChatVLLM": (ChatVLLM, "vllm", {"logprobs": True, "max_tokens": 6}),
    "VLLM": (VLLM, "vllm", {"logprobs": 2, "max_tokens": 6}),
    "ChatTGIS": (ChatTGIS, "tgis", {"chat_template": "chatml", "max_tokens": 6}),
    "TGISLLM": (TGISLLM, "tgis", {"stop": ["sea"]}),
    "ChatCaikit": (ChatCaikit, "caikit", {"chat_template": "chatml", "max_tokens": 6}),
    "CaikitLLM": (CaikitLLM, "caikit", {"stop": ["sea"]}),
    "CaikitLLM over gRPC": (CaikitLLM, "caikit grpc", {"max_tokens": 6}),
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


def plain(result):
    """A result without the ids that no two answers share."""
    value = result.model_dump()
    value.pop("run", None)
    text = repr(value)
    for generation in result.flatten() if hasattr(result, "flatten") else ():
        for one in generation.generations[0]:
            for mapping in (one.generation_info or {}, getattr(getattr(one, "message", None), "response_metadata", {})):
                if mapping.get("id"):
                    text = text.replace(mapping["id"], "ID")
            if getattr(getattr(one, "message", None), "id", None):
                text = text.replace(one.message.id, "ID")
    if (result.llm_output or {}).get("id"):
        text = text.replace(result.llm_output["id"], "ID")
    return text


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_result_is_the_same_and_no_token_is_told(make, mode, vllm, caikit):
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import HumanMessage

    results, tokens = [], []
    for stream_invoke in (False, True):
        model, seen = make(stream_invoke=stream_invoke), Tokens()
        given = [[HumanMessage(QUESTION)]] if isinstance(model, BaseChatModel) else [QUESTION]
        if mode == "sync":
            results.append(model.generate(given, callbacks=[seen]))
        else:
            results.append(asyncio.run(model.agenerate(given, callbacks=[seen])))
        tokens += seen.tokens
        assert seen.ended == 1
    whole, streamed = map(plain, results)
    assert streamed == whole
    assert tokens == []
    paths = [record.path for server in (vllm, caikit) for record in server.requests]
    bodies = [record.json or {} for record in vllm.requests.to("completions")]
    assert len(paths) == 2
    assert len(set(paths)) == 2 or [body.get("stream", False) for body in bodies] == [False, True]


def test_tools_and_several_answers_travel_whole(vllm):
    vllm.reset()
    model = ChatVLLM(base_url=f"{vllm.url}/v1", model="m", stream_invoke=True)

    def weather(city: str) -> str:
        """Tells the weather."""
        return city

    model.bind_tools([weather]).invoke("Hello")
    model.bind(n=2).invoke("Hello")
    assert ["stream" in record.json for record in vllm.requests.to("/chat/completions")] == [False, False]


def test_new_fields_are_in_no_dump_and_travel_if_they_can():
    lock = threading.Lock()
    model = ChatVLLM(base_url="https://m.example.com", model="m", on_wait=lambda event: lock.locked())
    assert "on_wait" not in dumps(model)
    assert "lambda" not in repr(model)
    assert pickle.loads(pickle.dumps(model)).on_wait is None
    assert pickle.loads(pickle.dumps(ChatVLLM(base_url="https://m.example.com", on_wait=print))).on_wait is print
    assert model._get_client().endpoint.on_wait is model.on_wait
    assert model._get_client().endpoint.streams_whole_answers
    assert model.model_copy(update={"strict_stream": False})._get_client().endpoint.strict_stream is False


def test_on_wait_hears_of_a_cold_start(vllm):
    vllm.reset()
    vllm.fault(body="router-page", times=1)
    events = []
    model = ChatVLLM(base_url=f"{vllm.url}/v1", model="m", on_wait=events.append)
    assert model.invoke("Hello").content
    assert [event.attempt for event in events] == [1]
    assert [record.method for record in vllm.requests] == ["POST", "GET", "POST"]


def test_a_used_up_quota_is_told_from_a_rate(vllm):
    vllm.reset()
    error = {"error": {"message": "tokens per day used up", "type": "quota_error"}}
    vllm.fault(status=429, body=error, times=None)
    with pytest.raises(QuotaExceededError) as caught:
        ChatVLLM(base_url=f"{vllm.url}/v1", model="m").invoke("Hello")
    assert not caught.value.is_retryable
    assert len(vllm.requests) == 1
