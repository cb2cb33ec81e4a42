"""What a status means. The texts are those of grpcio 1.65 and 1.85 and of real Caikit and TGIS servers."""

from __future__ import annotations

from typing import Any

import pytest

from kserve_core.calls import GrpcFailure
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError, ServerError
from kserve_core.grpc_failures import error_from_failure
from kserve_core.protos import messages
from kserve_core.retry import is_retryable

SECURE = Endpoint.create("grpcs://model.apps.example.com")
INSIDE = Endpoint.create("grpcs://m-predictor.ns.svc.cluster.local:8033")
PLAIN = Endpoint.create("grpc://127.0.0.1:8033")
FAILED = "failed to connect to all addresses; last error: "
METHOD = "/fmaas.GenerationService/Generate"


def read(
    code: str, details: str = "", *, endpoint: Endpoint = SECURE, metadata: Any = None, **options: Any
) -> KServeError:
    return error_from_failure(GrpcFailure(code, details, metadata or {}), endpoint=endpoint, method=METHOD, **options)


# Connections that did not come about


@pytest.mark.parametrize(
    ("details", "kind", "retried"),
    [
        (
            (
                "UNKNOWN: ipv4:10.0.0.1:443: Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL "
                "routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK"
            ),
            "TLSError",
            False,
        ),
        (
            (
                "UNKNOWN: ipv4:10.0.0.1:443: Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: "
                "error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"
            ),
            "TLSError",
            False,
        ),
        (
            (
                "UNKNOWN: ipv4:10.0.0.1:443: Custom verification check failed with error: UNAUTHENTICATED: Hostname "
                "Verification Check failed."
            ),
            "TLSError",
            False,
        ),
        ("UNKNOWN: ipv4:10.0.0.1:443: Peer name m.ns.svc is not in peer certificate", "TLSError", False),
        (
            (
                "UNKNOWN: ipv4:10.0.0.1:443: Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL "
                "routines:OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate verification context: OK"
            ),
            "TLSError",
            False,
        ),
        (
            "UNKNOWN: ipv4:10.0.0.1:443: Cannot check peer: missing selected ALPN property.",
            "BadResponseError",
            False,
        ),
        (
            "INTERNAL: ipv4:10.0.0.1:80: Trying to connect an http1.x server (HTTP status 400)",
            "BadResponseError",
            False,
        ),
        (
            "UNKNOWN: ipv4:10.0.0.1:443: Failed to connect to remote host: Connection refused",
            "EndpointConnectionError",
            True,
        ),
        (
            "UNKNOWN: ipv4:10.0.0.1:443: Failed to connect to remote host: connect: Connection refused (111)",
            "EndpointConnectionError",
            True,
        ),
        (
            "UNKNOWN: ipv4:10.0.0.1:443: connection attempt timed out before receiving SETTINGS frame",
            "ConnectTimeoutError",
            True,
        ),
        ("UNKNOWN: ipv4:10.0.0.1:443: FD Shutdown", "ConnectTimeoutError", True),
        ("UNAVAILABLE: ipv4:10.0.0.1:443: Socket closed", "EndpointConnectionError", True),
        ("UNKNOWN: ipv4:10.0.0.1:443: No route to host", "EndpointConnectionError", True),
    ],
)
def test_why_there_is_no_connection(details: str, kind: str, retried: bool) -> None:
    error = read("UNAVAILABLE", FAILED + details)
    assert type(error).__name__ == kind
    assert is_retryable(error) is retried
    assert error.hint
    assert error.layer in {"network", "router"}
    assert "10.0.0.1" not in error.message
    assert "TSI" not in error.message


@pytest.mark.parametrize(
    "details",
    [
        (
            "DNS resolution failed for nope.invalid:80: C-ares status is not ARES_SUCCESS qtype=A name=nope.invalid "
            "is_balancer=0: Domain name not found"
        ),
        (
            "errors resolving nope.invalid:80: [field:hostname lookup error:address lookup failed for nope.invalid:80: Domain "
            "name not found]"
        ),
    ],
)
def test_a_host_name_that_is_unknown(details: str) -> None:
    error = read("UNAVAILABLE", details, endpoint=INSIDE)
    assert type(error).__name__ == "NameResolutionError"
    assert "exist only inside the cluster" in error.hint
    assert not is_retryable(error)


