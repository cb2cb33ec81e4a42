"""Who gRPC believes, who it says it is, and what it says when that does not work out."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kserve_core import trust
from kserve_core.devserver.certificates import Authority
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ConnectTimeoutError,
    EndpointConnectionError,
    TLSError,
)
from kserve_core.grpc_transport import GrpcTransport
from kserve_core.trust import InsecureConnectionWarning
from tests.unit.core.grpc_scripted import (
    END,
    GrpcServer,
    count_call,
    free_port,
    http1,
    http2_page,
    piece,
    raised,
    raw_server,
    server_tls,
    stream_call,
    tokens,
)

TOKEN = "sha256~canary-token-that-must-not-leak"


class Files:
    """An authority, and what it has issued."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.authority = Authority.create(name)
        self.ca = self.authority.write_ca(folder / f"{name}.pem")

    def issue(self, *names: str, stem: str = "server") -> tuple[Path, Path]:
        return self.authority.issue(names, self.folder, stem=stem)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_warned", set())


def run(mode: str, url: str, **options: Any) -> Any:
    client = GrpcTransport(Endpoint.create(url, **{"max_retries": 0, **options}))
    return client.run(count_call()) if mode == "sync" else asyncio.run(client.arun(count_call()))


def one(*_: object) -> bytes:
    return tokens(1)


@contextmanager
def serving(cert: tuple[Path, Path], client_ca: Path | None = None) -> Iterator[GrpcServer]:
    with GrpcServer(one, tls=server_tls(*cert, client_ca)) as server:
        yield server


# Trust


def test_a_private_ca_is_trusted_and_a_token_sent(mode: str, files: Files) -> None:
    with serving(files.issue("127.0.0.1")) as server:
        assert run(mode, server.url, ca_cert=files.ca, api_key=TOKEN) == 1
        assert run(mode, server.url.replace("grpcs", "https"), ca_cert=files.ca.read_text()) == 1
    assert server.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"


