"""Serves gRPC methods beside the HTTP ones: with the same log, the same faults and the same certificates.

The server is grpcio's blocking one. Its asyncio server shares one completion queue with every asyncio client in the
process, and a test's client in another loop would see that queue's errors.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.grpc_exchange import GrpcContext, GrpcExchange, GrpcStatus
from kserve_core.grpc_health import CHECK, HealthCheckRequest, HealthCheckResponse

if TYPE_CHECKING:
    from kserve_core.devserver.server import DevServer
    from kserve_core.grpc_library import grpc

_WORKERS = 64
_GARBAGE = b"\xff\xff\xff"
_ENGINE_DEAD = (
    "Unexpected <class 'vllm.v1.engine.exceptions.EngineDeadError'>: EngineCore encountered an issue. See stack trace "
    "(above) for the root cause."
)


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

    def _pieces(self, method: GrpcMethod, exchange: GrpcExchange, read: Callable[[Any], Any]) -> Iterator[bytes]:
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

    def _exchange(self, method: GrpcMethod, data: bytes, context: grpc.ServicerContext) -> GrpcExchange:
        connection = self._connection(context.peer())
        return GrpcExchange(self._server, connection, method.path, data, context, authorize=self._authorize)

    def _connection(self, peer: str) -> int:
        with self._lock:
            if peer not in self._peers:
                self._peers[peer] = next(self._numbers)
            return self._peers[peer]

    def _health(self, request: HealthCheckRequest, _: GrpcContext) -> HealthCheckResponse:
        if request.service and request.service not in self.services():
            raise GrpcStatus(code="NOT_FOUND")
        return HealthCheckResponse(HealthCheckResponse.SERVING)


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
