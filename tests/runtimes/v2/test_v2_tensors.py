"""Any tensors to real servers and back, over REST and gRPC."""

from __future__ import annotations

import numpy as np
import pytest
from runtimes.v2.clients import EVERYWHERE, pairs

VALUES = {
    "bool": np.array([True, False]),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-(2**15), 2**15 - 1], np.int16),
    "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**53 + 1], np.int64),
    "uint8": np.array([0, 255], np.uint8),
    "uint16": np.array([0, 65535], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "fp16": np.array([1.5, -0.0001], np.float16),
    "fp32": np.array([0.1, -1e30], np.float32),
    "fp64": np.array([0.1, -1e300], np.float64),
}


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("end", VALUES)
def test_numbers_come_back_as_they_were(tensors, where, end):
    sent = VALUES[end]
    found = tensors(*where).infer({f"in_{end}": sent}, model="echo_types", outputs=[f"out_{end}"])[f"out_{end}"]
    assert found.dtype == sent.dtype
    assert found.tolist() == sent.tolist()


@pytest.mark.parametrize("where", EVERYWHERE)
async def test_by_asyncio(tensors, where):
    client = tensors(*where)
    found = await client.ainfer({"in_fp32": VALUES["fp32"]}, model="echo_types", outputs=["out_fp32"])
    assert found["out_fp32"].tolist() == VALUES["fp32"].tolist()
    assert await client.ais_model_ready("echo_types")
    await client.aclose()


@pytest.mark.parametrize("where", EVERYWHERE)
def test_texts_come_back_as_they_were(tensors, where):
    texts = ["", "naïve ☃", "a\nb", "x" * 70_000]
    found = tensors(*where).infer({"in_string": texts}, model="echo_types", outputs=["out_string"])
    assert found.texts("out_string") == texts


@pytest.mark.parametrize("where", pairs("triton"))
def test_bytes_that_are_no_text(tensors, where):
    sent = np.array([b"\xff\xfe\x00", b""], dtype=object)
    found = tensors(*where).infer({"in_string": sent}, model="echo_types", outputs=["out_string"])["out_string"]
    assert found.tolist() == sent.tolist()


@pytest.mark.parametrize("where", pairs("triton"))
def test_bfloat16(tensors, where):
    found = tensors(*where).infer({"in_bf16": [1.5, -0.25]}, model="echo_types", outputs=["out_bf16"])
    assert found.tensors["out_bf16"].datatype == "BF16"
    assert found["out_bf16"].tolist() == [1.5, -0.25]


@pytest.mark.parametrize("where", EVERYWHERE)
def test_no_rows(tensors, where):
    found = tensors(*where).infer({"text": np.array([], dtype=object)}, model="embed")
    assert found["embedding"].shape == (0, 384)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_many_rows(tensors, where):
    found = tensors(*where).infer({"text": ["a"] * 4000}, model="null_embed")["embedding"]  # over 4 MiB
    assert found.shape == (4000, 384)
    assert found.dtype == np.float32


@pytest.mark.parametrize("where", pairs("triton"))
def test_parameters_arrive(tensors, where):
    given = {"word": "a", "whole": 3, "yes": True, "part": 0.5}
    found = tensors(*where).infer({"in_int8": [1]}, model="echo_types", outputs=["params"], parameters=given)
    assert found.texts("params")[0].replace(" ", "") == '{"part":0.5,"whole":3,"word":"a","yes":true}' or all(
        f'"{name}":' in found.texts("params")[0] for name in given
    )


@pytest.mark.parametrize("where", EVERYWHERE)
def test_the_answer_names_its_request(tensors, where):
    found = tensors(*where).infer({"in_int8": [1]}, model="echo_types", outputs=["out_int8"], id="mine")
    assert found.id == "mine"
    assert found.model == "echo_types"
