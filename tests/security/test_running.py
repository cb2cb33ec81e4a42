"""Neither secrets nor prompts in logs, errors, callbacks, traces and reports, whatever the server does with them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from faults.ways import ANSWER, Outcome, Way, ways
from security.canary import HEADER, PROMPT, SECRETS, TOKEN, error_texts, found_in
from unit.core.grpc_scripted import GrpcServer, abort
from unit.core.scripted import STREAM_HEAD, ServerSide, answer, chunk

from kserve_core.devserver import DevServer
from kserve_core.errors import KServeError

LOGGERS = ("", "kserve_core", "httpx", "httpcore", "grpc", "grpc._cython", "asyncio", "urllib3", "hpack", "h11")
GIVEN: dict[str, Any] = {"api_key": TOKEN, "default_headers": {"x-tenant-key": HEADER}, "max_retries": 0}
FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {"status": 500},
    {"body": "kube-rbac-unauthorized"},
    {"body": "kube-rbac-forbidden"},
    {"reset": "before-headers"},
    {"cut_after": 4},
    {"error_after": 4},
    {"malformed_after": 2},
    {"redirect": "https://model.example.com/"},
)


@pytest.fixture(scope="module")
def running() -> Iterator[DevServer]:
    with DevServer(api_key=TOKEN, tgis=True) as server:
        yield server


@pytest.fixture
def server(running: DevServer) -> Iterator[DevServer]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """All there is to log."""
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]
    caplog.set_level(logging.DEBUG)
    return caplog


def told(log: pytest.LogCaptureFixture) -> list[Any]:
    """The log, its records' own fields included."""
    return [log.text, *(repr(vars(record)) for record in log.records)]


