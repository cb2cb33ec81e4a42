"""Which runtime answers at a URL: asked of the server itself, with the cheapest questions first.

The questions are harmless (`GET`s, gRPC calls that only inform) and go to that origin only. The first answer that
tells ends it; so do a refused token and a broken connection. A model that is being started is waited for as by any
other call, and the endpoint's time budget holds for all questions together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from kserve_core import hints
from kserve_core.calls import Flow
from kserve_core.client import RuntimeClient
from kserve_core.credentials import ApiKey
from kserve_core.deadline import Deadline
from kserve_core.discovery.probes_grpc import grpc_probes
from kserve_core.discovery.probes_http import http_probes
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    RedirectError,
    ServerError,
)

_SLOW = "Give a longer timeout=..., or use the class of the runtime you know is there."
_UNKNOWN = "Check base_url and its path, or use the class of the runtime you know is there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What a server turned out to be.

    Attributes:
        runtime: Its key in `kserve_core.runtimes.registry`; None for a server that says what it is, but is none of
            those.
        variant: What exactly it is (`huggingfaceserver`, `openai-compatible`, ...), or `""`.
        base_url: The URL to give the runtime's classes.
        base_path: That URL's path.
        protocol: `rest` or `grpc`.
        models: The models it lists; empty if it lists none.
        version: The server's version, if it told it.
        evidence: What told which runtime it is.
    """

    runtime: str | None
    variant: str = ""
    base_url: str
    base_path: str = ""
    protocol: Literal["rest", "grpc"] = "rest"
    models: tuple[str, ...] = ()
    version: str = ""
    evidence: str = ""


def detect_runtime(
    base_url: str | Endpoint | None = None, *, api_key: ApiKey | None = None, **options: Any
) -> Detected:
    """Asks a server which runtime it is.

    Args:
        base_url: Its URL, or an endpoint. `grpc://` and `grpcs://` URLs are asked over gRPC.
        api_key: The token, if it needs one; sent to this origin only.
        **options: Those of `Endpoint.create`.

    Raises:
        AuthenticationError: If it is protected and the token is missing or not accepted.
        PermissionDeniedError: If the token may not call it.
        NotFoundError: If nothing here answers like a runtime that is known.
        KServeError: If there is no answer.
    """
    endpoint = _endpoint(base_url, api_key, options)
    client: RuntimeClient[None] = RuntimeClient(endpoint, None)
    try:
        return client.run(detection(endpoint))
    finally:
        client.close()


async def adetect_runtime(
    base_url: str | Endpoint | None = None, *, api_key: ApiKey | None = None, **options: Any
) -> Detected:
    """As `detect_runtime`, from an event loop."""
    endpoint = _endpoint(base_url, api_key, options)
    client: RuntimeClient[None] = RuntimeClient(endpoint, None)
    try:
        return await client.arun(detection(endpoint))
    finally:
        await client.aclose()


def detection(endpoint: Endpoint) -> Flow[Detected]:
    """The questions, as a flow of calls.

    Args:
        endpoint: The server.
    """
    asked: list[str] = []
    deadline = Deadline.after(endpoint.timeout)
    probes = grpc_probes() if endpoint.is_grpc else http_probes(endpoint.base_path)
    answer: Any = None
    try:
        probe = next(probes)
        while True:
            if deadline.passed():
                msg = f"What serves at {endpoint.base_url} did not show within the time budget."
                raise EndpointTimeoutError(msg, hint=f"Asked were {', '.join(asked)}. {_SLOW}", attempts=len(asked))
            asked.append(probe.what)
            try:
                answer = yield replace(probe.call, deadline=deadline)
            except KServeError as error:
                answer = probe.on_error(error) if probe.on_error is not None else None
                if answer is None and not _goes_on(error):
                    raise _completed(error, endpoint) from error.__cause__
            probe = probes.send(answer)
    except StopIteration as stop:
        found = stop.value
    if found is None:
        msg = f"Nothing at {endpoint.base_url} answers like a runtime that is known."
        raise NotFoundError(msg, hint=f"Asked were {', '.join(asked)}. {_UNKNOWN}", attempts=len(asked))
    path = found.path
    return Detected(
        runtime=found.runtime,
        variant=found.variant,
        base_url=endpoint.base_url if endpoint.is_grpc else f"{endpoint.origin}{path}",
        base_path=path,
        protocol="grpc" if endpoint.is_grpc else "rest",
        models=found.models,
        version=found.version,
        evidence=found.evidence,
    )


def _endpoint(base_url: str | Endpoint | None, api_key: ApiKey | None, options: dict[str, Any]) -> Endpoint:
    if not isinstance(base_url, Endpoint):
        return Endpoint.create(base_url, api_key=api_key, **options)
    if api_key is not None or options:
        msg = "An endpoint has its own settings; give them when it is made."
        raise ConfigurationError(msg)
    return base_url


def _goes_on(error: KServeError) -> bool:
    """Whether an error only says that this was not the right question."""
    if isinstance(error, (AuthenticationError, PermissionDeniedError, NotReadyError)):
        return False
    if isinstance(error, RedirectError):
        return error.hint != hints.HTTPS
    if isinstance(error, BadResponseError):
        return error.layer != "network"
    if isinstance(error, ServerError):
        return error.layer in {"runtime", "model"} and error.status in {500, 501}
    return isinstance(error, (NotFoundError, ModelNotFoundError, InvalidRequestError))


def _completed(error: KServeError, endpoint: Endpoint) -> KServeError:
    if isinstance(error, BadResponseError) and not endpoint.is_grpc and "grpc://" not in error.hint:
        error.hint = f"{error.hint} If it speaks gRPC, start base_url with grpcs:// (or grpc://).".strip()
    return error
