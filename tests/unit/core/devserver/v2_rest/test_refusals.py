"""V2 over REST: what every server refuses, and in what shape."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.devserver.v2_wire import CAT, EMBED, RUNTIMES, binary, said, strings, text


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
