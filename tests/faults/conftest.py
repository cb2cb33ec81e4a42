"""Short delays and small limits for the fault matrix, and the check that nothing is left open."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from faults.table import MAX_ANSWER
from faults.ways import Sockets, ways

from kserve_core import http_messages, sse, transport_base
from kserve_core.retry import RetryPolicy

if TYPE_CHECKING:
    from kserve_core.devserver import DevServer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without the wait, and limits that are reached quickly."""

    def policy(**limits: Any) -> RetryPolicy:
        return RetryPolicy(first_delay=0.005, longest_delay=0.01, **limits)

    monkeypatch.setattr(transport_base, "RetryPolicy", policy)
    monkeypatch.setattr(http_messages, "MAX_ANSWER", MAX_ANSWER)
    monkeypatch.setattr(sse.SSEDecoder.__init__, "__defaults__", (MAX_ANSWER,))


@pytest.fixture(scope="session")
def _warm() -> None:
    """gRPC's own threads and sockets, which stay for the process's life, are there before anything is counted."""
    from kserve_core.devserver import DevServer

    with DevServer(tgis=True) as server:
        for way in ways():
            way.run(server.tgis_url if way.over_grpc else f"{server.url}/v1")
    gc.collect()
    gc.freeze()  # what is there stays: looking for garbage after a test is then quick


@pytest.fixture(autouse=True)
def nothing_left_open(_warm: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a socket behind."""
    if "server" in request.fixturenames:
        request.getfixturevalue("server")  # its sockets are not the test's
    before = Sockets()
    yield
    before.check()


@pytest.fixture(scope="session")
def _running() -> Iterator[DevServer]:
    from kserve_core.devserver import DevServer

    with DevServer(tgis=True) as server:
        yield server


@pytest.fixture
def server(_running: DevServer) -> Iterator[DevServer]:
    """A development server that speaks vLLM's wire and that of TGIS."""
    _running.reset()
    yield _running
    _running.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not closed, and what fails where nobody looks, is an error here."""
    for item in items:
        if "/faults/" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("error::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"))
