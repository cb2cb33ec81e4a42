"""What a caller gives as inputs, as the tensors a model declares; mistakes are found before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kserve_core.errors import ConfigurationError
from kserve_core.names import did_you_mean, listed
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.errors import declared_hint, shown_spec
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec
from kserve_core.tensors import Tensor


def as_tensors(inputs: Any, described: ModelMetadata, dialect: Dialect) -> list[Tensor]:
    """Inputs by name as tensors, numbers in the datatypes that the model declares.

    Args:
        inputs: Names and values, or tensors. A tensor is sent as it is.
        described: The model's metadata; nothing is checked by it where it names no inputs.
        dialect: The server's ways. Where declarations may be incomplete, only a plain mistake is refused.

    Raises:
        ConfigurationError: If a name, a value, a datatype or a shape does not fit.
    """
    named = _named(inputs)
    _check_names(list(named), described, dialect)
    return [_tensor(name, value, described, dialect) for name, value in named.items()]


def check_outputs(outputs: Sequence[str], described: ModelMetadata, dialect: Dialect) -> tuple[str, ...]:
    """Names of outputs that are wanted.

    Raises:
        ConfigurationError: If one is no name, or the model is known to lack it.
    """
    wanted: tuple[Any, ...] = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    names = [spec.name for spec in described.outputs]
    for name in wanted:
        if not isinstance(name, str) or not name:
            msg = f"An output's name must be text, not {name!r}."
            raise ConfigurationError(msg)
        if dialect.strict_inputs and names and name not in names:
            msg = f"The model {described.name!r} has no output {name!r}."
            raise ConfigurationError(msg, hint=f"{did_you_mean(name, names)}It has {listed(names)}.")
    return wanted


def _named(inputs: Any) -> dict[str, Any]:
    pairs: list[tuple[Any, Any]]
    if isinstance(inputs, Mapping):
        pairs = list(inputs.items())
    elif isinstance(inputs, (list, tuple)) and all(isinstance(item, Tensor) for item in inputs):
        pairs = [(tensor.name, tensor) for tensor in inputs]
    else:
        msg = f"inputs must be a dict of names and values, or a list of tensors, not {type(inputs).__name__}."
        raise ConfigurationError(msg, hint="For example infer({'text': ['hello']}).")
    for name, value in pairs:
        if not isinstance(name, str) or not name:
            msg = f"An input's name must be text, not {name!r}."
            raise ConfigurationError(msg)
        if isinstance(value, Tensor) and value.name != name:
            msg = f"The tensor given as input {name!r} is named {value.name!r}."
            raise ConfigurationError(msg)
    named = dict(pairs)
    if len(named) != len(pairs):
        msg = "Two tensors have the same name."
        raise ConfigurationError(msg)
    return named


def _check_names(names: list[str], described: ModelMetadata, dialect: Dialect) -> None:
    if not described.inputs:
        return
    declared = [spec.name for spec in described.inputs]
    unknown = [name for name in names if name not in declared]
    # Which inputs Triton's models can do without is in their configuration, which may not be readable.
    certain = described.max_batch_size is not None or not dialect.model_config
    missing = [spec.name for spec in described.inputs if spec.name not in names and not spec.optional]
    if unknown and (dialect.strict_inputs or missing):
        msg = f"The model {described.name!r} has no input {unknown[0]!r}."
        lacking = [name for name in declared if name not in names]
        raise ConfigurationError(msg, hint=f"{did_you_mean(unknown[0], lacking)}{declared_hint(described)}")
    if missing and dialect.strict_inputs and certain:
        msg = f"The model {described.name!r} needs {_also(missing)}, which {_was(missing)} not given."
        raise ConfigurationError(msg, hint=declared_hint(described))


def _tensor(name: str, value: Any, described: ModelMetadata, dialect: Dialect) -> Tensor:
    spec = described.input(name)
    if isinstance(value, Tensor):
        return value
    if spec is None:
        return Tensor.of(name, value)
    try:
        tensor = Tensor.of(name, value, datatype=spec.datatype or None)
    except ConfigurationError as error:
        hint = f"{error.hint} " if error.hint else ""
        raise ConfigurationError(error.message, hint=f"{hint}The model declares {shown_spec(spec)}.") from error
    if dialect.strict_inputs:
        _check_shape(tensor, spec, dialect)
    return tensor


def _check_shape(tensor: Tensor, spec: TensorSpec, dialect: Dialect) -> None:
    fits = len(tensor.shape) == len(spec.shape)
    # OpenVINO's server can be set to take other sizes than it declares.
    if fits and dialect.model_config:
        fits = all(wanted in {-1, size} for size, wanted in zip(tensor.shape, spec.shape, strict=True))
    if not fits:
        msg = f"The input {tensor.name!r} has the shape {list(tensor.shape)}, which the model does not take."
        hint = f"The model declares {shown_spec(spec)}; -1 is any size. Tensor.of(..., shape=...) gives one."
        raise ConfigurationError(msg, hint=hint)


def _also(names: list[str]) -> str:
    return f"the input{'s' if len(names) > 1 else ''} {listed(names)}"


def _was(names: list[str]) -> str:
    return "were" if len(names) > 1 else "was"