def test_a_ca_from_the_environment_is_trusted(mode: str, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
    with serving(files.issue("127.0.0.1")) as server:
        assert run(mode, server.url) == 1


def test_a_client_certificate_is_shown(mode: str, files: Files) -> None:
    cert, key = files.issue("client", stem="client")
    with serving(files.issue("127.0.0.1"), files.ca) as server:
        assert run(mode, server.url, ca_cert=files.ca, client_cert=(cert, key)) == 1


def test_an_encrypted_key_is_decrypted_with_its_password(files: Files) -> None:
    from cryptography.hazmat.primitives import serialization

    cert, key = files.issue("client", stem="client")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    with serving(files.issue("127.0.0.1"), files.ca) as server:
        assert run("sync", server.url, ca_cert=files.ca, client_cert=(cert, key, "open sesame")) == 1
        for password in ("wrong", None):
            error = raised(lambda p=password: run("sync", server.url, ca_cert=files.ca, client_cert=(cert, key, p)))
            assert isinstance(error, ConfigurationError)
            assert "open sesame" not in str(error)


def test_files_that_cannot_be_used_are_refused_as_for_rest(mode: str, files: Files, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    cert, _ = files.issue("client", stem="client")
    _, other_key = files.issue("other", stem="other")
    for options in (
        {"ca_cert": nonsense},
        {"ca_cert": tmp_path / "missing.pem"},
        {"client_cert": (cert, other_key)},
        {"client_cert": tmp_path / "missing.pem"},
    ):
        error = raised(lambda given=options: run(mode, "grpcs://127.0.0.1:1", **given))
        assert isinstance(error, ConfigurationError)
        assert ".pem" in error.message


def test_an_unknown_ca_is_refused_with_advice(mode: str, files: Files) -> None:
    with serving(files.issue("127.0.0.1")) as server:
        error = raised(lambda: run(mode, server.url, max_retries=2))
    assert type(error) is TLSError
    assert "not accepted" in error.message
    assert "ca_cert" in error.hint
    assert (error.attempts, error.layer) == (1, "network")


def test_a_certificate_for_another_name_is_refused(mode: str, files: Files) -> None:
    with serving(files.issue("model.example.com")) as server:
        error = raised(lambda: run(mode, server.url, ca_cert=files.ca))
    assert type(error) is TLSError
    assert "another name" in error.message


def test_a_missing_client_certificate_is_named_as_the_likely_reason(mode: str, files: Files) -> None:
    with serving(files.issue("127.0.0.1"), files.ca) as server:
        error = raised(lambda: run(mode, server.url, ca_cert=files.ca))
    assert isinstance(error, EndpointConnectionError)
    assert "client_cert" in error.hint


def test_plaintext_to_a_tls_port_and_tls_to_a_plaintext_port(mode: str, files: Files) -> None:
    with serving(files.issue("127.0.0.1")) as server:
        error = raised(lambda: run(mode, server.url.replace("grpcs", "grpc")))
    assert isinstance(error, EndpointConnectionError)
    assert "grpcs://" in error.hint
    with GrpcServer(one) as server:
        error = raised(lambda: run(mode, server.url.replace("grpc", "grpcs")))
    assert type(error) is TLSError
    assert "does not speak TLS" in error.message


# No verification


def test_without_verification_any_certificate_is_pinned_with_a_warning(mode: str, files: Files) -> None:
    for names in (("127.0.0.1",), ("model.example.com",), ("*.apps.example.com",)):
        with serving(files.issue(*names)) as server:
            trust._warned.clear()
            with pytest.warns(InsecureConnectionWarning, match=r"127\.0\.0\.1"):
                assert run(mode, server.url, verify=False, api_key=TOKEN) == 1


def test_without_verification_a_client_certificate_is_still_shown(mode: str, files: Files) -> None:
    cert, key = files.issue("client", stem="client")
    with serving(files.issue("other.example.com"), files.ca) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(mode, server.url, verify=False, client_cert=(cert, key)) == 1


def test_without_verification_a_new_certificate_is_pinned_anew(mode: str, files: Files, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    newer = Files(tmp_path / "new", "newer")
    warnings.simplefilter("ignore")

    async def both() -> list[int]:
        results = []
        port = free_port()
        client = GrpcTransport(Endpoint.create(f"grpcs://127.0.0.1:{port}", verify=False, max_retries=1))
        for issuer in (files, newer):
            with GrpcServer(one, tls=server_tls(*issuer.issue("127.0.0.1")), port=port):
                if mode == "sync":
                    results.append(await asyncio.to_thread(client.run, count_call()))
                else:
                    results.append(await client.arun(count_call()))
        return results

    assert asyncio.run(both()) == [1, 1]


def test_fetching_a_certificate_is_bounded_by_the_connect_timeout(mode: str) -> None:
    warnings.simplefilter("ignore")
    with raw_server(lambda _: time.sleep(5)) as port:
        error = raised(lambda: run(mode, f"grpcs://127.0.0.1:{port}", verify=False, connect_timeout=0.3))
    assert isinstance(error, ConnectTimeoutError)


# What is no gRPC server


def test_nothing_listens(mode: str) -> None:
    error = raised(lambda: run(mode, f"grpc://127.0.0.1:{free_port()}"))
    assert type(error) is EndpointConnectionError
    assert "refused" in error.message


def test_a_server_that_says_nothing_is_given_up_after_the_connect_timeout(mode: str) -> None:
    with raw_server(lambda _: time.sleep(10)) as port:
        error = raised(lambda: run(mode, f"grpc://127.0.0.1:{port}", connect_timeout=0.5))
    assert isinstance(error, ConnectTimeoutError)


def test_a_server_that_hangs_up(mode: str) -> None:
    with raw_server(lambda _: None) as port:
        error = raised(lambda: run(mode, f"grpc://127.0.0.1:{port}"))
    assert type(error) is EndpointConnectionError
    assert "at once" in error.message


def test_a_server_of_http1(mode: str) -> None:
    with raw_server(http1) as port:
        error = raised(lambda: run(mode, f"grpc://127.0.0.1:{port}", max_retries=2))
    assert isinstance(error, BadResponseError)
    assert "HTTP/1.1" in error.message
    assert "REST" in error.hint
    assert error.attempts == 1


def test_a_route_without_http2(mode: str, files: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files.issue("127.0.0.1"))  # no ALPN: the client is offered no HTTP/2

    def serve(connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(100)

    with raw_server(serve) as port:
        error = raised(lambda: run(mode, f"grpcs://127.0.0.1:{port}", ca_cert=files.ca, max_retries=2))
    assert isinstance(error, BadResponseError)
    assert "HTTP/2" in error.message
    assert "protocol='rest'" in error.hint
    assert "internal URL" in error.hint
    assert error.attempts == 1


@pytest.mark.parametrize(
    ("status", "kind", "layer", "advice"),
    [
        (302, "RedirectError", "router", "sign-in"),
        (401, "AuthenticationError", "auth proxy", "api_key"),
        (403, "PermissionDeniedError", "auth proxy", "inferenceservices"),
        (404, "NotFoundError", "router", "REST"),
        (429, "RateLimitError", "gateway", "fewer"),
        (502, "ServerError", "router", "protocol='rest'"),
        (503, "NotReadyError", "router", "No pod"),
        (504, "NotReadyError", "router", "30 s"),
    ],
)
def test_pages_of_a_router(status: int, kind: str, layer: str, advice: str) -> None:
    with raw_server(http2_page(status)) as port:
        error = raised(lambda: run("sync", f"grpc://127.0.0.1:{port}"))
    assert (type(error).__name__, error.layer, error.status) == (kind, layer, status)
    assert advice in error.hint
    assert error.message == f"HTTP {status} was answered instead of a gRPC status."


def test_a_page_with_status_200_is_no_answer(mode: str) -> None:
    with raw_server(http2_page(200)) as port:
        error = raised(lambda: run(mode, f"grpc://127.0.0.1:{port}"))
    assert isinstance(error, BadResponseError | EndpointConnectionError)
    assert "REST" in error.hint


def test_a_503_of_the_router_is_waited_out(mode: str) -> None:
    # A scaled-to-zero model: the router's page first, then the model behind the same address.
    port = free_port()
    page = http2_page(503)
    stop = threading.Event()

    listener = socket.create_server(("127.0.0.1", port))

    def route() -> None:
        listener.settimeout(0.1)
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            connection.settimeout(None)
            threading.Thread(target=attend, args=(connection,), daemon=True).start()
        listener.close()

    def attend(connection: socket.socket) -> None:
        with connection:
            try:
                page(connection)
            except OSError:
                return

    thread = threading.Thread(target=route)
    thread.start()
    try:
        error = raised(lambda: run(mode, f"grpc://127.0.0.1:{port}", max_retries=1, timeout=3))
    finally:
        stop.set()
        thread.join()
    assert error.attempts > 2  # more than max_retries would allow


def test_streams_over_tls(mode: str, files: Files) -> None:
    def answer(*_: object) -> Any:
        yield piece("a")
        yield piece(END)

    with GrpcServer(answer, tls=server_tls(*files.issue("127.0.0.1"))) as server:
        client = GrpcTransport(Endpoint.create(server.url, ca_cert=files.ca))
        if mode == "sync":
            assert list(client.stream(stream_call())) == ["a"]
        else:

            async def collect() -> list[str]:
                return [text async for text in client.astream(stream_call())]

            assert asyncio.run(collect()) == ["a"]


# Proxies


def test_a_proxy_is_used_as_for_rest_and_never_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from kserve_core.grpc_channel import options

    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "other.example.com")

    def proxy(url: str) -> Any:
        found = dict(options(Endpoint.create(url)))
        return found.get("grpc.http_proxy", found.get("grpc.enable_http_proxy"))

    assert proxy("grpcs://model.example.com") == "http://proxy.example.com:3128"
    for inside in ("grpc://127.0.0.1:1", "grpc://m.ns.svc:8033", "grpcs://m.ns.svc.cluster.local:8033"):
        assert proxy(inside) == 0
    assert proxy("grpcs://other.example.com") == 0


def test_a_tunnel_is_asked_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def serve(connection: Any) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with raw_server(serve) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        error = raised(lambda: run("sync", "grpcs://model.example.com", api_key=TOKEN))
    assert asked[0].startswith(b"CONNECT model.example.com:443 ")
    assert TOKEN.encode() not in asked[0]
    assert isinstance(error, EndpointConnectionError)
    assert "403" in error.message