def test_which_ca_is_likely_to_be_missing() -> None:
    details = FAILED + "UNKNOWN: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate"
    assert "odh-trusted-ca-bundle" in read("UNAVAILABLE", details).hint
    assert "service-ca.crt" in read("UNAVAILABLE", details, endpoint=INSIDE).hint
    assert "unable to get local issuer certificate" in read("UNAVAILABLE", details).message


def test_a_connection_closed_at_once_is_explained_by_how_it_was_made() -> None:
    details = FAILED + "UNAVAILABLE: ipv4:10.0.0.1:443: Socket closed"
    assert "client_cert" in read("UNAVAILABLE", details).hint
    assert "grpcs://" in read("UNAVAILABLE", details, endpoint=PLAIN).hint


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer"),
        ("UNAVAILABLE", "GOAWAY received; Error code: 2; Debug Text: Cancelling all calls"),
        ("UNKNOWN", "Stream removed"),
        ("INTERNAL", "Received RST_STREAM with error code 2"),
        ("CANCELLED", ""),
        ("CANCELLED", "CANCELLED"),
        ("CANCELLED", "Channel closed!"),
        ("CANCELLED", "Locally cancelled by application!"),
        ("CANCELLED", "context canceled"),
        ("CANCELLED", "the operation was canceled"),
        ("CANCELLED", "Received RST_STREAM with error code 8"),
    ],
)
def test_connections_that_break(code: str, details: str) -> None:
    error = read(code, details)
    assert type(error).__name__ == "EndpointConnectionError"
    assert "broke" in error.message
    assert is_retryable(error)


# What servers say


@pytest.mark.parametrize(
    ("code", "details", "kind", "status", "retried"),
    [
        (
            "INVALID_ARGUMENT",
            "input tokens (1600) plus prefix length (0) must be < 512",
            "ContextOverflowError",
            400,
            False,
        ),
        ("INVALID_ARGUMENT", "max_new_tokens must be <= 1024", "InvalidRequestError", 400, False),
        ("INVALID_ARGUMENT", "Missing required model ID", "InvalidRequestError", 400, False),
        (
            "INVALID_ARGUMENT",
            "Token sequence length (+2 for start/end tokens) exceeds the maximum sequence length for this model (256).",
            "ContextOverflowError",
            400,
            False,
        ),
        ("NOT_FOUND", "Model 'nope' not loaded", "ModelNotFoundError", 404, False),
        ("NOT_FOUND", "", "NotFoundError", 404, False),
        ("RESOURCE_EXHAUSTED", "Model is overloaded", "RateLimitError", 429, True),
        (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (5000007 vs. 4194304)",
            "RequestTooLargeError",
            413,
            False,
        ),
        (
            "RESOURCE_EXHAUSTED",
            "Stream removed (CLIENT: Received message larger than max (500 vs. 100))",
            "RequestTooLargeError",
            413,
            False,
        ),
        ("UNAVAILABLE", "The underlying TCP connection is closed", "ServerError", 503, True),
        ("UNAVAILABLE", "Model m is not ready yet", "NotReadyError", 503, True),
        ("UNAVAILABLE", "no healthy upstream", "NotReadyError", 503, True),
        ("DEADLINE_EXCEEDED", "backend took too long", "ServerError", 504, True),
        ("UNAUTHENTICATED", "invalid token", "AuthenticationError", 401, False),
        ("PERMISSION_DENIED", "", "PermissionDeniedError", 403, False),
        ("UNIMPLEMENTED", "Method not found!", "NotFoundError", 501, False),
        ("INTERNAL", "something broke", "ServerError", 500, False),
        ("UNKNOWN", "Unexpected <class 'ValueError'>: bad", "ServerError", 500, False),
        ("ABORTED", "transaction conflict", "ServerError", 503, True),
        ("CODE_OF_THE_FUTURE", "what", "ServerError", 500, False),
    ],
)
def test_statuses(code: str, details: str, kind: str, status: int, retried: bool) -> None:
    error = read(code, details)
    assert (type(error).__name__, error.status) == (kind, status)
    assert is_retryable(error) is retried
    assert error.message.startswith(code)


