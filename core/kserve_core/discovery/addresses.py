"""Which URL reaches a service, from inside the cluster and from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from kserve_core.discovery.documents import Json, dig, objects, text
from kserve_core.discovery.launch import Launch, is_grpc_port

AUTH_PORT = 8443
"""Where the authenticating proxy beside a predictor listens."""

_SERVICE_SUFFIXES = (".svc", ".svc.cluster.local")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_GRPC = {"http": "grpc", "https": "grpcs"}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in its parts."""

    scheme: str
    host: str
    port: int | None = None
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Address | None:
        """Reads a URL of a status; None if it is none that a request could go to."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            return None
        scheme = {"grpc": "http", "grpcs": "https"}.get(parts.scheme, parts.scheme)
        if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            return None
        if not re.fullmatch(r"[a-z0-9._\-:]+", parts.hostname) or re.search(r"[\x00-\x20\x7f]", parts.path):
            return None
        return cls(scheme, parts.hostname, port, parts.path.rstrip("/"))

    def url(self, *, grpc: bool = False) -> str:
        """The URL; for gRPC with the scheme that says so."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = _GRPC[self.scheme] if grpc else self.scheme
        port = "" if self.port in {None, _DEFAULT_PORTS[self.scheme]} else f":{self.port}"
        return f"{scheme}://{host}{port}{self.path}"


