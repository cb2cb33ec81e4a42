"""The fixture users import."""

from __future__ import annotations

import httpx

pytest_plugins = ["kserve_core.devserver.pytest_plugin"]


def test_a_fault_left_behind(kserve_devserver):
    kserve_devserver.fault(status=503)
    assert len(kserve_devserver.requests) == 0


def test_does_not_reach_the_next_test(kserve_devserver):
    assert httpx.get(f"{kserve_devserver.url}/version").status_code == 200
    assert len(kserve_devserver.requests) == 1
