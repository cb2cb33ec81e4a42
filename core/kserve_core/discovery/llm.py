"""Reads an LLMInferenceService (llm-d) or an InferenceGraph into facts."""

from __future__ import annotations

from kserve_core.discovery import status
from kserve_core.discovery.addresses import Address, is_service_host
from kserve_core.discovery.authorities import authorities, cluster_hosts
from kserve_core.discovery.documents import Documents, Json, annotation, dig, mapping, objects, text
from kserve_core.discovery.facts import Discovery
from kserve_core.discovery.wanted import Wanted

ROUTING = "-model-routing"
"""Ends the names of addresses where the model is not in the path."""
MODEL_HEADER = "x-gateway-model-name"
"""Names the model at such an address."""

_INSIDE = ("gateway-internal", "internal")
_OUTSIDE = ("gateway-external",)
_WORKLOAD_PORT = 8000


def read_llm_inference_service(documents: Documents, wanted: Wanted) -> Discovery:
    """The facts in an LLMInferenceService.

    Args:
        documents: What was read.
        wanted: What was asked for.
    """
    main = documents.main
    name = text(main, "spec", "model", "name") or wanted.name
    notes: list[str] = []
    within = _pick(main, _INSIDE) or _legacy(main, wanted, inside=True)
    without = _pick(main, _OUTSIDE) or _legacy(main, wanted, inside=False)
    if within is None:
        within = _workload(main, wanted)
        notes += ["The address inside the cluster is not reported; it was made from the service's name."]
    urls = [_url(entry) for entry in (within, without)]
    url, where = wanted.choose(*urls)
    entry = within if where == "inside" else without
    if where == "outside":
        notes.clear()
    if url is None:
        notes.append("The service reports no address outside the cluster (gateway-external).")
    if wanted.protocol == "grpc":
        notes.append("LLMInferenceServices speak REST; protocol='grpc' was not followed.")
    names = [item for model in objects(entry, "models") if (item := text(model, "name"))]
    model = name if name in names or not names else next((one for one in names if one.endswith(f"/{name}")), names[0])
    routed = text(entry, "name").endswith(ROUTING)
    conditions = status.conditions(main)
    found, ca_notes = authorities(documents, url, where)
    auth = status.auth_setting(main)
    return Discovery(
        kind="LLMInferenceService",
        name=wanted.name,
        namespace=wanted.namespace,
        runtime="vllm",
        variant="llm-d",
        runtime_evidence="LLMInferenceServices are served by vLLM",
        url=url,
        where=where,
        inside_url=urls[0],
        outside_url=urls[1],
        model=model,
        aliases=tuple(item for item in names if item != model),
        model_evidence="the address's list of models" if names else "spec.model.name" if name != wanted.name else "",
        display_name=annotation(main, "openshift.io/display-name"),
        auth=True if auth is None else auth,
        permission=_permission(wanted, routed=routed),
        deployment="llm-d",
        headers=((MODEL_HEADER, _published(model, wanted.namespace)),) if routed and url else (),
        authorities=found,
        scales_to_zero=False,
        stopped=status.is_stopped(main),
        ready=status.is_ready(conditions),
        conditions=conditions,
        failure=status.failure(main) if status.is_ready(conditions) is not True else "",
        cluster_hosts=cluster_hosts(documents),
        source=wanted.source,
        notes=(*notes, *ca_notes),
    )


def read_inference_graph(documents: Documents, wanted: Wanted) -> Discovery:
    """The facts in an InferenceGraph. Which runtime answers is up to its steps, so that is not known.

    Args:
        documents: What was read.
        wanted: What was asked for.
    """
    main = documents.main
    reported = Address.parse(text(main, "status", "url"))
    local = reported is not None and is_service_host(reported.host, wanted.namespace)
    urls = [
        reported.url() if reported is not None and local else None,
        reported.url() if reported is not None and not local else None,
    ]
    url, where = wanted.choose(*urls)
    conditions = status.conditions(main)
    found, ca_notes = authorities(documents, url, where)
    auth = status.auth_setting(main)
    notes = [
        "Which runtime answers depends on the graph's steps; say it yourself.",
        "A graph passes on the headers it was told to only, and does not stream.",
    ]
    if url is None:
        notes.append("The graph reports no address that can be used from here.")
    return Discovery(
        kind="InferenceGraph",
        name=wanted.name,
        namespace=wanted.namespace,
        url=url,
        where=where,
        inside_url=urls[0],
        outside_url=urls[1],
        auth=auth,
        permission=f"`get` on `inferencegraphs.serving.kserve.io/{wanted.name}`, and what its steps ask for",
        deployment="InferenceGraph",
        authorities=found,
        stopped=status.is_stopped(main),
        ready=status.is_ready(conditions),
        conditions=conditions,
        cluster_hosts=cluster_hosts(documents),
        source=wanted.source,
        notes=(*notes, *ca_notes),
    )


def _pick(main: Json, names: tuple[str, ...]) -> Json | None:
    """The best of the reported addresses: one with the model in its path before one that needs a header."""
    entries = [entry for entry in objects(main, "status", "addresses") if Address.parse(text(entry, "url"))]
    for name in (*names, *(f"{name}{ROUTING}" for name in names)):
        for entry in entries:
            if text(entry, "name") == name:
                return entry
    return None


def _legacy(main: Json, wanted: Wanted, *, inside: bool) -> Json | None:
    """An address as older versions reported it."""
    for url in (text(main, "status", "url"), text(main, "status", "address", "url")):
        address = Address.parse(url)
        if address is not None and is_service_host(address.host, wanted.namespace) == inside:
            return {"name": "", "url": url}
    return None


def _workload(main: Json, wanted: Wanted) -> Json | None:
    if not mapping(main, "status") or dig(main, "spec", "replicas") == 0:
        return None
    host = f"{wanted.name}-kserve-workload-svc.{wanted.namespace}.svc.cluster.local"
    return {"name": "", "url": f"https://{host}:{_WORKLOAD_PORT}"}


def _url(entry: Json | None) -> str | None:
    address = Address.parse(text(entry, "url"))
    if address is None:
        return None
    url = address.url()
    return url if url.endswith("/v1") else f"{url}/v1"


def _published(model: str, namespace: str) -> str:
    return model if model.startswith("publishers/") else f"publishers/{namespace}/models/{model}"


def _permission(wanted: Wanted, *, routed: bool) -> str:
    if routed:
        return "`post` on `models.serving.opendatahub.io`"
    return f"`get` on `llminferenceservices.serving.kserve.io/{wanted.name}` in namespace {wanted.namespace}"
