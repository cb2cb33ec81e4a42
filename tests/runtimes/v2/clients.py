"""Clients of the servers of the Open Inference Protocol, as fixtures for the folders' own conftest files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from targets import real_targets

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.inference_client import InferenceClient

RUNTIMES = {"triton": "TritonRuntime", "mlserver": "MLServerRuntime", "kserve": "KServeRuntime"}
PROTOCOLS = ("rest", "grpc")


def running(key: str) -> bool:
    """Whether this run has the servers of a runtime."""
    return key in (real_targets() or {})


def pairs(*keys: str) -> list[Any]:
    """Parameters of a test that runs over both protocols of some servers: of those that run, if any of them does."""
    found = [key for key in keys if running(key)] or keys
    return [
        # KServe's SDK has no classes of its own, and so no place in the matrix.
        pytest.param((key, protocol), id=f"{key}-{protocol}", marks=[] if key == "kserve" else pytest.mark.runtime(key))
        for key in found
        for protocol in PROTOCOLS
    ]


EVERYWHERE = pairs("triton", "mlserver", "kserve")


def reference() -> dict[str, Any]:
    """Texts, and their vectors by the model's own framework."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
    return found


def servers_of(key: str) -> dict[str, Any]:
    """Where the servers of a runtime are."""
    found: dict[str, Any] = (real_targets() or {})[key]["servers"]
    return found


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[..., Any]]:
    """Makes clients of a runtime's codec and closes them at the end.

    `connect("triton", "rest", model=..., server="plain", options={...}, ca_cert=...)`
    """
    made: list[Any] = []

    def connect(
        key: str,
        protocol: str = "rest",
        *,
        model: str | None = None,
        server: str = "plain",
        options: dict[str, Any] | None = None,
        **given: Any,
    ) -> Any:
        endpoint = Endpoint.create(servers_of(key)[server][protocol], **{"max_retries": 0, "timeout": 60, **given})
        kind = getattr(import_module(f"kserve_core.runtimes.{key}"), RUNTIMES[key])
        runtime = kind(base_path=endpoint.base_path, model=model, protocol=protocol, **(options or {}))
        made.append(RuntimeClient(endpoint, runtime))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def tensors() -> Iterator[Callable[..., InferenceClient]]:
    """Makes clients for any tensors and closes them at the end: `tensors("triton", "grpc", model=...)`."""
    made: list[InferenceClient] = []

    def tensors(key: str, protocol: str = "rest", *, server: str = "plain", **given: Any) -> InferenceClient:
        url = servers_of(key)[server][protocol]
        made.append(InferenceClient(url, server=key, **{"max_retries": 0, "timeout": 60, **given}))
        return made[-1]

    yield tensors
    for client in made:
        client.close()