def ask(way: Way, url: str, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Outcome:
    """Asks with the canary prompt."""
    from faults import ways as module

    monkeypatch.setattr(module, "PROMPT", PROMPT)
    return way.run(url, **{**GIVEN, **fields})


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(fault) or "fine")
@pytest.mark.parametrize("way", ways(), ids=str)
def test_logs_and_errors(
    server: DevServer, way: Way, fault: dict[str, Any], logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault:
        server.fault(**fault, path="/fmaas*" if way.over_grpc else "/v1/chat/completions")
    outcome = ask(way, server.tgis_url if way.over_grpc else f"{server.url}/v1", monkeypatch)
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert server.requests[0].headers["x-tenant-key"] == HEADER
    assert PROMPT.encode() in server.requests[0].body
    assert logged.records, "nothing was logged, so nothing was looked at"
    assert not found_in(*told(logged), secrets=(*SECRETS, PROMPT, "one two three"))
    if outcome.error is not None:
        outcome.error.partial_text = ""  # that is where the answer belongs
        assert not found_in(*error_texts(outcome.error), secrets=(*SECRETS, PROMPT, "one two three"))


ECHO = {"error": {"message": f"Not accepted: Bearer {TOKEN}", "type": TOKEN, "input": PROMPT, "code": 0}}
VALIDATION = {"detail": [{"loc": ["body"], "msg": "Wrong.", "type": "x", "input": {"prompt": PROMPT}}]}


@pytest.mark.parametrize("status", [200, 307, 400, 401, 403, 422, 500])
@pytest.mark.parametrize("body", [ECHO, VALIDATION, f"Bad token {TOKEN}"], ids=["json", "validation", "text"])
@pytest.mark.parametrize("way", ways("rest", "sse"), ids=str)
def test_a_server_that_repeats_what_it_was_sent(
    way: Way, status: int, body: Any, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = body.encode() if isinstance(body, str) else body
    with ServerSide(answer(status, said, headers={"location": "https://h.example.com/", "x-echo": TOKEN})) as server:
        outcome = ask(way, f"{server.url}/v1", monkeypatch)
    assert isinstance(outcome.error, KServeError)
    assert not found_in(*error_texts(outcome.error), *told(logged), secrets=(*SECRETS, PROMPT))


@pytest.mark.parametrize("way", ways("sse"), ids=str)
def test_a_stream_that_repeats_it(way: Way, logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerSide([STREAM_HEAD, chunk(b"data: " + json.dumps(ECHO).encode() + b"\n\n"), b"0\r\n\r\n"]) as server:
        outcome = ask(way, f"{server.url}/v1", monkeypatch)
    assert isinstance(outcome.error, KServeError)
    assert not found_in(*error_texts(outcome.error), *told(logged), secrets=(*SECRETS, PROMPT))


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE"])
@pytest.mark.parametrize("way", ways("grpc", "grpc-stream"), ids=str)
def test_a_status_that_repeats_it(way: Way, code: str, logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with GrpcServer(abort(code, f"Not accepted: Bearer {TOKEN}", x_echo=TOKEN)) as server:
        outcome = ask(way, server.url, monkeypatch)
    assert isinstance(outcome.error, KServeError)
    assert not found_in(*error_texts(outcome.error), *told(logged), secrets=(*SECRETS, PROMPT))


@pytest.mark.parametrize("way", ways("rest", "sse"), ids=str)
def test_a_proxy_and_the_http_library_that_is_used_for_it(
    way: Way, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerSide(answer(500, b"no")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        outcome = ask(way, "http://model.invalid/v1", monkeypatch, allow_insecure_token=True)
    assert proxy.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert {"httpcore"} <= {record.name.partition(".")[0] for record in logged.records}
    assert not found_in(*error_texts(outcome.error or KServeError("")), *told(logged), secrets=(*SECRETS, PROMPT))


# Callbacks, traces, events


@pytest.mark.parametrize("fault", [{}, {"status": 401}, {"cut_after": 4}], ids=["fine", "refused", "cut"])
@pytest.mark.parametrize("mode", ["invoke", "stream", "ainvoke", "astream"])
@pytest.mark.parametrize("name", ["ChatVLLM", "VLLM"])
def test_langchains_callbacks_and_traces(server: DevServer, name: str, mode: str, fault: dict[str, Any]) -> None:
    from langchain_core.tracers.base import BaseTracer

    import langchain_kserve

    class Tracer(BaseTracer):
        def __init__(self) -> None:
            super().__init__()
            self.runs: list[Any] = []

        def _persist_run(self, run: Any) -> None:
            self.runs.append(run)

    if fault:
        server.fault(**fault, path="ompletions")
    tracer, model = Tracer(), getattr(langchain_kserve, name)(base_url=f"{server.url}/v1", model="dev-model", **GIVEN)
    config = {"callbacks": [tracer], "metadata": {"mine": 1}}

    async def use() -> None:
        result = getattr(model, mode)("Count to ten.", config)
        if mode == "astream":
            _ = [piece async for piece in result]
        elif mode == "stream":
            list(result)
        elif mode == "ainvoke":
            await result
        await model.aclose()

    try:
        asyncio.run(use())
    except KServeError:
        assert fault
    (run,) = tracer.runs
    assert run.extra["metadata"]["mine"] == 1
    assert not found_in(run.model_dump_json(), run.model_dump())


@pytest.mark.parametrize("fault", [{}, {"status": 401}, {"cut_after": 4}], ids=["fine", "refused", "cut"])
@pytest.mark.parametrize("mode", ["chat", "stream_chat", "complete"])
def test_llamaindexs_events_and_spans(server: DevServer, mode: str, fault: dict[str, Any]) -> None:
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

    from llamaindex_kserve import VLLM

    seen: list[Any] = []

    class Handler(BaseEventHandler):
        @classmethod
        def class_name(cls) -> str:
            return "Handler"

        def handle(self, event: Any, **_: Any) -> None:
            seen.extend([event.model_dump_json(), repr(event), event.tags])

    if fault:
        server.fault(**fault, path="ompletions")
    spans, root = SimpleSpanHandler(), get_dispatcher()
    root.add_event_handler(Handler())
    root.add_span_handler(spans)
    model = VLLM(base_url=f"{server.url}/v1", model="dev-model", **GIVEN)
    asked = "Count to ten." if mode == "complete" else [ChatMessage("Count to ten.")]
    try:
        result = getattr(model, mode)(asked)
        list(result if mode == "stream_chat" else [])
    except KServeError:
        assert fault
    finally:
        root.event_handlers.pop()
        root.span_handlers.pop()
        model.close()
    assert seen
    everything = [*spans.completed_spans, *spans.dropped_spans, *spans.open_spans.values()]
    assert not found_in(*seen, *(f"{span!r} {span.model_dump()}" for span in everything))


@pytest.mark.parametrize("fault", [{}, {"status": 401}], ids=["fine", "refused"])
def test_opentelemetrys_spans(server: DevServer, fault: dict[str, Any]) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from kserve_core import telemetry
    from langchain_kserve import ChatVLLM

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    if fault:
        server.fault(**fault, path="ompletions")
    telemetry.instrument(tracer_provider=provider)
    try:
        with ChatVLLM(base_url=f"{server.url}/v1", model="dev-model", **GIVEN) as model:
            model.invoke(PROMPT)
    except KServeError:
        assert fault
    finally:
        telemetry.uninstrument()
    spans = exporter.get_finished_spans()
    assert spans
    assert not found_in(*(span.to_json() for span in spans), secrets=(*SECRETS, PROMPT, ANSWER))


def test_the_doctors_report(server: DevServer, tmp_path: Any, capsys: pytest.CaptureFixture[str], logged: Any) -> None:
    from kserve_core.doctor.__main__ import main

    file = tmp_path / "token"
    file.write_text(TOKEN)
    for options in ([], ["--json"]):
        main([f"{server.url}/v1", "--token-file", str(file), "--timeout", "20", *options])
    out = capsys.readouterr()
    assert "dev-model" in out.out
    assert any(record.headers.get("authorization") == f"Bearer {TOKEN}" for record in server.requests)
    assert not found_in(out.out, out.err, *told(logged))
