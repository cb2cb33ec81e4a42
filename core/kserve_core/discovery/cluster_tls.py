"""TLS and proxies as kubeconfig files want them for an API server."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError
from kserve_core.http_transport import HttpTransport
from kserve_core.trust import PEM_MARK, Trust

if TYPE_CHECKING:
    from kserve_core.http_pool import AsyncPool, SyncPool
    from kserve_core.http_proxy import AsyncProxyPool, ProxyPool

_HINT = "Log in again (oc login), or check the cluster's entry in the kubeconfig."


@dataclass(frozen=True)
class ClusterTrust(Trust):
    """Trust in an API server: a CA that is given is the only one believed, as kubectl does.

    Attributes:
        server_name: The name the server's certificate is for, if it is not the host's.
        client_pem_text: A client certificate and its key as PEM texts, or None.
    """

    server_name: str = ""
    client_pem_text: tuple[str, str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return super().__repr__()

    def _build(self) -> ssl.SSLContext:
        context = self._only_ca() if self.ca_cert and self.verify else super()._build()
        if self.ca_cert and self.verify and self.client_cert is not None:
            cert, key, password = self.client_cert
            _load(context, cert, key, password)
        if self.client_pem_text is not None:
            self._load_text(context, *self.client_pem_text)
        if self.server_name:
            context.__class__ = _NamedContext
            context.server_name = self.server_name  # type: ignore[attr-defined]
        return context

    def _only_ca(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for item in self.ca_cert:
            inline = PEM_MARK in item
            name = "The cluster's CA certificate" if inline else f"The cluster's CA certificate {item}"
            try:
                context.load_verify_locations(cadata=item if inline else Path(item).read_text("utf-8", "replace"))
            except OSError as exc:  # ssl.SSLError is one
                reason = "it is not PEM" if isinstance(exc, ssl.SSLError) else exc.strerror
                msg = f"{name} cannot be read: {reason}."
                raise ConfigurationError(msg, hint=_HINT) from None
            except ValueError:
                msg = f"{name} cannot be read: it is not PEM."
                raise ConfigurationError(msg, hint=_HINT) from None
        return context

    @staticmethod
    def _load_text(context: ssl.SSLContext, cert: str, key: str) -> None:
        """Loads a certificate that is no file: the TLS library reads files only, so there is one for a moment."""
        handle, name = tempfile.mkstemp(prefix="kserve-", suffix=".pem")  # readable by this user only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{cert}\n{key}\n")
            _load(context, name, None, None)
        finally:
            Path(name).unlink()


class _NamedContext(ssl.SSLContext):
    """A context whose servers have another name than the host that is connected to."""

    server_name: str

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        kwargs["server_hostname"] = self.server_name
        return super().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        kwargs["server_hostname"] = self.server_name
        return super().wrap_bio(*args, **kwargs)


class ApiTransport(HttpTransport):
    """Carries calls to an API server, through the proxy its kubeconfig names, if any.

    Args:
        endpoint: The API server.
        proxy: The proxy's URL; `""` for what the environment says.
    """

    def __init__(self, endpoint: Endpoint, proxy: str = "") -> None:
        self._proxy = proxy
        super().__init__(endpoint)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.endpoint, self._proxy))

    def _new_pool(self) -> SyncPool | ProxyPool:
        if not self._proxy:
            return super()._new_pool()
        from kserve_core.http_proxy import ProxyPool

        self.endpoint.warn_if_unverified()
        return ProxyPool(self.endpoint, self._proxy)

    def _new_loop_pool(self) -> AsyncPool | AsyncProxyPool:
        if not self._proxy:
            return super()._new_loop_pool()
        from kserve_core.http_proxy import AsyncProxyPool

        self.endpoint.warn_if_unverified()
        return AsyncProxyPool(self.endpoint, self._proxy)


def _load(context: ssl.SSLContext, cert: str, key: str | None, password: str | None) -> None:
    try:
        context.load_cert_chain(cert, key, password if password is not None else lambda: "")
    except (OSError, ValueError):  # whose texts may name the temporary file
        msg = "The client certificate of the kubeconfig's user, or its key, cannot be used."
        raise ConfigurationError(msg, hint=_HINT) from None
