"""Lists of values: flat or nested, of the right kind and in range."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from numbers import Integral, Real
from typing import Any, NoReturn

from kserve_core.tensors_types import FLOATS, MAX_DIMENSIONS, RANGES, STRUCT_CODES, Fail, refuse, unreadable

_PLAIN = {bool, int, float, str, bytes}
_NESTS = {list, tuple}
_LENGTH = struct.Struct("<I")
_PREFIXES = tuple(number.to_bytes(4, "little") for number in range(1024))  # lengths, packed
_MAX_LENGTH = 2**32 - 1


def flatten(name: Any, data: Sequence[Any], fail: Fail) -> tuple[tuple[int, ...], list[Any]]:
    """The shape and the elements, row by row, of a list that may be nested."""
    flat = list(data)
    shape = [len(flat)]
    while flat and type(flat[0]) in _NESTS:
        if len(shape) >= MAX_DIMENSIONS:
            fail(name, f"is nested deeper than {MAX_DIMENSIONS} lists")
        lengths = set(map(len, flat)) if set(map(type, flat)) <= _NESTS else set()
        if len(lengths) != 1:
            fail(name, "is a nested list whose parts differ in length")
        shape.append(lengths.pop())
        flat = list(chain.from_iterable(flat))
    return tuple(shape), flat


def plain_values(values: list[Any]) -> list[Any]:
    """The values with numpy's scalars and subclasses of Python's types made plain; anything else stays as it is."""
    return values if set(map(type, values)) <= _PLAIN else [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    # Not numbers to Python: numpy.bool_ and arrays of one element without dimensions.
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        plain = item()
        return plain if type(plain) in _PLAIN else value
    return value


def infer_datatype(name: Any, values: list[Any]) -> str:
    """The datatype that holds these plain values without loss.

    Raises:
        ConfigurationError: If there are no values, or they have nothing in common.
    """
    kinds = set(map(type, values))
    if not kinds:
        refuse(name, "is empty, so its datatype cannot be told", hint="Give datatype, such as 'FP32' or 'BYTES'.")
    if kinds <= {str, bytes}:
        return "BYTES"
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        return "UINT64" if max(values) > RANGES["INT64"][1] and min(values) >= 0 else "INT64"
    if not kinds <= {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        hint = "Pass only texts, only numbers or only booleans."
        refuse(name, f"holds values no datatype takes together ({names})", hint=hint)
    return "FP64"


def checked_values(name: Any, datatype: str, values: list[Any], fail: Fail) -> list[Any]:
    """The values, if they are what the datatype holds; whole numbers in a tensor of floats become floats.

    FP32 and FP16 are not checked for values too large for them.
    """
    kinds = set(map(type, values))
    if datatype in FLOATS:
        _check_kinds(name, kinds, {int, float}, datatype, fail)
        if int not in kinds:
            return values
        try:
            return list(map(float, values))
        except OverflowError:
            fail(name, f"holds a number too large for {datatype}")
    if datatype in RANGES:
        _check_kinds(name, kinds, {int}, datatype, fail)
        low, high = RANGES[datatype]
        if values and (min(values) < low or max(values) > high):
            fail(name, f"holds a number outside of what {datatype} takes ({low} to {high})")
        return values
    _check_kinds(name, kinds, {bool} if datatype == "BOOL" else {str, bytes}, datatype, fail)
    return values


def _check_kinds(name: Any, kinds: set[type], allowed: set[type], datatype: str, fail: Fail) -> None:
    wrong = kinds - allowed
    if not wrong:
        return
    none = "null" if fail is unreadable else "None"
    hint = ""
    if wrong == {type(None)} and datatype in FLOATS and fail is unreadable:
        hint = "JSON has no NaN and no infinity; servers write null for them."
    elif datatype == "BYTES" and not kinds & {str, bytes}:
        hint = "BYTES holds texts; numbers need another datatype."
    names = ", ".join(sorted(none if kind is type(None) else kind.__name__ for kind in wrong))
    wanted = " or ".join(sorted(kind.__name__ for kind in allowed))
    fail(name, f"is {datatype}, which takes {wanted}, but holds {names}", hint=hint)


def pack_numbers(name: Any, datatype: str, values: Sequence[Any]) -> bytes:
    """Checked values as little-endian bytes; not for BF16 and BYTES.

    Raises:
        ConfigurationError: If a number is too large for FP16 or FP32.
    """
    try:
        return struct.pack(f"<{len(values)}{STRUCT_CODES[datatype]}", *values)
    except OverflowError:
        refuse(name, f"holds a number too large for {datatype}")


def pack_bytes(name: Any, values: Iterable[str | bytes]) -> bytes:
    """Texts and bytes, each behind its length in 4 bytes.

    Raises:
        ConfigurationError: If a text has no UTF-8 form, or an element is longer than a length can say.
    """
    try:
        parts = [value.encode() if isinstance(value, str) else value for value in values]
    except UnicodeEncodeError:
        refuse_surrogates(name)
    if max(map(len, parts), default=0) < len(_PREFIXES):
        return b"".join([_PREFIXES[len(part)] + part for part in parts])  # three times as fast
    try:
        return b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])
    except struct.error:
        refuse(name, f"holds an element of more than {_MAX_LENGTH} bytes")


def unpack_bytes(name: Any, raw: bytes | memoryview, count: int, fail: Fail) -> list[bytes]:
    """The elements of raw BYTES data, if exactly `count` of them fill it."""
    data = bytes(raw)
    size = len(data)
    if 4 * count > size:
        fail(name, f"holds {size} bytes, too few for the lengths of {count} elements")
    values: list[bytes] = []
    add = values.append
    length_at = _LENGTH.unpack_from
    end = 0
    try:
        for _ in range(count):
            (length,) = length_at(data, end)
            start = end + 4
            end = start + length
            add(data[start:end])
    except struct.error:
        fail(name, f"ends inside its element {len(values)} of {count}")
    if end != size:
        problem = "is longer than the data" if end > size else f"leaves {size - end} bytes over"
        fail(name, f"holds BYTES whose last element {problem}")
    return values


def refuse_surrogates(name: Any) -> NoReturn:
    """Raises the error for a text that is no Unicode."""
    refuse(name, "holds a text with half a character (a lone surrogate), which has no UTF-8 form")
