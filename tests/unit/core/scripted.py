"""A loopback server that says exactly the bytes it is told to, for tests of the transport."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve_core.calls import Call, Response, StreamCall
from kserve_core.errors import KServeError, StreamInterrupted
from kserve_core.sse import SSEDecoder


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    raw_head: bytes = b""
    at: float = field(default_factory=time.monotonic)


class Close:
    """Step: close the connection."""


class Reset:
    """Step: close the connection with a reset."""


class Hold:
    """Step: keep the connection open until the client leaves."""


class ServerSide:
    """Bytes, seconds to sleep, or one of the steps above: one script per request, the last one for all further ones."""

    def __init__(self, *scripts: Any, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = [script if isinstance(script, (list, tuple)) else [script] for script in scripts]
        self.requests: list[Seen] = []
        self.connections = 0
        self.client_left = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._stopped = False

    def __enter__(self) -> ServerSide:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._acceptor.join(2)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    @property
    def live(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._open)

    def wait_until_live(self, count: int, seconds: float = 2.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.live == count:
                return True
            time.sleep(0.01)
        return False

    def _accept(self) -> None:
        while not self._stopped:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            number = self.connections
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(sock)
            buffer = b""
            while True:
                buffer, seen = self._read(sock, buffer, number)
                if seen is None:
                    return
                with self._lock:
                    position = len(self.requests)
                    self.requests.append(seen)
                if not self._play(sock, self.scripts[min(position, len(self.scripts) - 1)]):
                    return
        except (OSError, ValueError):
            self.client_left.set()
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _read(self, sock: socket.socket, buffer: bytes, number: int) -> tuple[bytes, Seen | None]:
        while b"\r\n\r\n" not in buffer:
            data = sock.recv(65536)
            if not data:
                return b"", None
            buffer += data
            if buffer[:1] == b"\x16":  # a TLS handshake at a plain port
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                return b"", None
        head, _, rest = buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            data = sock.recv(65536)
            if not data:
                return b"", None
            rest += data
        method, path, _ = lines[0].split(" ")
        return rest[length:], Seen(method, path, headers, rest[:length], number, head)

    def _play(self, sock: socket.socket, steps: Iterable[Any]) -> bool:
        for step in steps:
            if isinstance(step, bytes):
                sock.sendall(step)
            elif isinstance(step, (int, float)):
                time.sleep(step)
            elif isinstance(step, Hold):
                while sock.recv(65536):
                    pass
                self.client_left.set()
                return False
            elif isinstance(step, Reset):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif isinstance(step, Close):
                return False
            elif callable(step):
                step()
        return True


def answer(
    status: int = 200,
    body: bytes | object = b"{}",
    content_type: str | None = "application/json",
    headers: dict[str, str] | None = None,
) -> bytes:
    """A whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return chunk(b"data: " + json.dumps({"t": text}).encode() + b"\n\n")


DONE = chunk(b"data: [DONE]\n\n")


def whole_stream(*texts: str) -> list[bytes]:
    """A stream's steps, from head to end."""
    return [STREAM_HEAD, *map(event, texts), DONE + STREAM_END]


class TextDecoder:
    """A small codec: events with a text each, then `[DONE]`."""

    def __init__(self) -> None:
        self.sse = SSEDecoder()
        self.finished = False
        self.partial_text = ""

    def feed(self, data: bytes) -> Sequence[str]:
        pieces = []
        for item in self.sse.feed(data):
            if item.data == b"[DONE]":
                self.finished = True
                break
            value = json.loads(item.data)
            if "error" in value:
                raise KServeError(value["error"])
            self.partial_text += value["t"]
            pieces.append(value["t"])
        return pieces

    def close(self) -> Sequence[str]:
        if not self.finished:
            raise StreamInterrupted("The stream ended too early.")
        return []


def read_json(response: Response) -> Any:
    return json.loads(response.body)


def get(path: str = "/v1/models", **options: Any) -> Call[Any]:
    return Call(method="GET", path=path, read=options.pop("read", read_json), **options)


def post(path: str = "/v1/chat/completions", body: bytes = b'{"prompt":"secret words"}', **options: Any) -> Call[Any]:
    return Call(method="POST", path=path, read=options.pop("read", read_json), body=body, **options)


def streaming(path: str = "/v1/chat/completions", **options: Any) -> StreamCall[str]:
    return StreamCall(
        method="POST", path=path, decoder=options.pop("decoder", TextDecoder), body=b'{"stream":true}', **options
    )


ROUTER_PAGE = (
    b"<html>\n  <head>\n    <title>Application is not available</title>\n    <style>body { color: red }</style>\n"
    b"  </head>\n  <body>\n    <h1>Application is not available</h1>\n    <p>The application is currently not serving "
    b"requests at this endpoint.</p>\n  </body>\n</html>\n"
)
