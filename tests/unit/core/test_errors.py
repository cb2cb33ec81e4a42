"""What the errors carry, show and survive."""

from __future__ import annotations

import pickle

import pytest

import kserve_core
from kserve_core import errors
from kserve_core.errors import (
    ConfigurationError,
    ConnectTimeoutError,
    EndpointConnectionError,
    EndpointTimeoutError,
    ErrorResponse,
    KServeError,
    ModelNotFoundError,
    NameResolutionError,
    RateLimitError,
    StreamIdleError,
    StreamInterrupted,
    TLSError,
)
from kserve_core.retry import StaleConnectionError

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, KServeError)]
DETAILS = {
    "hint": "try this",
    "layer": "gateway",
    "status": 429,
    "server_message": "slow down",
    "request_id": "r-1",
    "attempts": 3,
    "response": ErrorResponse(429, {"a": "b"}, b'{"error": 1}'),
    "partial_text": "so far",
    "retry_after": 7.0,
}


@pytest.mark.parametrize("kind", [*ALL, StaleConnectionError])
def test_every_error_pickles_with_everything(kind: type[KServeError]) -> None:
    error = kind("message", **DETAILS)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.details()) == ("message", DETAILS)
    assert str(copy) == str(error)


def test_text_has_the_layer_the_ids_and_the_hint() -> None:
    error = RateLimitError("HTTP 429: slow down", **DETAILS)  # type: ignore[arg-type]
    assert str(error) == (
        "HTTP 429: slow down (answered by: gateway, request id: r-1, requests sent: 3)\nHint: try this"
    )
    assert str(KServeError("plain", layer="client")) == "plain"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigurationError, ValueError),
        (EndpointConnectionError, ConnectionError),
        (TLSError, ConnectionError),
        (NameResolutionError, ConnectionError),
        (EndpointTimeoutError, TimeoutError),
        (ConnectTimeoutError, TimeoutError),
        (ConnectTimeoutError, ConnectionError),
        (StreamIdleError, TimeoutError),
        (StreamIdleError, StreamInterrupted),
    ],
)
def test_builtin_handlers_catch_them(kind: type[KServeError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise kind("x")


def test_layers_by_default() -> None:
    assert ConfigurationError("x").layer == "client"
    assert EndpointConnectionError("x").layer == "network"
    assert StreamIdleError("x").layer == "network"
    assert ModelNotFoundError("x").layer == "runtime"


def test_response_of_an_error_reads_like_an_http_response() -> None:
    response = ErrorResponse(400, {}, b'{"a": "\xff"}')
    assert response.text == '{"a": "�"}'
    with pytest.raises(ValueError):
        response.json()
    assert ErrorResponse(400, {}, b"[1]").json() == [1]
    assert "a" not in repr(response).replace("status_code", "").replace("headers", "").replace("ErrorResponse", "")


def test_every_public_error_is_exported_and_every_name_resolves() -> None:
    assert {kind.__name__ for kind in ALL} <= set(kserve_core.__all__)
    for name in kserve_core.__all__:
        assert getattr(kserve_core, name) is not None
    assert dir(kserve_core) == sorted(kserve_core.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        kserve_core.nonsense  # noqa: B018