def is_service_host(host: str, namespace: str = "") -> bool:
    """Whether a host exists inside the cluster only. Judged by its end: anything may stand before it, or in a path.

    Args:
        host: The host.
        namespace: The service's namespace; with it, short names (`modelmesh-serving.demo`) and a cluster's own DNS
            domain (`model.demo.svc.example.internal`) are recognised too.
    """
    if host.endswith(_SERVICE_SUFFIXES):
        return True
    return bool(namespace) and re.fullmatch(rf"[a-z0-9-]+\.{re.escape(namespace)}(\.svc\..+)?", host) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What there is to know of a service before its addresses are worked out.

    Attributes:
        name: The InferenceService's name.
        namespace: Its namespace.
        status: Its status.
        raw: Whether pods are reached by an ordinary Service (not through Knative or ModelMesh).
        transformer: Whether a transformer stands in front of the predictor.
        auth: Whether an authenticating proxy is in front; None if unknown.
        grpc: Whether gRPC is wanted.
        launch: What the containers run.
    """

    name: str
    namespace: str
    status: Json
    raw: bool
    transformer: bool
    auth: bool | None
    grpc: bool
    launch: Launch


@dataclass(frozen=True, slots=True)
class Found:
    """An address, and what is worth saying about how it was found."""

    address: Address | None
    notes: tuple[str, ...] = ()


def component_host(service: Service) -> str:
    """The host of the Service that requests are to go to."""
    part = "transformer" if service.transformer else "predictor"
    return f"{service.name}-{part}.{service.namespace}.svc.cluster.local"


def inside(service: Service, document: Json | None, why_missing: str = "") -> Found:
    """The address for programs in the cluster.

    Args:
        service: What is known of the service.
        document: The Kubernetes Service, or None if it could not be read.
        why_missing: Why not.
    """
    notes: list[str] = []
    address = _reported(service)
    if address is None:
        if not service.raw:
            return Found(None)
        address = Address("http", component_host(service))
        notes.append("The address inside the cluster is not reported; it was made from the service's name.")
    if not service.raw:
        return Found(address, tuple(notes))
    first, _, rest = address.host.partition(".")
    if service.transformer and first == f"{service.name}-predictor":
        address = Address("http", f"{service.name}-transformer.{rest}", None, address.path)
    if service.auth is True and not service.transformer:
        port = address.port if address.scheme == "https" and address.port else AUTH_PORT
        return Found(replace(address, scheme="https", port=port), tuple(notes))
    if service.transformer and address.scheme == "https":
        address = replace(address, scheme="http", port=None)  # no proxy stands in front of a transformer
    if address.port is not None and not service.grpc:
        return Found(address, tuple(notes))
    if document is None:
        guessed, note = _guessed_port(service, address, why_missing)
        notes += [note] if note else []
    else:
        guessed = _service_port(document, service)
        if service.grpc and not any(_is_grpc(port) for port in objects(document, "spec", "ports")):
            notes.append("The Service names no gRPC port; the address is that of another one.")
    return Found(replace(address, port=guessed or address.port), tuple(notes))


def outside(service: Service, route: Json | None) -> Found:
    """The address for programs outside the cluster, if there is one.

    Args:
        service: What is known of the service.
        route: The Route of its name, or None.
    """
    notes: list[str] = []
    reported = Address.parse(text(service.status, "url"))
    if reported is None and text(service.status, "url"):
        notes.append("The reported URL cannot be used as it is and was left out.")
    if reported is not None and is_service_host(reported.host, service.namespace):
        reported = None
    host = text(route, "spec", "host")
    if not host:
        return Found(reported, tuple(notes))
    scheme = "https" if dig(route, "spec", "tls") else "http"
    routed = Address.parse(f"{scheme}://{host}{text(route, 'spec', 'path')}")
    if reported is None:
        return Found(routed, tuple(notes))
    if routed is not None and routed.host != reported.host:
        notes.append(f"The reported URL's host and the route's ({routed.host}) differ; the reported one is used.")
    elif routed is not None and routed.scheme == "https" and reported.scheme == "http":
        return Found(replace(reported, scheme="https", port=None), tuple(notes))
    return Found(reported, tuple(notes))


def _reported(service: Service) -> Address | None:
    status = service.status
    component = "transformer" if service.transformer else "predictor"
    places = [
        text(status, "address", "url"),
        text(status, "components", component, "address", "url"),
        text(status, "components", component, "grpcUrl" if service.grpc else "restUrl"),
        text(status, "url"),
    ]
    if not service.raw:
        places.insert(0, places.pop(2))  # ModelMesh has one address per protocol
    for url in places:
        address = Address.parse(url)
        if address is not None and is_service_host(address.host, service.namespace):
            return address
    return None


def _service_port(document: Json, service: Service) -> int | None:
    """The port to add to a Service's name; None if it is the scheme's own."""
    ports = [port for port in objects(document, "spec", "ports") if type(port.get("port")) is int]
    fitting = [port for port in ports if is_grpc_port(text(port, "name")) == service.grpc]
    if not fitting and service.grpc:
        fitting = [port for port in ports if _is_grpc(port)] or ports
    if not fitting:
        return None
    chosen = next((port for port in fitting if port["port"] == 80), fitting[0])
    if dig(document, "spec", "clusterIP") == "None":  # headless: the name stands for the pods themselves
        return _target(chosen, service.launch)
    port: int = chosen["port"]
    return None if port == 80 else port


def _is_grpc(port: Json) -> bool:
    return is_grpc_port(text(port, "name")) or text(port, "appProtocol") in {"h2c", "kubernetes.io/h2c", "grpc"}


def _target(port: Json, launch: Launch) -> int | None:
    target = port.get("targetPort", port["port"])
    if type(target) is int:
        return target
    return next((number for number, name in launch.ports if name == target), None)


def _guessed_port(service: Service, address: Address, why: str) -> tuple[int | None, str]:
    """What to do when the Service could not be read."""
    because = f" ({why})" if why else ""
    if service.grpc:
        port = next((number for number, name in service.launch.ports if is_grpc_port(name)), None)
        position = [is_grpc_port(name) for _, name in service.launch.ports]
        if port is not None and position and not position[0]:
            return port, ""
        return address.port, f"The gRPC port is not known, as the Service could not be read{because}."
    ports = ", ".join(str(number) for number, name in service.launch.ports if not is_grpc_port(name)) or "8080"
    return None, (
        f"Whether the Service is headless is not known, as it could not be read{because}; "
        f"if nothing answers at the address inside the cluster, add its port to the URL ({ports})."
    )
