"""KServe's SDK, tritonclient and this package in one process, each asking the same server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from runtimes.v2.clients import servers_of

HERE = Path(__file__).parent
CORE = HERE.parents[2] / "core"


@pytest.mark.parametrize("when", ["first", "last"])
@pytest.mark.parametrize("which", ["kserve-sdk", "tritonclient-grpc"])
def test_all_get_the_same_vector(which, when):
    servers = servers_of("kserve")
    target = servers["plain"]["grpc"].removeprefix("grpc://")
    command = [servers["python"], str(HERE / "together.py"), which, when, servers["plain"]["rest"], target]
    variables = {**os.environ, "PYTHONPATH": str(CORE)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(done.stdout.splitlines()[-1]).values()
    assert len(first) == 384
    assert len(others) >= 2
    for other in others:
        assert other == pytest.approx(first, abs=1e-6)
