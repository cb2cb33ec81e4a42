"""Models that a test aims at the protocol itself: every datatype, every error, several versions."""

from __future__ import annotations

from collections.abc import Iterator

from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import DATATYPES, Tensor, coded

_CODES = {
    "INVALID_ARG": "INVALID_ARGUMENT",
    "NOT_FOUND": "NOT_FOUND",
    "UNAVAILABLE": "UNAVAILABLE",
    "UNSUPPORTED": "UNIMPLEMENTED",
    "INTERNAL": "INTERNAL",
    "UNKNOWN": "UNKNOWN",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "CANCELLED": "CANCELLED",
    "INVALID": "INVALID_ARGUMENT",
}


def echo(model: Model, *, column: bool = False) -> Served:
    """Gives back every input `in_...` as `out_...`, and the request's parameters as text (`column`: as `[1, 1]`)."""

    def run(asked: Asked) -> Iterator[Answered]:
        outputs = [
            Tensor(name.replace("in_", "out_", 1), tensor.datatype, tensor.shape, tensor.data)
            for name, tensor in asked.inputs.items()
        ]
        told = Tensor.texts("params", [repr(dict(asked.parameters))], [1, 1] if column else [1])
        yield Answered([*outputs, told])

    names = ["string" if datatype == "BYTES" else datatype.lower() for datatype in DATATYPES]
    kinds = list(zip(names, DATATYPES, strict=True))
    inputs = tuple(Spec(f"in_{name}", datatype, (-1,), optional=True) for name, datatype in kinds)
    outputs = tuple(Spec(f"out_{name}", datatype, (-1,)) for name, datatype in kinds)
    return Served(model.name, inputs, (*outputs, Spec("params", "BYTES", (1,))), run)


def fails(model: Model, *, inference: str = "INVALID_ARGUMENT") -> Served:
    """Ends with the error its input names: a code of the server, an HTTP status, `INFERENCE` or `RAISE`."""

    def run(asked: Asked) -> Iterator[Answered]:
        (code, *_) = asked.texts("code")
        if code == "RAISE":
            msg = "RuntimeError: model raised"
            raise V2Error(msg, "INTERNAL", raised=True)
        if code == "INFERENCE":
            msg = "bad input" if inference == "INVALID_ARGUMENT" else "inference failed"
            raise V2Error(msg, inference)
        if code in _CODES:
            msg = f"asked for {code}"
            raise V2Error(msg, _CODES[code])
        if code.isdigit():
            msg = f"asked for {code}"
            raise V2Error(msg, "UNKNOWN", status=int(code))
        yield Answered([Tensor.texts("out", ["ok"])])

    return Served(model.name, (Spec("code", "BYTES", (1,)),), (Spec("out", "BYTES", (1,)),), run)


def versioned(model: Model, *, named: bool) -> Served:
    """Says which of its versions answers."""

    def run(asked: Asked) -> Iterator[Answered]:
        texts = [f"v{asked.version}:{text}" for text in asked.texts("text")]
        yield Answered([coded(Tensor.texts("text_output", texts))])

    versions = ("1", "2", "v3.0.0") if named else ("1", "2", "7")
    text = (Spec("text", "BYTES", (-1,)),)
    return Served(model.name, text, (Spec("text_output", "BYTES", (-1,)),), run, versions=versions)
