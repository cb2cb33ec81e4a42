"""The core of kserve-integrations: transport and runtime codecs, free of any framework.

Names are loaded when they are first used, so importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kserve_core._version import __version__

if TYPE_CHECKING:
    from kserve_core.calls import (
        Call,
        Exchange,
        Flow,
        GrpcCall,
        GrpcStreamCall,
        Parallel,
        Response,
        StreamCall,
        StreamExchange,
    )
    from kserve_core.client import RuntimeClient, Transport
    from kserve_core.credentials import CallableToken, EnvToken, FileToken, StaticToken, TokenSource
    from kserve_core.endpoint import Endpoint
    from kserve_core.errors import (
        AuthenticationError,
        BadResponseError,
        ConfigurationError,
        ConnectTimeoutError,
        ContextOverflowError,
        EndpointConnectionError,
        EndpointTimeoutError,
        ErrorResponse,
        InvalidRequestError,
        KServeError,
        ModelNotFoundError,
        NameResolutionError,
        NotFoundError,
        NotReadyError,
        PermissionDeniedError,
        QuotaExceededError,
        RateLimitError,
        RedirectError,
        RequestTooLargeError,
        ResponseError,
        ServerError,
        StoppedError,
        StreamIdleError,
        StreamInterrupted,
        TLSError,
        UnsupportedParameterError,
    )
    from kserve_core.grpc_transport import GrpcTransport
    from kserve_core.http_transport import HttpTransport
    from kserve_core.inference_client import InferenceClient
    from kserve_core.readiness import WaitEvent
    from kserve_core.tensors import Tensor
    from kserve_core.trust import InsecureConnectionWarning, Trust

_MODULES = {
    "calls": (
        "Call",
        "Exchange",
        "Flow",
        "GrpcCall",
        "GrpcStreamCall",
        "Parallel",
        "Response",
        "StreamCall",
        "StreamExchange",
    ),
    "client": ("RuntimeClient", "Transport"),
    "credentials": ("CallableToken", "EnvToken", "FileToken", "StaticToken", "TokenSource"),
    "endpoint": ("Endpoint",),
    "errors": (
        "AuthenticationError",
        "BadResponseError",
        "ConfigurationError",
        "ConnectTimeoutError",
        "ContextOverflowError",
        "EndpointConnectionError",
        "EndpointTimeoutError",
        "ErrorResponse",
        "InvalidRequestError",
        "KServeError",
        "ModelNotFoundError",
        "NameResolutionError",
        "NotFoundError",
        "NotReadyError",
        "PermissionDeniedError",
        "QuotaExceededError",
        "RateLimitError",
        "RedirectError",
        "RequestTooLargeError",
        "ResponseError",
        "ServerError",
        "StoppedError",
        "StreamIdleError",
        "StreamInterrupted",
        "TLSError",
        "UnsupportedParameterError",
    ),
    "grpc_transport": ("GrpcTransport",),
    "http_transport": ("HttpTransport",),
    "inference_client": ("InferenceClient",),
    "readiness": ("WaitEvent",),
    "tensors": ("Tensor",),
    "trust": ("InsecureConnectionWarning", "Trust"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "__version__",
    "AuthenticationError",
    "BadResponseError",
    "Call",
    "CallableToken",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ContextOverflowError",
    "Endpoint",
    "EndpointConnectionError",
    "EndpointTimeoutError",
    "EnvToken",
    "ErrorResponse",
    "Exchange",
    "FileToken",
    "Flow",
    "GrpcCall",
    "GrpcStreamCall",
    "GrpcTransport",
    "HttpTransport",
    "InferenceClient",
    "InsecureConnectionWarning",
    "InvalidRequestError",
    "KServeError",
    "ModelNotFoundError",
    "NameResolutionError",
    "NotFoundError",
    "NotReadyError",
    "Parallel",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "RedirectError",
    "RequestTooLargeError",
    "Response",
    "ResponseError",
    "RuntimeClient",
    "ServerError",
    "StaticToken",
    "StoppedError",
    "StreamCall",
    "StreamExchange",
    "StreamIdleError",
    "StreamInterrupted",
    "TLSError",
    "Tensor",
    "TokenSource",
    "Transport",
    "Trust",
    "UnsupportedParameterError",
    "WaitEvent",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
