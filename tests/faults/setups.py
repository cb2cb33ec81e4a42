"""Servers for the faults that lie below a request: addresses, certificates, redirects, tokens, restarts, proxies."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import ssl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import trustme
from faults.ways import ANSWER, Way
from unit.core.grpc_scripted import GrpcServer, free_port, http1, http2_page, raw_server, server_tls
from unit.core.scripted import ServerSide, answer

from kserve_core.devserver import DevServer

TOKEN = "sha256~first-token"
SECOND_TOKEN = "sha256~second-token"


@dataclass
class Scene:
    """A server with a fault, and what to ask it.

    Attributes:
        url: The endpoint.
        fields: Constructor arguments.
        times: How often one instance asks.
        between: What happens between two questions.
        sent: Counts the requests that came; None where nobody can.
        afterwards: Checks what else has to hold.
    """

    url: str
    fields: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    between: Callable[[], object] | None = None
    sent: Callable[[], int] | None = None
    afterwards: Callable[[], None] = lambda: None


SETUPS: dict[str, Callable[[Way], contextlib.AbstractContextManager[Scene]]] = {}


def _setup(name: str, *args: Any) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        SETUPS[name] = partial(contextlib.contextmanager(function), *args)
        return function

    return add


@_setup("refused")
def _refused(way: Way) -> Iterator[Scene]:
    yield Scene(_url(way, free_port()))


# Redirects


@_setup("redirect-302", 302, "{own}/v1/elsewhere")
@_setup("redirect-307", 307, "{own}/v1/elsewhere")
@_setup("redirect-other-host", 307, "{other}/v1/chat/completions")
@_setup("redirect-other-host-302", 302, "{other}/v1/chat/completions")
@_setup("redirect-https", 301, "{secure}/v1/chat/completions")
@_setup("redirect-sign-in", 302, "{other}/oauth/authorize?client_id=x")
def _redirect(status: int, location: str, way: Way) -> Iterator[Scene]:
    with ServerSide(answer()) as other, DevServer(tgis=True) as server:
        places = {"own": server.url, "other": other.url, "secure": server.url.replace("http:", "https:")}
        server.fault(redirect=location.format(**places), status=status, times=None)

        def alone() -> None:
            assert other.connections == 0, "the other host was contacted"
            assert {record.path for record in server.requests} == {"/v1/chat/completions"}

        # A token is given, so that a request that is sent on would show it.
        yield Scene(f"{server.url}/v1", {"api_key": TOKEN}, sent=lambda: len(server.requests), afterwards=alone)


# Certificates


@cache
def _authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name)


@cache
def _file(name: str, kind: str = "ca") -> Path:
    """A PEM file: an authority's certificate, or what it issued for a host (`ok`, `expired`, another name)."""
    folder = Path(tempfile.mkdtemp(prefix="kserve-faults-"))
    authority = _authority(name)
    if kind == "ca":
        authority.cert_pem.write_to_path(folder / "ca.pem")
        return folder / "ca.pem"
    expiry = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=-1 if kind == "expired" else 9)
    host = kind if "." in kind else "127.0.0.1"
    issued = authority.issue_cert(host, not_after=expiry)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return folder / "cert.pem"


@_setup("tls", "ok", "ours", {})
@_setup("tls-wrong-name", "model.example.com", "ours", {})
@_setup("tls-unknown-ca", "ok", "theirs", {})
@_setup("tls-expired", "expired", "ours", {})
@_setup("tls-client-cert", "ok", "ours", {"ask": True, "show": True})
@_setup("tls-no-client-cert", "ok", "ours", {"ask": True})
@_setup("tls-strange-client-cert", "ok", "ours", {"ask": True, "show": True, "of": "theirs"})
@_setup("tls-old-version", "ok", "ours", {"old": True})
def _tls(kind: str, trusted: str, client: dict[str, Any], way: Way) -> Iterator[Scene]:
    cert = _file("ours", kind)
    key = cert.with_name("key.pem")
    ca = _file("ours") if client.get("ask") else None
    fields: dict[str, Any] = {"ca_cert": _file(trusted)}
    if client.get("show"):
        shown = _file(client.get("of", "ours"), "ok")
        fields["client_cert"] = (shown, shown.with_name("key.pem"))
    if way.over_grpc:
        with GrpcServer(_generated(way), tls=server_tls(cert, key, ca)) as server:
            yield Scene(f"grpcs://127.0.0.1:{server.port}", fields, sent=lambda: len(server.calls))
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if client.get("old"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    with ServerSide(_chatted(way), tls=context) as server:
        yield Scene(f"{server.url}/v1", fields, sent=lambda: len(server.requests))


@_setup("tls-to-plain")
def _tls_to_plain(way: Way) -> Iterator[Scene]:
    with ServerSide(answer()) as server:
        yield Scene(_url(way, server.port, tls=True), sent=lambda: len(server.requests))


@_setup("plain-to-tls")
def _plain_to_tls(way: Way) -> Iterator[Scene]:
    cert = _file("ours", "ok")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert.with_name("key.pem"))
    with ServerSide(answer(), tls=context) as server:
        yield Scene(_url(way, server.port), sent=lambda: len(server.requests))


# Peers that speak something else


@_setup("http1-only")
def _http1_only(_: Way) -> Iterator[Scene]:
    with raw_server(http1) as port:
        yield Scene(f"grpc://127.0.0.1:{port}")


