"""One HTTP request as a pool takes it, and what a pool raises besides `OSError` and `ProtocolError`."""

from __future__ import annotations

from dataclasses import dataclass, field

from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.http1 import DisconnectedError, request_head

_SMALL_BODY = 64 * 1024


class PoolTimedOutError(TimeoutError):
    """All connections were in use for too long."""


class DeadConnectionError(ConnectionError):
    """A kept connection was closed by the server before any of the answer came."""


@dataclass(slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: The method.
        path: Path and query.
        headers: By lower-case name.
        body: The body, or None.
        deadline: When to stop waiting; the same object may be moved while the answer is read.
        connect_timeout: Seconds for opening a connection.
        fresh: Do not use a kept connection.
        streamed: The answer is going to be read piece by piece.
        idle_timeout: Seconds without a piece that a streamed answer may have; None for no limit.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    deadline: Deadline
    connect_timeout: float
    fresh: bool = False
    streamed: bool = False
    idle_timeout: float | None = None

    def connect_seconds(self) -> float:
        """Seconds a new connection may take."""
        left = self.deadline.left()
        return self.connect_timeout if left is None else max(min(left, self.connect_timeout), 0.001)

    def parts(self, host: str) -> list[bytes]:
        """What to write."""
        size = len(self.body) if self.body is not None else 0 if self.method == "POST" else None
        head = request_head(self.method, self.path, host, self.headers, size)
        if not self.body:
            return [head]
        return [head + self.body] if len(self.body) <= _SMALL_BODY else [head, self.body]


def host_header(endpoint: Endpoint) -> str:
    """The `Host` header's value for an endpoint."""
    name = endpoint.host.partition("%")[0]
    name = f"[{name}]" if ":" in name else name
    return name if endpoint.is_default_port else f"{name}:{endpoint.port}"


def is_dead(exc: BaseException, *, received: bool) -> bool:
    """Whether a kept connection failed because the server had closed it meanwhile."""
    return not received and isinstance(exc, (DisconnectedError, OSError)) and not isinstance(exc, TimeoutError)
