"""An endpoint as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kserve_core.endpoint import Endpoint


def describe(endpoint: Endpoint) -> str:
    """What is known of an endpoint, a line each; sources of tokens are named, tokens are not shown.

    Args:
        endpoint: The endpoint.
    """
    found = endpoint.discovered
    lines = [f"Endpoint {endpoint.base_url}" if found is None else found.describe()]
    trust = endpoint.trust
    own = "" if found is None else [item.pem for item in found.authorities]
    cas = ["PEM text" if "-----BEGIN" in item else item for item in trust.ca_cert if item not in own]
    rows = [
        ("sends token", _token(endpoint)),
        ("your CA", ", ".join(cas)),
        ("certificates", "" if trust.verify else "NOT checked (verify=False)"),
        ("client cert", trust.client_cert[0] if trust.client_cert else ""),
        ("time budget", _seconds(endpoint.timeout)),
        ("idle limit", _seconds(endpoint.idle_timeout)),
        ("retries", str(endpoint.max_retries)),
    ]
    lines += [f"  {name + ':':<15}{value}" for name, value in rows if value]
    return "\n".join(lines)


def _token(endpoint: Endpoint) -> str:
    if endpoint.token is not None:
        return f"from {endpoint.token!r}"
    if endpoint.sends_credentials:
        return "in an Authorization header of yours"
    if endpoint.discovered is not None and endpoint.discovered.auth:
        return "no, though one is needed: give api_key=..., or use_cluster_token=True"
    return "no"


def _seconds(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g} s"
