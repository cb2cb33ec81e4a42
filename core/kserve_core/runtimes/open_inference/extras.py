"""What goes with the texts: further inputs and request parameters that the user set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.inputs import HUGGING_FACE_INPUTS
from kserve_core.runtimes.open_inference.layouts import declared, described
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec
from kserve_core.tensors import Tensor

_TRUNCATE = "truncate"


def extra_tensors(given: Mapping[str, Any], metadata: ModelMetadata, rows: int, taken: set[str]) -> list[Tensor]:
    """The further inputs as tensors.

    A single value is repeated to the shape the model declares, once for every text where the input has a row for each.
    A list or an array goes as it is if it has as many dimensions as the input, and is repeated for every text if it has
    one fewer. A `Tensor` goes as it is.

    Args:
        given: The values by the inputs' names.
        metadata: The model; nothing is sent to an input that it does not declare, unless it declares none or is run by
            MLServer's Hugging Face runtime, whose arguments are inputs that are not declared.
        rows: How many rows the text input has.
        taken: The inputs that hold the texts.

    Raises:
        ConfigurationError: If the model has no such input, or the value does not fit into it.
    """
    tensors = []
    for name, value in given.items():
        if name in taken:
            msg = f"The input {name!r} holds the texts and cannot be an extra input too."
            raise ConfigurationError(msg, hint="Name another input as input_name, or leave it out of extra_inputs.")
        spec = metadata.input(name)
        if spec is None and metadata.inputs and not is_hugging_face(metadata):
            msg = f"The model {metadata.name!r} has no input {name!r}."
            raise ConfigurationError(msg, hint=f"It has {declared(metadata.inputs)}.")
        tensors.append(_tensor(name, value, spec, rows))
    return tensors


def is_hugging_face(metadata: ModelMetadata) -> bool:
    """Whether MLServer's Hugging Face runtime runs the model, by what it calls its inputs."""
    return any(
        spec.name in HUGGING_FACE_INPUTS or str(spec.parameters.get("content_type", "")).startswith("hg_")
        for spec in metadata.inputs
    )


def truncation(
    tokens: int | None, metadata: ModelMetadata, parameters: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and parameters that have the model cut over-long texts itself.

    Args:
        tokens: As in `EmbeddingRequest.truncate`.
        metadata: The model; an input named `truncate` gets the wish, as a number or as true.
        parameters: The user's request parameters; one of that name says that the model knows it.

    Raises:
        UnsupportedParameterError: If the model knows neither.
    """
    check_truncate(tokens)
    if tokens is None:
        return {}, {}
    spec = metadata.input(_TRUNCATE)
    if spec is not None and spec.datatype.startswith(("INT", "UINT")):
        return {_TRUNCATE: tokens}, {}
    if spec is not None and spec.datatype == "BOOL" and tokens == -1:
        return {_TRUNCATE: True}, {}
    if spec is None and _TRUNCATE in parameters:
        return {}, {_TRUNCATE: tokens}
    msg = f"The model {metadata.name!r} takes text and cannot be told to cut it."
    hint = "Leave truncate out and split long texts; if the model has an input or parameter for it, set that."
    raise UnsupportedParameterError(msg, hint=hint)


def check_truncate(tokens: int | None) -> None:
    """Raises unless it is a length, -1 or None."""
    if tokens is not None and (tokens < -1 or tokens == 0):
        msg = f"truncate must be a number of tokens, or -1 for what the model takes, not {tokens}."
        raise ConfigurationError(msg)


def _tensor(name: str, value: Any, spec: TensorSpec | None, rows: int) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if spec is None:
        return Tensor.of(name, value if _is_listed(value) else [value])
    if not spec.shape:
        return Tensor.of(name, value if _is_listed(value) else [value], datatype=spec.datatype)
    import numpy as np

    try:
        array = np.asarray(value, dtype=object) if spec.datatype == "BYTES" else np.asarray(value)
    except ValueError:
        msg = f"A list whose parts differ in length does not fit into the input {described(spec)}."
        raise ConfigurationError(msg) from None
    if array.ndim == 0:
        shape = _filled(spec.shape, rows)
        array = np.full(shape, array[()], dtype=array.dtype)
    elif array.ndim == len(spec.shape) - 1:
        count = rows if spec.shape[0] < 0 else spec.shape[0]
        array = np.repeat(array[None], count, axis=0)
    fits = array.ndim == len(spec.shape) and all(
        dim < 0 or dim == size for dim, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        msg = f"A value of shape {list(array.shape)} does not fit into the input {described(spec)}."
        raise ConfigurationError(msg)
    if spec.datatype == "BYTES":
        return Tensor.of(name, array.ravel().tolist(), datatype="BYTES", shape=array.shape)
    return Tensor.of(name, array, datatype=spec.datatype)


def _filled(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    first = rows if shape[0] < 0 else shape[0]
    return (first, *(max(dim, 1) if dim < 0 else dim for dim in shape[1:]))


def _is_listed(value: Any) -> bool:
    return hasattr(value, "shape") or isinstance(value, (list, tuple))
