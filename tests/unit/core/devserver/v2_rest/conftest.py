"""One development server for each tensor runtime."""

from __future__ import annotations

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.v2_wire import MODELS, RUNTIMES


@pytest.fixture(scope="module")
def servers():
    made = {runtime: DevServer(runtime=runtime, models=MODELS).start() for runtime in RUNTIMES}
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def http(servers):
    clients = {
        name: httpx.Client(base_url=server.url, timeout=10, headers={"accept-encoding": "identity"})
        for name, server in servers.items()
    }
    yield clients
    for name, client in clients.items():
        client.close()
        servers[name].reset()
