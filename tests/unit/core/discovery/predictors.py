"""Predictors and serving runtimes that tell what runs in them in one way or another."""

from __future__ import annotations

from typing import Any

from tests.unit.core.discovery.kube import (
    container,
    plain_runtime,
)

NO_NAME = {"model": {"modelFormat": {"name": "custom"}, "runtime": "rt"}}


def says(**annotations: str) -> dict[str, Any]:
    """A ServingRuntime with annotations on its pods, whose containers would say something else."""
    named = {name.replace("__", "/"): value for name, value in annotations.items()}
    return {"spec": {"annotations": named, "containers": [container("tritonserver")]}}


def template(name: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {"opendatahub.io/template-name": name}}}


def server_type(name: str) -> dict[str, Any]:
    return {
        "metadata": {"annotations": {"serving.kserve.io/server-type": name}},
        "spec": {"containers": [container("tritonserver")]},
    }


def runs(*args: str, port: str = "") -> dict[str, Any]:
    return plain_runtime(container(*args, ports=[(8080, port)]))


CAIKIT_TGIS = plain_runtime(
    container("text-generation-launcher"), container("python", "-m", "caikit.runtime", name="transformer-container")
)


def tgis() -> Any:
    return plain_runtime(container("text-generation-launcher", ports=[(8033, "h2c")]))
