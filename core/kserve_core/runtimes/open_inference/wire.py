"""What makes the calls of a protocol, the same for REST and gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from kserve_core.calls import AnyCall, AnyStreamCall
from kserve_core.runtimes.open_inference.bodies import Binary
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.values import (
    InferRequest,
    InferResult,
    ModelMetadata,
    RepositoryModel,
    ServerMetadata,
)

T = TypeVar("T")


class Wire(Protocol):
    """Makes the calls of one protocol; `rest.Rest` and `grpc.Grpc` are the two there are."""

    protocol: str
    dialect: Dialect

    def infer(
        self,
        request: InferRequest,
        *,
        read: Callable[[InferResult], T],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
        binary: Binary | None = None,
    ) -> AnyCall[T]:
        """Tensors for one answer."""

    def stream_infer(
        self,
        request: InferRequest,
        *,
        decoder: Callable[[], Any],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
    ) -> AnyStreamCall[Any]:
        """Tensors for an answer in pieces."""

    def server_metadata(self) -> AnyCall[ServerMetadata]:
        """The server's name, version and extensions."""

    def live(self) -> AnyCall[bool]:
        """Whether the server is up."""

    def ready(self) -> AnyCall[bool]:
        """Whether the server can answer."""

    def model_ready(self, model: str, version: str | None = None, *, known: Sequence[str] = ()) -> AnyCall[bool]:
        """Whether a model can answer."""

    def model_metadata(
        self, model: str, version: str | None = None, *, known: Sequence[str] = ()
    ) -> AnyCall[ModelMetadata]:
        """What a model takes and gives."""

    def model_config(self, model: str, version: str | None = None) -> AnyCall[dict[str, Any]]:
        """A model's configuration."""

    def repository_index(self) -> AnyCall[list[RepositoryModel]]:
        """The models there are."""

    def model_list(self) -> AnyCall[list[RepositoryModel]]:
        """The models that are served."""

    def load(self, model: str) -> AnyCall[None]:
        """Has a model loaded."""

    def unload(self, model: str) -> AnyCall[None]:
        """Has a model unloaded."""
