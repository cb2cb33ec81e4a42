"""From an InferenceService and what is around it to facts: address, runtime, model, state."""

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


# --- runtimes ---------------------------------------------------------------------------------------------------

NO_NAME = {"model": {"modelFormat": {"name": "custom"}, "runtime": "rt"}}


def says(**annotations: str) -> dict[str, Any]:
    """A ServingRuntime with annotations on its pods, whose containers would say something else."""
    named = {name.replace("__", "/"): value for name, value in annotations.items()}
    return {"spec": {"annotations": named, "containers": [container("tritonserver")]}}


def template(name: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {"opendatahub.io/template-name": name}}}


def server_type(name: str) -> dict[str, Any]:
    return {
        "metadata": {"annotations": {"serving.kserve.io/server-type": name}},
        "spec": {"containers": [container("tritonserver")]},
    }


def runs(*args: str, port: str = "") -> dict[str, Any]:
    return plain_runtime(container(*args, ports=[(8080, port)]))


CAIKIT_TGIS = plain_runtime(
    container("text-generation-launcher"), container("python", "-m", "caikit.runtime", name="transformer-container")
)


@pytest.mark.parametrize(
    ("document", "key", "variant"),
    [
        (says(**{"opendatahub.io__kserve-runtime": "ovms"}), "openvino", "ovms"),
        (says(**{"opendatahub.io__kserve-runtime": "autogluon"}), None, "autogluon"),
        (server_type("mlserver"), "mlserver", "mlserver"),
        (server_type("huggingfaceserver"), "vllm", "huggingfaceserver"),
        (template("caikit-tgis-serving-template"), "caikit", "caikit-tgis"),
        (template("caikit-standalone-serving-template"), "caikit", "caikit-standalone"),
        (template("tgis-grpc-serving-template"), "tgis", "tgis"),
        (template("kserve-ovms"), "openvino", "ovms"),
        (template("mlserver-runtime-template"), "mlserver", "mlserver"),
        (template("my-triton-runtime"), "triton", "triton"),
        (runs("python3", "-m", "vllm.entrypoints.openai.api_server"), "vllm", "vllm"),
        (runs("-c", "exec vllm serve /mnt/models --served-model-name shell"), "vllm", "vllm"),
        (runs("python", "-m", "caikit.runtime"), "caikit", "caikit-standalone"),
        (CAIKIT_TGIS, "caikit", "caikit-tgis"),
        (runs("text-generation-launcher", port="h2c"), "tgis", "tgis"),
        (runs("tritonserver", "--model-store=/mnt/models"), "triton", "triton"),
        (runs("mlserver", "start", "/mnt/models"), "mlserver", "mlserver"),
        (runs("--model_name={{.Name}}", "--port=8001", "--rest_port=8888"), "openvino", "ovms"),
        (runs("something-else"), None, ""),
    ],
)
def test_the_runtime_by_its_serving_runtime(find: Any, document: Any, key: str | None, variant: str) -> None:
    found = find({ISVC: isvc(spec={"predictor": NO_NAME}), RUNTIME: document})
    assert (found.runtime, found.variant) == (key, variant)
    assert found.runtime_evidence


