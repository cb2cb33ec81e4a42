"""A development server and an SDK that keeps what it is given."""

from __future__ import annotations

import pytest

from kserve_core import telemetry
from kserve_core.devserver import DevServer
from tests.unit.core.tracing import keep


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
