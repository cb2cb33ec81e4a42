"""Access to a cluster: where its API server is, and as whom to ask it."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kserve_core.client import RuntimeClient
from kserve_core.credentials import FileToken, StaticToken, TokenSource
from kserve_core.discovery.api import KubernetesApi
from kserve_core.discovery.cluster_tls import ApiTransport, ClusterTrust
from kserve_core.discovery.documents import Json, dig, mapping, text, texts
from kserve_core.discovery.exec_plugin import ExecToken
from kserve_core.discovery.kubeconfig import VARIABLE, Context, Entry, kubeconfig_files, read_context
from kserve_core.endpoint import Endpoint, check_headers
from kserve_core.errors import ConfigurationError

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its service account's token, namespace and CA."""
HOST_VARIABLE = "KUBERNETES_SERVICE_HOST"
PORT_VARIABLE = "KUBERNETES_SERVICE_PORT"

_EXEC = (
    "It would run a program named in the kubeconfig. Say allow_exec=True if you trust the file; or log in with a token "
    "(oc login), or use a service account's."
)


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A cluster's API server.

    Attributes:
        endpoint: Where it is, with credentials.
        namespace: The namespace to use where none is given.
        source: Where this came from, for people.
        in_cluster: Whether it is the cluster this program runs in, by its service account.
        proxy: The proxy to use, or `""`.
    """

    endpoint: Endpoint
    namespace: str
    source: str
    in_cluster: bool = False
    proxy: str = field(default="", repr=False)

    @property
    def api(self) -> KubernetesApi:
        """Makes calls to it."""
        return KubernetesApi(self.endpoint.base_path)

    def client(self) -> RuntimeClient[None]:
        """Runs calls to it; close it when done."""
        return RuntimeClient(self.endpoint, None, transport=ApiTransport(self.endpoint, self.proxy))


@dataclass(frozen=True)
class ClusterAccess:
    """Says where to find a cluster and its credentials; holds references only, and reads them when asked.

    Without `kubeconfig` and `context`: the kubeconfig that `KUBECONFIG` names; else the service account of the pod
    this runs in; else `~/.kube/config`.

    Attributes:
        kubeconfig: The path of a kubeconfig file.
        context: The name of one of its contexts.
        allow_exec: Whether a program that the kubeconfig names may be run to get credentials.
        timeout: Seconds for one request to the API server with all its retries.
    """

    kubeconfig: str | None = None
    context: str | None = None
    allow_exec: bool = False
    timeout: float = 30.0
    _kept: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.kubeconfig, self.context, self.allow_exec, self.timeout))

    def server(self) -> ApiServer:
        """The API server, with what the files say now.

        Raises:
            ConfigurationError: If there is no access to a cluster here, or it is one that is not supported.
        """
        files = kubeconfig_files(self.kubeconfig)
        named = self.kubeconfig is not None or self.context is not None or bool(os.environ.get(VARIABLE) and files)
        if not named and in_pod():
            return self._in_cluster()
        if not files:
            msg = "There is no access to a cluster: no service account in a pod, and no kubeconfig."
            raise ConfigurationError(msg, hint="Log in (oc login), or give kubeconfig='path'.")
        return self._from_context(read_context(files, self.context))

    def _in_cluster(self) -> ApiServer:
        host, port = os.environ[HOST_VARIABLE], os.environ.get(PORT_VARIABLE) or "443"
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        folder = Path(SERVICE_ACCOUNT)
        ca = folder / "ca.crt"
        endpoint = self._endpoint(
            f"https://{shown}:{port}",
            token=FileToken(folder / "token"),
            trust=ClusterTrust(ca_cert=(str(ca),) if ca.is_file() else ()),
        )
        try:
            namespace = (folder / "namespace").read_text("utf-8").strip()
        except OSError:
            namespace = ""
        return ApiServer(endpoint, namespace or "default", "the pod's service account", in_cluster=True)

    def _from_context(self, context: Context) -> ApiServer:
        cluster = context.cluster
        server = text(cluster.value, "server")
        if not server:
            msg = f"The cluster of context {context.name!r} has no server."
            raise ConfigurationError(msg, hint="Log in again, or choose another context=...")
        certificate, inline = _client_certificate(context.user)
        trust = ClusterTrust(
            ca_cert=_ca(cluster),
            client_cert=certificate,
            verify=dig(cluster.value, "insecure-skip-tls-verify") is not True,
            server_name=text(cluster.value, "tls-server-name"),
            client_pem_text=inline,
        )
        headers = _impersonation(context.user.value)
        endpoint = self._endpoint(server, token=self._token(context.user), trust=trust, headers=headers)
        proxy = _proxy(text(cluster.value, "proxy-url"))
        return ApiServer(endpoint, context.namespace or "default", f"context {context.name!r}", proxy=proxy)

    def _endpoint(self, url: str, *, token: TokenSource | None, trust: ClusterTrust, headers: Any = ()) -> Endpoint:
        try:
            return Endpoint(url, token=token, trust=trust, timeout=self.timeout, headers=headers)
        except ConfigurationError as error:
            msg = f"The cluster's API server cannot be used: {error.message}"
            raise ConfigurationError(msg, hint="Check the cluster's entry in the kubeconfig.") from None

    def _token(self, user: Entry) -> TokenSource | None:
        value = user.value
        if text(value, "tokenFile"):
            return FileToken(user.path("tokenFile"))
        if text(value, "token"):
            return StaticToken(text(value, "token"))
        if mapping(value, "exec"):
            if not self.allow_exec:
                msg = (
                    f"The kubeconfig gets its token from a program ({text(value, 'exec', 'command')}), not from a file."
                )
                raise ConfigurationError(msg, hint=_EXEC)
            fresh = ExecToken.of(mapping(value, "exec"), user.folder)
            if not self._kept or self._kept[0] != fresh:
                self._kept[:] = [fresh]  # so that the program runs once for as long as its token is good
            return self._kept[0]  # type: ignore[no-any-return]
        if mapping(value, "auth-provider"):
            msg = "The kubeconfig's user has an auth-provider, which Kubernetes itself no longer supports."
            raise ConfigurationError(msg, hint="Log in again with a newer client.")
        if text(value, "username") or text(value, "password"):
            msg = "The kubeconfig's user has a user name and a password, which API servers no longer take."
            raise ConfigurationError(msg, hint="Log in with a token (oc login).")
        return None


def in_pod() -> bool:
    """Whether this runs in a pod with a service account."""
    return bool(os.environ.get(HOST_VARIABLE)) and (Path(SERVICE_ACCOUNT) / "token").is_file()


def _ca(cluster: Entry) -> tuple[str, ...]:
    data = text(cluster.value, "certificate-authority-data")
    if data:
        return (_decoded(data, "certificate-authority-data"),)
    path = cluster.path("certificate-authority")
    return (path,) if path else ()


def _client_certificate(user: Entry) -> tuple[tuple[str, str | None, str | None] | None, tuple[str, str] | None]:
    """The client certificate as files or, if a part of it is inline, as texts."""
    cert, key = (text(user.value, f"client-{name}-data") for name in ("certificate", "key"))
    cert_file, key_file = user.path("client-certificate"), user.path("client-key")
    if not (cert or key):
        return ((cert_file, key_file or None, None), None) if cert_file else (None, None)
    texts_ = []
    for name, data, file in (("certificate", cert, cert_file), ("key", key, key_file)):
        if not data and not file:
            msg = f"The kubeconfig's user has a client certificate without its {name}."
            raise ConfigurationError(msg, hint="Log in again (oc login).")
        texts_.append(_decoded(data, f"client-{name}-data") if data else _file(file))
    return None, (texts_[0], texts_[1])


def _file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as exc:
        msg = f"The file {path} of the kubeconfig's user cannot be read: {exc.strerror}."
        raise ConfigurationError(msg, hint="Log in again (oc login).") from None


def _decoded(data: str, key: str) -> str:
    try:
        value = base64.b64decode("".join(data.split()), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        value = ""
    if "-----BEGIN" not in value:
        msg = f"{key} in the kubeconfig is not base64 of PEM."
        raise ConfigurationError(msg, hint="Log in again (oc login).")
    return value


def _impersonation(user: Json) -> tuple[tuple[str, str], ...]:
    """The headers for acting as somebody else."""
    headers = []
    if text(user, "as"):
        headers.append(("Impersonate-User", text(user, "as")))
    groups = texts(user, "as-groups")
    if len(groups) == 1:
        headers.append(("Impersonate-Group", groups[0]))
    if len(groups) > 1 or user.get("as-user-extra"):
        msg = "The kubeconfig's user acts as somebody else with several groups or extra fields, which is not supported."
        raise ConfigurationError(msg, hint="Choose another context=...")
    if text(user, "as-uid"):
        headers.append(("Impersonate-Uid", text(user, "as-uid")))
    return tuple(check_headers(dict(headers)).items())


def _proxy(url: str) -> str:
    if not url:
        return ""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in {"http", "https"}:
        msg = f"The kubeconfig's proxy-url is of a kind ({scheme or 'none'}) that is not supported."
        raise ConfigurationError(msg, hint="Supported are http:// and https:// proxies.")
    return url
