"""What the tests of the doctor share: nothing of this machine, and servers that only shake hands."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kserve_core.doctor import authorities

CANARY = "canary-token-that-must-not-leak"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the CA files nor the variables of the machine reach the tests."""
    monkeypatch.setattr(authorities, "FOLDERS", (str(tmp_path / "found"),))
    for name in (*authorities.VARIABLES, "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are given to a function, each in turn."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(5)
                try:
                    serve(sock)
                except OSError:
                    continue

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def tls_server(context: ssl.SSLContext, got: list[bytes] | None = None) -> Iterator[int]:
    """A server that shakes hands, notes what it is sent after that, and hangs up."""

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            data = tls.recv(65536)
            if got is not None and data:
                got.append(data)

    with listening(serve) as port:
        yield port


def server_context(cert: Any, **options: Any) -> ssl.SSLContext:
    """A server's context with a certificate of trustme."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


def jwt(**claims: Any) -> str:
    """A token in the form of a JSON web token; nothing signs it."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.c2lnbmF0dXJl"
