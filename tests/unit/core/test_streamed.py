"""Whole answers carried over streams: the same results, and what is never streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from kserve_core.capabilities import ChatRequest, OutputConstraint, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer
from kserve_core.endpoint import Endpoint
from kserve_core.errors import EndpointTimeoutError, StreamInterrupted
from kserve_core.runtimes.caikit import CaikitRuntime
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.streamed import streamable
from kserve_core.types import ChatResult, TextResult
from tests.unit.core.scripted import DONE, STREAM_END, STREAM_HEAD, ServerSide, chunk
from tests.unit.core.scripted import answer as reply

MESSAGES = [{"role": "user", "content": "Tell me about rivers and the sea."}]
CHAT = ChatRequest(messages=MESSAGES, model="m")
TEXT = TextRequest(prompts=("Tell me about rivers and the sea.",), model="m", params={"max_tokens": 12})


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def running() -> Iterator[DevServer]:
    with DevServer(models=("m",), tgis=True, cached_tokens=False) as server:
        yield server


@pytest.fixture(scope="module")
def caikit() -> Iterator[DevServer]:
    with DevServer(models=("m",), runtime="caikit", caikit_grpc=True) as server:
        yield server


@pytest.fixture
def server(running: DevServer) -> DevServer:
    running.reset()
    return running


def client(server: DevServer, **options: Any) -> RuntimeClient[Any]:
    return RuntimeClient(Endpoint.create(server.url, **options), VLLMRuntime(base_path="/v1", model="m"))


def ask(mode: str, used: RuntimeClient[Any], request: Any, **options: Any) -> Any:
    if mode == "sync":
        return used.answer(request, **options)
    return asyncio.run(used.aanswer(request, **options))


def comparable(result: ChatResult | TextResult) -> Any:
    """Without what no two answers have in common."""
    same = replace(result, id=None, raw={})
    return replace(same, created=None) if isinstance(same, ChatResult) else same


CHATS = [
    CHAT,
    replace(CHAT, params={"max_tokens": 4, "temperature": 0.0}),
    replace(CHAT, params={"logprobs": True, "top_logprobs": 2, "max_tokens": 5}),
    replace(CHAT, params={"stop": ["sea"]}),
    replace(
        CHAT, constraint=OutputConstraint("json_schema", {"type": "object", "properties": {"a": {"type": "string"}}})
    ),
    replace(CHAT, include_usage=False),
]
TEXTS = [
    TEXT,
    replace(TEXT, params={"logprobs": True, "top_logprobs": 2, "max_tokens": 5}),
    replace(TEXT, params={"stop": ["sea"], "max_tokens": 40}),
]


@pytest.mark.parametrize("request_", [*CHATS, *TEXTS], ids=range(len(CHATS) + len(TEXTS)))
def test_vllm_answers_are_the_same(mode: str, server: DevServer, request_: Any) -> None:
    used = client(server)
    whole = ask(mode, used, request_, streamed=False)
    streamed = ask(mode, used, request_, streamed=True)
    assert comparable(streamed) == comparable(whole)
    assert streamed.usage is not None
    assert streamed.id
    first, second = [record.json for record in server.requests.to("completions")]
    assert "stream" not in first
    assert second["stream"] is True
    names = ["model", "object", "usage", "choices"]
    assert {name: type(streamed.raw[name]) for name in names} == {name: type(whole.raw[name]) for name in names}
    assert streamed.raw["object"] == whole.raw["object"]


@pytest.mark.parametrize(
    "params", [{"max_new_tokens": 6}, {"max_new_tokens": 6, "logprobs": True}, {"stop": ["sea"], "max_new_tokens": 30}]
)
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_caikit_answers_are_the_same(mode: str, caikit: DevServer, protocol: Any, params: dict[str, Any]) -> None:
    caikit.reset()
    url = caikit.url if protocol == "rest" else caikit.caikit_grpc_url
    used = RuntimeClient(Endpoint.create(url), CaikitRuntime(model="m", protocol=protocol))
    request = replace(TEXT, params=params)
    whole, streamed = (ask(mode, used, request, streamed=value) for value in (False, True))
    assert comparable(streamed) == comparable(whole)
    assert streamed.raw["generated_text"] == whole.raw["generated_text"]
    paths = [record.path for record in caikit.requests]
    assert len(set(paths)) == len(paths) == 2


@pytest.mark.parametrize("params", [{"max_tokens": 6}, {"max_tokens": 6, "logprobs": True}, {"stop": ["sea"]}])
def test_tgis_answers_are_the_same(mode: str, server: DevServer, params: dict[str, Any]) -> None:
    used = RuntimeClient(Endpoint.create(server.tgis_url), TGISRuntime(model="m"))
    request = replace(TEXT, params=params)
    whole, streamed = (ask(mode, used, request, streamed=value) for value in (False, True))
    assert comparable(streamed) == comparable(whole)
    assert [record.path.rsplit("/", 1)[-1] for record in server.requests] == ["Generate", "GenerateStream"]


@pytest.mark.parametrize(
    "request_",
    [
        replace(CHAT, tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
        replace(CHAT, params={"n": 2}),
        replace(CHAT, params={"prompt_logprobs": 1}),
        replace(CHAT, params={"prompt_logprobs": 0}),
        replace(CHAT, extra_body={"best_of": 3}),
        replace(TEXT, params={"echo": True}),
        replace(TEXT, prompts=("a", "b")),
        replace(TEXT, extra_body={"stream_options": {"include_usage": True}}),
    ],
)
def test_what_travels_whole(server: DevServer, request_: Any) -> None:
    assert not streamable(request_)


def test_tools_of_the_servers_own_are_called_in_a_stream_as_well(mode: str) -> None:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return chunk(b"data: " + orjson.dumps({"id": "1", "model": "m", "choices": [choice]}) + b"\n\n")

    call = {"id": "c1", "type": "function", "function": {"name": "browse", "arguments": '{"page": 1}'}}
    parts = [
        {"index": 0, **call, "function": {"name": "browse", "arguments": '{"pa'}},
        {"index": 0, "function": {"arguments": 'ge": 1}'}},
    ]
    streamed = [event({"role": "assistant", "tool_calls": [parts[0]]}), event({"tool_calls": [parts[1]]})]
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = {"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    script = [STREAM_HEAD, *streamed, event({}, "tool_calls"), DONE, STREAM_END]
    with ServerSide(script, reply(body=whole)) as server:
        used = RuntimeClient(Endpoint.create(server.url), VLLMRuntime(base_path="/v1", model="m"))
        carried, plain = (ask(mode, used, CHAT, streamed=value) for value in (True, False))
    assert comparable(carried) == comparable(plain)
    assert carried.choices[0].tool_calls[0].arguments == '{"page": 1}'
    assert carried.raw["choices"][0]["message"]["tool_calls"] == [call]


def test_what_is_switched_off_does_not_matter() -> None:
    assert streamable(replace(CHAT, params={"n": 1, "temperature": 0.5}, extra_body={"echo": False}))


def test_a_proxy_that_ends_silence_is_survived(mode: str, server: DevServer) -> None:
    # Whole answers are met by the proxy's page; of a stream each piece is on time.
    slow = {"max_tokens": 5}
    server.fault(status=504, body="router-page", path="/chat/completions", times=1)
    used = client(server, stream_invoke=True, max_retries=0)
    with pytest.raises(Exception, match="504"):
        ask(mode, used, replace(CHAT, params=slow), streamed=False)
    server.fault(slow_body=0.02, path="/chat/completions")
    assert ask(mode, used, replace(CHAT, params=slow)).choices[0].finish_reason == "length"


def test_the_time_budget_holds_for_the_whole_answer(mode: str, server: DevServer) -> None:
    server.fault(idle_after=2, path="/chat/completions")
    with pytest.raises(EndpointTimeoutError, match="time budget") as caught:
        ask(mode, client(server, timeout=0.4, stream_invoke=True, max_retries=0), CHAT)
    assert not isinstance(caught.value, StreamInterrupted)
    assert caught.value.partial_text


def test_the_time_budget_holds_over_grpc(mode: str, server: DevServer) -> None:
    server.fault(idle_after=2, method="GRPC")
    endpoint = Endpoint.create(server.tgis_url, timeout=0.4, stream_invoke=True, max_retries=0)
    with pytest.raises(EndpointTimeoutError, match="time budget"):
        ask(mode, RuntimeClient(endpoint, TGISRuntime(model="m")), TEXT)


def test_a_broken_stream_is_an_error_with_its_text(mode: str, server: DevServer) -> None:
    server.fault(cut_after=3, path="/chat/completions")
    with pytest.raises(StreamInterrupted) as caught:
        ask(mode, client(server, stream_invoke=True), CHAT)
    assert caught.value.partial_text


WHOLE = reply(body={"model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    "refusal",
    [
        WHOLE,
        reply(400, {"error": {"message": "Streaming is not supported"}}),
        reply(404, {"detail": "Not Found"}),
    ],
)
def test_an_endpoint_that_does_not_stream_is_asked_for_whole_answers_from_then_on(mode: str, refusal: bytes) -> None:
    with ServerSide(refusal, WHOLE) as server:
        endpoint = Endpoint.create(server.url, stream_invoke=True)
        used = RuntimeClient(endpoint, VLLMRuntime(base_path="/v1", model="m"))
        for _ in range(2):
            assert ask(mode, used, CHAT).choices[0].content == "hi"
    assert [b'"stream":true' in seen.body for seen in server.requests] == [True, False, False]


# strict_stream


def piece(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    import orjson

    return chunk(b"data: " + orjson.dumps({"id": "1", "model": "m", "choices": [choice]}) + b"\n\n")


@pytest.mark.parametrize("end", [STREAM_END, DONE + STREAM_END], ids=["no marker", "no finish reason"])
def test_a_clean_end_without_marks_is_taken_only_when_told_so(mode: str, end: bytes) -> None:
    with ServerSide([STREAM_HEAD, piece("a"), piece("b"), end]) as server:
        runtime = VLLMRuntime(base_path="/v1", model="m")
        used = RuntimeClient(Endpoint.create(server.url, stream_invoke=True, strict_stream=False), runtime)
        result = ask(mode, used, CHAT)
        assert (result.choices[0].content, result.choices[0].finish_reason) == ("ab", None)
        with pytest.raises(StreamInterrupted, match="broke off") as caught:
            ask(mode, RuntimeClient(Endpoint.create(server.url, stream_invoke=True), runtime), CHAT)
        assert caught.value.partial_text == "ab"
        assert "strict_stream=False" in caught.value.hint


@pytest.mark.parametrize("steps", [[STREAM_END], [piece("a")[:-9] + b"\r\n"], [piece("a"), b"5\r\nda"]])
def test_nothing_else_is_taken_for_an_end(mode: str, steps: list[bytes]) -> None:
    from tests.unit.core.scripted import Close

    with ServerSide([STREAM_HEAD, *steps, Close()]) as server:
        endpoint = Endpoint.create(server.url, stream_invoke=True, strict_stream=False, max_retries=0)
        with pytest.raises((StreamInterrupted, ConnectionError)):
            ask(mode, RuntimeClient(endpoint, VLLMRuntime(base_path="/v1", model="m")), CHAT)


def test_caikit_and_tgis_take_a_clean_end_too(mode: str, caikit: DevServer, server: DevServer) -> None:
    options: dict[str, Any] = {"stream_invoke": True, "strict_stream": False}
    caikit.reset()
    caikit.fault(cut_after=4, cut="clean", times=None)
    server.fault(cut_after=4, cut="clean", method="GRPC", times=None)
    rest = RuntimeClient(Endpoint.create(caikit.url, **options), CaikitRuntime(model="m"))
    grpc = RuntimeClient(Endpoint.create(caikit.caikit_grpc_url, **options), CaikitRuntime(model="m", protocol="grpc"))
    tgis = RuntimeClient(Endpoint.create(server.tgis_url, **options), TGISRuntime(model="m"))
    for used in (rest, grpc, tgis):
        (generation,) = ask(mode, used, TEXT).generations[0]
        assert generation.text
        assert generation.finish_reason is None
    strict = RuntimeClient(Endpoint.create(caikit.url, stream_invoke=True), CaikitRuntime(model="m"))
    with pytest.raises(StreamInterrupted):
        ask(mode, strict, TEXT)
