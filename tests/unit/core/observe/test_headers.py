"""Trace headers and request ids."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach

from kserve_core import telemetry
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer, Fault
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError
from kserve_core.runtimes.tgis import TGISRuntime
from tests.unit.core.observe.calls import CHAT, TEXT, client, sent
from tests.unit.core.tracing import Kept, keep


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
