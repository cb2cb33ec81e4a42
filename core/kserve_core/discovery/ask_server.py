"""Asking the server itself which runtime it is, where the cluster could not tell."""

from __future__ import annotations

from dataclasses import replace

from kserve_core.client import RuntimeClient
from kserve_core.discovery.detect import Detected, detection
from kserve_core.discovery.facts import Discovery
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError

_SECONDS = 10.0
"""The most that asking may take: what it is asked for is worth no long wait."""


def ask(endpoint: Endpoint) -> Endpoint:
    """The endpoint with what its server says of itself; the same if there is nothing to ask.

    It raises nothing: a server that does not answer is noted among what could not be learned.
    """
    found = endpoint.discovered
    if found is None or not _is_open(found):
        return endpoint
    probe = _probe(endpoint)
    client: RuntimeClient[None] = RuntimeClient(probe, None)
    try:
        return _learned(endpoint, found, client.run(detection(probe)))
    except KServeError as error:
        return _failed(endpoint, found, error)
    finally:
        client.close()


async def aask(endpoint: Endpoint) -> Endpoint:
    """As `ask`, from an event loop."""
    found = endpoint.discovered
    if found is None or not _is_open(found):
        return endpoint
    probe = _probe(endpoint)
    client: RuntimeClient[None] = RuntimeClient(probe, None)
    try:
        return _learned(endpoint, found, await client.arun(detection(probe)))
    except KServeError as error:
        return _failed(endpoint, found, error)
    finally:
        await client.aclose()


def _is_open(found: Discovery) -> bool:
    """Whether it is not known what serves; a server that is known, but has no class here, is no question."""
    return found.kind == "InferenceService" and found.runtime is None and not found.variant


def _probe(endpoint: Endpoint) -> Endpoint:
    least = min(endpoint.timeout or _SECONDS, _SECONDS)
    return replace(endpoint, timeout=least, connect_timeout=min(endpoint.connect_timeout, least), max_retries=0)


def _learned(endpoint: Endpoint, found: Discovery, detected: Detected) -> Endpoint:
    known = replace(
        found,
        runtime=detected.runtime,
        variant=detected.variant,
        runtime_version=found.runtime_version or detected.version,
        runtime_evidence=f"the server's answer to {detected.evidence}",
        url=detected.base_url,
    )
    if found.model is None and len(detected.models) == 1:
        known = replace(known, model=detected.models[0], model_evidence="the only one the server lists")
    return replace(endpoint, base_url=detected.base_url, discovered=known)


def _failed(endpoint: Endpoint, found: Discovery, error: KServeError) -> Endpoint:
    note = f"The server was asked which runtime it is, in vain: {error.message}"
    return replace(endpoint, discovered=replace(found, notes=(*found.notes, note)))
