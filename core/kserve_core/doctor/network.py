"""The probes below HTTP: name lookup, connections, TLS handshakes. They send no request and never a token."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from kserve_core.deadline import Deadline
from kserve_core.doctor.tls_records import read_shown
from kserve_core.endpoint import Endpoint
from kserve_core.http_pool import proxy_for

_AT_LEAST = 0.001


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy of the environment; its user and password are not shown."""

    host: str
    port: int
    scheme: str = "http"
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.where!r})"

    @property
    def where(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a name's lookup brought.

    Attributes:
        addresses: The addresses, as the system orders them.
        problem: Why there is none: `unknown`, `temporary`, `timeout` or `other`; `""` for no problem.
        reason: The system's words for it.
    """

    addresses: tuple[str, ...] = ()
    problem: Literal["", "unknown", "temporary", "timeout", "other"] = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to connect to an address.

    Attributes:
        address: The address.
        outcome: What came of it.
        reason: The system's words, unless it was connected.
    """

    address: str
    outcome: Literal["connected", "refused", "timeout", "unreachable"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """How a TLS handshake went.

    Attributes:
        outcome: `ok`; `verify` (the certificate is not accepted here); `not tls`; `alert` (the server refused);
            `closed`; `timeout`; `proxy` (the proxy did not connect).
        reason: The TLS library's words; `""` if it went well.
        code: OpenSSL's verification code, for `verify`.
        version: The TLS version agreed on.
        alpn: The protocol agreed on, or None.
        chain: The certificates the server showed, in DER, if they were to be seen.
        wants_certificate: Whether the server asked for a client certificate; known up to TLS 1.2 only.
    """

    outcome: Literal["ok", "verify", "not tls", "alert", "closed", "timeout", "proxy"]
    reason: str = ""
    code: int = 0
    version: str = ""
    alpn: str | None = None
    chain: tuple[bytes, ...] = ()
    wants_certificate: bool = False


class ProxyRefusedError(OSError):
    """The proxy did not connect; holds its status line's end."""


def proxy_of(endpoint: Endpoint) -> Proxy | None:
    """The proxy requests to an endpoint go through, or None."""
    url = None if endpoint.is_in_cluster and endpoint.is_grpc else proxy_for(endpoint)
    if url is None:
        return None
    parts = urlsplit(url)
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    default = {"https": 443, "http": 80}.get(parts.scheme, 1080)
    return Proxy(parts.hostname or "", parts.port or default, parts.scheme, authorization)


def look_up(host: str, port: int, deadline: Deadline) -> Lookup:
    """Asks the system for a name's addresses, for no longer than there is time."""
    results: list[Lookup] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as exc:
            unknown = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
            problem: Literal["unknown", "temporary", "other"] = "other"
            if exc.errno in unknown:
                problem = "unknown"
            elif exc.errno == socket.EAI_AGAIN:
                problem = "temporary"
            results.append(Lookup(problem=problem, reason=exc.strerror or ""))
        except Exception as exc:  # noqa: BLE001 - resolvers may be replaced, and raise what they like
            results.append(Lookup(problem="other", reason=type(exc).__name__))
        else:
            results.append(Lookup(tuple(dict.fromkeys(str(item[4][0]) for item in found))))

    # The system's lookup cannot be interrupted; one that hangs is left behind.
    worker = threading.Thread(target=ask, name="kserve-doctor-lookup", daemon=True)
    worker.start()
    worker.join(deadline.left())
    return results[0] if results else Lookup(problem="timeout")


def try_addresses(addresses: Sequence[str], port: int, seconds: float, deadline: Deadline) -> list[Attempt]:
    """Connects to addresses in turn until one answers, and hangs up.

    Args:
        addresses: The addresses.
        port: The port.
        seconds: The most to wait for each.
        deadline: When all of it has to be over.
    """
    attempts: list[Attempt] = []
    for address in addresses:
        attempts.append(_try(address, port, _seconds(seconds, deadline)))
        if attempts[-1].outcome == "connected" or deadline.passed():
            break
    return attempts


def shake_hands(
    endpoint: Endpoint, context: ssl.SSLContext, address: str, deadline: Deadline, *, proxy: Proxy | None = None
) -> Handshake:
    """Makes one TLS handshake and hangs up.

    Args:
        endpoint: Whose name is asked for.
        context: What is believed and offered.
        address: Where to connect, the proxy's address if there is one.
        deadline: When it has to be over.
        proxy: The proxy in between.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    host = endpoint.host.partition("%")[0]
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    seen = bytearray()
    try:
        with _connected(endpoint, address, deadline, proxy) as sock:
            _exchange(tls, (incoming, outgoing), sock, seen, deadline)
    except ssl.SSLCertVerificationError as exc:
        shown = read_shown(bytes(seen))
        return Handshake("verify", exc.verify_message or "", exc.verify_code, "", None, shown.chain)
    except ssl.SSLError as exc:
        shown = read_shown(bytes(seen))
        reason = (exc.reason or "handshake failed").replace("_", " ").lower()
        outcome = _outcome(reason)
        return Handshake(outcome, reason, 0, "", None, shown.chain, shown.wants_certificate)
    except ProxyRefusedError as exc:
        return Handshake("proxy", str(exc))
    except TimeoutError:
        return Handshake("timeout", "no answer in time")
    except OSError as exc:
        shown = read_shown(bytes(seen))
        reason = exc.strerror or "the server hung up"
        return Handshake("closed", reason, 0, "", None, shown.chain, shown.wants_certificate)
    shown = read_shown(bytes(seen))
    return Handshake(
        "ok",
        version=tls.version() or "",
        alpn=tls.selected_alpn_protocol(),
        chain=shown.chain or _library_chain(tls),
        wants_certificate=shown.wants_certificate,
    )


def unchecked_context(checked: ssl.SSLContext, *, in_clear: bool) -> ssl.SSLContext:
    """Turns a fresh context into one that takes any certificate, to look at it.

    Args:
        checked: The context; it is changed.
        in_clear: Whether to agree on TLS 1.2 at most, where the server's whole chain is to be seen.
    """
    checked.check_hostname = False
    checked.verify_mode = ssl.CERT_NONE
    if in_clear:
        checked.maximum_version = ssl.TLSVersion.TLSv1_2
    return checked


def _try(address: str, port: int, seconds: float) -> Attempt:
    try:
        with socket.create_connection((address, port), seconds):
            return Attempt(address, "connected")
    except ConnectionRefusedError as exc:
        return Attempt(address, "refused", exc.strerror or "")
    except TimeoutError:
        return Attempt(address, "timeout", "no answer in time")
    except OSError as exc:
        return Attempt(address, "unreachable", exc.strerror or type(exc).__name__)


def _connected(endpoint: Endpoint, address: str, deadline: Deadline, proxy: Proxy | None) -> socket.socket:
    port = endpoint.port if proxy is None else proxy.port
    sock = socket.create_connection((address, port), _seconds(endpoint.connect_timeout, deadline))
    if proxy is None:
        return sock
    try:
        _tunnel(sock, endpoint, proxy, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _tunnel(sock: socket.socket, endpoint: Endpoint, proxy: Proxy, deadline: Deadline) -> None:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    extra = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{extra}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        sock.settimeout(_seconds(None, deadline))
        data = sock.recv(4096)
        answer += data
        if not data or len(answer) > 65536:
            msg = "the proxy hung up"
            raise ProxyRefusedError(msg)
    status = answer.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2]
    if not status.startswith("2"):
        raise ProxyRefusedError("".join(char for char in status if char.isprintable())[:100])


def _exchange(
    tls: ssl.SSLObject,
    pipes: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
    sock: socket.socket,
    seen: bytearray,
    deadline: Deadline,
) -> None:
    incoming, outgoing = pipes
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError:
            _flush(outgoing, sock, deadline)  # the alert that says why
            raise
        else:
            done = True
        _flush(outgoing, sock, deadline)
        if done:
            return
        sock.settimeout(_seconds(None, deadline))
        data = sock.recv(65536)
        if not data:
            msg = "the server hung up"
            raise ConnectionResetError(None, msg)
        seen += data
        incoming.write(data)


def _flush(outgoing: ssl.MemoryBIO, sock: socket.socket, deadline: Deadline) -> None:
    data = outgoing.read()
    if data:
        sock.settimeout(_seconds(None, deadline))
        sock.sendall(data)


def _library_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain as the TLS library gives it out: the whole one from Python 3.13 on, before that the first."""
    whole = getattr(tls, "get_unverified_chain", None)
    if whole is not None:
        return tuple(bytes(der) for der in whole())
    der = tls.getpeercert(binary_form=True)
    return (der,) if der else ()


def _outcome(reason: str) -> Literal["not tls", "alert", "closed"]:
    if any(words in reason for words in ("wrong version", "record layer", "http request", "packet length")):
        return "not tls"
    return "closed" if "eof" in reason else "alert"


def _seconds(most: float | None, deadline: Deadline) -> float:
    left = deadline.left()
    limits = [value for value in (most, left) if value is not None]
    return max(_AT_LEAST, min(limits)) if limits else 60.0
