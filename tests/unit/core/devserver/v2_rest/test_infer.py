"""V2 over REST: every server's answers, as the wire facts have them."""

from __future__ import annotations

import struct

import pytest

from tests.unit.core.devserver.v2_wire import CAT, EMBED, RUNTIMES, binary, parted, strings, text


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
