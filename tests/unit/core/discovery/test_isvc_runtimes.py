"""Which runtime and which protocol an InferenceService has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.discovery.kube import (
    CLUSTER_RUNTIME,
    INSIDE,
    ISVC,
    NS,
    OUTSIDE,
    RUNTIME,
    SERVICE,
    Kube,
    container,
    isvc,
    plain_runtime,
    runtime,
    service,
)
from tests.unit.core.discovery.predictors import CAIKIT_TGIS, NO_NAME, runs, says, server_type, template, tgis

# --- runtimes ---------------------------------------------------------------------------------------------------


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
