"""What a model's input is set to: one row of values, of the datatype the model declares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kserve_core._json import encode
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.checks import boolean, refuse
from kserve_core.runtimes.open_inference.presets import TextModel
from kserve_core.runtimes.open_inference.values import TensorSpec
from kserve_core.tensors import Tensor
from kserve_core.tensors_types import RANGES


@dataclass(frozen=True, slots=True)
class Value:
    """What an input is set to.

    Attributes:
        spec: The input.
        values: Its values, row by row.
        parameters: Its tensor parameters.
        shape: Its shape; None for one row of values in as many dimensions as the input has.
    """

    spec: TensorSpec
    values: Sequence[Any] = field(repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None


def input_value(name: str, value: Any, model: TextModel) -> Value:
    """What the user sets an input to: a value, a list, an array or a `Tensor`.

    Raises:
        ConfigurationError: If the input takes the prompt, or the value is none that it can have.
    """
    if name == model.prompt.name:
        msg = f"{name!r} takes the prompt, so it cannot be set beside it."
        raise ConfigurationError(msg)
    spec = model.metadata.input(name)
    if isinstance(value, Tensor):
        values = value.texts() if value.datatype == "BYTES" else value.flat()
        return Value(TensorSpec(name, value.datatype, value.shape), values, value.parameters, value.shape)
    tolist = getattr(value, "tolist", None)
    plain = tolist() if callable(tolist) else value
    found = value_of(name, plain, spec or TensorSpec(name, _datatype(name, plain), ()))
    shape = tuple(getattr(value, "shape", ()))
    if len(shape) < 2:
        return found
    batched = spec is not None and len(spec.shape) == len(shape) + 1
    return replace(found, shape=(1, *shape) if batched else shape)


def _datatype(name: str, value: Any) -> str:
    first = value
    while isinstance(first, Sequence) and not isinstance(first, (str, bytes)) and first:
        first = first[0]
    for kind, datatype in ((bool, "BOOL"), (int, "INT64"), (float, "FP64"), (str, "BYTES"), (bytes, "BYTES")):
        if isinstance(first, kind):
            return datatype
    msg = f"The input {name!r} cannot be {type(value).__name__}."
    raise ConfigurationError(msg, hint="Give a text, a number, True or False, or a list or numpy array of them.")


def value_of(name: str, value: Any, spec: TensorSpec) -> Value:
    """A value, or a list of them, for an input.

    Raises:
        ConfigurationError: If it is not of the input's datatype.
    """
    values = _flat(value) if isinstance(value, (list, tuple)) else [value]
    return Value(spec, [_cast(name, each, spec.datatype) for each in values])


def _flat(value: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for each in value:
        if isinstance(each, (list, tuple)):
            found += _flat(each)
        else:
            found.append(each)
    return found


def _cast(name: str, value: Any, datatype: str) -> Any:
    if datatype == "BYTES":
        return value if isinstance(value, (str, bytes)) else encode(value).decode()
    if datatype == "BOOL":
        return boolean(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(name, value, f"a number, as the model's input is {datatype}")
    if datatype.startswith(("FP", "BF")):
        return float(value)
    if not math.isfinite(value) or value != int(value):
        refuse(name, value, f"a whole number, as the model's input is {datatype}")
    if datatype not in RANGES:
        msg = f"The input {name!r} has the datatype {datatype[:20]!r}, which the protocol does not know."
        raise ConfigurationError(msg)
    low, high = RANGES[datatype]
    if not low <= value <= high:
        refuse(name, value, f"from {low} to {high}, as the model's input is {datatype}")
    return int(value)
