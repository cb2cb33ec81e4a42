"""A service of each runtime in a cluster on loopback, served by the development server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kserve_core.devserver import DevServer
from tests.unit.core.discovery.kube import ISVC, RUNTIME, Kube, container, isvc, plain_runtime

PROGRAMS = {
    "vllm": "vllm serve",
    "caikit": "caikit.runtime",
    "tgis": "text-generation-launcher",
    "triton": "tritonserver",
    "mlserver": "mlserver",
    "openvino": "--rest_port=8888",
}
"""What the containers of each runtime run; what tells the runtime where nothing else does."""

GRPC = {"caikit": "caikit_grpc_url", "tgis": "tgis_url", "triton": "v2_grpc_url", "mlserver": "v2_grpc_url"}
"""Where the development server has its gRPC URL."""


@contextmanager
def served(runtime: str, *, grpc: bool = False, **options: Any) -> Iterator[tuple[DevServer, str]]:
    """The development server speaking a runtime's wire, and the URL for the runtime's classes."""
    attribute = GRPC.get(runtime) if grpc or runtime == "tgis" else None
    ports = {attribute.removesuffix("_url"): True} if attribute else {}
    wire = {} if runtime == "tgis" else {"runtime": runtime}
    with DevServer(**wire, **ports, **options) as server:
        yield server, getattr(server, attribute) if attribute else server.origin


def documents(runtime: str | None, url: str, **changes: Any) -> dict[str, Any]:
    """The InferenceService `m` at a URL, and its runtime; None for one that nothing tells of."""
    plain = url.replace("grpc://", "http://")
    predictor = {"predictor": {"model": {"modelFormat": {"name": "x"}}}}
    found = isvc(**{"status": {"url": plain}, "spec": predictor, **changes})
    launched = container(*([] if runtime is None else [PROGRAMS.get(runtime, runtime)]))
    return {ISVC: found, RUNTIME: plain_runtime(launched)}


@contextmanager
def cluster(runtime: str | None, url: str, **changes: Any) -> Iterator[Kube]:
    """A cluster with that service."""
    with Kube(documents(runtime, url, **changes)) as kube:
        yield kube
