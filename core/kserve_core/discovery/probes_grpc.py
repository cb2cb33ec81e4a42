"""Questions over gRPC that tell which runtime answers."""

from __future__ import annotations

from typing import Any

from kserve_core.calls import GrpcCall
from kserve_core.discovery.probes import Found, Probe, Probes, by_server_name
from kserve_core.errors import InvalidRequestError, KServeError, ModelNotFoundError
from kserve_core.protos import messages

_RESTRICTED = ("triton-grpc-protocol-authorization",)
"""Where Triton wants the token for an API it guards itself, as `open_inference.dialects` has it."""
_TGIS = "/fmaas.GenerationService/ModelInfo"
_V2 = "/inference.GRPCInferenceService/ServerMetadata"
_CAIKIT = "/caikit.runtime.info.InfoService/GetModelsInfo"
_CAIKIT_PACKAGE = "caikit_data_model.common.runtime"


def grpc_probes() -> Probes:
    """The questions for a server that speaks gRPC; servers say clearly which services they do not have."""
    if (yield Probe(_TGIS, _call(_TGIS, "fmaas.ModelInfoRequest", "fmaas.ModelInfoResponse"), _knows_service)):
        return Found(runtime="tgis", evidence=f"gRPC {_TGIS}")
    call = _call(_V2, "inference.ServerMetadataRequest", "inference.ServerMetadataResponse", _RESTRICTED)
    about = yield Probe(_V2, call)
    if about is not None and about.name:
        runtime, variant = by_server_name(about.name)
        evidence = f"gRPC {_V2}: it calls itself {about.name[:80]!r}"
        return Found(runtime=runtime, variant=variant, version=about.version, evidence=evidence)
    call = _call(_CAIKIT, f"{_CAIKIT_PACKAGE}.ModelInfoRequest", f"{_CAIKIT_PACKAGE}.ModelInfoResponse")
    listed = yield Probe(_CAIKIT, call)
    if listed is not None:
        names = tuple(model.name for model in listed.models if model.name)
        return Found(runtime="caikit", models=names, evidence=f"gRPC {_CAIKIT}")
    return None


def _call(method: str, request: str, response: str, token_keys: tuple[str, ...] = ()) -> GrpcCall[Any]:
    return GrpcCall(
        method=method,
        request=messages.get(request)(),
        response_type=messages.get(response),
        read=lambda answer: answer,
        token_keys=token_keys,
    )


def _knows_service(error: KServeError) -> bool | None:
    """Whether an error comes from the service itself, which then is there."""
    return True if isinstance(error, (ModelNotFoundError, InvalidRequestError)) else None
