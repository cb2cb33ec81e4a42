"""Numpy arrays to raw tensor data and back; only these functions load numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kserve_core.errors import ConfigurationError
from kserve_core.tensors_types import FLOATS, RANGES, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "BF16": "<f4",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""What an array of the datatype holds. BF16 is read as float32, which has the same range."""

_NAMES = {("b", 1): "BOOL"}
_NAMES |= {(kind, size): f"{name}{8 * size}" for kind, name in (("i", "INT"), ("u", "UINT")) for size in (1, 2, 4, 8)}
_NAMES |= {("f", size): f"FP{8 * size}" for size in (2, 4, 8)}
_TEXTS = frozenset("OSUT")


def datatype_of(array: Any) -> str:
    """The datatype of a numpy array, or of anything with a numpy `dtype`.

    Arrays of strings, bytes and objects are BYTES. numpy has no bfloat16: BF16 must be asked for.

    Raises:
        ConfigurationError: If the protocol has no datatype for it (dates, complex numbers, records, 128-bit floats).
    """
    import numpy as np

    dtype = getattr(array, "dtype", None)
    if not isinstance(dtype, np.dtype):
        dtype = np.asarray(array).dtype
    if dtype.kind in _TEXTS:
        return "BYTES"
    found = _NAMES.get((dtype.kind, dtype.itemsize))
    if found is None:
        msg = f"The protocol has no datatype for arrays of {dtype.name}."
        raise ConfigurationError(msg, hint="Convert the array, for example with .astype('float32').")
    return found


def as_array(name: Any, value: Any) -> NDArray[Any]:
    """The value as an array, without a copy where it is one.

    Raises:
        ConfigurationError: If it is none, or its parts differ in shape.
    """
    import numpy as np

    try:
        array: NDArray[Any] = np.asarray(value)
    except Exception as error:  # noqa: BLE001 - an array library raises what it likes
        hint = "Copy it to the host and out of any gradient graph first." if hasattr(value, "device") else ""
        refuse(name, f"cannot be read as a numpy array ({type(error).__name__})", hint=hint)
    if array.dtype.kind not in _TEXTS:
        try:
            datatype_of(array)
        except ConfigurationError as error:
            refuse(name, f"is an array of {array.dtype.name}, for which the protocol has no datatype", hint=error.hint)
    return array


def is_text(array: NDArray[Any]) -> bool:
    """Whether the array holds Python or numpy strings, or objects, and not numbers."""
    return array.dtype.kind in _TEXTS


def is_scalar(value: Any) -> bool:
    """Whether this is one of numpy's numbers or texts, not an array."""
    import numpy as np

    return isinstance(value, np.generic)


def encode_array(name: Any, array: NDArray[Any], datatype: str) -> bytes:
    """A numeric array as little-endian bytes, row by row.

    Whole numbers may become floats and any number may change its width, if every value is in range.

    Raises:
        ConfigurationError: If the values do not fit the datatype.
    """
    import numpy as np

    kind = array.dtype.kind
    if not (
        (kind == "b" and datatype == "BOOL")
        or (kind in "iu" and (datatype in RANGES or datatype in FLOATS))
        or (kind == "f" and datatype in FLOATS)
    ):
        hint = f"Convert the array first, for example with .astype('{np.dtype(_DTYPES.get(datatype, 'O')).name}')."
        refuse(
            name, f"is {datatype}, but holds an array of {array.dtype.name}", hint=hint if datatype in _DTYPES else ""
        )
    if datatype in RANGES and datatype_of(array) != datatype and array.size:
        low, high = RANGES[datatype]
        if int(array.min()) < low or int(array.max()) > high:
            refuse(name, f"holds a number outside of what {datatype} takes ({low} to {high})")
    with np.errstate(over="ignore", invalid="ignore"):
        plain = array.astype(_DTYPES[datatype], copy=False)
    if datatype in FLOATS and plain.dtype.itemsize < array.dtype.itemsize:
        _check_finite(name, array, plain, datatype)
    if datatype == "BF16":
        return _bfloat16(name, plain)
    return plain.tobytes()


def _check_finite(name: Any, before: NDArray[Any], after: NDArray[Any], datatype: str) -> None:
    import numpy as np

    if np.any(np.isinf(after) & np.isfinite(before)):
        refuse(name, f"holds a number too large for {datatype}")


def _bfloat16(name: Any, array: NDArray[Any]) -> bytes:
    """float32 as the upper half of its bits, rounded to the nearest, ties to even."""
    import numpy as np

    floats = array.reshape(-1)
    bits = floats.view("<u4")
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = (bits + half) >> np.uint32(16)
    # Rounding could carry a NaN's bits over into infinity or zero.
    rounded = np.where(np.isnan(floats), (bits >> np.uint32(16)) | np.uint32(0x40), rounded).astype("<u2")
    _check_finite(name, floats, _from_bfloat16(rounded), "BF16")
    return bytes(rounded.tobytes())


def _from_bfloat16(halves: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    floats: NDArray[Any] = (halves.astype("<u4") << np.uint32(16)).view("<f4")
    return floats


def decode_raw(datatype: str, shape: tuple[int, ...], raw: bytes | memoryview) -> NDArray[Any]:
    """Raw data of a numeric tensor as an array that cannot be written; a view, except of BOOL and BF16."""
    import numpy as np

    array: NDArray[Any]
    if datatype == "BF16":
        array = _from_bfloat16(np.frombuffer(raw, "<u2"))
    elif datatype == "BOOL":
        # Any byte may come; only 0 and 1 are booleans to numpy.
        array = np.frombuffer(raw, "u1") != 0
    else:
        array = np.frombuffer(raw, _DTYPES[datatype])
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def decode_values(datatype: str, shape: tuple[int, ...], values: Sequence[Any]) -> NDArray[Any]:
    """Checked values as an array that cannot be written; BYTES as objects."""
    import numpy as np

    array: NDArray[Any]
    if datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = values
    elif datatype in FLOATS:
        with np.errstate(over="ignore"):
            array = np.array(values, "<f8").astype(_DTYPES[datatype])
    else:
        array = np.array(values, _DTYPES[datatype])
    array = array.reshape(shape)
    array.flags.writeable = False
    return array
