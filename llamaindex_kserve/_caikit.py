"""What every class of this package says about Caikit."""

from typing import Any, ClassVar

from pydantic import Field

from kserve_core.endpoint import Endpoint
from llamaindex_kserve._connection import ConnectionMixin


class CaikitConnection(ConnectionMixin):
    """Reaches a Caikit runtime over REST or gRPC, with equal answers. The server has a port for each."""

    route_prefix: str = Field(
        default="api/v1",
        exclude=True,
        repr=False,
        description="What the server puts in front of its tasks (`runtime.http.route_prefix`); REST only.",
    )

    _runtime_name: ClassVar[str] = "Caikit"
    _protocols: ClassVar[tuple[str, ...]] = ("rest", "grpc")
    _runtime_fields: ClassVar[tuple[str, ...]] = ("route_prefix",)

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        from kserve_core.runtimes.caikit import CaikitRuntime

        return CaikitRuntime(
            base_path=endpoint.base_path,
            model=getattr(self, "model", None),
            protocol=self.protocol,
            route_prefix=self.route_prefix,
        )
