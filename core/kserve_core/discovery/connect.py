"""From a service's name to an endpoint: `Endpoint.from_inference_service`, blocking and async."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from kserve_core import hints
from kserve_core.credentials import ApiKey
from kserve_core.discovery.addresses import is_service_host
from kserve_core.discovery.ask_server import aask, ask
from kserve_core.discovery.authorities import api_host_domains
from kserve_core.discovery.cluster import HOST_VARIABLE, ApiServer, ClusterAccess
from kserve_core.discovery.facts import Discovery
from kserve_core.discovery.flow import discovery
from kserve_core.discovery.problems import NotReachableError
from kserve_core.discovery.tokens import ClusterToken
from kserve_core.discovery.wanted import Wanted
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, StoppedError
from kserve_core.trust import CACert

CLUSTER_NAME = "kubernetes.default.svc"
"""A name that every cluster resolves for its own pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user typed, but for what becomes the endpoint's settings.

    Attributes:
        name: The service's name.
        namespace: Its namespace; None for the pod's or the context's own.
        access: The cluster.
        where: Which address to choose.
        protocol: What to speak; None for what the runtime speaks best.
        cluster_token: Whether the cluster's token is to be sent to the service as well.
    """

    name: str
    namespace: str | None = None
    access: ClusterAccess
    where: Literal["auto", "inside", "outside"] = "auto"
    protocol: Literal["rest", "grpc"] | None = None
    cluster_token: bool = False

    @classmethod
    def create(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        allow_exec: bool = False,
        where: Literal["auto", "inside", "outside"] = "auto",
        protocol: Literal["rest", "grpc"] | None = None,
        use_cluster_token: bool = False,
    ) -> Request:
        """Takes the arguments of `Endpoint.from_inference_service`.

        Raises:
            ConfigurationError: If one cannot be used.
        """
        Wanted(name=name, namespace="default" if namespace is None else namespace, where=where, protocol=protocol)
        file = None if kubeconfig is None else os.fspath(kubeconfig)
        return cls(
            name=name,
            namespace=namespace,
            access=ClusterAccess(kubeconfig=file, context=context, allow_exec=allow_exec),
            where=where,
            protocol=protocol,
            cluster_token=use_cluster_token,
        )

    def prepare(self) -> tuple[ApiServer, Wanted]:
        """Reads files and the environment, and looks up a name if it has to."""
        server = self.access.server()
        wanted = Wanted(
            name=self.name,
            namespace=server.namespace if self.namespace is None else self.namespace,
            where=self.where,
            inside=self.where == "auto" and _is_inside(server),
            protocol=self.protocol,
            cluster_token=self.cluster_token,
            source=server.source,
        )
        return server, wanted


def discover(name: str, **options: Any) -> Discovery:
    """What a cluster says about a service, also when it is stopped or cannot be reached from here.

    Args:
        name: The service's name.
        **options: `namespace`, `context`, `kubeconfig`, `allow_exec`, `where` and `protocol` of
            `Endpoint.from_inference_service`.

    Raises:
        NotFoundError: If there is no such service.
        PermissionDeniedError: If it may not be read.
        KServeError: If the cluster cannot be asked.
    """
    return _run(Request.create(name, **options))[0]


async def adiscover(name: str, **options: Any) -> Discovery:
    """As `discover`, from an event loop."""
    return (await _arun(Request.create(name, **options)))[0]


def from_inference_service(
    cls: type[Endpoint], request: Request, *, api_key: ApiKey | None = None, options: Mapping[str, Any]
) -> Endpoint:
    """See `Endpoint.from_inference_service`."""
    _check(api_key, options, cluster_token=request.cluster_token)
    found, server = _run(request)
    return ask(endpoint_of(cls, found, _token(found, server, request, api_key), options))


async def afrom_inference_service(
    cls: type[Endpoint], request: Request, *, api_key: ApiKey | None = None, options: Mapping[str, Any]
) -> Endpoint:
    """See `Endpoint.afrom_inference_service`."""
    _check(api_key, options, cluster_token=request.cluster_token)
    found, server = await _arun(request)
    return await aask(endpoint_of(cls, found, _token(found, server, request, api_key), options))


def endpoint_of(cls: type[Endpoint], found: Discovery, api_key: ApiKey | None, options: Mapping[str, Any]) -> Endpoint:
    """The endpoint the facts lead to.

    Args:
        cls: Its class.
        found: The facts.
        api_key: The token for it.
        options: Settings for `Endpoint.create`.

    Raises:
        StoppedError: If the service was stopped on purpose.
        NotReachableError: If it has no address that can be used from here.
        ConfigurationError: If a setting cannot be used, or a token would go where it must not.
    """
    if found.stopped:
        msg = f"{found.kind} {found.namespace}/{found.name} was stopped on purpose (annotation serving.kserve.io/stop)."
        raise StoppedError(msg, hint=hints.STOPPED, layer="cluster")
    if found.url is None:
        why = found.failure or "; ".join(str(item) for item in found.conditions if item.status == "False")
        msg = f"{found.kind} {found.namespace}/{found.name} has no address that can be used from here."
        raise NotReachableError(f"{msg} {why}".strip(), hint=found.notes[-1] if found.notes else "")
    settings = dict(options)
    extra: CACert | None = settings.pop("ca_cert", None)
    own = [extra] if isinstance(extra, (str, os.PathLike)) else list(extra or ())
    settings["default_headers"] = {**dict(found.headers), **dict(settings.get("default_headers") or {})}
    settings.setdefault("idle_timeout", found.idle_timeout)
    if settings.get("timeout") is None:
        settings["timeout"] = found.timeout
    if found.kind == "InferenceGraph" and settings.get("stream_invoke") is None:
        settings["stream_invoke"] = False  # its router passes on whole answers only
    endpoint = cls.create(
        found.url, api_key=api_key, ca_cert=[*own, *(item.pem for item in found.authorities)] or None, **settings
    )
    return replace(endpoint, discovered=found)


def _token(found: Discovery, server: ApiServer, request: Request, api_key: ApiKey | None) -> ApiKey | None:
    """The token for inference: the one given or, if that was asked for, the one the cluster was asked with.

    The latter goes to the cluster's own addresses only. A person's token opens more than a model.

    Raises:
        ConfigurationError: If the address is not known to be the cluster's.
    """
    if not request.cluster_token or found.auth is False or found.url is None:
        return api_key
    host = urlsplit(found.url).hostname or ""
    if not (is_service_host(host) or host.endswith((*found.cluster_hosts, *api_host_domains(server.endpoint.host)))):
        msg = f"The cluster's token is not sent to {host}, which is not known to be the cluster's own."
        raise ConfigurationError(msg, hint="Give the token to send as api_key=...")
    return server.endpoint.token if server.in_cluster else ClusterToken(request.access)


def _check(api_key: ApiKey | None, options: Mapping[str, Any], *, cluster_token: bool) -> None:
    if api_key is not None and cluster_token:
        msg = "Both api_key and use_cluster_token=True were given."
        raise ConfigurationError(msg, hint="Give one of them.")
    if "base_url" in options:
        msg = "base_url is what discovery finds out."
        raise ConfigurationError(msg, hint="Use Endpoint.create(base_url) if you know it.")


def _run(request: Request) -> tuple[Discovery, ApiServer]:
    server, wanted = request.prepare()
    client = server.client()
    try:
        return client.run(discovery(server.api, wanted)), server
    finally:
        client.close()


async def _arun(request: Request) -> tuple[Discovery, ApiServer]:
    server, wanted = await asyncio.to_thread(request.prepare)
    client = server.client()
    try:
        return await client.arun(discovery(server.api, wanted)), server
    finally:
        await client.aclose()


def _is_inside(server: ApiServer) -> bool:
    """Whether this program runs in the cluster that is asked, and cluster names are known here."""
    own = os.environ.get(HOST_VARIABLE)
    if not own:
        return False
    host = server.endpoint.host
    if not server.in_cluster and host != own.strip("[]") and not host.startswith("kubernetes.default.svc"):
        return False  # a kubeconfig may be of another cluster
    try:
        socket.getaddrinfo(CLUSTER_NAME, 443)
    except OSError:
        return False
    return True
