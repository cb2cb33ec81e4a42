"""Waiting for a model that is being started: readiness is asked for instead of sending the prompt again."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from dataclasses import replace
from typing import Any

import pytest

from kserve_core.calls import Call, Response
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NotFoundError,
    NotReadyError,
    ServerError,
    StoppedError,
)
from kserve_core.http_transport import HttpTransport
from kserve_core.readiness import WaitEvent, Waiting
from kserve_core.retry import Probe, RetryPolicy, Send, Sleep, converse
from kserve_core.runtimes.vllm import VLLMRuntime
from tests.unit.core.scripted import ServerSide, answer, post, streaming, whole_stream

PAGE = b"<html><body><h1>Application is not available</h1></body></html>"
COLD = answer(503, PAGE, content_type="text/html")
READY = answer(body={"data": []})
LOADING = NotReadyError("The model is being loaded.", status=503)


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    from kserve_core import transport_base

    def policy(**limits: Any) -> RetryPolicy:
        return RetryPolicy(first_delay=0.01, longest_delay=0.02, **limits)

    monkeypatch.setattr(transport_base, "RetryPolicy", policy)


def probe() -> Call[bool]:
    return Call(method="GET", path="/ready", read=lambda response: response.body != b"no", retry=False)


def run(mode: str, server: ServerSide, call: Any, **options: Any) -> Any:
    transport = HttpTransport(Endpoint.create(server.url, **options))
    return transport.run(call) if mode == "sync" else asyncio.run(transport.arun(call))


def asked(server: ServerSide) -> list[str]:
    return [f"{seen.method} {seen.path}" for seen in server.requests]


POST = "POST /v1/chat/completions"


def test_readiness_is_asked_for_instead_of_sending_the_prompt_again(mode: str) -> None:
    no = answer(200, b"no", content_type="text/plain")
    with ServerSide(COLD, COLD, no, answer(503, b""), READY, answer(body={"ok": 1})) as server:
        assert run(mode, server, post(probe=probe()), api_key="t") == {"ok": 1}
    assert asked(server) == [POST, *["GET /ready"] * 4, POST]
    assert {seen.headers["authorization"] for seen in server.requests} == {"Bearer t"}
    assert all(not seen.body for seen in server.requests[1:5])


def test_a_stream_waits_in_the_same_way() -> None:
    with ServerSide(COLD, READY, whole_stream("a")) as server:
        transport = HttpTransport(Endpoint.create(server.url))
        assert list(transport.stream(streaming(probe=probe()))) == ["a"]
    assert asked(server) == [POST, "GET /ready", POST]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_probe_that_is_not_answered_gives_way_to_the_request_itself(mode: str, status: int) -> None:
    with ServerSide(COLD, answer(status, {"detail": "no"}), COLD, COLD, answer(body={"ok": 1})) as server:
        assert run(mode, server, post(probe=probe())) == {"ok": 1}
    assert asked(server) == [POST, "GET /ready", POST, POST, POST]


def test_a_gateway_that_calls_a_cold_model_ready_is_believed_once(mode: str) -> None:
    with ServerSide(COLD, READY, COLD, COLD, answer(body={"ok": 1})) as server:
        assert run(mode, server, post(probe=probe())) == {"ok": 1}
    assert asked(server) == [POST, "GET /ready", POST, POST, POST]


def test_the_runtime_offers_the_probe_and_a_pickled_client_keeps_it() -> None:
    with ServerSide(COLD, READY, answer(body={"ok": 1})) as server:
        client = RuntimeClient(Endpoint.create(server.url), VLLMRuntime(base_path="/v1", model="m"))
        pickle.loads(pickle.dumps(client)).run(post())
    assert asked(server) == [POST, "GET /v1/models", POST]


def test_the_budget_ends_the_wait_with_the_requests_own_error(mode: str) -> None:
    last = answer(503, PAGE, "text/html", {"Retry-After": "400"})
    with ServerSide(COLD, COLD, COLD, COLD, last) as server, pytest.raises(NotReadyError) as caught:
        run(mode, server, post(probe=probe()), timeout=300)
    assert asked(server) == [POST, *["GET /ready"] * 4]
    assert caught.value.attempts == 1
    assert caught.value.retry_after is None


def test_on_wait_is_told_each_time_and_can_end_the_call(mode: str) -> None:
    class EnoughError(Exception):
        pass

    events: list[WaitEvent] = []

    def on_wait(event: WaitEvent) -> None:
        events.append(event)
        if len(events) == 3:
            raise EnoughError

    with ServerSide(COLD) as server, pytest.raises(EnoughError):
        run(mode, server, post(probe=probe()), on_wait=on_wait)
    assert [event.attempt for event in events] == [1, 1, 1]
    assert [event.seconds for event in events] == sorted(event.seconds for event in events)
    assert "Application is not available" in events[0].reason
    assert "secret words" not in repr(events)


def test_the_log_says_how_long_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    with caplog.at_level(logging.WARNING):
        for second in range(301):
            waiting.tell(float(second), LOADING, 1, 300.0 - second)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("waiting for the model to load (0 s)")
    assert "waiting for the model to load (10 s)" in said[2]
    assert 6 < len(said) < 12


def test_a_stopped_endpoint_is_not_waited_for(mode: str) -> None:
    with ServerSide(COLD) as server:
        endpoint = replace(Endpoint.create(server.url), stopped="The InferenceService is stopped")
        transport = HttpTransport(endpoint)
        with pytest.raises(StoppedError, match="is stopped") as caught:
            transport.run(post()) if mode == "sync" else asyncio.run(transport.arun(post()))
    assert len(server.requests) == caught.value.attempts == 1
    assert "serving.kserve.io/stop" in caught.value.hint


def test_an_answer_that_says_stopped_is_not_waited_for(mode: str) -> None:
    body = {"error": "InferenceService demo is stopped (serving.kserve.io/stop)"}
    with ServerSide(answer(503, body)) as server, pytest.raises(StoppedError):
        run(mode, server, post())
    assert len(server.requests) == 1


def test_a_wrong_idea_of_a_stop_does_no_harm(mode: str) -> None:
    with ServerSide(answer(body={"ok": 1})) as server:
        endpoint = replace(Endpoint.create(server.url), stopped="long ago")
        assert HttpTransport(endpoint).run(post()) == {"ok": 1}


# The conversation alone


def play(*answers: Any, policy: RetryPolicy | None = None, **options: Any) -> tuple[Any, list[Any]]:
    now = [0.0]
    talk = converse(
        policy or RetryPolicy(budget=100.0),
        judge=lambda _, __: None,
        has_token=False,
        refreshable=False,
        clock=lambda: now[0],
        rng=lambda: 0.0,
        **options,
    )
    coming, actions = iter(answers), []
    value: Any = None
    try:
        while True:
            action = talk.throw(value) if isinstance(value, KServeError) else talk.send(value)
            actions.append(action)
            value = None
            if isinstance(action, Sleep):
                now[0] += action.seconds
            else:
                value = next(coming)
    except StopIteration as stop:
        return stop.value, actions
    except KServeError as error:
        return error, actions


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (EndpointConnectionError("refused"), True),
        (EndpointTimeoutError("held too long"), True),
        (NotReadyError("503", status=503), True),
        (ServerError("502", status=502), True),
        (ServerError("500", status=500), False),
        (NotFoundError("404", status=404), False),
        (AuthenticationError("401", status=401), False),
    ],
)
def test_what_a_failed_probe_means(outcome: KServeError, again: bool) -> None:
    end, actions = play(LOADING, outcome, *([True] if again else []), "ok", probing=True)
    assert end == "ok"
    assert sum(isinstance(action, Probe) for action in actions) == (2 if again else 1)
    assert sum(isinstance(action, Send) for action in actions) == 2


def test_a_probe_is_never_longer_than_the_budget() -> None:
    _, actions = play(LOADING, True, "ok", probing=True, policy=RetryPolicy(budget=20.0))
    assert next(action.deadline for action in actions if isinstance(action, Probe)) == 20.0


def test_nothing_is_asked_without_retries() -> None:
    end, actions = play(LOADING, probing=True, policy=RetryPolicy(max_retries=0))
    assert end is LOADING
    assert len(actions) == 1


def test_refused_connections_are_waited_out_inside_a_cluster_only() -> None:
    refused = EndpointConnectionError("nobody listens")
    refused.refused = True
    end, actions = play(*[refused] * 6, "ok", policy=RetryPolicy(wait_refused=True))
    assert end == "ok"
    end, actions = play(*[refused] * 6, "ok")
    assert end is refused
    assert sum(isinstance(action, Send) for action in actions) == 3
    inside = HttpTransport(Endpoint.create("http://m-predictor.ns.svc.cluster.local:8080"))
    assert inside._policy.wait_refused
    assert not HttpTransport(Endpoint.create("https://m.apps.example.com"))._policy.wait_refused


# The endpoint


def test_endpoints_carry_the_callback_where_it_can_travel() -> None:
    lock = threading.Lock()
    local = Endpoint.create("http://127.0.0.1:9", on_wait=lambda event: lock.locked())
    assert pickle.loads(pickle.dumps(local)).on_wait is None
    assert pickle.loads(pickle.dumps(local)) == local
    known = Endpoint.create("http://127.0.0.1:9", on_wait=print)
    assert pickle.loads(pickle.dumps(known)).on_wait is print


def test_whole_answers_stream_outside_only_unless_told() -> None:
    def streams(url: str, **options: Any) -> bool:
        return Endpoint.create(url, **options).streams_whole_answers

    assert streams("https://m.apps.example.com")
    assert not streams("http://127.0.0.1:8080")
    assert not streams("https://m.ns.svc.cluster.local")
    assert not streams("https://m.apps.example.com", stream_invoke=False)
    assert streams("http://127.0.0.1:8080", stream_invoke=True)


def test_a_response_is_what_a_probe_reads() -> None:
    assert VLLMRuntime(base_path="/v1").probe().read(Response(200, {}, b"{}")) is True
