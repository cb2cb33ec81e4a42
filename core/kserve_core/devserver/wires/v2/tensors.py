"""Tensors as this server reads and writes them: JSON, raw bytes, typed protobuf contents.

Written with `struct` and `array` alone and apart from the client's own tensor code, so that a mistake in one of the
two shows in a test.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kserve_core.devserver.wires.v2.errors import V2Error

# The struct code of every datatype of fixed size; a BF16 element is kept as its 16 bits.
CODES = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "BF16": "H",
    "FP32": "f",
    "FP64": "d",
}
DATATYPES = (*CODES, "BYTES")
RAW_ONLY = frozenset({"FP16", "BF16"})

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


@dataclass(slots=True)
class Tensor:
    """A named tensor; `data` is flat and row-major, BYTES elements are `bytes`."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def texts(cls, name: str, values: Sequence[str], shape: Sequence[int] | None = None) -> Tensor:
        """A tensor of texts."""
        return cls(name, "BYTES", shape or [len(values)], [value.encode() for value in values])

    @property
    def size(self) -> int:
        """How many elements the shape promises."""
        return math.prod(self.shape)

    def strings(self) -> list[str]:
        """The elements of a BYTES tensor as text."""
        return [value.decode("utf-8", "replace") for value in self.data]

    def raw(self) -> bytes:
        """The elements as the binary extension and gRPC have them."""
        if self.datatype == "BYTES":
            return b"".join(struct.pack("<I", len(value)) + value for value in self.data)
        code = CODES[self.datatype]
        if isinstance(self.data, array) and self.data.typecode == code and sys.byteorder == "little":
            return self.data.tobytes()
        return struct.pack(f"<{len(self.data)}{code}", *self.data)

    def json_data(self) -> list[Any]:
        """The elements as JSON has them; bytes that are not UTF-8 are kept as surrogates."""
        if self.datatype == "BYTES":
            return [value.decode("utf-8", "surrogateescape") for value in self.data]
        return list(self.data)

    def fill(self, contents: Any) -> None:
        """Write the elements into an `InferTensorContents`."""
        getattr(contents, _CONTENTS[self.datatype]).extend(self.data)


def coded(tensor: Tensor) -> Tensor:
    """The tensor as a model of MLServer makes it with one of the server's codecs, which leave their name."""
    tensor.parameters.setdefault("content_type", "str" if tensor.datatype == "BYTES" else "np")
    return tensor


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its bytes.

    Raises:
        V2Error: The bytes do not fit the shape.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, list(shape), _strings(name, raw, count))
    code = CODES[datatype]
    wanted = count * struct.calcsize(f"<{code}")
    if len(raw) != wanted:
        msg = f"unexpected total byte size {len(raw)} for input '{name}', expecting {wanted}"
        raise V2Error(msg)
    return Tensor(name, datatype, list(shape), struct.unpack(f"<{count}{code}", raw))


def from_contents(name: str, datatype: str, shape: Sequence[int], contents: Any, *, strict: bool = True) -> Tensor:
    """A tensor from an `InferTensorContents`.

    Raises:
        V2Error: The elements are not where this datatype has them, or not as many as the shape says (`strict`).
    """
    field_name = _CONTENTS.get(datatype)
    values = list(getattr(contents, field_name)) if field_name else []
    if strict and len(values) != math.prod(shape):
        msg = f"unexpected explicit tensor data size for input tensor '{name}' of type '{datatype}'"
        raise V2Error(msg)
    return Tensor(name, datatype, list(shape), values)


def flat(value: Any) -> list[Any]:
    """The elements of a nested list, row by row."""
    if not isinstance(value, list):
        return [value]
    if not any(isinstance(item, list) for item in value):
        return value
    return [element for item in value for element in flat(item)]


def elements(name: str, datatype: str, values: Iterable[Any], *, strict: bool) -> list[Any]:
    """JSON values as elements of a datatype.

    Raises:
        V2Error: A value is of another kind, where the server looks (`strict`).
    """
    made = []
    for value in values:
        if datatype == "BYTES":
            if not isinstance(value, str):
                msg = f"Unable to parse 'data': attempt to access JSON non-string as string (input '{name}')"
                raise V2Error(msg, "INTERNAL")
            made.append(value.encode())
            continue
        kind = bool if datatype == "BOOL" else (int, float) if datatype.startswith(("FP", "BF")) else int
        if strict and (not isinstance(value, kind) or (datatype != "BOOL" and isinstance(value, bool))):
            shown = "boolean" if datatype == "BOOL" else "number" if kind is not int else "integer"
            msg = f"Unable to parse 'data': attempt to access JSON non-{shown} as {shown} (input '{name}')"
            raise V2Error(msg, "INTERNAL")
        made.append(value)
    return made


def dumps(value: Any) -> bytes:
    """JSON without spaces; kept surrogates become the bytes they stand for, as Triton writes them."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogateescape")


def _strings(name: str, raw: bytes, count: int) -> list[bytes]:
    made: list[bytes] = []
    at = 0
    while at < len(raw) and len(made) < count:
        if at + 4 > len(raw):
            break
        (size,) = struct.unpack_from("<I", raw, at)
        if at + 4 + size > len(raw):
            msg = (
                f"incomplete string data for inference input '{name}', expecting string of length {size} but only "
                f"{len(raw) - at - 4} bytes available"
            )
            raise V2Error(msg)
        made.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    if len(made) != count or at != len(raw):
        msg = f"unexpected number of string elements {len(made)} for inference input '{name}', expecting {count}"
        raise V2Error(msg)
    return made