def test_a_method_that_is_missing_is_named() -> None:
    error = read("UNIMPLEMENTED", "Method not found!")
    assert METHOD in error.message
    assert "runtime" in error.hint


def test_an_error_keeps_the_status_as_an_answer() -> None:
    error = read("INVALID_ARGUMENT", "no", metadata={"x-request-id": "r-7", "set-cookie": "session"})
    assert error.response is not None
    assert (error.response.status_code, error.response.text) == (400, "no")
    assert error.response.headers == {"grpc-status": "3", "x-request-id": "r-7"}
    assert (error.request_id, error.server_message) == ("r-7", "no")


def test_only_this_sides_deadline_is_a_timeout() -> None:
    assert type(read("DEADLINE_EXCEEDED", "Deadline Exceeded", timed_out=True)).__name__ == "EndpointTimeoutError"
    assert type(read("DEADLINE_EXCEEDED", "Deadline Exceeded")).__name__ == "ServerError"


def test_details_are_bounded_and_tokens_taken_out() -> None:
    error = read("INVALID_ARGUMENT", f"bad token abc.def {'x' * 50_000}", secrets=("abc.def",))
    assert "abc.def" not in error.message + error.server_message + error.response.text
    assert len(error.message) < 600
    assert len(error.response.content) <= 16 * 1024


def test_the_request_is_not_echoed() -> None:
    details = "1 validation error: {'type': 'missing', 'input': 'my secret prompt', 'loc': ['x']}"
    error = read("INVALID_ARGUMENT", details)
    assert "secret prompt" not in error.message + error.server_message + error.response.text


def test_a_runtime_is_not_asked_about_what_it_did_not_send() -> None:
    def explain(_: GrpcFailure) -> KServeError:
        raise AssertionError

    read("UNAVAILABLE", FAILED + "Connection refused", explain=explain)
    read("UNAVAILABLE", "Received http2 header with status: 503", explain=explain)
    read("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (2 vs. 1)", explain=explain)


# Structured details


def packed(**details: Any) -> bytes:
    """A status with details; keys are message names."""
    types = messages.google_rpc
    parts = []
    for name, value in details.items():
        part = messages.google_protobuf.Any()
        part.type_url = f"type.googleapis.com/google.rpc.{name}"
        part.value = value.SerializeToString()
        parts.append(part)
    return types.Status(code=8, message="ignored", details=parts).SerializeToString()


def test_structured_details_are_read() -> None:
    types = messages.google_rpc
    delay = messages.google_protobuf.Duration(seconds=3, nanos=500_000_000)
    wrong = types.BadRequest(
        field_violations=[types.BadRequest.FieldViolation(field="params.top_p", description="must be > 0")]
    )
    rich = packed(
        RetryInfo=types.RetryInfo(retry_delay=delay),
        RequestInfo=types.RequestInfo(request_id="r-9"),
        BadRequest=wrong,
        ErrorInfo=types.ErrorInfo(reason="QUOTA"),
        DebugInfo=types.ErrorInfo(reason="unknown details are left out"),
    )
    error = read("RESOURCE_EXHAUSTED", "slow down", rich=rich)
    assert (error.retry_after, error.request_id) == (3.5, "r-9")
    assert error.message == "RESOURCE_EXHAUSTED: slow down (params.top_p: must be > 0) (QUOTA)"


def test_structured_details_that_cannot_be_read_do_not_hide_the_status() -> None:
    assert read("INVALID_ARGUMENT", "no", rich=b"\xff\xff").message == "INVALID_ARGUMENT: no"


def test_how_long_to_wait_is_read_from_plain_metadata_too() -> None:
    assert read("RESOURCE_EXHAUSTED", metadata={"retry-after": "7"}).retry_after == 7
    assert read("UNAVAILABLE", metadata={"grpc-retry-pushback-ms": "1500"}).retry_after == 1.5


def test_servers_behind_the_one_asked_are_not_confused_with_it() -> None:
    # A Caikit server's words about the TGIS server behind it.
    text = "connections to all backends failing; last error: UNKNOWN: ipv4:10.0.0.7:8033: Connection refused"
    error = read("UNAVAILABLE", text)
    assert isinstance(error, ServerError)
    assert error.retryable
    assert "10.0.0.7" in error.message
