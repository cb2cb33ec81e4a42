"""One gRPC call being answered: its metadata, its entry in the log, its fault, and the status it ends with."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.log import RequestRecord
from kserve_core.devserver.pages import PAGES

if TYPE_CHECKING:
    from kserve_core.devserver.server import DevServer
    from kserve_core.grpc_library import grpc

_NO_FAULT = Fault()
# What a gRPC client makes of an HTTP error from something in front of the server.
_HTTP_STATUS = {400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED"}
_UNAVAILABLE = {429, 502, 503, 504}


class GrpcStatus(Exception):  # noqa: N818 - a status, as gRPC calls it
    """Ends a call with a status other than OK.

    Args:
        code: Its name (`INVALID_ARGUMENT`).
        details: The text that goes with it.
        metadata: Trailing metadata.
    """

    def __init__(self, code: str, details: str = "", *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details
        self.metadata = dict(metadata or {})


class GrpcContext:
    """What a handler knows about the call it answers.

    Attributes:
        metadata: What the client sent, lower-case keys, text values only.
    """

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.metadata = metadata
        self._over = threading.Event()

    def sleep(self, seconds: float | None) -> None:
        """Wait; None means until the client leaves.

        Raises:
            GrpcStatus: The client left.
        """
        if self._over.wait(seconds):
            raise GrpcStatus(code="CANCELLED")

    def end(self) -> None:
        """The call is over: wake whoever sleeps."""
        self._over.set()


class GrpcExchange:
    """One call being answered: its record, its fault, and how it ends."""

    def __init__(
        self,
        server: DevServer,
        connection: int,
        path: str,
        data: bytes,
        context: grpc.ServicerContext,
        *,
        authorize: Callable[[str, Mapping[str, str]], None] | None = None,
    ) -> None:
        self._server = server
        self._authorize = authorize
        self._grpc = context
        self._data = data
        self._path = path
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.context = GrpcContext(metadata)
        self.record: RequestRecord = server.requests.open(
            connection=connection, method="GRPC", path=path, query="", headers=metadata, body=data
        )

    def __enter__(self) -> GrpcExchange:
        server = self._server
        with server.counting:
            server.in_flight += 1
            server.max_in_flight = max(server.max_in_flight, server.in_flight)
        if not self._grpc.add_callback(self._left):
            self._left()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._server.counting:
            self._server.in_flight -= 1
        if error is None:
            self.record.status = 0
            self._server.requests.close(self.record, cancelled=False)
            return
        if isinstance(error, GeneratorExit):
            self._server.requests.close(self.record, cancelled=True)
            return
        self._abort(
            error if isinstance(error, GrpcStatus) else GrpcStatus("UNKNOWN", f"Unexpected {type(error)}: {error}")
        )

    def fault(self) -> Fault:
        """The fault for this call, after what it asks for before the first answer.

        Raises:
            GrpcStatus: The call ends here.
        """
        self._check_token()
        text = self.context.metadata.get("x-devserver-fault")
        try:
            found = Fault.from_header(text) if text else self._server.faults.take("GRPC", self._path)
        except (TypeError, ValueError) as error:
            raise GrpcStatus(code="INVALID_ARGUMENT", details=f"x-devserver-fault: {error}") from error
        fault = found or _NO_FAULT
        if fault.delay:
            self.context.sleep(fault.delay)
        if fault.reset is not None:
            raise GrpcStatus(code="UNAVAILABLE", details="recvmsg:Connection reset by peer")
        later = fault.cut_after is not None or fault.error_after is not None
        if fault.code is not None and not later:
            raise GrpcStatus(fault.code, fault.details, metadata=fault.headers)
        if fault.replaces_answer:
            raise _http(fault)
        return fault

    def read(self, kind: Any, data: bytes | None = None) -> Any:
        """The request's message; of a stream, one of its messages.

        Raises:
            GrpcStatus: The bytes are not one.
        """
        try:
            return kind.FromString(self._data if data is None else data)
        except Exception as error:
            msg = f"Unexpected {type(error)}: {error}"
            raise GrpcStatus(code="UNKNOWN", details=msg) from error

    def _check_token(self) -> None:
        if self._authorize is not None:
            self._authorize(self._path, self.context.metadata)
            return
        keys = self._server.settings.api_keys
        if not keys:
            return
        scheme, _, token = self.context.metadata.get("authorization", "").partition(" ")
        given = token.encode("utf-8", "replace")
        if scheme.lower() != "bearer" or not any(hmac.compare_digest(given, key.encode()) for key in keys):
            raise GrpcStatus(code="UNAUTHENTICATED", details="Unauthorized")

    def _left(self) -> None:
        """The call is over; if its own end was not noted by now, the client left."""
        self.context.end()
        self._server.requests.close(self.record, cancelled=True)

    def _abort(self, status: GrpcStatus) -> None:
        from kserve_core.grpc_library import grpc

        code = grpc.StatusCode[status.code]
        self.record.status = code.value[0]
        self._server.requests.close(self.record, cancelled=status.code == "CANCELLED")
        if status.metadata:
            self._grpc.set_trailing_metadata(tuple((key.lower(), value) for key, value in status.metadata.items()))
        self._grpc.abort(code, status.details)


def _http(fault: Fault) -> GrpcStatus:
    """What a client sees of an HTTP answer from a router or a proxy."""
    page = PAGES.get(fault.body) if isinstance(fault.body, str) else None
    status = fault.status or (page.status if page is not None else 307 if fault.redirect else 500)
    code = _HTTP_STATUS.get(status) or ("UNAVAILABLE" if status in _UNAVAILABLE else "UNKNOWN")
    return GrpcStatus(code, f"Received http2 header with status: {status}", metadata=fault.headers)
