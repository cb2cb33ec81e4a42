"""A service examined by its name, against a Kubernetes API on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from kserve_core.devserver import DevServer
from kserve_core.discovery import cluster
from kserve_core.doctor import aexamine_service, examine_service
from kserve_core.doctor.__main__ import main
from kserve_core.errors import ConfigurationError
from tests.unit.core.discovery import kube as documents
from tests.unit.core.doctor.conftest import CANARY


@pytest.fixture(autouse=True)
def no_cluster_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", cluster.HOST_VARIABLE, cluster.PORT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", str(tmp_path / "serviceaccount"))


def _service(url: str, **changes: object) -> dict[str, object]:
    return {documents.ISVC: documents.isvc(status={"url": url}, **changes), documents.RUNTIME: documents.runtime()}


def test_a_service_is_found_and_examined(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CANARY)
    with DevServer(models=["m"], api_key=CANARY) as server, documents.Kube(_service(server.url)) as kube:
        kubeconfig = kube.kubeconfig(tmp_path)
        report = examine_service("m", namespace="demo", kubeconfig=kubeconfig, api_key=token, timeout=20)
        url = server.url
        sent = [item.headers.get("authorization", "") for item in kube.seen]
    assert report.ok, str(report)
    found = report.finding("cluster")
    assert found is not None
    assert found.facts["url"] == url
    assert "vLLM" in found.detail or "vllm" in found.detail
    for program in report.snippets.values():
        assert ".from_inference_service(" in program
        assert '"m",' in program
        assert 'namespace="demo"' in program
        compile(program, "<snippet>", "exec")
    for secret in (CANARY, documents.TOKEN):
        assert secret not in f"{report}{report.to_dict()}"
    assert all(CANARY not in item for item in sent)


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    with documents.Kube({documents.RUNTIME: documents.runtime()}) as kube:
        report = examine_service("m", namespace="demo", kubeconfig=kube.kubeconfig(tmp_path), timeout=20)
    found = report.finding("cluster")
    assert found is not None
    assert found.status == "failed"
    assert "no InferenceService 'm'" in found.title
    assert report.exit_code == 1
    assert all(item.status == "skipped" for item in report.findings[1:])


def test_a_service_that_may_not_be_read(tmp_path: Path) -> None:
    with documents.Kube({documents.ISVC: 403, documents.LLM1: 403, documents.LLM2: 403}) as kube:
        report = examine_service("m", namespace="demo", kubeconfig=kube.kubeconfig(tmp_path), timeout=20)
    found = report.finding("cluster")
    assert found is not None
    assert found.status == "failed"
    assert "get" in found.fix


def test_a_service_that_was_stopped(tmp_path: Path) -> None:
    stopped = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
    with documents.Kube(_service("https://m.example.com", **stopped)) as kube:
        report = examine_service("m", namespace="demo", kubeconfig=kube.kubeconfig(tmp_path), timeout=20)
    found = report.finding("cluster")
    assert found is not None
    assert "stopped on purpose" in found.title
    assert "serving.kserve.io/stop-" in found.fix


async def test_from_an_event_loop(tmp_path: Path) -> None:
    with DevServer(models=["m"]) as server, documents.Kube(_service(server.url)) as kube:
        report = await aexamine_service("m", namespace="demo", kubeconfig=kube.kubeconfig(tmp_path), timeout=20)
    assert report.ok, str(report)


def test_no_cluster_at_all_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError):
        examine_service("m", namespace="demo", timeout=5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DevServer(models=["m"]) as server, documents.Kube(_service(server.url)) as kube:
        status = main(["--isvc", "m", "-n", "demo", "--kubeconfig", str(kube.kubeconfig(tmp_path))])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "kserve-doctor demo/m" in printed
    assert "Cluster" in printed
    assert documents.TOKEN not in printed
