"""V2 over REST: what every server and its models tell, as the wire facts have it."""

from __future__ import annotations

import pytest

from tests.unit.core.devserver.v2_wire import CAT, said, text


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("mlserver", {"name": "mlserver", "version": "1.7.1", "extensions": []}),
        ("kserve", {"name": "kserve", "version": "0.21.0", "extensions": ["model_repository_extension"]}),
        ("openvino", {"name": "OpenVINO Model Server", "version": "2026.2.0"}),
    ],
)
def test_server_metadata(http, runtime, expected):
    assert http[runtime].get("/v2").json() == expected


def test_triton_names_its_extensions(http):
    found = http["triton"].get("/v2").json()
    assert (found["name"], found["version"]) == ("triton", "2.51.0")
    assert "binary_tensor_data" in found["extensions"]


@pytest.mark.parametrize(("runtime", "status"), [("triton", 404), ("mlserver", 307), ("kserve", 307)])
def test_a_slash_behind_v2(http, runtime, status):
    found = http[runtime].get("/v2/")
    assert found.status_code == status
    if status == 307:
        assert found.headers["location"] == str(http[runtime].base_url).rstrip("/") + "/v2"


@pytest.mark.parametrize(
    ("runtime", "live", "ready"),
    [
        ("triton", (200, ""), (200, "")),
        ("mlserver", (200, ""), (400, "")),  # one model does not load, which makes the whole server not ready
        ("kserve", (200, {"live": True}), (200, {"ready": True})),
        ("openvino", (200, ""), (200, "")),
    ],
)
def test_health(http, runtime, live, ready):
    assert said(http[runtime].get("/v2/health/live")) == live
    assert said(http[runtime].get("/v2/health/ready")) == ready


@pytest.mark.parametrize(
    ("runtime", "versions"), [("triton", ["1"]), ("mlserver", []), ("kserve", None), ("openvino", ["1"])]
)
def test_model_metadata(http, runtime, versions):
    found = http[runtime].get("/v2/models/tiny-embedding").json()
    assert (found["name"], found["versions"]) == ("tiny-embedding", versions)
    (given,), (made,) = found["inputs"], found["outputs"]
    assert (given["name"], given["datatype"], given["shape"]) == ("text", "BYTES", [-1])
    assert (made["name"], made["datatype"], made["shape"]) == ("embedding", "FP32", [-1, 256])
    assert ("rt_info" in found) is (runtime == "openvino")


@pytest.mark.parametrize(
    ("runtime", "unknown", "ready"),
    [
        ("triton", "Request for unknown model: 'nope' is not found", (400, {"error": "Model version not ready"})),
        ("mlserver", "Model nope not found", (404, {"error": "Model nope not found"})),
        ("kserve", "Model with name nope does not exist.", (404, {"error": "Model with name nope does not exist."})),
        (
            "openvino",
            "Model with requested name is not found",
            (404, {"error": "Model with requested name is not found"}),
        ),
    ],
)
def test_an_unknown_model(http, runtime, unknown, ready):
    client = http[runtime]
    assert said(client.get("/v2/models/nope")) == (404, {"error": unknown})
    assert said(client.post("/v2/models/nope/infer", json=CAT)) == (404, {"error": unknown})
    assert said(client.get("/v2/models/nope/ready")) == ready


@pytest.mark.parametrize(
    ("runtime", "ready", "infer"),
    [
        ("triton", (400, {"error": "Model version not ready"}), 404),
        ("mlserver", (400, ""), 400),
        ("kserve", (404, {"error": "Model with name broken does not exist."}), 404),
        ("openvino", (404, {"error": "Model with requested version is not loaded yet"}), 500),
    ],
)
def test_a_model_that_is_not_ready(http, runtime, ready, infer):
    assert said(http[runtime].get("/v2/models/broken/ready")) == ready
    body = {"inputs": [text("code", "OK")]}
    assert http[runtime].post("/v2/models/broken/infer", json=body).status_code == infer


@pytest.mark.parametrize(
    ("runtime", "version", "expected"),
    [
        ("triton", "2", (200, ["v2:x"])),
        ("triton", "9", (404, None)),
        ("triton", "x", (404, None)),
        ("mlserver", "v3.0.0", (200, ["vv3.0.0:x"])),
        ("mlserver", "2", (200, ["v2:x"])),
        ("mlserver", "v9", (404, None)),
        ("kserve", "1", (501, None)),
        ("openvino", "7", (200, ["v7:x"])),
        ("openvino", "x", (404, None)),
    ],
)
def test_versions(http, runtime, version, expected):
    found = http[runtime].post(
        f"/v2/models/versioned/versions/{version}/infer", json={"id": "1", "inputs": [text("text", "x")]}
    )
    assert found.status_code == expected[0]
    if expected[1]:
        assert found.json()["outputs"][0]["data"] == expected[1]
        assert found.json()["model_version"] == version


def test_the_newest_version_answers(http):
    found = http["triton"].post("/v2/models/versioned/infer", json={"inputs": [text("text", "x")]}).json()
    assert (found["model_version"], found["outputs"][0]["data"]) == ("7", ["v7:x"])


def test_repositories(http):
    found = http["triton"].post("/v2/repository/index").json()
    assert {"name": "versioned", "version": "2", "state": "READY"} in found
    assert {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "Internal: cannot be loaded"} in found
    ready = http["triton"].post("/v2/repository/index", json={"ready": True}).json()
    assert "broken" not in {entry["name"] for entry in ready}
    states = {entry["name"]: entry["state"] for entry in http["mlserver"].post("/v2/repository/index").json()}
    assert (states["tiny"], states["broken"]) == ("READY", "UNKNOWN")
    assert http["kserve"].post("/v2/repository/index").status_code == 404
    assert "tiny-rerank" in http["kserve"].get("/v2/models").json()["models"]
    assert http["triton"].get("/v2/models").status_code == http["mlserver"].get("/v2/models").status_code == 404


def test_models_are_unloaded_and_loaded(http):
    client = http["triton"]
    assert client.post("/v2/repository/models/tiny-rerank/unload").status_code == 200
    assert client.get("/v2/models/tiny-rerank/ready").status_code == 400
    assert said(client.get("/v2/models/tiny-rerank")) == (
        404,
        {"error": "Request for unknown model: 'tiny-rerank' has no available versions"},
    )
    assert client.post("/v2/repository/models/tiny-rerank/load").status_code == 200
    assert client.get("/v2/models/tiny-rerank/ready").status_code == 200
    assert client.post("/v2/repository/models/broken/load").status_code == 400
    assert client.post("/v2/repository/models/nope/load").status_code == 500


def test_triton_tells_batch_limits_and_decoupling(http):
    found = http["triton"].get("/v2/models/tiny-embedding-batch/config").json()
    assert found["max_batch_size"] == 8
    assert found["input"][0]["dims"] == [1]
    found = http["triton"].get("/v2/models/tiny/config").json()
    assert found["model_transaction_policy"] == {"decoupled": True}
    assert [entry["name"] for entry in found["input"] if not entry["optional"]] == ["text_input"]
    assert http["mlserver"].get("/v2/models/tiny/config").status_code == 404
