"""What Triton and OpenVINO check before a model sees a request."""

from __future__ import annotations

from collections.abc import Iterable

from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.request import Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import Tensor


def check_inputs(model: Served, asked: Asked) -> None:
    """Compare inputs and wanted outputs with what the model declares.

    Raises:
        V2Error: They do not fit.
    """
    who = f"[request id: {asked.id or '<id_unknown>'}] "
    declared = {spec.name: spec for spec in model.inputs}
    _check_count(model, asked, who)
    for name in asked.inputs:
        if name not in declared:
            msg = f"unexpected inference input '{name}' for model '{model.name}'"
            raise V2Error(msg)
    for name, tensor in asked.inputs.items():
        _check(tensor, declared[name], model, who)
    if model.max_batch_size:
        _check_batch(model, asked, who)
    check_outputs(model, asked)


def check_outputs(model: Served, asked: Asked, *, word: str = "unexpected") -> None:
    """Compare wanted outputs with what the model declares; `word` begins the refusal.

    Raises:
        V2Error: One is not declared.
    """
    known = {spec.name for spec in model.outputs}
    for name in asked.outputs:
        if name not in known:
            msg = f"{word} inference output '{name}' for model '{model.name}'"
            raise V2Error(msg)


def _check_count(model: Served, asked: Asked, who: str) -> None:
    """Only how many inputs there are is looked at: another one in place of a required one passes here."""
    required = [spec.name for spec in model.inputs if not spec.optional]
    least, most, count = len(required), len(model.inputs), len(asked.inputs)
    if least <= count <= most:
        return
    expected = f"expected {least} inputs" if least == most else f"expected number of inputs between {least} and {most}"
    missing = _named(name for name in required if name not in asked.inputs)
    got = f"Got input(s) {_named(sorted(asked.inputs))}"
    msg = (
        f"{who}{expected} but got {count} inputs for model '{model.name}'. {got}, but missing required input(s) "
        f"{missing if missing != '[]' else ']'}. Please provide all required input(s)."
    )
    raise V2Error(msg)


def _check(tensor: Tensor, spec: Spec, model: Served, who: str) -> None:
    if tensor.datatype != spec.datatype:
        msg = (
            f"{who}inference input '{spec.name}' data-type is '{tensor.datatype}', but model '{model.name}' expects "
            f"'{spec.datatype}'"
        )
        raise V2Error(msg)
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in {-1, given} for wanted, given in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        expected, got = _shape(spec.shape), _shape(tensor.shape)
        note = (
            " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
            "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
            "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
            "max_batch_size."
            if model.max_batch_size
            else ""
        )
        msg = (
            f"{who}unexpected shape for input '{spec.name}' for model '{model.name}'. Expected {expected}, got {got}."
            f"{note}"
        )
        raise V2Error(msg)


def _check_batch(model: Served, asked: Asked, who: str) -> None:
    sizes = {tensor.shape[0] for tensor in asked.inputs.values()}
    if len(sizes) > 1:
        first = next(iter(asked.inputs))
        msg = f"{who}input '{first}' batch size does not match other inputs for '{model.name}'"
        raise V2Error(msg)
    if max(sizes, default=0) > model.max_batch_size:
        msg = f"{who}inference request batch-size must be <= {model.max_batch_size} for '{model.name}'"
        raise V2Error(msg)


def _named(names: Iterable[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _shape(shape: Iterable[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
