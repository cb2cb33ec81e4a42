"""What the probes below HTTP mean: pure functions from what was seen to findings. TLS has a module of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from kserve_core import hints
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.network import Attempt, Handshake, Lookup, Proxy
from kserve_core.endpoint import Endpoint

_REFUSED = "Check host and port, and that the model is running:"
_OUTSIDE = "Outside the cluster use the route's URL:\n  oc get inferenceservice <name> -o jsonpath='{.status.url}'"


def judge_lookup(endpoint: Endpoint, lookup: Lookup, *, proxy: Proxy | None = None) -> Finding:
    """What a name's lookup means.

    Args:
        endpoint: The endpoint.
        lookup: What it brought; of the proxy's name, if there is a proxy.
        proxy: The proxy in between.
    """
    host = endpoint.host if proxy is None else proxy.host
    facts = {"host": host, "addresses": list(lookup.addresses), "proxy": proxy.where if proxy else None}
    if is_address(host):
        title = f"{host} is an address; nothing to look up"
        return Finding(step="dns", status="ok", title=_via(title, endpoint, proxy), facts=facts)
    if lookup.addresses:
        shown = ", ".join(lookup.addresses[:4]) + (", ..." if len(lookup.addresses) > 4 else "")
        return Finding(step="dns", status="ok", title=_via(f"{host} is {shown}", endpoint, proxy), facts=facts)
    facts["problem"] = lookup.problem
    title = {
        "unknown": f"The host name {host} is unknown here",
        "temporary": f"The name servers did not answer for {host}",
        "timeout": f"The lookup of {host} took too long",
    }.get(lookup.problem, f"{host} could not be looked up")
    return Finding(
        step="dns",
        status="failed",
        title=title,
        detail=lookup.reason,
        fix=_lookup_fix(endpoint, lookup, proxy),
        facts=facts,
    )


def judge_attempts(
    endpoint: Endpoint, attempts: Sequence[Attempt], *, seconds: float, proxy: Proxy | None = None
) -> Finding:
    """What the tries to connect mean.

    Args:
        endpoint: The endpoint.
        attempts: The tries, in order.
        seconds: How long each was given.
        proxy: The proxy they went to.
    """
    port = endpoint.port if proxy is None else proxy.port
    facts = {"port": port, "attempts": [{"address": a.address, "outcome": a.outcome} for a in attempts]}
    detail = "\n".join(f"{a.address}: {a.outcome} ({a.reason})" for a in attempts if a.outcome != "connected")
    if attempts and attempts[-1].outcome == "connected":
        title = f"{_join(attempts[-1].address, port)} takes connections"
        if len(attempts) == 1:
            return Finding(step="tcp", status="ok", title=_via(title, endpoint, proxy), facts=facts)
        fix = "Some of the name's addresses do not answer, which delays connections; check its DNS entries."
        return Finding(step="tcp", status="warning", title=title, detail=detail, fix=fix, facts=facts)
    outcomes = {attempt.outcome for attempt in attempts}
    if outcomes == {"refused"}:
        title, fix = f"Nothing listens at port {port}", _refused_fix(endpoint)
    elif "timeout" in outcomes:
        title, fix = f"Port {port} does not answer within {seconds:g} s", _silent_fix(endpoint)
    else:
        title, fix = f"No connection to port {port}", hints.REFUSED
    if proxy is not None:
        fix = f"The proxy {proxy.where} comes from the environment (HTTPS_PROXY, HTTP_PROXY); {_bypass(endpoint)}"
    return Finding(step="tcp", status="failed", title=title, detail=detail, fix=fix, facts=facts)


def judge_alpn(endpoint: Endpoint, shaken: Handshake | None, *, grpc: bool) -> Finding:
    """Whether HTTP/2 is to be had, and whether that matters.

    Args:
        endpoint: The endpoint.
        shaken: The handshake; None for plain text.
        grpc: Whether gRPC is going to be spoken.
    """
    if shaken is None:
        title = (
            "no TLS, so nothing is agreed on; gRPC starts with HTTP/2 at once" if grpc else "no TLS; REST needs none"
        )
        return Finding(step="http2", status="skipped", title=title)
    facts = {"alpn": shaken.alpn, "needed": grpc}
    if shaken.alpn == "h2":
        title = "HTTP/2 is offered, as gRPC needs" if grpc else "HTTP/2 is offered; REST uses HTTP/1.1 here"
        return Finding(step="http2", status="ok", title=title, facts=facts)
    if not grpc:
        title = "no HTTP/2; only gRPC would need it"
        return Finding(step="http2", status="ok", title=title, facts=facts)
    agreed = f"only {shaken.alpn}" if shaken.alpn else "nothing"
    return Finding(
        step="http2",
        status="failed",
        title=f"{endpoint.host}:{endpoint.port} offers no HTTP/2, which gRPC needs (it agrees on {agreed})",
        fix=hints.NO_HTTP2,
        facts=facts,
    )


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _lookup_fix(endpoint: Endpoint, lookup: Lookup, proxy: Proxy | None) -> str:
    if proxy is not None:
        return f"It is the proxy's name, from the environment (HTTPS_PROXY, HTTP_PROXY); {_bypass(endpoint)}"
    if endpoint.is_in_cluster:
        found = endpoint.discovered
        if found is not None and found.outside_url:
            return f"The name exists only inside the cluster. Outside of it use {found.outside_url}"
        return f"Names ending in .svc or .svc.cluster.local exist only inside the cluster.\n{_OUTSIDE}"
    if lookup.problem in {"temporary", "timeout"}:
        return "Check the network connection, the VPN and the name servers; then try again."
    if ".svc." in f"{endpoint.host}.":
        return "A name inside the cluster ends in .svc or .svc.cluster.local."
    return "Check the spelling, and the VPN if the cluster is on a private network.\n" + _OUTSIDE


def _refused_fix(endpoint: Endpoint) -> str:
    if endpoint.is_in_cluster and endpoint.is_default_port:
        return (
            "A headless service (clusterIP: None) maps no ports: give the container's own, for most runtimes "
            f"{endpoint.scheme}://{endpoint.host}:8080 (OpenVINO 8888, gRPC 8033, 8085 or 9000; behind the auth proxy "
            "https and 8443). Otherwise the model's pod is not running."
        )
    return f"{_REFUSED}\n  oc get pods -l serving.kserve.io/inferenceservice=<name>"


def _silent_fix(endpoint: Endpoint) -> str:
    if endpoint.is_in_cluster:
        return "A NetworkPolicy of the model's namespace may keep other namespaces out, or its pod is not running."
    return "A firewall or a missing VPN is likely: packets are dropped without an answer. Check host and port as well."


def _bypass(endpoint: Endpoint) -> str:
    return f"to go around it, add the host to NO_PROXY: export NO_PROXY={endpoint.host}"


def _via(text: str, endpoint: Endpoint, proxy: Proxy | None) -> str:
    return text if proxy is None else f"{text} (the proxy on the way to {endpoint.host})"


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
