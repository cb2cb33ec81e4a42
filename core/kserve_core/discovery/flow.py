"""Which documents are read, and in which order. Only the first one has to be readable."""

from __future__ import annotations

from collections.abc import Sequence

from kserve_core.calls import Call, Flow, Parallel
from kserve_core.discovery.api import KubernetesApi
from kserve_core.discovery.authorities import NOT_THERE
from kserve_core.discovery.documents import Documents, Json, objects, text
from kserve_core.discovery.facts import Discovery, Kind
from kserve_core.discovery.isvc import deployment_mode, read_inference_service, runtime_name, service_name
from kserve_core.discovery.llm import read_inference_graph, read_llm_inference_service
from kserve_core.discovery.wanted import Wanted, check_name
from kserve_core.errors import KServeError, NotFoundError, PermissionDeniedError
from kserve_core.names import did_you_mean

_VERSIONS = ("v1alpha2", "v1alpha1")
_GRANT = (
    "Needed is the verb `get` on `inferenceservices.serving.kserve.io` (or `llminferenceservices`) in the namespace."
)


def discovery(api: KubernetesApi, wanted: Wanted) -> Flow[Discovery]:
    """Reads what there is to know about a service.

    Args:
        api: Makes the calls.
        wanted: Which service.

    Raises:
        NotFoundError: If there is no such service; the hint names similar ones.
        PermissionDeniedError: If it may not be read.
        KServeError: If the cluster cannot be asked.
    """
    kind, main = yield from _main(api, wanted)
    if kind == "InferenceService":
        documents = yield from _around(api, wanted, main)
        return read_inference_service(documents, wanted)
    calls = _authority_calls(api, wanted)
    documents = Documents(main=main)
    documents = yield from _read_all(documents, calls)
    if kind == "InferenceGraph":
        return read_inference_graph(documents, wanted)
    return read_llm_inference_service(documents, wanted)


def _main(api: KubernetesApi, wanted: Wanted) -> Flow[tuple[Kind, Json]]:
    """The object of the wanted name: an InferenceService, or another kind where there is none."""
    namespace, name = wanted.namespace, wanted.name
    places: list[tuple[Kind, Call[Json]]] = [
        ("InferenceService", api.inference_service(namespace, name)),
        *(("LLMInferenceService", api.llm_inference_service(namespace, name, version)) for version in _VERSIONS),
        ("InferenceGraph", api.inference_graph(namespace, name)),
    ]
    denied: PermissionDeniedError | None = None
    unseen: list[Kind] = []
    known = False
    for kind, call in places:
        try:
            return kind, (yield call)
        except NotFoundError as error:  # noqa: PERF203 - another kind may have the name
            known = known or error.layer == "cluster"
        except PermissionDeniedError as error:
            unseen += [] if kind in unseen else [kind]
            denied = denied or error
    if denied is not None and (not known or "InferenceService" in unseen):
        denied.hint = f"{denied.hint} {_GRANT}".strip()
        raise denied
    if not known:
        msg = f"The cluster has no InferenceServices ({wanted.source})."
        hint = "KServe is not installed there: check context=... and kubeconfig=..."
        raise NotFoundError(msg, hint=hint, layer="cluster")
    names = yield from _names(api, namespace)
    msg = f"There is no InferenceService {name!r} in namespace {namespace!r} ({wanted.source})."
    hint = _similar(name, names)
    if unseen:
        hint += f" The credentials may not read {' or '.join(f'{kind}s' for kind in unseen)}, if it is one of those."
    raise NotFoundError(msg, hint=hint, layer="cluster", status=404)


def _names(api: KubernetesApi, namespace: str) -> Flow[list[str]]:
    try:
        listed: Json = yield api.inference_services(namespace)
    except KServeError:
        return []
    return [name for item in objects(listed, "items") if (name := text(item, "metadata", "name"))]


def _similar(name: str, names: Sequence[str]) -> str:
    if near := did_you_mean(name, names):
        return near.rstrip()
    if names:
        return f"There are {', '.join(sorted(names)[:20])}."
    return "Check the name, namespace=... and context=..."


def _around(api: KubernetesApi, wanted: Wanted, main: Json) -> Flow[Documents]:
    """What is around an InferenceService, in one go."""
    namespace, name = wanted.namespace, wanted.name
    service = service_name(main, name)
    calls = {
        "service": api.service(namespace, service),
        "route": api.route(namespace, name),
        **_authority_calls(api, wanted),
    }
    runtime = runtime_name(main)
    if runtime and _is_name(runtime):
        calls["runtime"] = api.serving_runtime(namespace, runtime)
        calls["cluster_runtime"] = api.serving_runtime(None, runtime)
    documents = yield from _read_all(Documents(main=main), calls)
    found, missing = dict(documents.found), dict(documents.missing)
    wide = found.pop("cluster_runtime", None)
    why = missing.pop("cluster_runtime", NOT_THERE)
    if "runtime" not in found:
        if wide is not None:
            found["runtime"] = wide
            missing.pop("runtime", None)
        elif missing.get("runtime", NOT_THERE) == NOT_THERE:
            missing["runtime"] = why
    if missing.get("service") == NOT_THERE and deployment_mode(main) == "Standard":
        labelled = yield from _labelled(api, wanted, service)
        if labelled is not None:
            found["service"] = labelled
            missing.pop("service")
    return Documents(main=main, found=found, missing=missing)


def _labelled(api: KubernetesApi, wanted: Wanted, name: str) -> Flow[Json | None]:
    """The Service of an InferenceService that has another name than usual."""
    try:
        listed: Json = yield api.services_of(wanted.namespace, wanted.name)
    except KServeError:
        return None
    suffix = name.rpartition("-")[2]
    fitting = [item for item in objects(listed, "items") if text(item, "metadata", "name").endswith(f"-{suffix}")]
    return fitting[0] if len(fitting) == 1 else None


def _authority_calls(api: KubernetesApi, wanted: Wanted) -> dict[str, Call[Json]]:
    namespace = wanted.namespace
    if wanted.where == "inside" or (wanted.where == "auto" and wanted.inside):
        calls = {"service_ca": api.config_map(namespace, "openshift-service-ca.crt")}
    else:
        calls = {
            "trusted_ca": api.config_map(namespace, "odh-trusted-ca-bundle"),
            "root_ca": api.config_map(namespace, "kube-root-ca.crt"),
        }
    if wanted.cluster_token:
        calls["ingress"] = api.ingress_config()
    return calls


def _read_all(documents: Documents, calls: dict[str, Call[Json]]) -> Flow[Documents]:
    """Adds what can be read, and says of the rest why not."""
    answers = yield Parallel(calls=list(calls.values()))
    found, missing = dict(documents.found), dict(documents.missing)
    for name, answer in zip(calls, answers, strict=True):
        if isinstance(answer, KServeError):
            missing[name] = _why(answer)
        else:
            found[name] = answer
    return Documents(main=documents.main, found=found, missing=missing)


def _why(error: KServeError) -> str:
    if isinstance(error, NotFoundError):
        return NOT_THERE
    if isinstance(error, PermissionDeniedError):
        return "the credentials lack the permission to `get` it"
    return f"HTTP {error.status}" if error.status else type(error).__name__


def _is_name(value: str) -> bool:
    try:
        check_name("runtime", value)
    except KServeError:
        return False
    return True
