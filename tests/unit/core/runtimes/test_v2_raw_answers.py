"""Large gRPC answers are read without copies, and as protobuf reads them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.protos import messages
from kserve_core.runtimes.open_inference.grpc import read_infer_message
from kserve_core.runtimes.open_inference.raw_answers import SMALL, RawAnswer, cut_raw

FIXTURES = Path(__file__).parent / "fixtures" / "v2"
types = messages.inference


def answer(*raw: bytes, **fields: object) -> bytes:
    outputs = [
        types.ModelInferResponse.InferOutputTensor(name=f"out{index}", datatype="UINT8", shape=[len(part)])
        for index, part in enumerate(raw)
    ]
    return types.ModelInferResponse(outputs=outputs, raw_output_contents=list(raw), **fields).SerializeToString()


def recorded() -> list[bytes]:
    """Every `ModelInfer` answer of the recordings."""
    found = []
    for path in sorted(FIXTURES.glob("*/grpc.json")):
        for exchange in json.loads(path.read_text())["exchanges"].values():
            if exchange["method"].endswith("/ModelInfer"):
                found += [base64.b64decode(part) for part in exchange["responses"] if part]
    return found


def test_recorded_answers_are_the_same_message_in_two_parts():
    answers = recorded()
    assert len(answers) > 30
    for data in answers:
        whole = types.ModelInferResponse.FromString(data)
        rest, raw = cut_raw(data)
        assert [bytes(part) for part in raw] == list(whole.raw_output_contents)
        del whole.raw_output_contents[:]
        assert types.ModelInferResponse.FromString(rest) == whole


def test_a_large_answer_is_a_view_of_what_came():
    values = np.arange(SMALL, dtype="u1")
    data = answer(values.tobytes(), b"\1\2", model_name="m", id="7")
    result = read_infer_message(RawAnswer.FromString(data))
    assert (result.model, result.id) == ("m", "7")
    assert np.array_equal(result.outputs["out0"].numpy(), values)
    assert result.outputs["out1"].flat() == [1, 2]
    assert np.shares_memory(result.outputs["out0"].numpy(), np.frombuffer(data, "u1"))


@given(st.lists(st.binary(max_size=300), max_size=4), st.text(max_size=10), st.binary(max_size=3))
def test_any_answer_is_cut_as_protobuf_reads_it(raw: list[bytes], name: str, unknown: bytes):
    data = answer(*raw, model_name=name) + b"\x9a\x06" + bytes([len(unknown)]) + unknown  # a field nobody knows
    rest, cut = cut_raw(data)
    assert [bytes(part) for part in cut] == raw
    assert types.ModelInferResponse.FromString(rest).model_name == name


@pytest.mark.parametrize("broken", [lambda data: data[:-1], lambda data: data + b"\x32", lambda data: b"\x07" + data])
def test_what_is_malformed_is_protobufs_to_refuse(broken):
    data = broken(answer(bytes(SMALL)))
    assert cut_raw(data) is None
    with pytest.raises(DecodeError):
        RawAnswer.FromString(data)


@given(st.binary(max_size=200))
def test_nonsense_is_never_more_than_refused(data: bytes):
    cut = cut_raw(data)
    if cut is not None:
        assert sum(map(len, cut[1])) + len(cut[0]) <= len(data)


def test_very_many_tiny_contents_are_left_to_protobuf():
    assert cut_raw(b"\x32\x00" * 100_000) is None
    data = b"\x08\x01" * 100_000 + b"\x32\x01x" + b"\x08\x01" * 3
    rest, raw = cut_raw(data)
    assert (rest, [bytes(part) for part in raw]) == (b"\x08\x01" * 100_003, [b"x"])
