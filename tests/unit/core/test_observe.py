"""Spans, measurements and trace headers of what runs against the development server."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import SpanKind, StatusCode

from kserve_core import telemetry
from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, OutputConstraint, RerankRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer, Fault
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError, ServerError, StreamInterrupted
from kserve_core.inference_client import InferenceClient
from kserve_core.runtimes.caikit import CaikitRuntime
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.runtimes.triton import TritonRuntime
from kserve_core.runtimes.vllm import VLLMRuntime
from tests.unit.core.tracing import Kept, keep

PROMPT = "canary-prompt"
CHAT = ChatRequest(
    messages=[{"role": "user", "content": PROMPT}],
    model="dev-model",
    params={"temperature": 0.5, "max_tokens": 7, "seed": 3, "stop": ["END"], "top_p": 0.9},
)
TEXT = TextRequest(prompts=[PROMPT], model="dev-model", params={"max_tokens": 5})


@pytest.fixture(scope="module")
def running():
    with DevServer(request_id_headers=True, tgis=True) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def kept():
    made = keep()
    made.instrument()
    yield made
    telemetry.uninstrument()
    telemetry.send_request_ids(False)


def client(server: DevServer, **options: Any) -> RuntimeClient[VLLMRuntime]:
    return RuntimeClient(Endpoint.create(f"{server.url}/v1", **options), VLLMRuntime(base_path="/v1"))


def sent(server: DevServer, name: str) -> list[str | None]:
    return [request.headers.get(name) for request in server.requests if request.method == "POST"]


# Spans


def test_a_conversation_is_a_span_by_the_conventions(server: DevServer, kept: Kept) -> None:
    answer = client(server).answer(CHAT)
    span = kept.one()
    found = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == ("chat dev-model", SpanKind.CLIENT, StatusCode.UNSET)
    assert re.fullmatch(r"[0-9a-f]{32}", found.pop("kserve.request_id"))
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "dev-model",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.top_p": 0.9,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": (answer.choices[0].finish_reason,),
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": answer.usage.cached_tokens,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "kserve.requests": 1,
    }


async def test_from_an_event_loop_it_is_the_same(server: DevServer, kept: Kept) -> None:
    used = client(server)
    await used.aanswer(CHAT)
    assert kept.one().name == "chat dev-model"
    await used.aclose()


def test_what_is_asked_for_is_told(server: DevServer, kept: Kept) -> None:
    form = OutputConstraint("json_object")
    client(server).answer(ChatRequest(messages=CHAT.messages, params={"n": 2, "temperature": None}, constraint=form))
    found = kept.one().attributes
    assert found["gen_ai.output.type"] == "json"
    assert found["gen_ai.request.choice.count"] == 2
    assert len(found["gen_ai.response.finish_reasons"]) == 2
    assert "gen_ai.request.temperature" not in found


def test_a_model_that_is_looked_up_is_named(server: DevServer, kept: Kept) -> None:
    client(server).answer(ChatRequest(messages=CHAT.messages))
    span = kept.one()
    assert span.name == "chat dev-model"
    assert span.attributes["gen_ai.request.model"] == "dev-model"
    assert span.attributes["kserve.requests"] == 2  # the list of models, and the conversation


def test_a_whole_answer_that_travels_as_a_stream_is_one_span(server: DevServer, kept: Kept) -> None:
    client(server).answer(CHAT, streamed=True)
    found = kept.one().attributes
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    assert found["gen_ai.usage.output_tokens"] > 0


@pytest.mark.parametrize("kind", ["chat", "text_completion"])
def test_a_stream_is_a_span_up_to_its_end(server: DevServer, kept: Kept, kind: str) -> None:
    used = client(server)
    about = CHAT if kind == "chat" else TEXT
    exchange: Any = used.runtime.stream_chat(CHAT) if kind == "chat" else used.runtime.stream_generate(TEXT)
    with closing(used.stream(exchange, about=about)) as pieces:
        assert kept.spans == []
        count = len(list(pieces))
    span = kept.one()
    assert span.name == f"{kind} dev-model"
    found = span.attributes
    assert found["gen_ai.request.stream"] is True
    assert found["kserve.response.pieces"] == count > 1
    assert found["gen_ai.usage.input_tokens"] > 0
    assert found["gen_ai.response.finish_reasons"] == ("length",)
    assert found["gen_ai.response.model"] == "dev-model"
    seconds = (span.end_time - span.start_time) / 1e9
    assert 0 < found["gen_ai.response.time_to_first_chunk"] <= seconds
    assert "kserve.abandoned" not in found


async def test_a_stream_from_an_event_loop(server: DevServer, kept: Kept) -> None:
    used = client(server)
    pieces = [piece async for piece in used.astream(used.runtime.stream_chat(CHAT), about=CHAT)]
    found = kept.one().attributes
    assert found["kserve.response.pieces"] == len(pieces) > 1
    assert found["gen_ai.usage.output_tokens"] > 0
    await used.aclose()


def test_a_stream_left_early_is_abandoned_and_no_error(server: DevServer, kept: Kept) -> None:
    used = client(server)
    pieces = used.stream(used.runtime.stream_chat(CHAT), about=CHAT)
    next(pieces)
    assert kept.spans == []
    pieces.close()
    span = kept.one()
    assert span.attributes["kserve.abandoned"] is True
    assert span.status.status_code is StatusCode.UNSET
    (point,) = kept.points("gen_ai.client.operation.duration")
    assert "error.type" not in point.attributes


async def test_a_cancelled_call_is_abandoned_and_no_error(server: DevServer, kept: Kept) -> None:
    server.faults.add(Fault(delay=30))
    used = client(server)
    task = asyncio.ensure_future(used.aanswer(CHAT))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = kept.one()
    assert span.attributes["kserve.abandoned"] is True
    assert span.status.status_code is StatusCode.UNSET
    await used.aclose()


def test_a_stream_not_begun_has_no_span(server: DevServer, kept: Kept) -> None:
    used = client(server)
    used.stream(used.runtime.stream_chat(CHAT), about=CHAT).close()
    assert kept.spans == []
    assert not list(server.requests)


def test_the_readers_context_is_its_own_between_pieces(server: DevServer, kept: Kept) -> None:
    used = client(server)
    before = get_current()
    for _ in used.stream(used.runtime.stream_chat(CHAT), about=CHAT):
        assert get_current() is before
        assert not trace.get_current_span().get_span_context().is_valid


def test_an_error_is_told_by_its_kind_only(server: DevServer, kept: Kept) -> None:
    server.faults.add(Fault(status=500, body={"error": {"message": f"cannot do {PROMPT}"}}))
    with pytest.raises(ServerError):
        client(server).answer(CHAT)
    span = kept.one()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ServerError")
    assert span.attributes["error.type"] == "ServerError"
    assert span.attributes["http.response.status_code"] == 500
    assert span.attributes["kserve.error.layer"] == "runtime"
    (point,) = kept.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "ServerError"
    assert PROMPT not in kept.everything()


def test_a_broken_stream_is_an_error(server: DevServer, kept: Kept) -> None:
    server.faults.add(Fault(cut_after=2))
    used = client(server)
    with pytest.raises(StreamInterrupted):
        list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    span = kept.one()
    assert span.attributes["error.type"] == "StreamInterrupted"
    assert span.attributes["kserve.response.pieces"] >= 1


def test_retries_are_events_of_one_span(server: DevServer, kept: Kept) -> None:
    server.faults.add(Fault(status=429, headers={"retry-after": "0.01"}, times=2))
    client(server).answer(CHAT)
    span = kept.one()
    assert span.attributes["kserve.requests"] == 3
    assert span.status.status_code is StatusCode.UNSET
    assert [event.name for event in span.events] == ["kserve.retry"] * 2
    first = dict(span.events[0].attributes)
    assert first.pop("kserve.wait") > 0
    assert first == {
        "error.type": "RateLimitError",
        "http.response.status_code": 429,
        "kserve.error.layer": "runtime",
        "kserve.attempt": 1,
        "kserve.cold_start": False,
    }


def test_one_trace_header_for_all_attempts(server: DevServer, kept: Kept) -> None:
    server.faults.add(Fault(status=429, headers={"retry-after": "0.01"}))
    client(server).answer(CHAT)
    context = kept.one().context
    first, again = sent(server, "traceparent")
    assert first == again
    assert first.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-0")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_parallel_batches_are_children(server: DevServer, kept: Kept, mode: str) -> None:
    used = client(server)
    texts = [f"{PROMPT} {number}" for number in range(6)]
    flow = embed_all(used.runtime, texts, model="dev-model", batch_size=2, concurrency=3)
    about = EmbeddingRequest(texts=texts, model="dev-model")

    async def arun() -> Any:
        try:
            return await used.arun(flow, about=about)
        finally:
            await used.aclose()

    result = used.run(flow, about=about) if mode == "sync" else asyncio.run(arun())
    *batches, whole = kept.spans
    assert whole.name == "embeddings dev-model"
    assert [batch.name for batch in batches] == ["embeddings batch"] * 3
    assert {batch.parent.span_id for batch in batches} == {whole.context.span_id}
    assert all("gen_ai.operation.name" not in batch.attributes for batch in batches)  # or tokens would count twice
    assert whole.attributes["kserve.requests"] == 3
    assert whole.attributes["kserve.request.inputs"] == 6
    assert whole.attributes["gen_ai.embeddings.dimension.count"] == len(result.embeddings[0])
    assert "gen_ai.usage.output_tokens" not in whole.attributes
    ids = {f"{batch.context.span_id:016x}" for batch in batches}
    assert {header.split("-")[2] for header in sent(server, "traceparent")} == ids


def test_ranking_is_an_operation(server: DevServer, kept: Kept) -> None:
    used = client(server)
    flow = rerank_all(used.runtime, "a question", ["one", "two"], model="dev-model", top_n=1)
    used.run(flow, about=RerankRequest(query="a question", documents=["one", "two"], model="dev-model", top_n=1))
    span = kept.one()
    assert span.name == "rerank dev-model"
    assert (span.attributes["kserve.request.inputs"], span.attributes["kserve.request.top_n"]) == (2, 1)


def test_questions_about_the_server_are_no_operations(server: DevServer, kept: Kept) -> None:
    used = client(server)
    with kept.tracer_provider.get_tracer("mine").start_as_current_span("mine") as mine:
        used.run(used.runtime.models())
    assert kept.one().name == "mine"
    request = list(server.requests)[-1]
    assert f"{mine.get_span_context().span_id:016x}" in request.headers["traceparent"]


def test_spans_are_children_of_the_callers(server: DevServer, kept: Kept) -> None:
    with kept.tracer_provider.get_tracer("mine").start_as_current_span("mine") as mine:
        client(server).answer(CHAT)
    assert kept.spans[0].parent.span_id == mine.get_span_context().span_id


# gRPC and the other runtimes


@pytest.mark.parametrize("streamed", [False, True])
def test_tgis_over_grpc(server: DevServer, kept: Kept, streamed: bool) -> None:
    used = RuntimeClient(Endpoint.create(server.tgis_url), TGISRuntime(model="dev-model"))
    about = TextRequest(prompts=[PROMPT], params={"max_tokens": 4})
    if streamed:
        list(used.stream(used.runtime.stream_generate(about), about=about))
    else:
        used.run(used.runtime.generate(about), about=about)
    span = kept.one()
    assert span.name == "text_completion dev-model"
    assert span.attributes["gen_ai.provider.name"] == "tgis"
    assert span.attributes["gen_ai.usage.output_tokens"] > 0
    request = list(server.requests)[-1]
    assert f"{span.context.span_id:016x}" in request.headers["traceparent"]
    used.close()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_caikit(kept: Kept, protocol: str) -> None:
    with DevServer(runtime="caikit", caikit_grpc=True, models=("tiny",)) as server:
        url = server.caikit_grpc_url if protocol == "grpc" else server.url
        used = RuntimeClient(Endpoint.create(url), CaikitRuntime(model="tiny", protocol=protocol))
        flow = embed_all(used.runtime, ["a"], model="tiny")
        used.run(flow, about=EmbeddingRequest(texts=["a"], model="tiny"))
        used.close()
        assert any("traceparent" in request.headers for request in server.requests)
    assert (kept.one().name, kept.one().attributes["gen_ai.provider.name"]) == ("embeddings tiny", "caikit")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_triton_and_tensors(kept: Kept, protocol: str) -> None:
    with DevServer(runtime="triton", v2_grpc=True, models=("tiny-embedding",)) as server:
        url = server.v2_grpc_url if protocol == "grpc" else server.url
        used = RuntimeClient(Endpoint.create(url), TritonRuntime(model="tiny-embedding", protocol=protocol))
        about = EmbeddingRequest(texts=["a"])
        used.run(embed_all(used.runtime, ["a"]), about=about)
        used.close()
        with InferenceClient(url, model="tiny-embedding") as tensors:
            tensors.infer({"text": ["a", "b"]})
    embedding, inference = kept.spans
    assert (embedding.name, embedding.attributes["gen_ai.provider.name"]) == ("embeddings tiny-embedding", "triton")
    assert (inference.name, inference.attributes["kserve.request.inputs"]) == ("inference tiny-embedding", 1)


# Measurements


def test_measurements(server: DevServer, kept: Kept) -> None:
    used = client(server)
    answer = used.answer(CHAT)
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "dev-model",
        "gen_ai.response.model": "dev-model",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    (duration,) = kept.points("gen_ai.client.operation.duration")
    assert (duration.count, dict(duration.attributes)) == (2, common)
    (first,) = kept.points("gen_ai.client.operation.time_to_first_chunk")
    assert (first.count, dict(first.attributes)) == (1, common)
    tokens = {point.attributes["gen_ai.token.type"]: point for point in kept.points("gen_ai.client.token.usage")}
    assert tokens["input"].sum == 2 * answer.usage.prompt_tokens
    assert tokens["output"].sum == 2 * answer.usage.completion_tokens


# Content


def test_content_is_left_out_unless_asked_for(server: DevServer, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    used = client(server, api_key="canary-token")
    said = used.answer(CHAT).choices[0].content
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    assert PROMPT not in kept.everything()
    assert said not in kept.everything()
    kept.exporter.clear()
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    kept.instrument()
    used.answer(CHAT)
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    assert len(kept.spans) == 2
    for span in kept.spans:
        given = json.loads(span.attributes["gen_ai.input.messages"])
        assert given == [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]
        (answered,) = json.loads(span.attributes["gen_ai.output.messages"])
        assert answered == {
            "role": "assistant",
            "parts": [{"type": "text", "content": said}],
            "finish_reason": "length",
        }
    kept.exporter.clear()
    kept.instrument(capture_content=False)  # goes before the environment
    used.answer(CHAT)
    assert PROMPT not in kept.everything()
    assert "canary-token" not in kept.everything()


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_content(server: DevServer, kept: Kept, streamed: bool) -> None:
    kept.instrument(capture_content=True)
    tool = {"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object"}}}
    request = ChatRequest(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "look_up", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "found"},
            {"role": "user", "content": "again"},
        ],
        model="dev-model",
        tools=[tool],
        tool_choice="required",
    )
    used = client(server)
    if streamed:
        list(used.stream(used.runtime.stream_chat(request), about=request))
    else:
        used.answer(request)
    found = kept.one().attributes
    assert json.loads(found["gen_ai.tool.definitions"])[0]["name"] == "look_up"
    system, user, assistant, tool_answer, _ = json.loads(found["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    assert user["parts"] == [{"type": "text", "content": "see"}, {"type": "image_url"}]
    assert assistant["parts"] == [{"type": "tool_call", "id": "c", "name": "look_up", "arguments": {}}]
    assert tool_answer["parts"] == [{"type": "tool_call_response", "id": "c", "response": "found"}]
    (answered,) = json.loads(found["gen_ai.output.messages"])
    (call,) = answered["parts"]
    assert (call["type"], call["name"], answered["finish_reason"]) == ("tool_call", "look_up", "tool_calls")
    assert isinstance(call["arguments"], dict)
    assert call["id"]


@pytest.mark.parametrize(
    "request_", [ChatRequest(messages=[5]), ChatRequest(messages=CHAT.messages, params={"max_tokens": float("nan")})]
)
def test_a_strange_request_fails_as_it_does_unwatched(server: DevServer, kept: Kept, request_: ChatRequest) -> None:
    kept.instrument(capture_content=True)
    with pytest.raises(Exception, match=r".") as watched:
        client(server, max_retries=0).answer(request_)
    telemetry.uninstrument()
    with pytest.raises(Exception, match=r".") as unwatched:
        client(server, max_retries=0).answer(request_)
    assert type(watched.value) is type(unwatched.value)
    assert kept.one().attributes["error.type"] == type(unwatched.value).__name__


# Headers


def test_nothing_is_sent_when_it_is_off(server: DevServer) -> None:
    provider = keep().tracer_provider
    with provider.get_tracer("mine").start_as_current_span("mine"):
        client(server).answer(CHAT)
    assert sent(server, "traceparent") == [None]
    assert sent(server, "x-request-id") == [None]


def test_a_header_of_the_users_goes_first(server: DevServer, kept: Kept) -> None:
    mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    client(server, default_headers={"Traceparent": mine}).answer(CHAT)
    assert sent(server, "traceparent") == [mine]


def test_baggage_stays_here(server: DevServer, kept: Kept) -> None:
    token = attach(set_baggage("user", "canary"))
    try:
        client(server).answer(CHAT)
    finally:
        detach(token)
    assert sent(server, "baggage") == [None]
    assert sent(server, "traceparent") != [None]


def test_another_propagator(server: DevServer, kept: Kept) -> None:
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    kept.instrument(propagator=W3CBaggagePropagator())
    token = attach(set_baggage("user", "me"))
    try:
        client(server).answer(CHAT)
    finally:
        detach(token)
    assert (sent(server, "baggage"), sent(server, "traceparent")) == (["user=me"], [None])


def test_request_ids_of_its_own(server: DevServer) -> None:
    telemetry.send_request_ids()
    try:
        server.faults.add(Fault(status=429, headers={"retry-after": "0.01"}))
        used = client(server)
        used.answer(CHAT)
        used.answer(CHAT)
        first, again, second = sent(server, "x-request-id")
        assert first == again != second
        client(server, default_headers={"X-Request-Id": "mine"}).answer(CHAT)
        assert sent(server, "x-request-id")[-1] == "mine"
        telemetry.send_request_ids(lambda: "made")
        server.faults.add(Fault(status=500))
        with pytest.raises(KServeError) as caught:
            used.answer(CHAT)
        assert caught.value.request_id == "made"
    finally:
        telemetry.send_request_ids(False)
    used.answer(CHAT)
    assert sent(server, "x-request-id")[-1] is None


def test_a_request_id_over_grpc_is_in_the_error(server: DevServer) -> None:
    endpoint = Endpoint.create(server.tgis_url, default_headers={"x-request-id": "mine"}, max_retries=0)
    used = RuntimeClient(endpoint, TGISRuntime(model="dev-model"))
    server.faults.add(Fault(code="INTERNAL", method="GRPC"))
    with pytest.raises(KServeError) as caught:
        used.run(used.runtime.generate(TEXT))
    assert caught.value.request_id == "mine"
    used.close()


@pytest.mark.parametrize("bad", ["a\r\nx-evil: 1", "\u2603", 5])
def test_an_id_that_cannot_be_sent(server: DevServer, bad: Any) -> None:
    telemetry.send_request_ids(lambda: bad)
    try:
        with pytest.raises(ConfigurationError, match="x-request-id"):
            client(server).answer(CHAT)
    finally:
        telemetry.send_request_ids(False)
    assert not list(server.requests)


def test_ids_are_made_by_a_function() -> None:
    with pytest.raises(ConfigurationError, match="function"):
        telemetry.send_request_ids("id")  # type: ignore[arg-type]


# The switch


def test_the_switch(server: DevServer, kept: Kept) -> None:
    assert telemetry.is_instrumented()
    used = client(server)
    pieces = used.stream(used.runtime.stream_chat(CHAT), about=CHAT)
    next(pieces)
    telemetry.uninstrument()
    assert not telemetry.is_instrumented()
    list(pieces)
    assert len(kept.spans) == 1  # what was under way
    used.answer(CHAT)
    assert len(kept.spans) == 1


def test_the_entry_point_for_the_agent(server: DevServer, kept: Kept) -> None:
    from kserve_core.telemetry.instrumentor import KServeInstrumentor

    telemetry.uninstrument()
    KServeInstrumentor().instrument(
        tracer_provider=kept.tracer_provider, meter_provider=kept.meter_provider, skip_dep_check=True
    )
    client(server).answer(CHAT)
    assert kept.one().name == "chat dev-model"
    KServeInstrumentor().uninstrument()
    assert not telemetry.is_instrumented()


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_opentelemetry_is_not_imported_unless_it_is_asked_for(server: DevServer) -> None:
    code = f"""
