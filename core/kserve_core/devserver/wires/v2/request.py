"""An infer request and its answers, the same for every transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Spec:
    """An input or output as a model declares it; -1 is a dimension of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(slots=True)
class Asked:
    """What a client sent to a model.

    Attributes:
        model: The model's name.
        version: The version that answers.
        id: The request's id, if it has one.
        parameters: Request parameters.
        inputs: Tensors by name.
        outputs: Names of the wanted outputs with the wish for binary data, None where there is none; empty for all.
        binary: The request's own wish for binary data.
        raw: Whether the inputs came as raw bytes (gRPC).
        listens: Whether the client can take several answers.
    """

    model: str
    version: str | None = None
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, bool | None] = field(default_factory=dict)
    binary: bool = False
    raw: bool = False
    listens: bool = False

    def tensor(self, name: str) -> Tensor:
        """The input of a name.

        Raises:
            V2Error: It is not there, as a model without a server's checks says it.
        """
        found = self.inputs.get(name)
        if found is None:
            msg = f"input '{name}' is missing"
            raise V2Error(msg)
        return found

    def texts(self, name: str) -> list[str]:
        """The texts of an input; numbers are written as text, which is what comes of them where nobody checks.

        Raises:
            V2Error: It is not there.
        """
        tensor = self.tensor(name)
        return tensor.strings() if tensor.datatype == "BYTES" else [str(value) for value in tensor.data]

    def value(self, name: str, default: Any = None) -> Any:
        """The first element of an optional input, or the parameter of that name."""
        tensor = self.inputs.get(name)
        if tensor is not None and len(tensor.data):
            value = tensor.data[0]
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return self.parameters.get(name, default)


@dataclass(slots=True)
class Answered:
    """One answer of a model: its outputs, and how many generated tokens it stands for."""

    outputs: list[Tensor]
    tokens: int = 0


Run = Callable[[Asked], Iterator[Answered]]


@dataclass(slots=True)
class Served:
    """A model of the repository.

    Attributes:
        name: Its name.
        inputs: What it takes.
        outputs: What it gives.
        run: Answers a request: once, or several times if it is decoupled.
        versions: Its versions, the newest last.
        newest: The version that answers where none is asked for; None where the server tells none.
        max_batch_size: Most rows of one request; 0 for a model that does not batch. A batching model's shapes have a
            first dimension of -1.
        decoupled: Whether a request may have any number of answers.
        ready: Whether it is loaded.
        loadable: Whether it can be.
    """

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    run: Run
    versions: tuple[str, ...] = ("1",)
    newest: str | None = None
    max_batch_size: int = 0
    decoupled: bool = False
    ready: bool = True
    loadable: bool = True