@pytest.mark.parametrize(
    ("name", "key", "variant"),
    [
        ("vllm-gaudi", "vllm", "vllm"),
        ("kserve-huggingfaceserver-multinode", "vllm", "huggingfaceserver"),
        ("kserve-vllmserver", "vllm", "vllm"),
        ("kserve-mlserver", "mlserver", "mlserver"),
        ("ovms", "openvino", "ovms"),
        ("triton-24", "triton", "triton"),
        ("guardrails-detector-runtime", None, "guardrails detector"),
    ],
)
def test_the_runtime_by_its_name_alone(find: Any, name: str, key: str | None, variant: str) -> None:
    changed = isvc(spec={"predictor": {"model": {"modelFormat": {"name": "custom"}, "runtime": name}}})
    found = find({ISVC: changed})
    assert (found.runtime, found.variant) == (key, variant)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({"modelFormat": {"name": "vLLM"}}, "vllm"),
        ({"modelFormat": {"name": "caikit"}}, "caikit"),
        ({"modelFormat": {"name": "pytorch"}, "protocolVersion": "grpc-v1"}, "tgis"),
        ({"modelFormat": {"name": "pytorch"}}, None),
        ({"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}, "mlserver"),
        ({"modelFormat": {"name": "onnx"}}, None),
        ({"modelFormat": {"name": "openvino_ir"}}, "openvino"),
    ],
)
def test_the_runtime_by_the_models_format(find: Any, model: Any, key: str | None) -> None:
    changed = isvc()
    changed["spec"]["predictor"]["model"] = model
    found = find({ISVC: changed})
    assert found.runtime == key
    assert any("selected by the cluster" in note for note in found.notes)
    assert key is not None or any("runtime is not known" in note for note in found.notes)


def test_a_runtime_for_the_whole_cluster(find: Any, kube: Kube) -> None:
    del kube.documents[RUNTIME]
    changed = isvc(status={"clusterServingRuntimeName": "rt"})
    del changed["spec"]["predictor"]["model"]["runtime"]
    found = find({ISVC: changed, CLUSTER_RUNTIME: runtime()})
    assert (found.runtime, found.runtime_name, found.runtime_version) == ("vllm", "rt", "v0.21.0")


def test_a_custom_predictor(find: Any) -> None:
    changed = isvc()
    changed["spec"]["predictor"] = {
        "containers": [container("--model_name=bert", image="kserve/huggingfaceserver:v0.15")]
    }
    found = find({ISVC: changed})
    assert (found.runtime, found.variant, found.model) == ("vllm", "huggingfaceserver", "bert")
    assert found.url == f"{OUTSIDE}/openai/v1"


def test_the_path_of_kserves_own_server_can_be_set(find: Any) -> None:
    changed = isvc()
    own = container(image="kserve/huggingfaceserver:v0.15")
    own["env"] = [{"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": ""}]
    changed["spec"]["predictor"] = {"containers": [own]}
    assert find({ISVC: changed}).url == f"{OUTSIDE}/v1"


# --- protocols --------------------------------------------------------------------------------------------------


def tgis() -> Any:
    return plain_runtime(container("text-generation-launcher", ports=[(8033, "h2c")]))


def test_tgis_speaks_grpc(find: Any) -> None:
    found = find(
        {
            ISVC: isvc(spec={"predictor": NO_NAME}),
            RUNTIME: tgis(),
            SERVICE: service({"name": "h2c", "port": 80, "targetPort": "h2c"}, headless=True),
        },
        where="inside",
    )
    assert (found.protocol, found.url) == ("grpc", f"grpc://m-predictor.{NS}.svc.cluster.local:8033")
    assert found.model == "m"
    assert find().url == OUTSIDE.replace("https", "grpcs")


@pytest.mark.parametrize(
    ("changed", "annotations", "protocol"),
    [
        ({"protocolVersion": "grpc-v2"}, {}, "grpc"),
        ({"protocolVersion": "v2"}, {}, "rest"),
        ({}, {"opendatahub.io/apiProtocol": "gRPC"}, "grpc"),
        ({"ports": [{"containerPort": 9000, "name": "h2c"}]}, {}, "grpc"),
        ({"ports": [{"containerPort": 8080, "name": "http1"}], "protocolVersion": "grpc-v2"}, {}, "rest"),
    ],
)
def test_the_protocol_where_a_runtime_has_both(find: Any, changed: Any, annotations: Any, protocol: str) -> None:
    triton = plain_runtime(container("tritonserver"))
    triton["metadata"]["annotations"] = annotations
    predictor = {"model": {**NO_NAME["model"], **changed}}
    assert find({ISVC: isvc(spec={"predictor": predictor}), RUNTIME: triton}).protocol == protocol


