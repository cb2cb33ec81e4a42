"""The spans of what runs against the development server."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind, StatusCode

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, OutputConstraint, RerankRequest
from kserve_core.devserver import DevServer, Fault
from kserve_core.errors import ServerError, StreamInterrupted
from tests.unit.core.observe.calls import CHAT, PROMPT, TEXT, client, sent
from tests.unit.core.tracing import Kept


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
