"""What the protocol's requests and answers hold, the same for REST and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve_core.tensors import Tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as a model declares it.

    Attributes:
        name: Its name.
        datatype: Its V2 datatype (`FP32`, `BYTES`).
        shape: Its dimensions; -1 for one of any length.
        parameters: What the server adds (MLServer's `content_type`).
        optional: Whether the input may be left out, as far as the server tells (Triton's configuration).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model as its server describes it.

    Attributes:
        name: Its name.
        versions: Its versions; empty where the server has none or does not tell.
        platform: What runs it (`python`, `OpenVINO`), `""` where the server does not tell.
        inputs: Its inputs, in the server's order; empty where the model declares none.
        outputs: Its outputs.
        max_batch_size: Most rows of one request, where the server tells (Triton's configuration); None where it does
            not, 0 for a model that does not batch.
        decoupled: Whether a request may have any number of answers (Triton's configuration); None if not known.
        parameters: What the server adds.
    """

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    max_batch_size: int | None = None
    decoupled: bool | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def input(self, name: str) -> TensorSpec | None:
        """The input of a name, or None."""
        return next((spec for spec in self.inputs if spec.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        """The output of a name, or None."""
        return next((spec for spec in self.outputs if spec.name == name), None)


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """A server as it describes itself: its name, its version, the protocol extensions it names."""

    name: str
    version: str = ""
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """A model of the server's repository: `state` is `READY`, `UNAVAILABLE`, `LOADING`, ... and `reason` says why."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """Tensors for a model.

    Attributes:
        inputs: The tensors.
        outputs: Names of the outputs wanted; none means all.
        model: The model's name.
        version: Its version; None for the server's choice.
        id: Sent with the request and echoed by the server; made up when None, as some servers fail without.
        parameters: Request parameters: text, numbers, booleans.
        headers: Extra headers of this request.
    """

    inputs: Sequence[Tensor] = field(repr=False)
    outputs: Sequence[str] = ()
    model: str
    version: str | None = None
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class InferResult:
    """A model's answer.

    Attributes:
        outputs: The tensors, by name. More than the asked ones may be there: some servers send all.
        model: The model's name as the server wrote it.
        version: The version that answered, or None.
        id: The request's id, as far as the server tells.
        parameters: Parameters of the answer.
    """

    outputs: Mapping[str, Tensor]
    model: str | None = None
    version: str | None = None
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
