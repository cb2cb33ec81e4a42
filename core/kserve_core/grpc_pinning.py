"""`verify=False` for gRPC, which cannot leave out certificate checks: the certificate the server shows is trusted.

It is fetched once, over a connection of its own, and then pinned: a server that shows another certificate later is
asked again.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kserve_core import hints
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, EndpointConnectionError, KServeError, TLSError
from kserve_core.http_pool import proxy_for


@dataclass(frozen=True, slots=True)
class Pin:
    """A server's certificate.

    Attributes:
        pem: The certificate, as PEM.
        name: A name it is valid for, where the endpoint's host is none of them; else None.
    """

    pem: bytes
    name: str | None = None


class Pinned:
    """The pin of one endpoint, fetched at first use and shared by all threads and event loops.

    Args:
        endpoint: Where the server is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._pin: Pin | None = None

    @property
    def needed(self) -> bool:
        """Whether the endpoint's certificate is to be trusted unseen."""
        return self._endpoint.scheme == "https" and not self._endpoint.trust.verify

    @property
    def known(self) -> Pin | None:
        """The pin, if it was fetched."""
        return self._pin

    def get(self) -> Pin | None:
        """The pin; None if none is needed.

        Raises:
            KServeError: If the certificate could not be fetched or cannot be trusted.
        """
        if not self.needed:
            return None
        with self._lock:
            if self._pin is None:
                self._pin = fetch(self._endpoint)
            return self._pin

    def forget(self) -> None:
        """The server shows another certificate by now."""
        self._pin = None


def fetch(endpoint: Endpoint) -> Pin:
    """Asks the server for its certificate, without trusting it for anything else.

    Raises:
        ConfigurationError: If the endpoint is behind a proxy.
        KServeError: If there is no connection, or the certificate is not usable even when it is trusted.
    """
    if proxy_for(endpoint) is not None:
        msg = "verify=False cannot be used with gRPC through a proxy."
        raise ConfigurationError(msg, hint="Give the server's CA with ca_cert=..., or use REST (protocol='rest').")
    unchecked = _context(endpoint)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    der, _ = _shown(endpoint, unchecked)
    pem = ssl.DER_cert_to_PEM_cert(der)
    checked = _context(endpoint)
    checked.check_hostname = False
    checked.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    checked.load_verify_locations(cadata=pem)
    _, facts = _shown(endpoint, checked)
    names = list(_names(facts))
    fits = any(_matches(name, endpoint.host) for name in names)
    if not fits and not names:
        msg = f"The certificate of {endpoint.host}:{endpoint.port} is for no name at all."
        raise TLSError(msg, hint=hints.GRPC_PINNED)
    return Pin(pem.encode(), None if fits else names[0].replace("*", "any", 1))


def readable_key(key: bytes, password: str | None) -> bytes:
    """A private key as gRPC can read it: without a password.

    Raises:
        ConfigurationError: If it is encrypted and cannot be decrypted.
    """
    if b"ENCRYPTED" not in key:
        return key
    msg = "The key of client_cert is encrypted, and gRPC takes no encrypted keys."
    hint = "Decrypt it (openssl pkey -in tls.key -out plain.key), or install the package 'cryptography'."
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise ConfigurationError(msg, hint=hint) from None
    try:
        loaded = serialization.load_pem_private_key(_block(key), None if password is None else password.encode())
    except (ValueError, TypeError):
        msg = "The key of client_cert cannot be decrypted with the password given."
        raise ConfigurationError(msg, hint="Give client_cert=(certificate file, key file, password).") from None
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _block(pem: bytes) -> bytes:
    """The private key of a file that may hold certificates too."""
    parts = pem.split(b"-----BEGIN ")
    for part in parts:
        if b"PRIVATE KEY-----" in part[:40]:
            return b"-----BEGIN " + part
    return pem


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    own = endpoint.trust.client_cert
    if own is not None:
        try:
            context.load_cert_chain(*own)
        except (OSError, ValueError) as exc:
            msg = f"The client certificate {own[0]} cannot be used: {exc.args[-1] if exc.args else exc}."
            hint = "Give client_cert=(certificate file, key file) or (certificate file, key file, password)."
            raise ConfigurationError(msg, hint=hint) from None
    return context


def _shown(endpoint: Endpoint, context: ssl.SSLContext) -> tuple[bytes, dict[str, Any]]:
    """The certificate a server shows in a handshake, and what is in it (only if it was checked)."""
    from kserve_core.http_failures import connection_error

    end = time.monotonic() + endpoint.connect_timeout
    try:
        with socket.create_connection((endpoint.host, endpoint.port), endpoint.connect_timeout) as plain:
            plain.settimeout(max(0.001, end - time.monotonic()))
            with context.wrap_socket(plain, server_hostname=endpoint.host) as sock:
                der, facts = sock.getpeercert(binary_form=True), sock.getpeercert()
    except ssl.SSLCertVerificationError as exc:
        msg = f"The certificate of {endpoint.host}:{endpoint.port} cannot be pinned: {exc.verify_message}."
        raise TLSError(msg, hint=hints.GRPC_PINNED) from None
    except OSError as exc:
        error: KServeError = connection_error(exc, endpoint)
        if isinstance(exc, TimeoutError):
            from kserve_core.errors import ConnectTimeoutError

            msg = f"No connection to {endpoint.host}:{endpoint.port} in time."
            error = ConnectTimeoutError(msg, hint=hints.CONNECT_TIMEOUT)
        raise error from exc
    if not der:
        msg = f"{endpoint.host}:{endpoint.port} showed no certificate."
        raise EndpointConnectionError(msg, hint=hints.NOT_TLS)
    return der, dict(facts or {})


def _names(facts: dict[str, Any]) -> Iterator[str]:
    """The names and addresses a certificate is valid for; its common name if it has none."""
    found = [value for kind, value in facts.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    yield from found
    if not found:
        pairs = (pair for group in facts.get("subject", ()) for pair in group)
        yield from (value for key, value in pairs if key == "commonName")


def _matches(name: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip()) == ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if name.startswith("*."):
        return "." in host and host.partition(".")[2] == name[2:]
    return name == host
