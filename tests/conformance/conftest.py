"""The same suites run over the development server and, with `KSERVE_TEST_TARGETS` set, over real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import targets

if TYPE_CHECKING:
    from kserve_core.devserver import DevServer


@pytest.fixture(scope="session", autouse=True)
def devserver() -> DevServer | None:
    """The development server with vLLM's wire, or None when the targets are real; see also `target.devserver`."""
    return None if targets.real_targets() is not None else targets.development_server()


@pytest.fixture(autouse=True)
def _no_faults_left_over():
    """What one test scripted does not reach the next."""
    yield
    targets.reset_development_servers()
