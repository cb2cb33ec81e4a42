"""The table of faults for gRPC, whole and streamed, in both frameworks, blocking and from an event loop."""

from __future__ import annotations

import pytest
from faults.cells import cells_of, play
from faults.table import Row
from faults.ways import Way

from kserve_core.devserver import DevServer


@pytest.mark.parametrize(("row", "way"), cells_of("grpc", "grpc-stream"))
def test_cell(server: DevServer, row: Row, way: Way) -> None:
    play(server, row, way)
