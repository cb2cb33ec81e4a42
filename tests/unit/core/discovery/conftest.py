"""A cluster on loopback for the tests of discovery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kserve_core.discovery import cluster
from kserve_core.discovery.connect import discover
from kserve_core.discovery.facts import Discovery
from tests.unit.core.discovery import kube as documents


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a developer's kubeconfig nor a pod's service account reaches the tests."""
    for name in ("KUBECONFIG", cluster.HOST_VARIABLE, cluster.PORT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", str(tmp_path / "serviceaccount"))


@pytest.fixture
def kube() -> Iterator[documents.Kube]:
    with documents.Kube({documents.ISVC: documents.isvc(), documents.RUNTIME: documents.runtime()}) as server:
        yield server


@pytest.fixture
def find(kube: documents.Kube, tmp_path: Path) -> Any:
    """Discovers the service `m`, after some of the documents were changed."""

    def run(changed: dict[str, Any] | None = None, **options: Any) -> Discovery:
        kube.documents.update(changed or {})
        return discover("m", kubeconfig=kube.kubeconfig(tmp_path), **options)

    return run
