"""Reads an InferenceService, and what was readable around it, into facts."""

from __future__ import annotations

from typing import Literal

from kserve_core.discovery import status
from kserve_core.discovery.addresses import Address, Service, inside, is_service_host, outside
from kserve_core.discovery.authorities import authorities, cluster_hosts
from kserve_core.discovery.documents import Documents, Json, annotation, dig, label, mapping, objects, text
from kserve_core.discovery.facts import Discovery
from kserve_core.discovery.launch import Launch, is_grpc_port
from kserve_core.discovery.model_name import model_name
from kserve_core.discovery.runtime_choice import RuntimeChoice, choose_runtime, server_path
from kserve_core.discovery.wanted import Wanted

_MODE = "serving.kserve.io/deploymentMode"
_MODES = {"rawdeployment": "Standard", "standard": "Standard", "serverless": "Knative", "knative": "Knative"}
_SHOWN_OPTIONS = (
    "--max-model-len",
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "--reasoning-parser",
    "--task",
    "--runner",
    "--tensor-parallel-size",
)
_COLD_SECONDS = 600.0
"""How long a service that scales to zero is waited for: Knative's own deadline for a revision."""


def runtime_name(document: Json) -> str:
    """The name of an InferenceService's ServingRuntime, or `""` where it was selected without being reported."""
    return (
        text(document, "spec", "predictor", "model", "runtime")
        or text(document, "status", "servingRuntimeName")
        or text(document, "status", "clusterServingRuntimeName")
    )


def service_name(document: Json, name: str) -> str:
    """The name of the Kubernetes Service that its requests go to."""
    return f"{name}-transformer" if dig(document, "spec", "transformer") else f"{name}-predictor"


def read_inference_service(documents: Documents, wanted: Wanted) -> Discovery:
    """The facts in an InferenceService and the documents around it.

    Args:
        documents: What was read.
        wanted: What was asked for.
    """
    main, runtime = documents.main, documents.get("runtime")
    predictor = mapping(main, "spec", "predictor")
    launch = Launch.of(wanted.name, predictor, runtime)
    chosen_runtime = runtime_name(main)
    choice = choose_runtime(chosen_runtime, predictor, runtime, launch)
    deployment = deployment_mode(main, runtime)
    protocol = _protocol(wanted, choice, predictor, runtime, launch)
    auth = status.auth_setting(main)
    if auth is None and deployment == "Standard":
        auth = False  # the controller puts a proxy in front only if the annotation says so
    model = model_name(choice, launch, wanted.name)
    if deployment == "ModelMesh":
        model = type(model)(wanted.name, evidence="the InferenceService's name, as ModelMesh serves it")
    notes = _runtime_notes(documents, chosen_runtime, choice)

    service = Service(
        name=wanted.name,
        namespace=wanted.namespace,
        status=mapping(main, "status"),
        raw=deployment == "Standard",
        transformer=bool(dig(main, "spec", "transformer")),
        auth=auth,
        grpc=protocol == "grpc",
        launch=launch,
    )
    within = inside(service, documents.get("service"), documents.missing.get("service", ""))
    without = outside(service, documents.get("route"))
    path = server_path(choice, launch)
    urls = [_url(found.address, path, grpc=service.grpc) for found in (within, without)]
    url, where = wanted.choose(*urls)
    notes += within.notes if where == "inside" else without.notes
    if url is None:
        notes.append(_no_address(main, wanted, urls[0]))
    elif service.grpc and url.startswith("http"):
        notes.append("gRPC was asked for, but the address has a path, which gRPC cannot have.")
    if auth and service.transformer and where == "inside" and url:
        auth = False
        notes.append("Authentication is on, but no proxy stands in front of the transformer: it checks no token.")
    if auth and service.grpc and where == "inside":
        notes.append("Whether the authenticating proxy passes gRPC on is not known; REST is what it is made for.")

    knative = deployment == "Knative"
    to_zero = status.scales_to_zero(main, knative=knative)
    limit = status.route_timeout(main, documents.get("route")) if where == "outside" and url else None
    slow = max(_COLD_SECONDS if to_zero else 0.0, limit or 0.0)
    conditions = status.conditions(main)
    failure = status.failure(main)
    if failure and status.still_serves(main):
        failure = f"{failure} (an earlier revision goes on serving)"
    found_authorities, ca_notes = authorities(documents, url, where)
    return Discovery(
        kind="InferenceService",
        name=wanted.name,
        namespace=wanted.namespace,
        runtime=choice.key,
        variant=choice.variant,
        runtime_name=chosen_runtime,
        runtime_version=annotation(runtime, "opendatahub.io/runtime-version"),
        runtime_evidence=choice.evidence,
        protocol=protocol,
        url=url,
        where=where,
        inside_url=urls[0],
        outside_url=urls[1],
        model=model.name,
        aliases=model.aliases,
        model_evidence=model.evidence,
        display_name=annotation(main, "openshift.io/display-name"),
        auth=auth,
        permission=_permission(main, wanted),
        deployment=deployment + (" with a transformer" if service.transformer else ""),
        authorities=found_authorities,
        silence_limit=limit,
        timeout=max(300.0, slow),
        idle_timeout=max(120.0, limit or 0.0),
        scales_to_zero=to_zero,
        stopped=status.is_stopped(main),
        ready=status.is_ready(conditions),
        conditions=conditions,
        failure=failure,
        canary=status.canary(main),
        options=_options(launch),
        cluster_hosts=cluster_hosts(documents),
        source=wanted.source,
        notes=tuple(dict.fromkeys([*notes, *ca_notes])),
    )