import sys
from kserve_core import telemetry
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.capabilities import ChatRequest
from kserve_core.runtimes.vllm import VLLMRuntime
client = RuntimeClient(Endpoint.create("{server.url}/v1"), VLLMRuntime(base_path="/v1"))
client.answer(ChatRequest(messages=[{{"role": "user", "content": "hello"}}]))
print(any(name.startswith("opentelemetry") for name in sys.modules))
telemetry.instrument()
print(any(name.startswith("opentelemetry") for name in sys.modules))
client.answer(ChatRequest(messages=[{{"role": "user", "content": "hello"}}]))  # the API without an SDK records nothing
print(any(name.startswith("opentelemetry.sdk") for name in sys.modules))
"""
    assert python(code).split() == ["False", "True", "False"]


def test_without_opentelemetry_the_hint_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from kserve_core import telemetry
try:
    telemetry.instrument()
except telemetry.ConfigurationError as error:
    print(error)
print(telemetry.is_instrumented())
telemetry.uninstrument()
"""
    shown = python(code)
    assert "kserve-integrations[otel]" in shown
    assert shown.endswith("False")


@pytest.mark.parametrize("arguments", [[], ["--content"]])
def test_the_example(arguments: list[str], server: DevServer, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[3] / "examples" / "tracing.py"
    example = runpy.run_path(str(path))
    assert example["main"](["--base-url", f"{server.url}/v1", *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("a user's question")
    assert shown.count("\n  chat dev-model  ") == 2
    assert "gen_ai.client.operation.duration: 2 measured" in shown
    assert ("What is a trace?" in shown) is bool(arguments)
    assert not telemetry.is_instrumented()
