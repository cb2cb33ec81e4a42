"""The examination of a service by its name: the cluster is asked for its address first."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Literal

from kserve_core.credentials import ApiKey
from kserve_core.discovery.connect import Request
from kserve_core.discovery.problems import NotReachableError
from kserve_core.doctor.bounded import bounded
from kserve_core.doctor.examination import STEPS, Examination, OnFinding
from kserve_core.doctor.findings import Finding, Report
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError


def examine_service(
    name: str,
    *,
    namespace: str | None = None,
    context: str | None = None,
    kubeconfig: str | os.PathLike[str] | None = None,
    allow_exec: bool = False,
    use_cluster_token: bool = False,
    where: Literal["auto", "inside", "outside"] = "auto",
    api_key: ApiKey | None = None,
    model: str | None = None,
    runtime: str | None = None,
    protocol: Literal["rest", "grpc"] | None = None,
    generate: bool = True,
    timeout: float = 60.0,
    on_finding: OnFinding | None = None,
    **options: Any,
) -> Report:
    """Asks the cluster for a service's endpoint, and examines that; see `examine`.

    Args:
        name: The service's name.
        namespace: As in `Endpoint.from_inference_service`, like `context`, `kubeconfig`, `allow_exec`,
            `use_cluster_token`, `where`, `api_key` and `options`.
        context: A context of the kubeconfig.
        kubeconfig: A kubeconfig file.
        allow_exec: Whether a program that the kubeconfig names may be run.
        use_cluster_token: Whether the cluster's own token is sent to the model.
        where: Which address to take.
        api_key: The token for the model.
        model: As in `examine`, like all that follow.
        runtime: The runtime's key.
        protocol: What to speak.
        generate: Whether to have text generated.
        timeout: Seconds for everything.
        on_finding: Called with each finding.
        **options: Other arguments of `Endpoint.create`.

    Raises:
        ConfigurationError: If something cannot be used as given, or there is no access to a cluster.
    """
    access: dict[str, Any] = {
        "namespace": namespace,
        "context": context,
        "kubeconfig": kubeconfig,
        "allow_exec": allow_exec,
        "use_cluster_token": use_cluster_token,
        "where": where,
        "protocol": protocol,
    }
    Request.create(name, **access)  # mistakes in the arguments show before anything is done
    examination = Examination(timeout=timeout, on_finding=on_finding)

    def connect() -> Endpoint:
        return Endpoint.from_inference_service(name, api_key=api_key, **access, **options)

    start = time.monotonic()
    try:
        endpoint = bounded(connect, examination.deadline, what="the cluster")
    except KServeError as error:
        if isinstance(error, ConfigurationError) and not isinstance(error, NotReachableError):
            raise
        facts = {"name": name, "namespace": namespace, "error": type(error).__name__, "status": error.status}
        seconds = time.monotonic() - start
        examination.note(
            Finding(step="cluster", status="failed", title=error.message, fix=error.hint, seconds=seconds, facts=facts)
        )
        for step in STEPS:
            examination.ready_for(step)
        return examination.report(_target(name, namespace))
    examination.note(_found(endpoint, time.monotonic() - start))
    asking = {"name": name, **access}
    return examination.run(endpoint, model=model, runtime=runtime, generate=generate, asking=asking)


async def aexamine_service(name: str, **options: Any) -> Report:
    """As `examine_service`, from an event loop; it works in a thread, as `aexamine` does."""
    return await asyncio.to_thread(lambda: examine_service(name, **options))


def _found(endpoint: Endpoint, seconds: float) -> Finding:
    found = endpoint.discovered
    if found is None:  # pragma: no cover - an endpoint made from a service knows it
        return Finding(step="cluster", status="ok", title=endpoint.base_url, seconds=seconds)
    lines = found.describe().splitlines()
    facts: dict[str, object] = {
        "kind": found.kind,
        "name": found.name,
        "namespace": found.namespace,
        "url": found.url,
        "where": found.where,
        "runtime": found.runtime,
        "model": found.model,
        "token_needed": found.auth,
        "ready": found.ready,
        "notes": list(found.notes),
    }
    title = f"{found.kind} {found.namespace}/{found.name} is at {found.url}"
    detail = "\n".join(line.strip() for line in lines[1:])
    warned = found.ready is False
    return Finding(
        step="cluster",
        status="warning" if warned else "ok",
        title=f"{title}, but it is not ready" if warned else title,
        detail=detail,
        seconds=seconds,
        facts=facts,
    )


def _target(name: str, namespace: str | None) -> str:
    return f"{namespace}/{name}" if namespace else name