def deployment_mode(main: Json, runtime: Json | None = None) -> str:
    """How an InferenceService is deployed: `Standard`, `Knative` or `ModelMesh`."""
    mode = text(main, "status", "deploymentMode") or annotation(main, _MODE)
    if mode:
        return _MODES.get(mode.lower(), mode)
    if dig(runtime, "spec", "multiModel") is True:
        return "ModelMesh"
    component = mapping(main, "status", "components", "predictor")
    if any(text(component, key) for key in ("latestReadyRevision", "latestCreatedRevision", "latestRolledoutRevision")):
        return "Knative"
    return "Standard"


def _protocol(
    wanted: Wanted, choice: RuntimeChoice, predictor: Json, runtime: Json | None, launch: Launch
) -> Literal["rest", "grpc"]:
    if wanted.protocol is not None:
        return wanted.protocol
    if choice.key == "tgis":
        return "grpc"
    if launch.ports:
        speaks = {is_grpc_port(name) for _, name in launch.ports}
        if len(speaks) == 1:
            return "grpc" if speaks == {True} else "rest"
    if text(predictor, "model", "protocolVersion").startswith("grpc"):
        return "grpc"
    if annotation(runtime, "opendatahub.io/apiProtocol").lower() == "grpc":
        return "grpc"
    return "rest"


def _url(address: Address | None, path: str, *, grpc: bool) -> str | None:
    if address is None:
        return None
    if not grpc:
        return address.url() + path
    return address.url(grpc=not address.path)


def _runtime_notes(documents: Documents, name: str, choice: RuntimeChoice) -> list[str]:
    notes = []
    if documents.get("runtime") is None:
        why = documents.missing.get("runtime", "")
        if not name:
            custom = bool(objects(documents.main, "spec", "predictor", "containers"))
            if not custom:
                notes.append("The ServingRuntime was selected by the cluster and its name is not reported.")
        elif why:
            notes.append(f"The ServingRuntime {name} could not be read: {why}.")
    if choice.key is None:
        what = f"It is a {choice.variant}, for which" if choice.variant else "The runtime is not known:"
        notes.append(f"{what} {'this package has no class' if choice.variant else choice.evidence}.")
    return notes


def _no_address(main: Json, wanted: Wanted, inside_url: str | None) -> str:
    if wanted.where == "inside" or (wanted.where == "auto" and wanted.inside and not inside_url):
        return "The service reports no address inside the cluster yet."
    url = Address.parse(text(main, "status", "url"))
    local = "cluster-local" in {
        label(main, "networking.kserve.io/visibility"),
        label(main, "networking.knative.dev/visibility"),
    }
    if local or inside_url or (url is not None and is_service_host(url.host, wanted.namespace)):
        return (
            "The service can be reached inside the cluster only. Set its label "
            "networking.kserve.io/visibility=exposed, or forward a port (kubectl port-forward) and give base_url."
        )
    return "The service reports no address yet."


def _permission(main: Json, wanted: Wanted) -> str:
    if annotation(main, "security.opendatahub.io/auth-proxy-type") == "oauth-proxy":
        return f"`get` on `services` in namespace {wanted.namespace}"
    return f"`get` on `inferenceservices.serving.kserve.io/{wanted.name}` in namespace {wanted.namespace}"


def _options(launch: Launch) -> tuple[tuple[str, str], ...]:
    return tuple((option, " ".join(launch.option(option)[:1])) for option in _SHOWN_OPTIONS if launch.has(option))
