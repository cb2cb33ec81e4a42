"""The transports of one endpoint, each made when a call of its kind is first run."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from kserve_core.calls import GrpcCall, GrpcStreamCall
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError

if TYPE_CHECKING:
    from kserve_core.grpc_transport import GrpcTransport
    from kserve_core.http_transport import HttpTransport
    from kserve_core.transport_base import ProbeMaker


class EndpointTransport:
    """Sends HTTP calls over HTTP and gRPC calls over gRPC; the gRPC library is not loaded before a call needs it.

    Args:
        endpoint: Where to send.
        probe: Makes the call that asks whether the model is ready; see `BaseTransport`.
    """

    def __init__(self, endpoint: Endpoint, *, probe: ProbeMaker | None = None) -> None:
        self.endpoint = endpoint
        self._probe_maker = probe
        self._lock = threading.Lock()
        self._http: HttpTransport | None = None
        self._grpc: GrpcTransport | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (_remake, (self.endpoint, self._probe_maker))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def run(self, call: Any) -> Any:
        """Sends a call and waits for its answer."""
        return self._of(call).run(call)

    async def arun(self, call: Any) -> Any:
        """As `run`, from an event loop."""
        return await self._of(call).arun(call)

    def stream(self, call: Any) -> Generator[Any, None, None]:
        """Sends a call and yields the pieces of its answer."""
        pieces: Generator[Any, None, None] = self._of(call).stream(call)
        return pieces

    def astream(self, call: Any) -> AsyncGenerator[Any, None]:
        """As `stream`, from an event loop."""
        pieces: AsyncGenerator[Any, None] = self._of(call).astream(call)
        return pieces

    def close(self) -> None:
        """Closes what blocking calls hold open."""
        for transport in (self._http, self._grpc):
            if transport is not None:
                transport.close()

    async def aclose(self) -> None:
        """Closes what this event loop's calls hold open, and what blocking calls do."""
        for transport in (self._http, self._grpc):
            if transport is not None:
                await transport.aclose()

    def _of(self, call: Any) -> Any:
        if isinstance(call, (GrpcCall, GrpcStreamCall)):
            return self._grpc or self._new_grpc()
        return self._http or self._new_http()

    def _new_grpc(self) -> GrpcTransport:
        from kserve_core.grpc_transport import GrpcTransport

        with self._lock:
            if self._grpc is None:
                self._grpc = GrpcTransport(self.endpoint, probe=self._probe_maker)
            return self._grpc

    def _new_http(self) -> HttpTransport:
        if self.endpoint.is_grpc:
            msg = "base_url names a gRPC server, and this is sent over REST."
            raise ConfigurationError(msg, hint="Give an https:// or http:// URL, or choose protocol='grpc'.")
        from kserve_core.http_transport import HttpTransport

        with self._lock:
            if self._http is None:
                self._http = HttpTransport(self.endpoint, probe=self._probe_maker)
            return self._http


def _remake(endpoint: Endpoint, probe: ProbeMaker | None) -> EndpointTransport:
    return EndpointTransport(endpoint, probe=probe)
