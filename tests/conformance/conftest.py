"""The same suites run over the development server and, with `KSERVE_TEST_TARGETS` set, over real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import targets

if TYPE_CHECKING:
    from kserve_core.devserver import DevServer


@pytest.fixture(scope="session", autouse=True)
def devserver() -> DevServer | None:
    """The development server behind the targets, or None when they are real."""
    return None if targets.real_targets() is not None else targets.development_server()


@pytest.fixture(autouse=True)
def _no_faults_left_over(devserver: DevServer | None):
    """What one test scripted does not reach the next."""
    yield
    if devserver is not None:
        devserver.reset()
