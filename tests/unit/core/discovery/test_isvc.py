"""From an InferenceService and what is around it to facts: address and state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.discovery.kube import (
    CLUSTER_RUNTIME,
    INSIDE,
    ISVC,
    NS,
    OUTSIDE,
    PEM,
    ROOT_CA,
    ROUTE,
    RUNTIME,
    SERVICE,
    SERVICE_CA,
    TRUSTED_CA,
    Kube,
    config_map,
    container,
    isvc,
    plain_runtime,
    route,
    runtime,
    service,
)

AUTH = {"security.opendatahub.io/enable-auth": "true"}


def with_auth(**changes: Any) -> dict[str, Any]:
    return isvc(metadata={"annotations": AUTH}, **changes)


# --- addresses --------------------------------------------------------------------------------------------------


def test_outside_of_an_exposed_service(find: Any) -> None:
    found = find(
        {
            ROUTE: route(),
            TRUSTED_CA: config_map(ca_bundle__crt=PEM, odh_ca_bundle__crt=PEM),
            ROOT_CA: config_map(ca__crt=PEM),
        }
    )
    assert (found.url, found.where, found.protocol) == (OUTSIDE, "outside", "rest")
    assert (found.runtime, found.model, found.runtime_version) == ("vllm", "m", "v0.21.0")
    assert found.display_name == "My model"
    assert found.deployment == "Standard"
    assert found.auth is False
    assert found.ready is True
    assert [item.source for item in found.authorities] == [
        "ConfigMap odh-trusted-ca-bundle, key ca-bundle.crt",
        "ConfigMap odh-trusted-ca-bundle, key odh-ca-bundle.crt",
        "ConfigMap kube-root-ca.crt, key ca.crt",
    ]
    assert found.cluster_hosts == (".apps.example.com",)


@pytest.mark.parametrize(
    ("document", "url"),
    [
        pytest.param(service(), INSIDE, id="service with an address of its own"),
        pytest.param(service(headless=True), f"{INSIDE}:8080", id="headless"),
        pytest.param(
            service(
                {"name": "h2c", "port": 81, "targetPort": 8033},
                {"name": "http", "port": 80, "targetPort": 8888},
                headless=True,
            ),
            f"{INSIDE}:8888",
            id="headless, gRPC port first",
        ),
        pytest.param(service({"name": "http", "port": 8080, "targetPort": 8080}), f"{INSIDE}:8080", id="no port 80"),
    ],
)
def test_inside_without_auth(find: Any, document: Any, url: str) -> None:
    assert find({SERVICE: document}, where="inside").url == url


def test_headless_service_with_a_named_port(find: Any) -> None:
    named = runtime(spec={"containers": [container("--served-model-name=m", ports=[(8033, "grpc"), (8090, "web")])]})
    document = service({"name": "http", "port": 80, "targetPort": "web"}, headless=True)
    assert find({RUNTIME: named, SERVICE: document}, where="inside").url == f"{INSIDE}:8090"


def test_inside_with_auth_goes_to_the_proxy(find: Any) -> None:
    found = find(
        {ISVC: with_auth(), SERVICE: service(headless=True), SERVICE_CA: config_map(service_ca__crt=PEM)},
        where="inside",
    )
    assert found.url == f"https://m-predictor.{NS}.svc.cluster.local:8443"
    assert found.auth is True
    assert "inferenceservices.serving.kserve.io/m" in found.permission
    assert [item.source for item in found.authorities] == ["ConfigMap openshift-service-ca.crt, key service-ca.crt"]


def test_an_address_that_is_right_already_stays(find: Any) -> None:
    url = f"https://m-predictor.{NS}.svc.cluster.local:8443"
    assert find({ISVC: with_auth(status={"address": {"url": url}})}, where="inside").url == url
    url = f"{INSIDE}:8080"
    assert find({ISVC: isvc(status={"address": {"url": url}}), SERVICE: service()}, where="inside").url == url


def test_the_older_proxy_wants_another_permission(find: Any) -> None:
    changed = isvc(metadata={"annotations": {**AUTH, "security.opendatahub.io/auth-proxy-type": "oauth-proxy"}})
    assert find({ISVC: changed}).permission == f"`get` on `services` in namespace {NS}"


@pytest.mark.parametrize(
    "reported",
    [INSIDE, f"https://m-predictor.{NS}.svc.cluster.local:8443", f"http://m-transformer.{NS}.svc.cluster.local"],
)
def test_a_transformer_is_reached_without_the_proxy(find: Any, reported: str) -> None:
    changed = with_auth(spec={"transformer": {"containers": []}}, status={"address": {"url": reported}})
    path = SERVICE.replace("-predictor", "-transformer")
    found = find(
        {ISVC: changed, path: service({"name": "http", "port": 80, "targetPort": 8080}, headless=True)}, where="inside"
    )
    assert found.url == f"http://m-transformer.{NS}.svc.cluster.local:8080"
    assert found.deployment == "Standard with a transformer"
    assert found.auth is False
    assert any("checks no token" in note for note in found.notes)


def test_address_made_from_the_name_where_none_is_reported(find: Any) -> None:
    found = find({ISVC: isvc(status={"address": None, "url": None}), SERVICE: service(headless=True)}, where="inside")
    assert found.url == f"{INSIDE}:8080"
    assert any("made from the service's name" in note for note in found.notes)


def test_a_service_of_another_name_is_found_by_its_label(find: Any, kube: Kube) -> None:
    path = f"/api/v1/namespaces/{NS}/services?labelSelector=serving.kserve.io%2Finferenceservice%3Dm"
    items = [
        {"metadata": {"name": "other-metrics"}, **service()},
        {"metadata": {"name": "other-predictor"}, **service(headless=True)},
    ]
    assert find({path: {"items": items}}, where="inside").url == f"{INSIDE}:8080"


def test_knative(find: Any) -> None:
    knative = isvc(
        metadata={"annotations": {"serving.kserve.io/deploymentMode": "Serverless"}},
        spec={"predictor": {"minReplicas": 0}},
        status={"url": f"https://m-{NS}.apps.example.com", "address": {"url": f"http://m.{NS}.svc.cluster.local"}},
    )
    inside = find({ISVC: knative}, where="inside")
    assert (inside.url, inside.deployment) == (f"http://m.{NS}.svc.cluster.local", "Knative")
    assert inside.auth is None
    assert inside.scales_to_zero
    assert inside.timeout == 600.0
    assert find({ISVC: knative}).url == f"https://m-{NS}.apps.example.com"


@pytest.mark.parametrize(
    "changed",
    [
        isvc(
            metadata={"annotations": {"serving.kserve.io/deploymentMode": None}}, status={"deploymentMode": "Knative"}
        ),
        isvc(
            metadata={"annotations": {"serving.kserve.io/deploymentMode": None}},
            status={"components": {"predictor": {"latestReadyRevision": "m-predictor-00001"}}},
        ),
    ],
)
def test_knative_told_by_the_status(find: Any, changed: Any) -> None:
    assert find({ISVC: changed}).deployment == "Knative"


def test_modelmesh(find: Any) -> None:
    mesh = isvc(
        metadata={"annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        spec={"predictor": {"model": {"modelFormat": {"name": "openvino_ir"}}}},
        status={
            "url": f"grpc://modelmesh-serving.{NS}:8033",
            "address": None,
            "components": {
                "predictor": {
                    "restUrl": f"http://modelmesh-serving.{NS}:8008",
                    "grpcUrl": f"grpc://modelmesh-serving.{NS}:8033",
                }
            },
        },
    )
    ovms = plain_runtime(container("--rest_port=8888"), opendatahub__io="x")
    rest = find({ISVC: mesh, RUNTIME: ovms}, where="inside")
    assert (rest.url, rest.runtime, rest.model) == (f"http://modelmesh-serving.{NS}:8008", "openvino", "m")
    assert find(where="inside", protocol="grpc").url == f"grpc://modelmesh-serving.{NS}:8033"


def test_an_internal_url_is_none_for_the_outside(find: Any) -> None:
    found = find({ISVC: isvc(metadata={"labels": {"networking.kserve.io/visibility": None}}, status={"url": INSIDE})})
    assert found.url is None
    assert found.inside_url == INSIDE
    assert "visibility=exposed" in found.notes[-1]
    assert "port-forward" in found.notes[-1]


@pytest.mark.parametrize(
    ("url", "outside"),
    [
        ("https://evil.example/x.svc.cluster.local", "https://evil.example/x.svc.cluster.local"),
        ("https://m.svc.cluster.local.evil.example", "https://m.svc.cluster.local.evil.example"),
        ("https://m.demo.svc.cluster.local:8443/x", None),
        ("https://m-predictor.demo.svc.corp.internal", None),
        ("https://user:pw@evil.example", None),
        ("javascript:alert(1)", None),
        ("https://h.example/?q=.svc.cluster.local", None),
        ("https://[::1", None),
    ],
)
def test_where_a_url_leads_is_judged_by_its_host(find: Any, url: str, outside: str | None) -> None:
    found = find({ISVC: isvc(status={"url": url})})
    assert found.url == outside
    assert "pw" not in found.describe()


def test_the_route_fills_in(find: Any) -> None:
    assert find({ISVC: isvc(status={"url": None}), ROUTE: route()}).url == OUTSIDE
    assert find({ISVC: isvc(status={"url": OUTSIDE.replace("https", "http")}), ROUTE: route()}).url == OUTSIDE
    other = find({ISVC: isvc(), ROUTE: route("elsewhere.example")})
    assert other.url == OUTSIDE
    assert any("elsewhere.example" in note for note in other.notes)


@pytest.mark.parametrize(
    ("annotations", "spec", "on_route", "seconds"),
    [
        ({}, {}, None, 30.0),
        ({}, {"transformer": {"timeout": 100}}, None, 130.0),
        ({}, {"predictor": {"timeout": 45}}, None, 45.0),
        ({"haproxy.router.openshift.io/timeout": "5m"}, {"predictor": {"timeout": 45}}, None, 300.0),
        ({"haproxy.router.openshift.io/timeout": "5m"}, {}, "900s", 900.0),
        ({"haproxy.router.openshift.io/timeout": "soon"}, {}, None, 30.0),
    ],
)
def test_the_routes_time(find: Any, annotations: Any, spec: Any, on_route: str | None, seconds: float) -> None:
    changed = {ISVC: isvc(metadata={"annotations": annotations}, spec=spec)}
    changed[ROUTE] = route(
        metadata={"annotations": {"haproxy.router.openshift.io/timeout": on_route}} if on_route else {}
    )
    found = find(changed)
    assert found.silence_limit == seconds
    assert found.timeout == max(300.0, seconds)
    assert found.idle_timeout == max(120.0, seconds)
    assert find(where="inside").silence_limit is None


# --- state ------------------------------------------------------------------------------------------------------


def test_a_failed_load_is_told(find: Any) -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "False", "reason": "X", "message": "no  pod\n" * 200}],
        "modelStatus": {
            "transitionStatus": "BlockedByFailedLoad",
            "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
            "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "CUDA out of memory", "exitCode": 1},
        },
    }
    found = find({ISVC: isvc(status=status)})
    assert found.ready is False
    assert found.failure == "BlockedByFailedLoad: FailedToLoad: ModelLoadFailed: CUDA out of memory: exit code 1"
    assert "CUDA out of memory" in found.describe()
    assert len(found.conditions[0].message) <= 300
    status["modelStatus"]["states"]["activeModelState"] = "Loaded"
    assert find({ISVC: isvc(status=status)}).failure.endswith("(an earlier revision goes on serving)")


def test_stopped(find: Any) -> None:
    found = find({ISVC: isvc(metadata={"annotations": {"serving.kserve.io/stop": "true"}})})
    assert found.stopped
    assert "stopped on purpose" in found.describe()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (isvc(spec={"predictor": {"canaryTrafficPercent": 10}}), "10 %"),
        (
            isvc(spec={"canary": [{"name": "v2"}]}, status={"canaryStatuses": [{"name": "v2", "trafficPercent": 5}]}),
            "v2 5 %",
        ),
        (isvc(), ""),
    ],
)
def test_canaries(find: Any, changed: Any, words: str) -> None:
    found = find({ISVC: changed}).canary
    assert words in found
    assert bool(found) == bool(words)


# --- what may not be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 500])
def test_only_the_inference_service_has_to_be_readable(find: Any, status: int) -> None:
    denied = dict.fromkeys((RUNTIME, CLUSTER_RUNTIME, SERVICE, ROUTE, SERVICE_CA, TRUSTED_CA, ROOT_CA), status)
    outside = find(denied)
    assert (outside.url, outside.runtime) == (OUTSIDE, "vllm")
    assert any("ServingRuntime rt could not be read" in note for note in outside.notes)
    assert any("ConfigMap" in note for note in outside.notes) == (status != 404)
    inside = find(where="inside")
    assert inside.url == INSIDE
    assert any("headless is not known" in note for note in inside.notes)
    assert "not learned" in inside.describe()


@pytest.mark.parametrize("junk", [[], "x y", 7, {"a": [None]}, None])
def test_documents_of_another_shape_do_no_harm(find: Any, junk: Any) -> None:
    changed = {
        "kind": "InferenceService",
        "metadata": {"annotations": junk, "labels": junk},
        "spec": {"predictor": {"model": junk, "containers": junk, "minReplicas": junk}, "canary": junk},
        "status": {"url": junk, "address": junk, "conditions": junk, "modelStatus": junk, "components": junk},
    }
    around = {
        "metadata": junk,
        "spec": {"containers": junk, "ports": junk, "host": junk, "tls": junk},
        "data": junk,
        "status": junk,
    }
    found = find({ISVC: changed, RUNTIME: around, SERVICE: around, ROUTE: around, ROOT_CA: around})
    assert found.url is None
    assert found.describe()
