"""The gRPC health service (`grpc.health.v1`), which many servers have beside their own."""

from __future__ import annotations

from typing import ClassVar

from kserve_core.calls import GrpcCall, GrpcErrorReader, Headers

CHECK = "/grpc.health.v1.Health/Check"


class HealthCheckRequest:
    """Asks about one service; an empty name means the server as a whole.

    The two messages of this service have one field each, so they are written and read here by hand instead of being
    compiled: a descriptor of this name in a pool would add nothing.
    """

    def __init__(self, service: str = "") -> None:
        self.service = service

    def SerializeToString(self) -> bytes:  # noqa: N802 - what a message calls it
        """The message's bytes."""
        name = self.service.encode()
        if not name:
            return b""
        if len(name) > 127:
            msg = "the name of a service is at most 127 bytes long"
            raise ValueError(msg)
        return b"\x0a" + bytes((len(name),)) + name

    @classmethod
    def FromString(cls, data: bytes) -> HealthCheckRequest:  # noqa: N802
        """Reads the message's bytes."""
        if not data:
            return cls()
        if data[0] != 0x0A or len(data) != 2 + data[1]:
            msg = "not a health request"
            raise ValueError(msg)
        return cls(data[2:].decode())


class HealthCheckResponse:
    """How the service is; `SERVING` is the only good news."""

    SERVING: ClassVar[int] = 1
    NOT_SERVING: ClassVar[int] = 2

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def SerializeToString(self) -> bytes:  # noqa: N802
        """The message's bytes."""
        return bytes((8, self.status)) if self.status else b""

    @classmethod
    def FromString(cls, data: bytes) -> HealthCheckResponse:  # noqa: N802
        """Reads the message's bytes."""
        if not data:
            return cls()
        if len(data) != 2 or data[0] != 8:
            msg = "not a health answer"
            raise ValueError(msg)
        return cls(data[1])


def health_call(
    service: str = "", *, metadata: Headers | None = None, explain: GrpcErrorReader | None = None
) -> GrpcCall[bool]:
    """Asks whether a service can answer requests; it is sent once.

    Args:
        service: The service's full name; empty for the server as a whole.
        metadata: Sent in addition to the endpoint's headers.
        explain: Reads error statuses.
    """
    return GrpcCall(
        method=CHECK,
        request=HealthCheckRequest(service),
        response_type=HealthCheckResponse,
        read=lambda answer: answer.status == HealthCheckResponse.SERVING,
        metadata=metadata or {},
        explain=explain,
        retry=False,
    )
