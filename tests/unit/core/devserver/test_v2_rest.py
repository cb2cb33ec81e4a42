"""V2 over REST: every server's statuses and shapes, as the wire facts have them."""

from __future__ import annotations

import json
import struct

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.v2_wire import MODELS, binary, parted, strings, text

RUNTIMES = ("triton", "mlserver", "kserve", "openvino")
CAT = {"id": "1", "inputs": [text("text", "a cat", "a dog")]}
EMBED = "/v2/models/tiny-embedding/infer"


@pytest.fixture(scope="module")
def servers():
    made = {runtime: DevServer(runtime=runtime, models=MODELS).start() for runtime in RUNTIMES}
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def http(servers):
    clients = {
        name: httpx.Client(base_url=server.url, timeout=10, headers={"accept-encoding": "identity"})
        for name, server in servers.items()
    }
    yield clients
    for name, client in clients.items():
        client.close()
        servers[name].reset()


def said(response):
    """Status and body, JSON where it is."""
    try:
        return response.status_code, response.json()
    except ValueError:
        return response.status_code, response.text


# --- what servers and models tell


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


# --- infer


def test_vectors_are_the_same_everywhere(http):
    found = {runtime: http[runtime].post(EMBED, json=CAT).json()["outputs"][0] for runtime in RUNTIMES}
    assert all(output["shape"] == [2, 256] and len(output["data"]) == 512 for output in found.values())
    assert len({tuple(output["data"]) for output in found.values()}) == 1


@pytest.mark.parametrize(
    ("runtime", "added"), [("triton", {}), ("mlserver", {"parameters": {"content_type": "np"}}), ("openvino", {})]
)
def test_an_output_and_what_is_beside_it(http, runtime, added):
    (output,) = http[runtime].post(EMBED, json=CAT).json()["outputs"]
    del output["data"]
    assert output == {"name": "embedding", "datatype": "FP32", "shape": [2, 256], **added}


def test_ids(http):
    without = {"inputs": CAT["inputs"]}
    assert http["triton"].post(EMBED, json=CAT).json()["id"] == "1"
    assert "id" not in http["triton"].post(EMBED, json=without).json()
    assert http["mlserver"].post(EMBED, json=without).json()["id"]


def test_kserve_writes_nulls(http):
    found = http["kserve"].post(EMBED, json=CAT).json()
    assert (found["model_version"], found["parameters"]) == (None, None)


def test_binary_both_ways(http):
    head = {
        "id": "1",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 18}}],
        "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
    }
    expected = http["triton"].post(EMBED, json=CAT).json()["outputs"][0]["data"]
    for runtime in ("triton", "kserve", "openvino"):
        found = http[runtime].post(EMBED, **binary(head, strings("a cat", "a dog")))
        answer, raw = parted(found)
        (output,) = answer["outputs"]
        assert output["parameters"] == {"binary_data_size": 2048}
        assert "data" not in output
        assert list(struct.unpack("<512f", raw)) == expected
    assert found.headers["content-type"] == "application/octet-stream"


def test_kserve_sends_binary_answers_without_a_content_type(http):
    found = http["kserve"].post(EMBED, json={**CAT, "parameters": {"binary_data_output": True}})
    assert "content-type" not in found.headers
    assert found.headers["transfer-encoding"] == "chunked"
    assert len(parted(found)[1]) == 2048


def test_binary_input_alone_gives_json(http):
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    found = http["triton"].post(EMBED, **binary(head, strings("hi")))
    assert found.headers["content-type"] == "application/json"
    assert found.json()["outputs"][0]["shape"] == [1, 256]


def test_mlserver_knows_no_binary_data(http):
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    assert http["mlserver"].post(EMBED, **binary(head, strings("hi"))).status_code == 422
    found = http["mlserver"].post(EMBED, json={**CAT, "parameters": {"binary_data_output": True}})
    assert "data" in found.json()["outputs"][0]


def test_every_datatype_comes_back_as_bytes(http):
    kinds = {"BOOL": 1, "INT8": 1, "INT64": 8, "UINT64": 8, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}
    parts = [bytes(range(1, size + 1)) * 2 if kind != "BOOL" else b"\x01\x00" for kind, size in kinds.items()]
    head = {
        "inputs": [
            {
                "name": f"in_{kind.lower()}",
                "datatype": kind,
                "shape": [2],
                "parameters": {"binary_data_size": len(part)},
            }
            for (kind, _), part in zip(kinds.items(), parts, strict=True)
        ],
        "parameters": {"binary_data_output": True},
    }
    answer, raw = parted(http["triton"].post("/v2/models/echo/infer", **binary(head, *parts)))
    assert raw.startswith(b"".join(parts))
    assert [output["datatype"] for output in answer["outputs"][:-1]] == list(kinds)


def test_large_integers_survive(http):
    values = [2**64 - 1, 2**53 + 1]
    tensor = {"name": "in_uint64", "datatype": "UINT64", "shape": [2], "data": values}
    for runtime in RUNTIMES:
        found = http[runtime].post("/v2/models/echo/infer", json={"id": "1", "inputs": [tensor]}).json()
        assert found["outputs"][0]["data"] == values


