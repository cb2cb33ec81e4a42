"""Clients of the Caikit servers that `python -m runtimes caikit` has started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from targets import get_target

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.runtimes.caikit import CaikitRuntime

Client = RuntimeClient[CaikitRuntime]
EMBEDDER = "minilm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is Caikit's."""
    for item in items:
        if "runtimes/caikit" in item.path.as_posix():
            item.add_marker(pytest.mark.runtime("caikit"))


@pytest.fixture(scope="session")
def servers() -> dict[str, Any]:
    """Where the servers are, by name and protocol, and what is behind them."""
    return get_target("caikit").servers


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[..., Client]]:
    """Makes clients and closes them at the end. gRPC is spoken where the URL says so."""
    made: list[Client] = []

    def connect(base_url: str, *, model: str | None = "tiny", **given: Any) -> Client:
        endpoint = Endpoint.create(base_url, **{"max_retries": 0, **given})
        runtime = CaikitRuntime(
            base_path=endpoint.base_path, model=model, protocol="grpc" if endpoint.is_grpc else "rest"
        )
        made.append(RuntimeClient(endpoint, runtime))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def rest(servers: dict[str, Any], connect: Callable[..., Client]) -> Client:
    """The open server, over REST."""
    return connect(servers["plain"]["rest"])


@pytest.fixture(scope="session")
def grpc(servers: dict[str, Any], connect: Callable[..., Client]) -> Client:
    """The open server, over gRPC."""
    return connect(servers["plain"]["grpc"])


@pytest.fixture(scope="session", params=["rest", "grpc"])
def client(request: pytest.FixtureRequest) -> Client:
    """The open server, over one protocol and the other."""
    found: Client = request.getfixturevalue(request.param)
    return found
