"""LLMInferenceServices, InferenceGraphs, and services that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kserve_core import Endpoint
from kserve_core.errors import NotFoundError, PermissionDeniedError
from tests.unit.core.discovery.kube import ISVC, KSERVE, LLM1, LLM2, NS, Kube, merge

GATEWAY = "https://inference.apps.example.com"
GRAPH = f"{KSERVE}/v1alpha1/namespaces/{NS}/inferencegraphs/m"
LIST = f"{KSERVE}/v1beta1/namespaces/{NS}/inferenceservices?limit=100"


def entry(name: str, url: str, *models: str) -> dict[str, Any]:
    return {"name": name, "url": url, "models": [{"name": model} for model in models]}


def llm(*addresses: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = {
        "kind": "LLMInferenceService",
        "metadata": {"name": "m", "annotations": {}},
        "spec": {"model": {"uri": "hf://x/y", "name": "x/y"}},
        "status": {"addresses": list(addresses), "conditions": [{"type": "Ready", "status": "True"}]},
    }
    return merge(base, changes)


@pytest.fixture
def only(kube: Kube, find: Any) -> Any:
    """Discovers `m` where there is no InferenceService of that name."""
    del kube.documents[ISVC]
    return find


def test_the_address_with_the_model_in_its_path_comes_first(only: Any, kube: Kube) -> None:
    kube.documents[LLM2] = llm(
        entry("gateway-external-model-routing", GATEWAY, "publishers/demo/models/x/y"),
        entry("gateway-external", f"{GATEWAY}/demo/m", "x/y", "adapter"),
        entry("internal", "https://m-kserve-workload-svc.demo.svc.cluster.local:8000", "x/y"),
        entry("gateway-internal", "https://gw.openshift-ingress.svc.cluster.local/demo/m", "x/y"),
    )
    found = only()
    assert found.kind == "LLMInferenceService"
    assert (found.url, found.runtime, found.model) == (f"{GATEWAY}/demo/m/v1", "vllm", "x/y")
    assert found.aliases == ("adapter",)
    assert found.headers == ()
    assert found.auth is True
    assert "llminferenceservices.serving.kserve.io/m" in found.permission
    assert only(where="inside").url == "https://gw.openshift-ingress.svc.cluster.local/demo/m/v1"


def test_inside_without_a_gateway(only: Any, kube: Kube) -> None:
    url = "https://m-kserve-workload-svc.demo.svc.cluster.local:8000"
    kube.documents[LLM2] = llm(entry("internal", url, "x/y"))
    found = only(where="inside")
    assert (found.url, found.model) == (f"{url}/v1", "x/y")
    kube.documents[LLM2] = llm()
    assert only(where="inside").url == f"{url}/v1"
    assert any("made from" in note for note in only(where="inside").notes)
    outside = only()
    assert outside.url is None
    assert "gateway-external" in outside.notes[-1]


def test_an_address_without_the_model_in_its_path_needs_a_header(only: Any, kube: Kube) -> None:
    kube.documents[LLM2] = llm(entry("gateway-external-model-routing", f"{GATEWAY}/", "x/y"))
    found = only()
    assert found.url == f"{GATEWAY}/v1"
    assert found.headers == (("x-gateway-model-name", "publishers/demo/models/x/y"),)
    assert found.permission == "`post` on `models.serving.opendatahub.io`"
    kube.documents[LLM2] = llm(entry("gateway-external-model-routing", GATEWAY, "publishers/demo/models/x/y"))
    found = only()
    assert found.model == "publishers/demo/models/x/y"
    assert dict(found.headers)["x-gateway-model-name"] == "publishers/demo/models/x/y"


def test_the_older_version_and_its_address(only: Any, kube: Kube) -> None:
    kube.documents[LLM1] = llm(
        spec={"model": {"name": None}},
        status={
            "addresses": None,
            "url": f"{GATEWAY}/demo/m",
            "address": {"url": "https://x.demo.svc.cluster.local:8000"},
        },
    )
    found = only()
    assert (found.url, found.model) == (f"{GATEWAY}/demo/m/v1", "m")
    assert only(where="inside").url == "https://x.demo.svc.cluster.local:8000/v1"
    assert [path for path in kube.paths() if "llminference" in path][:2] == [LLM2, LLM1]


def test_auth_can_be_off(only: Any, kube: Kube) -> None:
    off = {"annotations": {"security.opendatahub.io/enable-auth": "false"}}
    kube.documents[LLM2] = llm(entry("gateway-external", f"{GATEWAY}/demo/m"), metadata=off)
    assert only().auth is False


def test_a_graph(only: Any, kube: Kube, tmp_path: Path) -> None:
    kube.documents[GRAPH] = {"kind": "InferenceGraph", "status": {"url": "https://m-demo.apps.example.com"}}
    found = only()
    assert (found.kind, found.url, found.runtime) == ("InferenceGraph", "https://m-demo.apps.example.com", None)
    endpoint = Endpoint.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path))
    assert not endpoint.streams_whole_answers
    asked = Endpoint.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path), stream_invoke=True)
    assert asked.streams_whole_answers
    assert any("does not stream" in note for note in found.notes)


def test_nothing_of_that_name(only: Any, kube: Kube) -> None:
    with pytest.raises(NotFoundError) as caught:
        only()
    assert "'m'" in str(caught.value)
    assert "'demo'" in str(caught.value)
    assert caught.value.layer == "cluster"
    kube.documents[LIST] = {"items": [{"metadata": {"name": "mm"}}, {"metadata": {"name": "zebra"}}]}
    with pytest.raises(NotFoundError, match="Did you mean 'mm'"):
        only()


def test_nothing_of_that_name_among_what_may_be_read(only: Any, kube: Kube) -> None:
    kube.documents |= {LLM1: 403, LLM2: 403, LIST: {"items": [{"metadata": {"name": "mm"}}]}}
    with pytest.raises(NotFoundError, match="Did you mean 'mm'") as caught:
        only()
    assert "may not read LLMInferenceServices, if" in caught.value.hint


def test_a_cluster_without_kserve(only: Any, kube: Kube) -> None:
    kube.documents[KSERVE] = 404
    with pytest.raises(NotFoundError, match="no InferenceServices") as caught:
        only()
    assert "not installed" in caught.value.hint


def test_a_service_that_may_not_be_read(find: Any, kube: Kube) -> None:
    kube.documents[ISVC] = 403
    with pytest.raises(PermissionDeniedError) as caught:
        find()
    assert "Grant system:serviceaccount:demo:app the verb `get`" in caught.value.hint
    assert "inferenceservices.serving.kserve.io" in caught.value.hint
    kube.documents[LLM2] = llm(entry("gateway-external", f"{GATEWAY}/demo/m"))
    assert find().kind == "LLMInferenceService"