@_setup("http1-only-tls")
def _http1_only_tls(_: Way) -> Iterator[Scene]:
    cert = _file("ours", "ok")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert.with_name("key.pem"))
    context.set_alpn_protocols(["http/1.1"])
    with ServerSide(answer(), tls=context) as server:
        yield Scene(f"grpcs://127.0.0.1:{server.port}", {"ca_cert": _file("ours")}, sent=lambda: len(server.requests))


@_setup("http2-page-401", 401)
@_setup("http2-page-302", 302)
@_setup("http2-page-404", 404)
@_setup("http2-page-502", 502)
def _http2_page(status: int, _: Way) -> Iterator[Scene]:
    with raw_server(http2_page(status, body=b"")) as port:
        yield Scene(f"grpc://127.0.0.1:{port}")


@_setup("not-http")
def _not_http(way: Way) -> Iterator[Scene]:
    with ServerSide([b"SSH-2.0-OpenSSH_9.6\r\n", 0.02]) as server:
        yield Scene(_url(way, server.port), sent=lambda: len(server.requests))


@_setup("huge-head")
def _huge_head(way: Way) -> Iterator[Scene]:
    with ServerSide([b"HTTP/1.1 200 OK\r\n", b"x-fill: " + b"x" * 300_000]) as server:
        yield Scene(_url(way, server.port), sent=lambda: len(server.requests))


# Time passes between two questions


@_setup("token-rotates", True)
@_setup("token-expires", False)
def _token(rotates: bool, way: Way) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory() as folder, DevServer(tgis=True) as server:
        file = Path(folder, "token")
        file.write_text(f"{TOKEN}\n")

        def expire() -> None:
            server.reset()
            refused = {"code": "UNAUTHENTICATED"} if way.over_grpc else {"body": "kube-rbac-unauthorized"}
            server.fault(**refused, times=1 if rotates else None)
            if rotates:
                fresh = Path(folder, "fresh")
                fresh.write_text(SECOND_TOKEN)
                fresh.replace(file)

        def seen() -> None:
            last = server.requests[-1].headers["authorization"]
            assert last == f"Bearer {SECOND_TOKEN if rotates else TOKEN}"

        url = server.tgis_url if way.over_grpc else f"{server.url}/v1"
        yield Scene(url, {"api_key": file}, 2, expire, lambda: len(server.requests), seen)


@_setup("restart")
def _restart(way: Way) -> Iterator[Scene]:
    servers = [DevServer(tgis=True).start()]
    port, grpc_port = servers[0].port, int(servers[0].tgis_url.rpartition(":")[2])

    def restart() -> None:
        servers[-1].stop()
        servers.append(DevServer(port=port, tgis=grpc_port).start())

    try:
        url = servers[0].tgis_url if way.over_grpc else f"{servers[0].url}/v1"
        yield Scene(url, {}, 2, restart, lambda: len(servers[-1].requests))
    finally:
        servers[-1].stop()


@_setup("gone")
def _gone(way: Way) -> Iterator[Scene]:
    with DevServer(tgis=True) as server:
        url = server.tgis_url if way.over_grpc else f"{server.url}/v1"
        yield Scene(url, {}, 2, server.stop)


# Proxies of the environment

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    names = [name for lower in _PROXY_VARIABLES for name in (lower, lower.upper())]
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


@_setup("proxy-for-others")
def _proxy_unused(way: Way) -> Iterator[Scene]:
    with ServerSide(answer(502)) as proxy, DevServer(tgis=True) as server:
        with _environment(http_proxy=proxy.url, https_proxy=proxy.url, all_proxy=proxy.url):

            def unused() -> None:
                assert proxy.connections == 0, "the proxy was contacted"

            url = server.tgis_url if way.over_grpc else f"{server.url}/v1"
            yield Scene(url, sent=lambda: len(server.requests), afterwards=unused)


@_setup("proxy-page")
def _proxy_page(way: Way) -> Iterator[Scene]:
    with ServerSide(answer(502, b"<html><body>Blocked</body></html>", "text/html")) as proxy:
        with _environment(http_proxy=proxy.url, https_proxy=proxy.url):
            yield Scene(_url(way, 80, host="model.invalid"), sent=lambda: len(proxy.requests))


@_setup("proxy-refused")
def _proxy_refused(way: Way) -> Iterator[Scene]:
    with _environment(http_proxy=f"http://127.0.0.1:{free_port()}"):
        yield Scene(_url(way, 80, host="model.invalid"))


def _url(way: Way, port: int, *, tls: bool = False, host: str = "127.0.0.1") -> str:
    if way.over_grpc:
        return f"{'grpcs' if tls else 'grpc'}://{host}:{port}"
    return f"{'https' if tls else 'http'}://{host}:{port}/v1"


def _chatted(way: Way) -> Any:
    """The whole of what vLLM answers, as bytes."""
    with DevServer() as server:
        import httpx

        body = {
            "model": "dev-model",
            "messages": [{"role": "user", "content": "Count to ten."}],
            "stream": way.streamed,
        }
        got = httpx.post(f"{server.url}/v1/chat/completions", json=body, trust_env=False)
    return answer(200, got.content, got.headers["content-type"])


def _generated(way: Way) -> Any:
    """What TGIS answers."""
    from kserve_core.protos import messages

    said = messages.fmaas.GenerationResponse(
        text=ANSWER, stop_reason=messages.fmaas.StopReason.EOS_TOKEN, generated_token_count=10, input_token_count=4
    )
    whole = said if way.streamed else messages.fmaas.BatchedGenerationResponse(responses=[said])
    return lambda *_: whole.SerializeToString()
