"""Tensors of the caller's: what arrays, lists and texts become on the wire, and what is refused."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from array import array as number_array
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kserve_core.errors import ConfigurationError
from kserve_core.protos import messages
from kserve_core.tensors import DATATYPES, Tensor, datatype_of, fill_contents, tensor_from_grpc, tensor_from_json

ROOT = Path(__file__).parents[3]
NUMERIC = sorted(name for name, width in DATATYPES.items() if width)
DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
HELLO = bytes.fromhex("08000000 76373a68656c6c6f 0d000000 76373a77c3b6726c6420e29883")
"""Two BYTES elements as Triton 2.51 answered them."""


def through_raw(tensor: Tensor) -> Tensor:
    parameters = {"binary_data_size": len(tensor.raw_bytes())}
    entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "parameters": parameters}
    # Behind JSON of any length: the data need not be aligned.
    return tensor_from_json(entry, memoryview(b"{}!" + tensor.raw_bytes())[3:])


def through_json(tensor: Tensor) -> Tensor:
    data = tensor.json_data(fp16=True)
    entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data}
    return tensor_from_json(orjson.loads(orjson.dumps(entry)), None)


def through_contents(tensor: Tensor) -> Tensor:
    message = messages.inference.ModelInferResponse.InferOutputTensor(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )
    fill_contents(message.contents, tensor)
    return tensor_from_grpc(type(message).FromString(message.SerializeToString()), None)


def through_raw_contents(tensor: Tensor) -> Tensor:
    message = messages.inference.ModelInferResponse.InferOutputTensor(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )
    return tensor_from_grpc(message, tensor.raw_bytes())


def ways(datatype: str) -> list[Any]:
    found = [through_raw, through_raw_contents]
    if datatype != "BF16":
        found.append(through_json)
    if datatype not in {"BF16", "FP16"}:
        found.append(through_contents)
    return found


def refused(name: str, value: Any, **options: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        Tensor.of(name, value, **options)
    assert caught.value.layer == "client"
    return caught.value


# --- bytes on the wire


def test_texts_are_the_bytes_triton_reads_and_writes() -> None:
    assert Tensor.of("text", "hi").raw_bytes() == bytes.fromhex("02000000 6869")
    tensor = Tensor.of("text", ["v7:hello", "v7:wörld ☃"])
    assert (tensor.datatype, tensor.shape) == ("BYTES", (2,))
    assert tensor.raw_bytes() == HELLO
    assert tensor.json_data() == ["v7:hello", "v7:wörld ☃"]


def test_texts_are_read_back() -> None:
    entry = {"name": "out", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 29}}
    tensor = tensor_from_json(entry, memoryview(HELLO))
    assert tensor.texts() == ["v7:hello", "v7:wörld ☃"]
    assert tensor.flat() == [b"v7:hello", "v7:wörld ☃".encode()]
    assert tensor.shape == (2, 1)
    assert tensor.numpy().tolist() == [[b"v7:hello"], ["v7:wörld ☃".encode()]]
    assert tensor.raw_bytes() == HELLO


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("BOOL", [True, False], "0100"),
        ("UINT8", [0, 255], "00ff"),
        ("UINT16", [1, 65535], "0100ffff"),
        ("UINT32", [1, 2**32 - 1], "01000000ffffffff"),
        ("UINT64", [1, 2**64 - 1], "0100000000000000ffffffffffffffff"),
        ("INT8", [-128, 127], "807f"),
        ("INT16", [-2, 1], "feff0100"),
        ("INT32", [-2, 1], "feffffff01000000"),
        ("INT64", [-2, 2**53 + 1], "feffffffffffffff0100000000002000"),
        ("FP16", [1.0, -2.0], "003c00c0"),
        ("BF16", [1.0, -2.0], "803f00c0"),
        ("FP32", [1.0, -2.0], "0000803f000000c0"),
        ("FP64", [1.0, -2.0], "000000000000f03f00000000000000c0"),
        ("BYTES", ["a", b"\xff"], "0100000061" + "01000000ff"),
    ],
)
def test_each_datatype_byte_by_byte(datatype: str, values: list[Any], expected: str) -> None:
    tensor = Tensor.of("x", values, datatype=datatype)
    assert tensor.raw_bytes().hex() == expected
    assert (tensor.shape, tensor.size) == ((2,), 2)
    back = through_raw(tensor)
    assert back.flat() == [value.encode() if isinstance(value, str) else value for value in values]


def test_every_datatype_is_in_the_table_above() -> None:
    assert [*DTYPES, "BF16", "BYTES"] == sorted(DATATYPES, key=[*DTYPES, "BF16", "BYTES"].index)
    for name, dtype in DTYPES.items():
        assert DATATYPES[name] == np.dtype(dtype).itemsize


# --- round trips


@pytest.mark.parametrize("datatype", [name for name in NUMERIC if name != "BF16"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_arrays_of_any_shape_come_back_from_every_form(datatype: str, data: st.DataObject) -> None:
    dtype = np.dtype(DTYPES[datatype])
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = data.draw(arrays.arrays(dtype, shapes, elements=elements))
    tensor = Tensor.of("x", array)
    assert (tensor.datatype, tensor.shape) == (datatype, array.shape)
    for way in ways(datatype):
        back = way(tensor)
        assert back.numpy().dtype == dtype
        np.testing.assert_array_equal(back.numpy(), array)
        assert back.flat() == array.reshape(-1).tolist()
        assert back.raw_bytes() == tensor.raw_bytes()
        count = array.shape[0] if array.ndim else 1
        expected = array.astype("f8").reshape(count, array.size // count if count else 0).tolist()
        assert back.rows() == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_come_back_from_every_form(texts: list[str]) -> None:
    tensor = Tensor.of("x", texts, datatype="BYTES")
    for way in ways("BYTES"):
        back = way(tensor)
        assert back.texts() == texts
        assert back.flat() == [text.encode() for text in texts]
        assert list(back.numpy()) == [text.encode() for text in texts]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary()))
def test_bytes_come_back_from_every_binary_form(values: list[bytes]) -> None:
    tensor = Tensor.of("x", values, datatype="BYTES")
    for way in (through_raw, through_contents, through_raw_contents):
        assert way(tensor).flat() == values


def test_bytes_keep_their_nul_characters() -> None:
    array = through_raw(Tensor.of("x", [b"a\0", b"\0"])).numpy()
    assert array.dtype == object
    assert array.tolist() == [b"a\0", b"\0"]


@settings(max_examples=50, deadline=None)
@given(arrays.arrays("<u2", arrays.array_shapes(max_dims=2, min_side=0, max_side=8)))
def test_every_bfloat16_comes_back_with_the_same_bits(bits: Any) -> None:
    floats = (bits.astype("<u4") << np.uint32(16)).view("<f4")
    back = through_raw(Tensor.of("x", floats, datatype="BF16"))
    assert back.numpy().dtype == np.float32
    np.testing.assert_array_equal(back.numpy(), floats)
    sure = ~np.isnan(floats)
    np.testing.assert_array_equal(np.frombuffer(back.raw_bytes(), "<u2").reshape(bits.shape)[sure], bits[sure])
    if floats.size:
        np.testing.assert_array_equal(back.rows(), floats.astype("f8").reshape(floats.shape[0], -1))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F800000, 0x3F80),
        (0x3F807FFF, 0x3F80),  # below the middle
        (0x3F808000, 0x3F80),  # the middle goes to the even one, down
        (0x3F818000, 0x3F82),  # and up
        (0x3F808001, 0x3F81),  # above the middle
        (0x80000000, 0x8000),  # minus zero
        (0x7F800000, 0x7F80),  # infinity
        (0x7F800001, 0x7FC0),  # a NaN whose payload is all in the lower half
        (0x00000001, 0x0000),  # the smallest subnormal
    ],
)
def test_bfloat16_is_rounded_to_the_nearest(bits: int, expected: int) -> None:
    value = np.array([bits], "<u4").view("<f4")
    assert Tensor.of("x", value, datatype="BF16").raw_bytes() == expected.to_bytes(2, "little")


def test_nan_and_infinity_travel_as_binary_data_only() -> None:
    tensor = Tensor.of("x", [float("nan"), float("inf"), -0.0], datatype="FP32")
    assert np.isnan(through_raw(tensor).flat()[0])
    assert str(through_raw(tensor).rows()) == "[[nan], [inf], [-0.0]]"
    with pytest.raises(ConfigurationError, match=r"'x' holds NaN or infinity") as caught:
        tensor.json_data()
    assert "binary" in caught.value.hint


# --- what becomes a tensor


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "flat"),
    [
        ("hi", "BYTES", (1,), [b"hi"]),
        (b"\xff", "BYTES", (1,), [b"\xff"]),
        (bytearray(b"a"), "BYTES", (1,), [b"a"]),
        (True, "BOOL", (1,), [True]),
        (3, "INT64", (1,), [3]),
        (0.5, "FP64", (1,), [0.5]),
        (2**63, "UINT64", (1,), [2**63]),
        ([["a", "b"], ["c", "d"]], "BYTES", (2, 2), [b"a", b"b", b"c", b"d"]),
        (["a", b"b", bytearray(b"c")], "BYTES", (3,), [b"a", b"b", b"c"]),
        ([[1, 2, 3], (4, 5, 6)], "INT64", (2, 3), [1, 2, 3, 4, 5, 6]),
        ([1, 0.5], "FP64", (2,), [1.0, 0.5]),
        (range(3), "INT64", (3,), [0, 1, 2]),
        (number_array("f", [0.5]), "FP32", (1,), [0.5]),
        (np.array(2.5, "f4"), "FP32", (), [2.5]),
        (np.array("word"), "BYTES", (), [b"word"]),
        (np.float32(2.5), "FP32", (1,), [2.5]),
        (np.str_("word"), "BYTES", (1,), [b"word"]),
        (np.zeros((0, 384), "f4"), "FP32", (0, 384), []),
        (np.array(["a", "ü"]), "BYTES", (2,), [b"a", "ü".encode()]),
        (np.array([b"a", b"b"]), "BYTES", (2,), [b"a", b"b"]),
        (np.array([["a"], [b"\xff"]], object), "BYTES", (2, 1), [b"a", b"\xff"]),
        ([np.float32(0.5), np.float32(1)], "FP64", (2,), [0.5, 1.0]),
        ([np.int16(1), 2], "INT64", (2,), [1, 2]),
        ([np.bool_(True), False], "BOOL", (2,), [True, False]),
        ([np.array([1, 2], "i4"), np.array([3, 4], "i4")], "INT32", (2, 2), [1, 2, 3, 4]),
    ],
)
def test_values_and_the_tensors_they_become(value: Any, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> None:
    tensor = Tensor.of("x", value)
    assert (tensor.datatype, tensor.shape, tensor.flat()) == (datatype, shape, flat)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="i4").reshape(2, 3)),
        np.arange(12, dtype="i4").reshape(2, 6)[:, ::2],
        np.arange(6, dtype="i4").reshape(2, 3)[::-1, ::-1],
        np.broadcast_to(np.arange(3, dtype="i4"), (2, 3)),
    ],
    ids=["big-endian", "fortran order", "every second", "reversed", "broadcast"],
)
def test_arrays_in_any_layout_are_sent_row_by_row_and_little_endian(array: Any) -> None:
    tensor = Tensor.of("x", array)
    assert tensor.datatype == "INT32"
    assert tensor.raw_bytes() == array.astype("<i4").tobytes("C")


def test_a_later_change_of_the_array_does_not_reach_the_tensor() -> None:
    array = np.array([1.0, 2.0], "f4")
    tensor = Tensor.of("x", array)
    array[0] = 9
    assert tensor.flat() == [1.0, 2.0]


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2], "i8"), np.array([1, 2], "f8"), [1.0, 2.0]])
def test_numbers_become_the_floats_asked_for(datatype: str, value: Any) -> None:
    tensor = Tensor.of("x", value, datatype=datatype)
    assert (tensor.datatype, tensor.rows()) == (datatype, [[1.0], [2.0]])


def test_floats_in_json_keep_the_digits_they_were_given_with() -> None:
    assert Tensor.of("x", [0.1], datatype="FP32").json_data() == [0.1]
    assert Tensor.of("x", np.array([0.1], "f4")).json_data() == [0.10000000149011612]


def test_a_shape_may_be_given() -> None:
    assert Tensor.of("x", ["a", "b"], shape=[2, 1]).shape == (2, 1)
    assert Tensor.of("x", 3, shape=[]).shape == ()
    assert Tensor.of("x", np.arange(6), shape=(np.int64(3), 2)).numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert "holds 2 elements, but the shape [3] takes 3" in str(refused("x", ["a", "b"], shape=[3]))
    assert "dimension of -1" in str(refused("x", ["a", "b"], shape=[-1]))
    assert "dimension of True" in str(refused("x", ["a"], shape=[True]))
    assert "dimension of 1.0" in str(refused("x", ["a"], shape=[1.0]))


def test_parameters_are_kept() -> None:
    assert Tensor.of("x", "a", parameters={"content_type": "str"}).parameters == {"content_type": "str"}
    assert Tensor.of("x", "a").parameters == {}


@pytest.mark.parametrize(
    ("value", "options", "problem"),
    [
        (None, {}, "not NoneType"),
        ({"a": 1}, {}, "not dict"),
        ({1, 2}, {}, "not set"),
        ([None], {}, "NoneType"),
        (["a", 1], {}, "no datatype takes together (int, str)"),
        ([True, 1], {}, "(bool, int)"),
        ([], {}, "datatype cannot be told"),
        ([[1, 2], [3]], {}, "differ in length"),
        ([[1, 2], 3], {}, "differ in length"),
        ([1, [2]], {}, "(int, list)"),
        ([[[]], [[], []]], {}, "differ in length"),
        ([np.zeros(2), np.zeros(3)], {}, "cannot be read as a numpy array"),
        ([dt.date(2024, 1, 1)], {}, "date"),
        (np.array(["2024-01-01"], "datetime64[D]"), {}, "no datatype"),
        (np.array([1], "timedelta64[s]"), {}, "no datatype"),
        (np.array([1j]), {}, "complex128"),
        (np.array([(1, 2)], "i4,i4"), {}, "no datatype"),
        (np.array([None, "a"], object), {}, "BYTES, which takes bytes or str, but holds None"),
        (np.array([1, 2], object), {}, "BYTES, which takes bytes or str, but holds int"),
        ([1], {"datatype": "STRING"}, "'STRING', which the protocol does not know"),
        ([1], {"datatype": "int64"}, "'int64'"),
        ([128], {"datatype": "INT8"}, "outside of what INT8 takes (-128 to 127)"),
        ([-1], {"datatype": "UINT16"}, "outside of what UINT16 takes (0 to 65535)"),
        ([2**64], {}, "outside of what UINT64 takes"),
        ([-1, 2**63], {}, "outside of what INT64 takes"),
        (np.array([300], "i8"), {"datatype": "UINT8"}, "outside of what UINT8 takes"),
        (np.array([2**63], "u8"), {"datatype": "INT64"}, "outside of what INT64 takes"),
        ([1.0], {"datatype": "INT32"}, "INT32, which takes int, but holds float"),
        (np.array([1.0]), {"datatype": "INT32"}, "holds an array of float64"),
        (np.array([True]), {"datatype": "INT64"}, "holds an array of bool"),
        ([True], {"datatype": "INT64"}, "holds bool"),
        ([1], {"datatype": "BOOL"}, "BOOL, which takes bool, but holds int"),
        (np.array([1]), {"datatype": "BOOL"}, "holds an array of int64"),
        (["1"], {"datatype": "FP32"}, "holds str"),
        (np.array(["1"]), {"datatype": "FP32"}, "holds str"),
        ([1], {"datatype": "BYTES"}, "BYTES, which takes bytes or str, but holds int"),
        (np.array([1.0]), {"datatype": "BYTES"}, "holds an array of float64"),
        ([70000.0], {"datatype": "FP16"}, "too large for FP16"),
        (np.array([70000.0], "f4"), {"datatype": "FP16"}, "too large for FP16"),
        ([1e39], {"datatype": "FP32"}, "too large for FP32"),
        (np.array([1e39]), {"datatype": "FP32"}, "too large for FP32"),
        ([3.4e38], {"datatype": "BF16"}, "too large for BF16"),
        ([1e300], {"datatype": "BF16"}, "too large for BF16"),
        ([10**400], {"datatype": "FP64"}, "too large for FP64"),
        (np.array([2**17], "i8"), {"datatype": "FP16"}, "too large for FP16"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_is_sent(
    value: Any, options: dict[str, Any], problem: str
) -> None:
    message = str(refused("the_input", value, **options))
    assert "'the_input'" in message
    assert problem in message


def test_a_list_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert "nested deeper than 32" in str(refused("x", deep))


def test_a_name_is_needed() -> None:
    for name in ("", None, 3):
        with pytest.raises(ConfigurationError, match="name"):
            Tensor.of(name, "a")  # type: ignore[arg-type]


def test_an_array_that_cannot_be_read_says_what_to_do() -> None:
    class OnDevice:
        device = "cuda:0"

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("can't convert")

    assert "host" in refused("x", OnDevice()).hint


def test_text_without_a_utf8_form_is_refused() -> None:
    tensor = Tensor.of("prompt", ["secret \ud800"])
    for form in (tensor.raw_bytes, tensor.json_data, tensor.flat):
        with pytest.raises(ConfigurationError, match="'prompt' holds a text with half a character") as caught:
            form()
        assert "secret" not in str(caught.value)


def test_json_cannot_carry_bytes_or_half_floats() -> None:
    with pytest.raises(ConfigurationError, match="no UTF-8"):
        Tensor.of("x", b"\xff").json_data()
    assert Tensor.of("x", b"ok").json_data() == ["ok"]
    for datatype in ("FP16", "BF16"):
        tensor = Tensor.of("x", [0.5], datatype=datatype)
        with pytest.raises(ConfigurationError, match=f"'x' is {datatype}, which can only be sent as binary data"):
            tensor.json_data()
        with pytest.raises(ConfigurationError, match=f"'x' is {datatype}"):
            fill_contents(messages.inference.InferTensorContents(), tensor)
    assert Tensor.of("x", [0.5], datatype="FP16").json_data(fp16=True) == [0.5]


def test_json_data_is_plain() -> None:
    for value in (np.array([[1, 2]], "i2"), np.array([True]), np.array([0.5], "f4"), np.array(["a"])):
        data = Tensor.of("x", value).json_data()
        assert {type(item) for item in data} <= {int, bool, float, str}
    assert Tensor.of("x", np.array([2**64 - 1], "u8")).json_data() == [2**64 - 1]


def test_typed_contents_use_the_field_of_the_datatype() -> None:
    fields = {
        "bool_contents": ["BOOL"],
        "int_contents": ["INT8", "INT16", "INT32"],
        "int64_contents": ["INT64"],
        "uint_contents": ["UINT8", "UINT16", "UINT32"],
        "uint64_contents": ["UINT64"],
        "fp32_contents": ["FP32"],
        "fp64_contents": ["FP64"],
        "bytes_contents": ["BYTES"],
    }
    for field, datatypes in fields.items():
        for datatype in datatypes:
            contents = messages.inference.InferTensorContents()
            value: Any = {"BOOL": True, "BYTES": "1"}.get(datatype, 1)
            fill_contents(contents, Tensor.of("x", [value], datatype=datatype))
            assert [found.name for found, _ in contents.ListFields()] == [field]


def test_what_a_tensor_shows_of_itself_is_no_content() -> None:
    tensor = Tensor.of("text", ["my secret prompt"], parameters={"key": "my secret"})
    assert repr(tensor) == str(tensor) == "Tensor('text', BYTES, [1])"
    for value in (["my secret", 1], [["my secret"], ["a", "b"]], {"my secret": 1}):
        assert "secret" not in str(refused("x", value))


# --- datatypes of arrays


@pytest.mark.parametrize(("datatype", "dtype"), DTYPES.items())
def test_the_datatype_of_an_array(datatype: str, dtype: str) -> None:
    assert datatype_of(np.zeros(2, dtype)) == datatype
    assert datatype_of(np.zeros(2, np.dtype(dtype).newbyteorder(">"))) == datatype


def test_the_datatype_of_texts_is_bytes() -> None:
    for array in (np.array(["a"]), np.array([b"a"]), np.array(["a", None], object)):
        assert datatype_of(array) == "BYTES"


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "V3"])
def test_arrays_without_a_datatype(dtype: str) -> None:
    with pytest.raises(ConfigurationError, match="no datatype") as caught:
        datatype_of(np.zeros(1, dtype))
    assert "astype" in caught.value.hint


def test_texts_and_float_rows_need_no_numpy() -> None:
    code = (
        "import sys\n"
        "from kserve_core.tensors import Tensor, tensor_from_json\n"
        "Tensor.of('x', ['a', 'b']).raw_bytes(), Tensor.of('x', [[1, 2]], datatype='INT32').json_data()\n"
        "entry = {'name': 'y', 'datatype': 'FP32', 'shape': [1, 2]}\n"
        "assert tensor_from_json(entry, memoryview(bytes(8))).rows() == [[0.0, 0.0]]\n"
        "print('numpy' in sys.modules, 'google.protobuf' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "core")},
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
