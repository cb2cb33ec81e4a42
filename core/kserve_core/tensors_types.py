"""The datatypes of the Open Inference Protocol, and what every part of the tensor codec needs of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

from kserve_core.errors import BadResponseError, ConfigurationError

DATATYPES: Mapping[str, int | None] = MappingProxyType(
    {
        "BOOL": 1,
        "UINT8": 1,
        "UINT16": 2,
        "UINT32": 4,
        "UINT64": 8,
        "INT8": 1,
        "INT16": 2,
        "INT32": 4,
        "INT64": 8,
        "FP16": 2,
        "BF16": 2,
        "FP32": 4,
        "FP64": 8,
        "BYTES": None,
    }
)
"""Datatypes by name, with the bytes an element takes; None where it varies."""

FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})

RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        f"{prefix}{bits}": (0, 2**bits - 1) if prefix == "UINT" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for prefix in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    }
)
"""The lowest and the highest value of each datatype of whole numbers."""

STRUCT_CODES: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "?",
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "FP16": "e",
        "FP32": "f",
        "FP64": "d",
    }
)
"""The letters of the `struct` module; it has none for BF16 and BYTES."""

MAX_DIMENSIONS = 32
"""More than any model has, and as many as every numpy can hold."""

_MAX_EMPTY_ROWS = 65_536
_MAX_SIZE = 2**63
_MAX_ELEMENTS = _MAX_SIZE // 8
"""Elements of 8 bytes that no memory holds; numpy refuses such a shape even where there are none."""
_SHOWN = 80


class Fail(Protocol):
    """Raises the error of one side for one tensor."""

    def __call__(self, name: Any, problem: str, *, hint: str = "") -> NoReturn:
        """Raises."""


def refuse(name: Any, problem: str, *, hint: str = "") -> NoReturn:
    """Raises the error for a tensor of the caller's; its values are not shown."""
    msg = f"The tensor {shown(name)} {problem}."
    raise ConfigurationError(msg, hint=hint)


def unreadable(name: Any, problem: str, *, hint: str = "") -> NoReturn:
    """Raises the error for a tensor of an answer; its values are not shown."""
    msg = f"The answer's tensor {shown(name)} {problem}."
    raise BadResponseError(msg, hint=hint)


def shown(value: Any) -> str:
    """A value for an error message, bounded; of anything but a text or a number only its type."""
    if isinstance(value, str):
        text = repr(str(value[:_SHOWN]))
        return f"{text}..." if len(value) > _SHOWN else text
    return repr(value) if value is None or type(value) in {bool, float} or _is_size(value) else type(value).__name__


def shown_shape(shape: Sequence[int]) -> str:
    """A checked shape for an error message."""
    return repr(list(shape))


def known_datatype(name: Any, datatype: Any, fail: Fail) -> str:
    """The datatype, if there is one of this name."""
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        fail(name, f"has the datatype {shown(datatype)}, which the protocol does not know")
    return datatype


def checked_shape(name: Any, shape: Iterable[Any], fail: Fail) -> tuple[int, ...]:
    """The shape, if a tensor can have it.

    A tensor without elements may not claim so many empty rows, or such long ones, that listing them would cost more
    than the answer did.
    """
    dimensions = tuple(shape)
    if len(dimensions) > MAX_DIMENSIONS:
        fail(name, f"has {len(dimensions)} dimensions; at most {MAX_DIMENSIONS} can be handled")
    for size in dimensions:
        if not _is_size(size) or size < 0:
            fail(name, f"has a dimension of {shown(size)}, which is no size")
    if prod(size for size in dimensions if size) >= _MAX_ELEMENTS:
        fail(name, f"has the shape {shown_shape(dimensions)}, which no memory holds")
    if 0 in dimensions and prod(dimensions[: dimensions.index(0)]) > _MAX_EMPTY_ROWS:
        fail(name, f"has the shape {shown_shape(dimensions)}: too many rows without elements")
    return dimensions


def check_size(name: Any, datatype: str, shape: tuple[int, ...], size: int, fail: Fail) -> None:
    """Raises unless raw data of this many bytes is what the shape takes; BYTES is checked when it is taken apart."""
    width = DATATYPES[datatype]
    if width is not None and prod(shape) * width != size:
        fail(name, f"holds {size} bytes, but {datatype} {shown_shape(shape)} takes {prod(shape) * width}")


def check_count(name: Any, shape: tuple[int, ...], count: int, fail: Fail) -> None:
    """Raises unless the shape takes this many elements."""
    if prod(shape) != count:
        fail(name, f"holds {count} elements, but the shape {shown_shape(shape)} takes {prod(shape)}")


def _is_size(value: Any) -> bool:
    return type(value) is int and -_MAX_SIZE <= value < _MAX_SIZE
