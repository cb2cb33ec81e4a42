"""Plays a cell of the table and compares how it ended."""

from __future__ import annotations

from typing import Any

import pytest
from faults.table import TABLES, Row, Want
from faults.ways import ANSWER, Outcome, Way, ways

from kserve_core import errors
from kserve_core.devserver import DevServer


def cells_of(*kinds: str) -> list[Any]:
    """The parameters `row` and `way` of all cells of some kinds of exchange."""
    return [
        pytest.param(row, way, id=f"{row.name}-{way}")
        for rows in TABLES.values()
        for row in rows
        for kind in row.cells
        if kind in kinds
        for way in ways(kind)
    ]


def play(server: DevServer, row: Row, way: Way) -> None:
    """Plays one cell.

    Raises:
        AssertionError: It does not end as the table says.
    """
    fault = row.over_grpc if way.over_grpc and row.over_grpc is not None else row.fault
    if fault:
        server.fault(path="/fmaas*" if way.over_grpc else "/v1/chat/completions", **fault)
    outcome = way.run(server.tgis_url if way.over_grpc else f"{server.url}/v1", **row.fields)
    check(outcome, row.cells[way.kind], whole="strict_stream" not in row.fields)
    assert prompts(server) == row.cells[way.kind].sent


def prompts(server: DevServer) -> int:
    """How many requests with a prompt came; questions whether the model is ready have none."""
    return sum("ompletions" in record.path or "/Generate" in record.path for record in server.requests)


def check(outcome: Outcome, want: Want, *, whole: bool = True, attempts: bool = True) -> None:
    """Compares how an exchange ended with what is wanted."""
    error = outcome.error
    if want.outcome == "ok":
        assert error is None
        assert outcome.text.strip(" .").startswith(ANSWER) if whole else ANSWER.startswith(outcome.text.strip())
        return
    if want.vague and isinstance(error, errors.BadResponseError):
        assert "is not gRPC" in str(error)
        return
    assert isinstance(error, getattr(errors, want.outcome)), error
    public = next(cls.__name__ for cls in type(error).__mro__ if hasattr(errors, cls.__name__))
    assert public == want.outcome
    assert not attempts or error.attempts == want.sent
    assert want.layer is None or error.layer == want.layer
    assert want.says in str(error)
    assert bool(outcome.text) is want.text
    assert error.partial_text.startswith(outcome.text)
    assert not outcome.text or ANSWER.startswith(outcome.text.strip())
