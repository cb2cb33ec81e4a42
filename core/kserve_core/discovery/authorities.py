"""CA certificates and host names that a cluster publishes about itself."""

from __future__ import annotations

from kserve_core.discovery.documents import Documents, objects, text
from kserve_core.discovery.facts import Authority, Where

_MARK = "-----BEGIN CERTIFICATE-----"

# By document: the ConfigMap's name, the keys with certificates, and where they are of use.
_BUNDLES: tuple[tuple[str, str, tuple[str, ...], Where], ...] = (
    ("service_ca", "openshift-service-ca.crt", ("service-ca.crt",), "inside"),
    ("trusted_ca", "odh-trusted-ca-bundle", ("ca-bundle.crt", "odh-ca-bundle.crt"), "outside"),
    # On OpenShift this bundle also holds the CA that signs the router's default certificate.
    ("root_ca", "kube-root-ca.crt", ("ca.crt",), "outside"),
)


def authorities(documents: Documents, url: str | None, where: Where) -> tuple[tuple[Authority, ...], list[str]]:
    """The CA bundles to trust at an address, and notes on those that could not be read.

    A namespace without such a ConfigMap is nothing to speak of; one that may not be read is.
    """
    if url is None or not url.startswith(("https:", "grpcs:")):
        return (), []
    found, notes = [], []
    for document, name, keys, use in _BUNDLES:
        if use != where:
            continue
        config_map = documents.get(document)
        for key in keys:
            pem = text(config_map, "data", key)
            if _MARK in pem:
                found.append(Authority(f"ConfigMap {name}, key {key}", pem))
        why = documents.missing.get(document, "")
        if why and why != NOT_THERE:
            notes.append(f"The CA in ConfigMap {name} could not be read: {why}.")
    return tuple(found), notes


NOT_THERE = "there is none"
"""Why a document is missing that does not exist."""


def cluster_hosts(documents: Documents) -> tuple[str, ...]:
    """Ends of host names that the cluster's own routers serve, each with its leading dot."""
    domains = [
        text(documents.get("ingress"), "spec", "domain"),
        text(documents.get("ingress"), "spec", "appsDomain"),
    ]
    for item in objects(documents.get("route"), "status", "ingress"):
        _, _, domain = text(item, "routerCanonicalHostname").partition(".")
        domains.append(domain)
    return tuple(dict.fromkeys(f".{domain.lower()}" for domain in domains if domain.count(".") >= 1))


def api_host_domains(host: str) -> tuple[str, ...]:
    """The same, from the API server's own name: OpenShift's is `api.<domain>`, its routes `*.apps.<domain>`."""
    for prefix in ("api.", "api-int."):
        domain = host[len(prefix) :] if host.startswith(prefix) else ""
        if domain.count(".") >= 1:
            return (f".apps.{domain}", f".apps.rosa.{domain}")
    return ()
