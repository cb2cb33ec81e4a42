"""A loopback gRPC server that does what it is told, and raw ones for what is not gRPC at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from kserve_core.calls import GrpcCall, GrpcStreamCall
from kserve_core.errors import KServeError, StreamInterrupted
from kserve_core.protos import messages

END = "<end>"


@dataclass
class Seen:
    """A call as it came."""

    method: str
    metadata: dict[str, str]
    body: bytes
    seconds_left: float | None


@dataclass
class GrpcServer:
    """Answers every method with `answer(request, context, number of the call)`; an iterator is a stream.

    Attributes:
        answer: What to answer: bytes, or an iterator of bytes.
        tls: Server credentials, or None for plaintext.
        options: Server options.
        port: The port to listen at; any free one if 0.
    """

    answer: Callable[[bytes, Any, int], Any]
    tls: Any = None
    options: tuple[tuple[str, Any], ...] = (
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    )
    port: int = 0
    calls: list[Seen] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    peers: set[str] = field(default_factory=set)

    def __enter__(self) -> GrpcServer:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=self.options)
        self._server.add_generic_rpc_handlers((_Handler(self),))
        address = f"127.0.0.1:{self.port}"
        if self.tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.tls)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def stop(self) -> None:
        self._server.stop(0).wait()

    @property
    def url(self) -> str:
        return f"{'grpc' if self.tls is None else 'grpcs'}://127.0.0.1:{self.port}"


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        server = self._server
        streamed = details.method.endswith("Stream")

        def handle(request: bytes, context: Any) -> Any:
            left = context.time_remaining()
            metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            server.calls.append(Seen(details.method, metadata, request, left))
            server.peers.add(context.peer())
            context.add_callback(server.ended.set)
            answer = server.answer(request, context, len(server.calls))
            return iter([answer]) if streamed and isinstance(answer, bytes) else answer

        if streamed:
            return grpc.unary_stream_rpc_method_handler(handle)
        return grpc.unary_unary_rpc_method_handler(handle)


def server_tls(cert: Path, key: Path, client_ca: Path | None = None) -> Any:
    """Server credentials; with a client CA, certificates of clients are demanded."""
    roots = client_ca.read_bytes() if client_ca else None
    return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())], roots, client_ca is not None)


def abort(code: str, details: str = "", **trailing: Any) -> Callable[[bytes, Any, int], Any]:
    """Answers with a status."""

    def answer(_: bytes, context: Any, __: int) -> Any:
        if trailing:
            context.set_trailing_metadata(tuple((key.replace("_", "-"), value) for key, value in trailing.items()))
        context.abort(grpc.StatusCode[code], details)

    return answer


def tokens(count: int) -> bytes:
    """An answer of the Tokenize method."""
    counted = messages.fmaas.TokenizeResponse(token_count=count)
    return messages.fmaas.BatchedTokenizeResponse(responses=[counted]).SerializeToString()


def piece(text: str) -> bytes:
    """A message of a stream; `END` is the end marker."""
    return messages.fmaas.GenerationResponse(text=text).SerializeToString()


class Pieces:
    """A decoder: texts, and the end marker without which a stream is not complete."""

    def __init__(self) -> None:
        self.partial_text = ""
        self.finished = False

    def feed(self, message: Any) -> list[str]:
        if message.text == END:
            self.finished = True
            return []
        self.partial_text += message.text
        return [message.text] if message.text else []

    def close(self) -> list[str]:
        msg = "no end marker"
        raise StreamInterrupted(msg, partial_text=self.partial_text)


def count_call(text: str = "secret words", **options: Any) -> GrpcCall[int]:
    """A unary call; its result is a number."""
    fields = {
        "method": "/fmaas.GenerationService/Tokenize",
        "request": messages.fmaas.BatchedTokenizeRequest(requests=[messages.fmaas.TokenizeRequest(text=text)]),
        "response_type": messages.fmaas.BatchedTokenizeResponse,
        "read": lambda message: message.responses[0].token_count,
    }
    return GrpcCall(**{**fields, **options})


def stream_call(**options: Any) -> GrpcStreamCall[str]:
    """A streamed call; its pieces are texts."""
    fields = {
        "method": "/fmaas.GenerationService/GenerateStream",
        "request": messages.fmaas.SingleGenerationRequest(
            request=messages.fmaas.GenerationRequest(text="secret words")
        ),
        "response_type": messages.fmaas.GenerationResponse,
        "decoder": Pieces,
    }
    return GrpcStreamCall(**{**fields, **options})


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that does `serve` with every connection; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    def attend(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def http2_page(
    status: int, content_type: str = "text/html", body: bytes = b"<html>Sign in</html>"
) -> Callable[[socket.socket], None]:
    """A router that speaks HTTP/2 but no gRPC: it answers every request with a page."""
    headers = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in ((b":status", str(status).encode()), (b"content-type", content_type.encode()))
    )

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body

    def serve(connection: socket.socket) -> None:
        connection.sendall(frame(4, 0, 0, b""))
        read = connection.makefile("rb")
        read.read(24)  # the preface
        while len(head := read.read(9)) == 9:
            body = read.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in {4, 6} and not flags & 1:
                connection.sendall(frame(kind, 1, 0, body if kind == 6 else b""))
            elif kind == 1:
                connection.sendall(
                    frame(1, 4, stream, headers) + frame(0, 1, stream, body) if body else frame(1, 5, stream, headers)
                )

    return serve


def http1(connection: socket.socket) -> None:
    """A server of HTTP/1.1."""
    connection.recv(1024)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def raised(action: Callable[[], Any]) -> KServeError:
    """The error an action raises."""
    try:
        action()
    except KServeError as error:
        return error
    msg = "nothing was raised"
    raise AssertionError(msg)
