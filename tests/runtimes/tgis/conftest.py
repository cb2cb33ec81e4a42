"""Clients of the TGIS servers that `python -m runtimes tgis` has started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from targets import Target, get_target

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.runtimes.tgis import TGISRuntime

Client = RuntimeClient[TGISRuntime]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is TGIS's."""
    for item in items:
        if "runtimes/tgis" in item.path.as_posix():
            item.add_marker(pytest.mark.runtime("tgis"))


@pytest.fixture(scope="session")
def servers() -> dict[str, Any]:
    """Where the servers are, and the certificates."""
    return get_target("tgis").servers


@pytest.fixture(scope="session")
def tgis() -> Target:
    """The server without TLS."""
    return get_target("tgis")


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[..., Client]]:
    """Makes clients and closes them at the end."""
    made: list[Client] = []

    def connect(base_url: str, *, model: str | None = "tiny", **given: Any) -> Client:
        endpoint = Endpoint.create(base_url, **{"max_retries": 0, **given})
        made.append(RuntimeClient(endpoint, TGISRuntime(model=model)))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def plain(servers: dict[str, Any], connect: Callable[..., Client]) -> Client:
    """The server without TLS."""
    return connect(servers["plain"]["base_url"])


@pytest.fixture(scope="session")
def secure(servers: dict[str, Any], connect: Callable[..., Client]) -> Client:
    """The server that wants to see a client certificate."""
    return connect(servers["secure"]["base_url"], ca_cert=servers["ca_cert"], client_cert=tuple(servers["client_cert"]))
