"""Tensors of the Open Inference Protocol (V2): numpy arrays, lists and texts to its three wire forms and back.

The forms are flat JSON values, raw bytes (REST's binary extension and gRPC's raw contents share one layout: numbers
little-endian and row by row, each BYTES element behind its length in 4 bytes), and gRPC's typed contents. Nothing here
does I/O, and numpy is loaded only when an array is given or wanted.

    tensor = Tensor.of("text", ["hello", "world"])
    tensor.raw_bytes(), tensor.json_data()
    vectors = tensor_from_json(output, raw).rows()
"""

from __future__ import annotations

import math
import struct
import sys
from array import array as number_array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kserve_core.errors import BadResponseError, ConfigurationError
from kserve_core.tensors_numpy import as_array, datatype_of, decode_raw, decode_values, encode_array, is_scalar, is_text
from kserve_core.tensors_types import (
    DATATYPES,
    FLOATS,
    STRUCT_CODES,
    check_count,
    check_size,
    checked_shape,
    known_datatype,
    refuse,
    shown,
    shown_shape,
    unreadable,
)
from kserve_core.tensors_values import (
    checked_values,
    flatten,
    infer_datatype,
    pack_bytes,
    pack_numbers,
    plain_values,
    refuse_surrogates,
    unpack_bytes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DATATYPES", "Tensor", "datatype_of", "fill_contents", "tensor_from_grpc", "tensor_from_json"]

_LITTLE_ENDIAN = sys.byteorder == "little"
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents that holds a datatype; FP16 and BF16 have none."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tensor:
    """A named tensor, in the form it came in; the other forms are made when asked for.

    `Tensor.of`, `tensor_from_json` and `tensor_from_grpc` make checked ones.

    Attributes:
        name: The input's or output's name.
        datatype: One of `DATATYPES`.
        shape: The dimensions; `()` for a single value without any.
        raw: The elements as raw bytes, or None. Never of BYTES.
        values: The elements as flat Python values, or None: floats, ints, bools, or texts and bytes mixed.
        parameters: The tensor's parameters, as plain values.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = None
    values: Sequence[Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Tensor({shown(self.name)}, {self.datatype}, {list(self.shape)})"

    @classmethod
    def of(
        cls,
        name: str,
        value: Any,
        *,
        datatype: str | None = None,
        shape: Sequence[int] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """A tensor of the caller's.

        Args:
            name: The input's name.
            value: A numpy array, anything numpy can read as one, a list that may be nested, a text, bytes, a number or
                a boolean. A single Python value gets the shape `[1]`, an array without dimensions keeps `[]`.
            datatype: What to send it as. Left out: an array's own; BYTES for texts, BOOL, INT64 (UINT64 where needed)
                and FP64 for Python's values. Numbers may change their width and whole numbers may become floats, if
                they are in range; BF16 is rounded to the nearest value.
            shape: The dimensions, if they are others than the value's own; the number of elements must be the same.
            parameters: The tensor's parameters.

        Raises:
            ConfigurationError: If the value is none of these, or does not fit the datatype or the shape.
        """
        _check_name(name)
        if datatype is not None:
            datatype = known_datatype(name, datatype, refuse)
        raw: bytes | None = None
        values: list[Any] | None = None
        if isinstance(value, (list, tuple, range)) and not _holds_arrays(value):
            own, values = flatten(name, value, refuse)
        elif isinstance(value, (list, tuple, number_array)) or hasattr(value, "__array__"):
            array = as_array(name, value)
            own = (1,) if is_scalar(value) else checked_shape(name, array.shape, refuse)
            if is_text(array):
                values = array.reshape(-1).tolist()
                datatype = datatype or "BYTES"
            else:
                datatype = datatype or datatype_of(array)
                raw = encode_array(name, array, datatype)
        elif isinstance(value, (str, bytes, bytearray, bool, int, float)):
            own, values = (1,), [value]
        else:
            wanted = "an array, a list, a text, bytes or a number"
            refuse(name, f"must be {wanted}, not {type(value).__name__}")
        if values is not None:
            values = plain_values(values)
            datatype = datatype or infer_datatype(name, values)
            values = checked_values(name, datatype, values, refuse)
            raw = _narrowed(name, datatype, values)
        if shape is not None:
            given = checked_shape(name, map(_plain_size, shape), refuse)
            check_count(name, given, math.prod(own), refuse)
            own = given
        return cls(name, datatype or "", checked_shape(name, own, refuse), raw, values, dict(parameters or {}))

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def numpy(self) -> NDArray[Any]:
        """The tensor as an array that cannot be written; a view of the raw bytes where that is possible.

        BYTES becomes an array of `bytes` objects, BF16 float32.
        """
        if self.raw is not None:
            return decode_raw(self.datatype, self.shape, self.raw)
        return decode_values(self.datatype, self.shape, self.flat())

    def flat(self) -> list[Any]:
        """The elements, row by row: floats, ints, bools, or bytes."""
        if self.values is not None:
            if self.datatype == "BYTES":
                return [self._encoded(value) if isinstance(value, str) else value for value in self.values]
            return list(self.values)
        if self.datatype == "BF16":
            floats: list[Any] = self.numpy().reshape(-1).tolist()
            return floats
        return list(struct.unpack(f"<{self.size}{STRUCT_CODES[self.datatype]}", self.raw or b""))

    def texts(self) -> list[str]:
        """The elements of a BYTES tensor as texts, bytes that are no UTF-8 replaced.

        Raises:
            BadResponseError: If the tensor holds numbers.
        """
        if self.datatype != "BYTES":
            unreadable(self.name, f"holds {self.datatype} {shown_shape(self.shape)} where texts were expected")
        return [value if isinstance(value, str) else value.decode("utf-8", "replace") for value in self.values or ()]

    def rows(self) -> list[list[float]]:
        """The tensor as one list of floats per index of its first dimension, further dimensions strung together.

        `[N]` gives N rows of one number, `[]` one such row.

        Raises:
            BadResponseError: If the tensor holds texts.
        """
        if self.datatype == "BYTES":
            unreadable(self.name, f"holds BYTES {shown_shape(self.shape)} where numbers were expected")
        count = self.shape[0] if self.shape else 1
        if self.size == 0:
            return [[] for _ in range(count)]
        width = self.size // count
        if self.values is not None:
            flat = list(self.values if self.datatype in FLOATS else map(float, self.values))
            return [flat[start : start + width] for start in range(0, self.size, width)]
        if self.datatype in {"FP32", "FP64"} and _LITTLE_ENDIAN:
            # As fast as numpy, which need not be loaded for it, also where the data is not aligned.
            cells = memoryview(self.raw or b"").cast(STRUCT_CODES[self.datatype], (count, width))  # type: ignore[call-overload]
            rows: list[list[float]] = cells.tolist()
            return rows
        floats: list[list[float]] = self.numpy().reshape(count, width).astype("f8").tolist()
        return floats

    def raw_bytes(self) -> bytes:
        """The elements as REST's binary extension and gRPC's raw contents carry them.

        Raises:
            ConfigurationError: If a text has no UTF-8 form.
        """
        if self.raw is not None:
            return bytes(self.raw)
        values = self.values or ()
        if self.datatype == "BYTES":
            return pack_bytes(self.name, values)
        if self.datatype == "BF16":
            return encode_array(self.name, self.numpy(), "BF16")
        return pack_numbers(self.name, self.datatype, values)

    def json_data(self, *, fp16: bool = False) -> list[Any]:
        """The elements as flat values for JSON.

        Args:
            fp16: Allow FP16 as numbers, which MLServer takes and Triton and KServe's server do not.

        Raises:
            ConfigurationError: If JSON has no form for them: FP16 and BF16, bytes that are no UTF-8, NaN, infinity.
        """
        if self.datatype == "BF16" or (self.datatype == "FP16" and not fp16):
            refuse(self.name, f"is {self.datatype}, which can only be sent as binary data")
        if self.datatype == "BYTES":
            return [self._text(value) for value in self.values or ()]
        values = self.flat()
        if self.datatype in FLOATS and not all(map(math.isfinite, values)):
            refuse(self.name, "holds NaN or infinity, which JSON does not have", hint="Send it as binary data.")
        return values

    def _encoded(self, value: str) -> bytes:
        try:
            return value.encode()
        except UnicodeEncodeError:
            refuse_surrogates(self.name)

    def _text(self, value: str | bytes) -> str:
        if isinstance(value, str):
            self._encoded(value)
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            hint = "Send it as binary data, or encode it as the model expects (base64, for example)."
            refuse(self.name, "holds bytes that are no UTF-8, which JSON cannot carry", hint=hint)


def tensor_from_json(entry: Mapping[str, Any], raw: memoryview | None) -> Tensor:
    """A tensor of a JSON answer.

    Args:
        entry: The member of `outputs`. Its `data` may be flat or nested as `shape` says.
        raw: Its `binary_data_size` bytes from behind the JSON, or None if it has `data`.

    Raises:
        BadResponseError: If it is not what its datatype and shape say.
    """
    name = _entry_name(entry)
    datatype = known_datatype(name, entry.get("datatype"), unreadable)
    if not isinstance(entry.get("shape"), (list, tuple)):
        unreadable(name, "has no shape")
    shape = checked_shape(name, entry["shape"], unreadable)
    parameters = entry.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        unreadable(name, "has parameters that are no object")
    if raw is not None:
        return _from_raw(name, datatype, shape, raw, parameters)
    data = entry.get("data")
    if data is None and "binary_data_size" in parameters:
        unreadable(name, "announces binary data that did not come")
    if not isinstance(data, (list, tuple)):
        unreadable(name, "has no list of data")
    nested, values = flatten(name, data, unreadable)
    check_count(name, shape, len(values), unreadable)
    if len(nested) > 1 and _without_ones(nested) != _without_ones(shape):
        unreadable(name, f"has the shape {shown_shape(shape)}, but its data is nested as {shown_shape(nested)}")
    return Tensor(name, datatype, shape, None, checked_values(name, datatype, values, unreadable), parameters)


def tensor_from_grpc(message: Any, raw: bytes | None) -> Tensor:
    """A tensor of a gRPC answer.

    Args:
        message: The `InferOutputTensor`, or an `InferInputTensor`.
        raw: Its entry of `raw_output_contents`, or None if the typed `contents` count.

    Raises:
        BadResponseError: If it is not what its datatype and shape say.
    """
    name = message.name
    datatype = known_datatype(name, message.datatype, unreadable)
    shape = checked_shape(name, message.shape, unreadable)
    parameters = {key: _parameter(value) for key, value in message.parameters.items()}
    if raw is not None:
        return _from_raw(name, datatype, shape, raw, parameters)
    contents = _CONTENTS.get(datatype)
    # A slice is a plain list, made faster than by list().
    values = getattr(message.contents, contents)[:] if contents else []
    if contents is None and 0 not in shape:
        unreadable(name, f"is {datatype}, which only raw contents can hold")
    check_count(name, shape, len(values), unreadable)
    return Tensor(name, datatype, shape, None, checked_values(name, datatype, values, unreadable), parameters)


def fill_contents(contents: Any, tensor: Tensor) -> None:
    """Puts a tensor's elements into typed `InferTensorContents`.

    Raises:
        ConfigurationError: If the datatype is FP16 or BF16, which have no typed contents.
    """
    name = _CONTENTS.get(tensor.datatype)
    if name is None:
        refuse(tensor.name, f"is {tensor.datatype}, which can only be sent as raw contents")
    getattr(contents, name).extend(tensor.flat())


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        msg = f"A tensor's name must be a text that is not empty, not {shown(name)}."
        raise ConfigurationError(msg)


def _entry_name(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if not isinstance(name, str):
        msg = "The answer holds a tensor without a name."
        raise BadResponseError(msg)
    return name


def _from_raw(
    name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview, parameters: Mapping[str, Any]
) -> Tensor:
    """A tensor of raw data; BYTES is taken apart at once, which is the only way to know that it is whole."""
    announced = parameters.get("binary_data_size", len(raw))
    if announced != len(raw):
        unreadable(name, f"announces {shown(announced)} bytes of data, but {len(raw)} came")
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, None, unpack_bytes(name, raw, math.prod(shape), unreadable), parameters)
    check_size(name, datatype, shape, len(raw), unreadable)
    return Tensor(name, datatype, shape, raw, None, parameters)


def _parameter(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _holds_arrays(value: Any) -> bool:
    return len(value) > 0 and hasattr(value[0], "__array__") and getattr(value[0], "shape", ()) != ()


def _narrowed(name: str, datatype: str, values: list[Any]) -> bytes | None:
    """The raw form of floats that may be too large for their datatype; that they can be written is the check."""
    if datatype in {"FP32", "FP16"}:
        return pack_numbers(name, datatype, values)
    if datatype == "BF16":
        return encode_array(name, as_array(name, values).astype("f8"), "BF16")
    return None


def _plain_size(size: Any) -> Any:
    """A dimension as a plain int where it is one of numpy's."""
    return size.__index__() if hasattr(size, "__index__") and not isinstance(size, bool) else size


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]