def test_triton_puts_bytes_that_are_no_text_into_json_as_they_are(http):
    head = {
        "inputs": [{"name": "in_string", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}],
        "outputs": [{"name": "out_string"}],
    }
    found = http["triton"].post("/v2/models/echo/infer", **binary(head, b"\x02\x00\x00\x00\xff\xfe"))
    assert b'"data":["\xff\xfe"]' in found.content


def test_half_precision_needs_binary_data(http):
    url = "/v2/models/tiny-embedding-fp16/infer"
    assert http["triton"].post(url, json=CAT).status_code == 400
    answer, raw = parted(http["triton"].post(url, json={**CAT, "parameters": {"binary_data_output": True}}))
    assert answer["outputs"][0]["datatype"] == "FP16"
    assert len(raw) == 2 * 2 * 256


def test_triton_compresses_when_it_may(http):
    found = http["triton"].post(
        EMBED, json={**CAT, "parameters": {"binary_data_output": True}}, headers={"accept-encoding": "gzip"}
    )
    assert found.headers["content-encoding"] == "gzip"
    assert len(parted(found)[1]) == 2048  # the header counts what is unpacked


def test_flat_and_nested_data(http):
    url = "/v2/models/tiny-embedding-batch/infer"
    flat = {"inputs": [text("text", "a cat", "a dog", column=True)]}
    nested = {"inputs": [{**flat["inputs"][0], "data": [["a cat"], ["a dog"]]}]}
    assert http["triton"].post(url, json=flat).json() == http["triton"].post(url, json=nested).json()


def test_an_empty_batch(http):
    found = http["triton"].post(EMBED, json={"inputs": [text("text")]}).json()["outputs"][0]
    assert (found["shape"], found["data"]) == ([0, 256], [])


# --- refusals


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"{", {"triton": 500, "mlserver": 422, "kserve": 422, "openvino": 412}),
        (b"{}", {"triton": 500, "mlserver": 422, "kserve": 422, "openvino": 400}),
        (
            {"inputs": [{**text("text", "x"), "datatype": "STRING"}]},
            {"triton": 400, "mlserver": 422, "kserve": 400, "openvino": 400},
        ),
        (
            {"inputs": [{**text("text", "x"), "shape": [2]}]},
            {"triton": 400, "mlserver": 200, "kserve": 500, "openvino": 400},
        ),
        ({"inputs": [text("other", "x")]}, {"triton": 400, "mlserver": 400, "kserve": 400, "openvino": 400}),
        (
            {"inputs": [text("text", "x")], "outputs": [{"name": "nope"}]},
            {"triton": 400, "mlserver": 200, "kserve": 400, "openvino": 400},
        ),
        ({"inputs": [text("text", "x" * 30000)]}, {"triton": 400, "mlserver": 400, "kserve": 400, "openvino": 400}),
    ],
)
def test_what_is_refused(http, body, statuses):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = {
        runtime: http[runtime].post(EMBED, content=content, headers={"content-type": "application/json"})
        for runtime in RUNTIMES
    }
    assert {runtime: response.status_code for runtime, response in found.items()} == statuses
    for response in found.values():
        if response.status_code == 422:
            assert set(response.json()["detail"][0]) >= {"type", "loc", "msg", "input"}
        elif response.status_code >= 400:
            assert set(response.json()) == {"error"}


def test_422_repeats_what_was_given(http):
    body = {"inputs": [{**text("text", "secret"), "datatype": "STRING"}], "note": "a secret"}
    assert http["mlserver"].post(EMBED, json=body).json()["detail"][0]["input"] == "STRING"
    assert http["mlserver"].post(EMBED, json={"note": "a secret"}).json()["detail"][0]["input"] == {"note": "a secret"}


def test_triton_names_missing_inputs_and_expected_shapes(http):
    found = http["triton"].post("/v2/models/tiny-rerank/infer", json={"id": "7", "inputs": [text("query", "x")]})
    assert said(found) == (
        400,
        {
            "error": "[request id: 7] expected 2 inputs but got 1 inputs for model 'tiny-rerank'. Got input(s) "
            "['query'], but missing required input(s) ['passage']. Please provide all required input(s)."
        },
    )
    found = http["triton"].post("/v2/models/tiny-embedding-batch/infer", json=CAT)
    assert found.status_code == 400
    assert "Expected [-1,1], got [2]" in found.json()["error"]
    many = {"inputs": [text("text", *("x" * 9), column=True)]}
    found = http["triton"].post("/v2/models/tiny-embedding-batch/infer", json=many)
    assert "batch-size must be <= 8" in found.json()["error"]


@pytest.mark.parametrize("value", [[1], {"a": 1}, None])
def test_triton_takes_simple_parameters_only(http, value):
    body = {**CAT, "parameters": {"x": value}}
    assert http["triton"].post(EMBED, json=body).status_code == 400
    assert http["mlserver"].post(EMBED, json=body).status_code == 200


