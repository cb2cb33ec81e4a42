"""Faults below a request: addresses, certificates, redirects, tokens, restarts and proxies."""

from __future__ import annotations

import pytest
from faults.cells import check
from faults.setups import SETUPS
from faults.table import CONNECTIONS, Row
from faults.ways import Way, ways

CELLS = [
    pytest.param(row, way, id=f"{row.name}-{way}") for row in CONNECTIONS for kind in row.cells for way in ways(kind)
]


@pytest.mark.parametrize(("row", "way"), CELLS)
def test_cell(row: Row, way: Way) -> None:
    want = row.cells[way.kind]
    with SETUPS[row.name](way) as scene:
        fields = {"timeout": 10, "connect_timeout": 5, **scene.fields}
        outcome = way.run(scene.url, times=scene.times, between=scene.between, **fields)
        check(outcome, want, attempts=False)
        assert scene.sent is None or scene.sent() == want.sent
        scene.afterwards()


def test_every_setup_is_in_the_table() -> None:
    assert {row.name for row in CONNECTIONS} == SETUPS.keys()
