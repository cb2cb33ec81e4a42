"""A pytest fixture with a development server.

Name it in your `conftest.py`:

    pytest_plugins = ["kserve_core.devserver.pytest_plugin"]

and ask for `kserve_devserver` in a test. The server is started once; requests and faults are cleared per test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kserve_core.devserver.server import DevServer


@pytest.fixture(scope="session")
def kserve_devserver_session() -> Iterator[DevServer]:
    """The server all tests share."""
    with DevServer() as server:
        yield server


@pytest.fixture
def kserve_devserver(kserve_devserver_session: DevServer) -> Iterator[DevServer]:
    """A server without recorded requests or coming faults; clients point at its `url`."""
    kserve_devserver_session.reset()
    yield kserve_devserver_session
    kserve_devserver_session.reset()