def test_cut_binary_data(http):
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    sent = binary(head, b"\x09\x00\x00\x00hi")
    assert http["triton"].post(EMBED, **sent).status_code == 400
    sent = binary(head, b"\x02\x00")
    assert http["triton"].post(EMBED, **sent).status_code == 400
    sent = binary(head, strings("hi"))
    sent["headers"]["inference-header-content-length"] = "5"
    assert http["triton"].post(EMBED, **sent).status_code == 500


def test_kserve_and_the_content_type(http):
    content = json.dumps(CAT).encode()
    assert http["kserve"].post(EMBED, content=content).status_code == 400
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    sent = binary(head, strings("hi"))
    sent["headers"]["content-type"] = "application/json"
    assert http["kserve"].post(EMBED, **sent).status_code == 422


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARG", 400),
        ("NOT_FOUND", 404),
        ("UNAVAILABLE", 503),
        ("UNSUPPORTED", 501),
        ("INTERNAL", 500),
        ("UNKNOWN", 400),
        ("ALREADY_EXISTS", 400),
        ("CANCELLED", 400),
        ("RAISE", 500),
    ],
)
def test_errors_of_a_model_on_triton(http, code, status):
    found = http["triton"].post("/v2/models/fails/infer", json={"inputs": [text("code", code)]})
    assert found.status_code == status
    assert set(found.json()) == {"error"}


def test_an_exception_on_mlserver_is_a_traceback(http):
    found = http["mlserver"].post("/v2/models/fails/infer", json={"inputs": [text("code", "RAISE")]})
    assert found.status_code == 500
    assert found.headers["content-type"].startswith("text/plain")
    assert found.text.startswith("Traceback")
    found = http["mlserver"].post("/v2/models/fails/infer", json={"inputs": [text("code", "418")]})
    assert said(found) == (418, {"error": "asked for 418"})


@pytest.mark.parametrize(
    ("runtime", "status"), [("triton", 405), ("mlserver", 405), ("kserve", 405), ("openvino", 406)]
)
def test_get_on_infer(http, runtime, status):
    assert http[runtime].get(EMBED).status_code == status


# --- models


def test_ranking(http):
    body = {"id": "1", "inputs": [text("query", "cats"), text("passage", "a dog", "cats and more cats")]}
    for runtime in RUNTIMES:
        (output,) = http[runtime].post("/v2/models/tiny-rerank/infer", json=body).json()["outputs"]
        assert output["shape"] == [2, 1]
        low, high = output["data"]
        assert 0 < low < high < 1


def test_truncation_where_it_is_declared(http):
    url, long = "/v2/models/tiny-embedding-truncating/infer", text("text", "x" * 30000)
    assert http["triton"].post(url, json={"inputs": [long]}).status_code == 400
    wish = {"name": "truncate", "datatype": "BOOL", "shape": [1], "data": [True]}
    assert http["triton"].post(url, json={"inputs": [long, wish]}).status_code == 200


def test_token_states_with_a_tokenizer_for_them(http):
    tokenizers = pytest.importorskip("tokenizers")
    from kserve_core.devserver.tokens import tokenizer_json

    made = tokenizers.Tokenizer.from_str(tokenizer_json())
    made.enable_padding(pad_id=256)
    rows = made.encode_batch(["a cat", "wörld ☃ and more"])
    inputs = [
        {
            "name": name,
            "datatype": "INT64",
            "shape": [2, len(rows[0].ids)],
            "data": [value for row in rows for value in getattr(row, field)],
        }
        for name, field in (("input_ids", "ids"), ("attention_mask", "attention_mask"))
    ]
    found = http["triton"].post("/v2/models/tiny-embedding-ids/infer", json={"inputs": inputs}).json()
    states, pooled = found["outputs"]
    assert states["shape"] == [2, len(rows[0].ids), 256]
    plain = http["triton"].post(EMBED, json={"inputs": [text("text", "a cat", "wörld ☃ and more")]}).json()
    assert pooled["data"] == plain["outputs"][0]["data"]
    assert states["data"][:256] == pooled["data"][:256]  # a token of the text
    assert states["data"][(len(rows[0].ids) - 1) * 256] == 9.0  # padding


def test_pairs_of_token_ids(http):
    tokenizers = pytest.importorskip("tokenizers")
    from kserve_core.devserver.tokens import tokenizer_json

    row = tokenizers.Tokenizer.from_str(tokenizer_json()).encode("cats", "cats and dogs")
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [1, len(row.ids)], "data": list(values)}
        for name, values in (("input_ids", row.ids), ("attention_mask", row.attention_mask))
    ]
    found = http["triton"].post("/v2/models/tiny-rerank-ids-columns/infer", json={"inputs": inputs}).json()
    (output,) = found["outputs"]
    assert output["shape"] == [1, 2]
    assert output["data"][1] == -output["data"][0] > 0