def test_the_protocol_is_the_users_to_choose(find: Any) -> None:
    triton = plain_runtime(container("tritonserver", ports=[(8080, "http1"), (9000, "grpc")]))
    ports = service(
        {"name": "http1", "port": 80, "targetPort": 8080}, {"name": "grpc", "port": 9000, "targetPort": 9000}
    )
    changed = {ISVC: isvc(spec={"predictor": NO_NAME}), RUNTIME: triton, SERVICE: ports}
    assert find(changed, where="inside").url == INSIDE
    assert find(where="inside", protocol="grpc").url == f"grpc://m-predictor.{NS}.svc.cluster.local:9000"


def test_grpc_where_the_service_names_no_port_for_it(find: Any) -> None:
    found = find({SERVICE: service()}, where="inside", protocol="grpc")
    assert any("no gRPC port" in note for note in found.notes)
    named = service({"name": "x", "port": 9000, "targetPort": 9000, "appProtocol": "h2c"})
    found = find({SERVICE: named}, where="inside", protocol="grpc")
    assert found.url == f"grpc://m-predictor.{NS}.svc.cluster.local:9000"
    assert found.notes == ()


# --- model names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "model", "aliases"),
    [
        (["--served-model-name=granite"], "granite", ()),
        (["--served-model-name", "granite", "granite-3", "--max-model-len", "4096"], "granite", ("granite-3",)),
        (["--served_model_name=granite"], "granite", ()),
        (["--served-model-name=$(NAME)"], "from-env", ()),
        (["--served-model-name=$(SECRET)"], None, ()),
        (["--served-model-name={{.Name}}", "--lora-modules", "sql=/a", "chat=/b"], "m", ("sql", "chat")),
        ([], "m", ()),
    ],
)
def test_the_name_of_a_vllm_model(find: Any, args: list[str], model: str | None, aliases: tuple[str, ...]) -> None:
    env = [{"name": "NAME", "value": "from-env"}, {"name": "SECRET", "valueFrom": {"secretKeyRef": {}}}]
    found = find({ISVC: isvc(spec={"predictor": {"model": {"args": args, "env": env}}})})
    assert (found.model, found.aliases) == (model, aliases)


def test_the_name_without_the_serving_runtime_is_left_to_the_server(find: Any) -> None:
    found = find({RUNTIME: 403, CLUSTER_RUNTIME: 403})
    assert found.runtime == "vllm"
    assert found.model is None
    assert "asked of the server" in found.describe()


def test_without_a_served_name_vllm_goes_by_the_path(find: Any) -> None:
    assert find({RUNTIME: plain_runtime(container("vllm serve", "--model=/mnt/models"))}).model == "/mnt/models"


@pytest.mark.parametrize(
    ("document", "env", "model"),
    [
        (plain_runtime(container("mlserver")), [{"name": "MLSERVER_MODEL_NAME", "value": "{{.Name}}"}], "m"),
        (plain_runtime(container("mlserver")), [], None),
        (plain_runtime(container("tritonserver")), [], None),
        (plain_runtime(container("--rest_port=8888", "--model_name={{.Name}}")), [], "m"),
        (plain_runtime(container("--rest_port=8888", "--config_path=/x")), [], None),
        (plain_runtime(container("caikit.runtime")), [], None),
        (plain_runtime(container("--model_id=x", image="kserve/huggingfaceserver")), [], "model"),
    ],
)
def test_the_name_with_other_runtimes(find: Any, document: Any, env: Any, model: str | None) -> None:
    document["spec"]["containers"][0]["env"] = env
    found = find({ISVC: isvc(spec={"predictor": NO_NAME}), RUNTIME: document})
    assert found.model == model
    assert found.model_evidence


def test_options_worth_knowing(find: Any) -> None:
    args = [
        "--max-model-len=4096",
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--api-key=sk-very-secret",
    ]
    found = find({ISVC: isvc(spec={"predictor": {"model": {"args": args}}})})
    assert dict(found.options) == {
        "--max-model-len": "4096",
        "--enable-auto-tool-choice": "",
        "--tool-call-parser": "hermes",
    }
    assert "secret" not in found.describe() + repr(found)


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
