"""Tensors of answers: what servers send, and that a hostile or broken one is a typed error of bounded cost."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kserve_core.errors import BadResponseError
from kserve_core.protos import messages
from kserve_core.tensors import DATATYPES, Tensor, tensor_from_grpc, tensor_from_json


def entry(datatype: Any, shape: Any, data: Any = None, **more: Any) -> dict[str, Any]:
    found = {"name": "out", "datatype": datatype, "shape": shape, **more}
    return found if data is None else {**found, "data": data}


def output(datatype: str, shape: list[int], **contents: Any) -> Any:
    types = messages.inference
    message = types.ModelInferResponse.InferOutputTensor(name="out", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(message.contents, name).extend(values)
    return message


def bad(read: Any, *arguments: Any) -> BadResponseError:
    with pytest.raises(BadResponseError) as caught:
        read(*arguments)
    assert len(str(caught.value)) < 600
    return caught.value


# --- what servers send


def test_mlservers_texts_have_a_second_dimension_and_a_content_type() -> None:
    tensor = tensor_from_json(entry("BYTES", [2, 1], ["a", "ü"], parameters={"content_type": "str"}), None)
    assert tensor.texts() == ["a", "ü"]
    assert tensor.parameters == {"content_type": "str"}


def test_parameters_may_be_null() -> None:
    assert tensor_from_json(entry("FP32", [1], [1.5], parameters=None), None).parameters == {}


def test_flat_and_nested_data_are_the_same() -> None:
    flat = tensor_from_json(entry("FP32", [2, 2], [1.0, 2, 3.0, 4]), None)
    nested = tensor_from_json(entry("FP32", [2, 2], [[1.0, 2], [3.0, 4]]), None)
    squeezed = tensor_from_json(entry("FP32", [1, 2, 2], [[1.0, 2], [3.0, 4]]), None)
    for tensor in (flat, nested, squeezed):
        assert tensor.flat() == [1.0, 2.0, 3.0, 4.0]
        assert all(type(value) is float for value in tensor.flat())
    assert flat.rows() == nested.rows() == [[1.0, 2.0], [3.0, 4.0]]


def test_large_integers_are_exact() -> None:
    tensor = tensor_from_json(entry("UINT64", [2], [2**53 + 1, 2**64 - 1]), None)
    assert tensor.numpy().tolist() == tensor.flat() == [2**53 + 1, 2**64 - 1]


def test_half_floats_as_numbers_are_read() -> None:
    tensor = tensor_from_json(entry("FP16", [2], [0.5, 1]), None)
    assert tensor.numpy().dtype == np.float16
    assert tensor.rows() == [[0.5], [1.0]]


def test_kserves_parameter_of_raw_contents() -> None:
    message = output("FP32", [1])
    message.parameters["binary_data_size"].int64_param = 4
    message.parameters["none"].SetInParent()
    tensor = tensor_from_grpc(message, struct.pack("<f", 1.5))
    assert tensor.parameters == {"binary_data_size": 4, "none": None}
    assert tensor.rows() == [[1.5]]
    message.parameters["binary_data_size"].int64_param = 8
    assert "announces 8 bytes" in str(bad(tensor_from_grpc, message, bytes(4)))


def test_an_input_tensor_is_read_as_well() -> None:
    message = messages.inference.ModelInferRequest.InferInputTensor(name="in", datatype="BYTES", shape=[1])
    message.contents.bytes_contents.append(b"hi")
    assert tensor_from_grpc(message, None).texts() == ["hi"]


def test_an_empty_batch_has_no_rows() -> None:
    for tensor in (
        tensor_from_json(entry("FP32", [0, 384], []), None),
        tensor_from_json(entry("FP32", [0, 384]), memoryview(b"")),
        tensor_from_grpc(output("FP32", [0, 384]), b""),
        tensor_from_grpc(output("FP32", [0, 384]), None),
        tensor_from_grpc(output("BF16", [0, 384]), None),
    ):
        assert tensor.rows() == []
        assert tensor.numpy().shape == (0, 384)
    assert tensor_from_json(entry("BYTES", [0], []), None).texts() == []


def test_rows_string_further_dimensions_together() -> None:
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    tensor = tensor_from_json(entry("FP32", [2, 3, 4]), memoryview(array.tobytes()))
    assert tensor.rows() == array.reshape(2, 12).tolist()
    assert tensor_from_json(entry("FP32", [3]), memoryview(bytes(12))).rows() == [[0.0], [0.0], [0.0]]
    assert tensor_from_json(entry("FP64", []), memoryview(struct.pack("<d", 2.5))).rows() == [[2.5]]
    assert tensor_from_json(entry("FP32", [2, 0], []), None).rows() == [[], []]
    assert tensor_from_json(entry("INT8", [2]), memoryview(b"\x01\xff")).rows() == [[1.0], [-1.0]]


def test_raw_data_becomes_a_view_that_cannot_be_written() -> None:
    body = bytearray(struct.pack("<3f", 1, 2, 3))
    for raw in (memoryview(body), memoryview(bytes(body))):
        array = tensor_from_json(entry("FP32", [3]), raw).numpy()
        assert np.shares_memory(array, np.frombuffer(raw, "u1"))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    for tensor in (
        tensor_from_json(entry("FP32", [1], [1.5]), None),
        tensor_from_json(entry("BYTES", [1], ["a"]), None),
        tensor_from_json(entry("BOOL", [1]), memoryview(b"\1")),
        tensor_from_json(entry("BF16", [1]), memoryview(b"\0\0")),
    ):
        with pytest.raises(ValueError, match="read-only"):
            tensor.numpy()[0] = 0


def test_any_byte_but_zero_is_true() -> None:
    tensor = tensor_from_json(entry("BOOL", [3]), memoryview(b"\x00\x02\xff"))
    assert tensor.flat() == tensor.numpy().tolist() == [False, True, True]


def test_texts_that_are_no_utf8_are_read_with_replacement() -> None:
    assert tensor_from_grpc(output("BYTES", [1], bytes_contents=[b"a\xff"]), None).texts() == ["a�"]


def test_numbers_are_no_texts_and_texts_no_numbers() -> None:
    numbers = tensor_from_json(entry("FP32", [1, 2], [1.0, 2.0]), None)
    texts = tensor_from_json(entry("BYTES", [1], ["my secret"]), None)
    assert "'out' holds FP32 [1, 2] where texts were expected" in str(bad(numbers.texts))
    assert "'out' holds BYTES [1] where numbers were expected" in str(bad(texts.rows))


# --- broken and hostile answers

BROKEN: list[tuple[dict[str, Any], bytes | None, str]] = [
    (entry("STRING", [1], ["a"]), None, "'STRING', which the protocol does not know"),
    (entry(None, [1], ["a"]), None, "datatype None"),
    (entry(["FP32"], [1], ["a"]), None, "datatype list"),
    (entry("FP32", None, [1.0]), None, "no shape"),
    (entry("FP32", "1", [1.0]), None, "no shape"),
    (entry("FP32", {"0": 1}, [1.0]), None, "no shape"),
    (entry("FP32", [-1], [1.0]), None, "dimension of -1"),
    (entry("FP32", [1.0], [1.0]), None, "dimension of 1.0"),
    (entry("FP32", ["1"], [1.0]), None, "dimension of '1'"),
    (entry("FP32", [True], [1.0]), None, "dimension of True"),
    (entry("FP32", [None], [1.0]), None, "dimension of None"),
    (entry("FP32", [[1]], [1.0]), None, "dimension of list"),
    (entry("FP32", [1] * 33, [1.0]), None, "33 dimensions"),
    (entry("FP32", [1] * 100_000, [1.0]), None, "100000 dimensions"),
    (entry("FP32", [2**32, 2**32], []), None, "no memory holds"),
    (entry("FP32", [2**64], []), None, "dimension of int"),
    (entry("FP32", [2**40, 2**40, 0], []), None, "no memory holds"),
    (entry("FP32", [2**40, 0], []), None, "too many rows without elements"),
    (entry("FP32", [1000, 1000, 0], []), None, "too many rows without elements"),
    (entry("FP32", [2], [1.0]), None, "holds 1 elements, but the shape [2] takes 2"),
    (entry("FP32", [], []), None, "holds 0 elements, but the shape [] takes 1"),
    (entry("FP32", [2**40], [1.0]), None, "holds 1 elements"),
    (entry("FP32", [1]), None, "no list of data"),
    (entry("FP32", [1], 1.0), None, "no list of data"),
    (entry("BYTES", [1], "text"), None, "no list of data"),
    (entry("FP32", [1], {"0": 1.0}), None, "no list of data"),
    (entry("FP32", [1], parameters={"binary_data_size": 4}), None, "announces binary data that did not come"),
    (entry("FP32", [1], [1.0], parameters=[]), None, "parameters that are no object"),
    (entry("FP32", [1], [None]), None, "holds null"),
    (entry("FP32", [1], ["1.0"]), None, "holds str"),
    (entry("FP32", [1], [True]), None, "holds bool"),
    (entry("FP32", [2], [1.0, [2.0]]), None, "holds list"),
    (entry("INT32", [1], [1.5]), None, "holds float"),
    (entry("INT32", [1], [True]), None, "holds bool"),
    (entry("INT8", [1], [128]), None, "outside of what INT8 takes"),
    (entry("UINT64", [1], [-1]), None, "outside of what UINT64 takes"),
    (entry("BOOL", [1], [1]), None, "holds int"),
    (entry("BYTES", [1], [1]), None, "holds int"),
    (entry("BYTES", [1], [None]), None, "holds null"),
    (entry("FP32", [3], [[1.0, 2.0], [3.0]]), None, "differ in length"),
    (entry("FP32", [2, 3], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), None, "nested as [3, 2]"),
    (entry("FP32", [2]), bytes(7), "holds 7 bytes, but FP32 [2] takes 8"),
    (entry("FP32", [2]), bytes(9), "holds 9 bytes"),
    (entry("FP32", []), b"", "holds 0 bytes, but FP32 [] takes 4"),
    (entry("FP32", [2**40]), bytes(8), "holds 8 bytes"),
    (entry("BF16", [1]), bytes(4), "holds 4 bytes"),
    (entry("FP32", [1], parameters={"binary_data_size": 8}), bytes(4), "announces 8 bytes of data, but 4 came"),
    (entry("FP32", [1], parameters={"binary_data_size": "4"}), bytes(4), "announces '4' bytes"),
    (entry("BYTES", [2**40]), bytes(8), "too few for the lengths of 1099511627776 elements"),
    (entry("BYTES", [1]), b"\x05\x00\x00\x00hi", "longer than the data"),
    (entry("BYTES", [1]), b"\xff\xff\xff\xffhi", "longer than the data"),
    (entry("BYTES", [1]), b"\x02\x00\x00\x00hi!", "leaves 1 bytes over"),
    (entry("BYTES", [2]), b"\x02\x00\x00\x00hi\x02\x00", "inside its element 1 of 2"),
    (entry("BYTES", [2]), b"\xff\xff\xff\xff\x00\x00\x00\x00", "inside its element 1 of 2"),
    (entry("BYTES", [1]), b"\x02\x00", "too few"),
    (entry("BYTES", [0]), b"\x00\x00\x00\x00", "leaves 4 bytes over"),
]


@pytest.mark.parametrize(
    ("broken", "raw", "problem"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_tensor_is_an_error_that_names_it(broken: dict[str, Any], raw: bytes | None, problem: str) -> None:
    message = str(bad(tensor_from_json, broken, None if raw is None else memoryview(raw)))
    assert "'out'" in message
    assert problem in message


@pytest.mark.parametrize(
    ("datatype", "shape", "contents", "raw", "problem"),
    [
        ("STRING", [1], {}, b"", "'STRING'"),
        ("", [1], {}, b"", "datatype ''"),
        ("FP32", [-1], {}, b"", "dimension of -1"),
        ("FP32", [2**62, 2**62], {}, b"", "no memory holds"),
        ("FP32", [2], {}, bytes(4), "takes 8"),
        ("FP32", [2], {"fp32_contents": [1.0]}, None, "holds 1 elements"),
        ("FP32", [2], {"fp64_contents": [1.0, 2.0]}, None, "holds 0 elements"),
        ("INT8", [1], {"int_contents": [128]}, None, "outside of what INT8 takes"),
        ("UINT16", [1], {"uint_contents": [65536]}, None, "outside of what UINT16 takes"),
        ("FP16", [1], {"fp32_contents": [1.0]}, None, "only raw contents can hold"),
        ("BF16", [1], {}, None, "only raw contents can hold"),
        ("BYTES", [1], {}, b"\x09\x00\x00\x00hi", "longer than the data"),
    ],
)
def test_a_broken_grpc_tensor_is_an_error_that_names_it(
    datatype: str, shape: list[int], contents: dict[str, Any], raw: bytes | None, problem: str
) -> None:
    message = str(bad(tensor_from_grpc, output(datatype, shape, **contents), raw))
    assert "'out'" in message
    assert problem in message


@pytest.mark.parametrize("broken", [{}, {"name": None}, {"name": 3}, [], "out", None])
def test_a_tensor_without_a_name(broken: Any) -> None:
    assert "without a name" in str(bad(tensor_from_json, broken, None))


def test_null_for_a_number_has_its_reason_in_the_hint() -> None:
    assert "NaN" in bad(tensor_from_json, entry("FP32", [2], [1.0, None]), None).hint


def test_data_nested_too_deep() -> None:
    deep: Any = 1.0
    for _ in range(900):
        deep = [deep]
    assert "nested deeper than 32" in str(bad(tensor_from_json, entry("FP32", [1], deep), None))
    assert "dimension of list" in str(bad(tensor_from_json, entry("FP32", [deep], [1.0]), None))
    assert "datatype list" in str(bad(tensor_from_json, entry(deep, [1], [1.0]), None))


def test_long_names_are_cut_in_messages() -> None:
    for broken in ({**entry("FP32", [2], [1.0]), "name": "n" * 100_000}, entry("D" * 100_000, [1], [1.0])):
        bad(tensor_from_json, broken, None)
    assert len(repr(Tensor.of("n" * 1000, "a"))) < 200


def test_what_an_answer_holds_is_not_shown() -> None:
    for broken, raw in (
        (entry("FP32", [1], ["my secret"]), None),
        (entry("BYTES", [2], ["my secret"]), None),
        (entry("BYTES", [1]), memoryview(b"\x02\x00\x00\x00my secret")),
    ):
        assert "secret" not in str(bad(tensor_from_json, broken, raw))


@pytest.mark.parametrize(
    ("broken", "raw"),
    [
        (entry("FP32", [2**60], [1.0]), None),
        (entry("FP32", [2**60]), memoryview(b"1234")),
        (entry("BYTES", [2**60]), memoryview(b"1234")),
        (entry("FP64", [2**60, 0], []), None),
        (entry("FP64", [2**31, 2**31, 2**31], []), None),
        (entry("BYTES", [1]), memoryview(b"\xff\xff\xff\xff")),
    ],
)
def test_a_large_claim_costs_nothing(broken: dict[str, Any], raw: memoryview | None) -> None:
    tracemalloc.start()
    try:
        bad(tensor_from_json, broken, raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    datatype=st.sampled_from(sorted(DATATYPES)) | JSON,
    shape=st.lists(st.integers(-1, 4), max_size=3) | JSON,
    data=st.lists(st.floats(allow_nan=False) | st.integers(-300, 300) | st.booleans() | st.text(max_size=3)) | JSON,
    parameters=st.none() | st.just({}) | JSON,
    raw=st.none() | st.binary(max_size=24),
)
def test_any_json_is_a_whole_tensor_or_a_bad_response(
    datatype: Any, shape: Any, data: Any, parameters: Any, raw: bytes | None
) -> None:
    given_entry = entry(datatype, shape, data, parameters=parameters)
    try:
        tensor = tensor_from_json(given_entry, None if raw is None else memoryview(raw))
    except BadResponseError:
        return
    assert tensor.numpy().shape == tuple(shape)
    assert len(tensor.flat()) == tensor.size
    if tensor.datatype == "BYTES":
        assert len(tensor.texts()) == tensor.size
    else:
        assert sum(map(len, tensor.rows())) == tensor.size


@settings(max_examples=300, deadline=None)
@given(count=st.integers(0, 5), raw=st.binary(max_size=40))
def test_any_bytes_are_whole_elements_or_a_bad_response(count: int, raw: bytes) -> None:
    try:
        tensor = tensor_from_json(entry("BYTES", [count]), memoryview(raw))
    except BadResponseError:
        return
    assert tensor.raw_bytes() == raw


@pytest.mark.parametrize("shape", [[0, 2**61], [1, 0, 2**40, 2**20], [2**62, 0]])
def test_an_empty_tensor_of_a_shape_no_memory_holds_is_refused(shape: list[int]) -> None:
    with pytest.raises(BadResponseError):
        tensor_from_json({"name": "x", "datatype": "FP64", "shape": shape, "data": []}, None)
