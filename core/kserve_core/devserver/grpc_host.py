"""Serves gRPC methods beside the HTTP ones: with the same log, the same faults and the same certificates.

The server is grpcio's blocking one. Its asyncio server shares one completion queue with every asyncio client in the
process, and a test's client in another loop would see that queue's errors.
"""

from __future__ import annotations

import hmac
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.log import RequestRecord
from kserve_core.devserver.pages import PAGES
from kserve_core.grpc_health import CHECK, HealthCheckRequest, HealthCheckResponse

if TYPE_CHECKING:
    from kserve_core.devserver.server import DevServer
    from kserve_core.grpc_library import grpc

_WORKERS = 64
_NO_FAULT = Fault()
_GARBAGE = b"\xff\xff\xff"
_ENGINE_DEAD = (
    "Unexpected <class 'vllm.v1.engine.exceptions.EngineDeadError'>: EngineCore encountered an issue. See stack trace "
    "(above) for the root cause."
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcMethod:
    """One method of a service.

    Attributes:
        path: Its full name (`/fmaas.GenerationService/Generate`).
        request: Message class of the request.
        response: Message class of the answer.
        handler: Takes the request and a `GrpcContext`; returns the answer, or yields answers if `stream`.
        stream: Whether the answer is a stream.
        takes_stream: Whether the request is one as well; the handler then takes an iterator of requests, and the log
            has the first.
        failure: What a scripted failure in the middle of a stream looks like, if it is a message and no status.
    """

    path: str
    request: Any
    response: Any
    handler: Callable[[Any, GrpcContext], Any]
    stream: bool = False
    takes_stream: bool = False
    failure: Callable[[Fault], Any] | None = None


class GrpcHost:
    """A gRPC server that belongs to a development server.

    Args:
        server: Whose settings, log and faults it shares.
        methods: What it answers, besides the health service.
        health: Whether the health service is there.
        authorize: Checks the token of a call, given the method's path and the metadata, where the service has a way
            of its own to do that; raises `GrpcStatus`.
    """

    def __init__(
        self,
        server: DevServer,
        methods: Iterable[GrpcMethod],
        *,
        health: bool = True,
        authorize: Callable[[str, Mapping[str, str]], None] | None = None,
    ) -> None:
        self._server = server
        self._authorize = authorize
        self._methods = {method.path: method for method in methods}
        if health:
            self._methods[CHECK] = GrpcMethod(
                path=CHECK, request=HealthCheckRequest, response=HealthCheckResponse, handler=self._health
            )
        self._grpc: grpc.Server | None = None
        self._peers: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(
        self, host: str, port: int = 0, *, key_cert: tuple[bytes, bytes] | None = None, client_ca: bytes | None = None
    ) -> int:
        """Start listening.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 picks a free one.
            key_cert: Private key and certificate in PEM, for TLS.
            client_ca: Makes client certificates signed by this authority a must.

        Returns:
            The port.

        Raises:
            OSError: The port is taken.
        """
        from kserve_core.grpc_library import grpc

        options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
        self._grpc = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="kserve-devserver-grpc"),
            handlers=[_Handlers(self)],
            options=options,
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if key_cert is None:
                bound = self._grpc.add_insecure_port(address)
            else:
                credentials = grpc.ssl_server_credentials(
                    [key_cert], root_certificates=client_ca, require_client_auth=client_ca is not None
                )
                bound = self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            msg = f"the gRPC port cannot be listened on: {error}"
            raise OSError(msg) from error
        self._grpc.start()
        return int(bound)

    def stop(self) -> None:
        """Stop listening and break off what is being answered."""
        if self._grpc is not None:
            self._grpc.stop(None).wait(5)
            self._grpc = None

    def find(self, path: str) -> GrpcMethod | None:
        """The method of a full name."""
        return self._methods.get(path)

    def services(self) -> set[str]:
        """The names the health service knows."""
        return {path.split("/")[1] for path in self._methods if path != CHECK}

    # -- answering

    def answer(self, method: GrpcMethod, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer one call with one message."""
        with self._exchange(method, data, context) as exchange:
            fault = exchange.fault()
            if fault.cut_after == 0 or fault.error_after == 0:
                raise _broken(fault)
            if fault.malformed_after is not None:
                return _GARBAGE
            answer = method.handler(exchange.read(method.request), exchange.context)
            return bytes(answer.SerializeToString())

    def answers(self, method: GrpcMethod, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer one call with a stream of messages."""
        with self._exchange(method, data, context) as exchange:
            yield from self._pieces(method, exchange, exchange.read)

    def converse(self, method: GrpcMethod, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer a stream of messages with one."""
        data = next(requests, None)
        with self._exchange(method, data or b"", context) as exchange:

            def read(kind: Any) -> Iterator[Any]:
                if data is not None:
                    yield exchange.read(kind)
                for later in requests:
                    yield exchange.read(kind, later)

            yield from self._pieces(method, exchange, read)

    def _pieces(self, method: GrpcMethod, exchange: _Exchange, read: Callable[[Any], Any]) -> Iterator[bytes]:
        fault = exchange.fault()
        pieces = method.handler(read(method.request), exchange.context)
        for sent, piece in enumerate(pieces):
            if fault.cut_after == sent:
                if fault.cut == "clean":
                    return
                raise _broken(fault)
            if fault.error_after == sent and method.failure is not None and fault.code is None:
                yield method.failure(fault).SerializeToString()
                return
            if fault.error_after == sent:
                raise _broken(fault)
            if fault.malformed_after == sent:
                yield _GARBAGE
            if fault.idle_after == sent:
                exchange.context.sleep(fault.idle)
            if fault.slow_body:
                exchange.context.sleep(fault.slow_body)
            exchange.record.pieces += 1
            yield piece.SerializeToString()

    def _exchange(self, method: GrpcMethod, data: bytes, context: grpc.ServicerContext) -> _Exchange:
        connection = self._connection(context.peer())
        return _Exchange(self._server, connection, method.path, data, context, authorize=self._authorize)

    def _connection(self, peer: str) -> int:
        with self._lock:
            if peer not in self._peers:
                self._peers[peer] = next(self._numbers)
            return self._peers[peer]

    def _health(self, request: HealthCheckRequest, _: GrpcContext) -> HealthCheckResponse:
        if request.service and request.service not in self.services():
            raise GrpcStatus(code="NOT_FOUND")
        return HealthCheckResponse(HealthCheckResponse.SERVING)


class _Exchange:
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

    def __enter__(self) -> _Exchange:
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


class _Handlers:
    """Finds the handler of a call; grpcio asks it for every one."""

    def __init__(self, host: GrpcHost) -> None:
        self._host = host

    def service(self, details: Any) -> Any:
        """The handler of a call, or None: grpcio then answers UNIMPLEMENTED."""
        from kserve_core.grpc_library import grpc

        method = self._host.find(details.method)
        if method is None:
            return None
        if method.takes_stream:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self._host.converse(method, requests, context)
            )
        if method.stream:
            return grpc.unary_stream_rpc_method_handler(lambda data, context: self._host.answers(method, data, context))
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self._host.answer(method, data, context))


def _broken(fault: Fault) -> GrpcStatus:
    """The status a stream breaks off with."""
    if fault.code is not None:
        return GrpcStatus(fault.code, fault.details, metadata=fault.headers)
    if fault.error_after is not None:
        said = fault.error.get("message") if fault.error else None
        return GrpcStatus("UNKNOWN", str(said or _ENGINE_DEAD))
    return GrpcStatus("UNAVAILABLE", "recvmsg:Connection reset by peer")


def _http(fault: Fault) -> GrpcStatus:
    """What a client sees of an HTTP answer from a router or a proxy."""
    page = PAGES.get(fault.body) if isinstance(fault.body, str) else None
    status = fault.status or (page.status if page is not None else 307 if fault.redirect else 500)
    code = _HTTP_STATUS.get(status) or ("UNAVAILABLE" if status in _UNAVAILABLE else "UNKNOWN")
    return GrpcStatus(code, f"Received http2 header with status: {status}", metadata=fault.headers)
