"""Error answers in every shape that servers and proxies send."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from kserve_core.calls import Response
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    RequestTooLargeError,
    ResponseError,
    ServerError,
)
from kserve_core.failures import embedded_error, error_from_response, retry_after
from tests.unit.core.scripted import ROUTER_PAGE

PROMPT = "my very private prompt"


def reply(status: int, body: Any = b"", kind: str | None = "application/json", **headers: str) -> Response:
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {**named, **({"content-type": kind} if kind else {})}, data)


def error_of(response: Response, **options: Any) -> KServeError:
    error = error_from_response(response, **options)
    assert error is not None
    return error


def page(text: str) -> bytes:
    return f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>".encode()


@pytest.mark.parametrize(
    ("response", "kind", "layer", "said"),
    [
        # vLLM, nested and flat, and its string
        (reply(404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}}), ModelNotFoundError, "model", "The model `x` does not exist."),
        (reply(404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404}), ModelNotFoundError, "model", "The model `x` does not exist."),
        (reply(401, {"error": "Unauthorized"}), AuthenticationError, "runtime", "Unauthorized"),
        (reply(400, {"error": {"message": "temperature must be non-negative", "code": 400}}), InvalidRequestError, "runtime", "temperature must be non-negative"),
        (reply(500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}}), ServerError, "runtime", "EngineCore encountered an issue."),
        # FastAPI
        (reply(404, {"detail": "Not Found"}), NotFoundError, "runtime", "Not Found"),
        (reply(405, {"detail": "Method Not Allowed"}), NotFoundError, "runtime", "Method Not Allowed"),
        (reply(422, {"detail": [{"type": "missing", "loc": ["body", "inputs"], "msg": "Field required", "input": {"x": PROMPT}}]}), InvalidRequestError, "runtime", "body.inputs: Field required"),
        # Caikit: no content type, `details`
        (reply(404, {"details": "Model 'nope' not loaded", "code": 404, "id": "ab12"}, None), ModelNotFoundError, "model", "Model 'nope' not loaded"),
        (reply(422, {"details": "Invalid", "additional_info": [{"input": PROMPT, "msg": "x"}], "code": 422, "id": "ab"}), InvalidRequestError, "runtime", "Invalid"),
        (reply(415, {"detail": "Unsupported media type"}), InvalidRequestError, "runtime", "Unsupported media type"),
        (reply(501, {"details": "The underlying TCP connection is closed", "code": 501, "id": "ab"}), ServerError, "runtime", "The underlying TCP connection is closed"),
        # V2: Triton as text/plain, MLServer, KServe, OVMS
        (reply(404, '{"error":"Request for unknown model: \'x\' is not found"}', "text/plain"), ModelNotFoundError, "model", "Request for unknown model: 'x' is not found"),
        (reply(404, {"error": "Request for unknown model: 'x' has no available versions"}), ModelNotFoundError, "model", "Request for unknown model: 'x' has no available versions"),
        (reply(404, {"error": "Model x not found"}), ModelNotFoundError, "model", "Model x not found"),
        (reply(404, {"error": "Model with name x does not exist."}), ModelNotFoundError, "model", "Model with name x does not exist."),
        (reply(400, {"error": "Model x is not ready yet."}), NotReadyError, "runtime", "Model x is not ready yet."),
        (reply(403, {"error": "This API is restricted, expecting header 'authorization'"}), PermissionDeniedError, "runtime", "This API is restricted, expecting header 'authorization'"),
        (reply(400, b'data: {"error":"bad input"}\n\n', "text/event-stream"), InvalidRequestError, "runtime", "bad input"),
        (reply(500, "Traceback (most recent call last):\n  File x\nValueError: boom", "text/plain"), ServerError, "runtime", "Traceback (most recent call last): File x ValueError: boom"),
        (reply(400, b"", None), InvalidRequestError, "runtime", ""),
        (reply(412, {"error": "JSON parsing error"}), InvalidRequestError, "runtime", "JSON parsing error"),
        # Kubernetes
        (reply(403, {"kind": "Status", "status": "Failure", "message": 'inferenceservices.serving.kserve.io "m" is forbidden', "reason": "Forbidden", "code": 403}), PermissionDeniedError, "runtime", 'inferenceservices.serving.kserve.io "m" is forbidden'),
        # Routers, proxies, gateways
        (reply(503, ROUTER_PAGE, "text/html"), NotReadyError, "router", None),
        (reply(503, b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n", "text/html"), NotReadyError, "router", None),
        (reply(504, b"<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>", "text/html"), NotReadyError, "router", None),
        (reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html"), ServerError, "router", None),
        (reply(502, page("502 Bad Gateway") + b"<center>nginx</center>", "text/html"), ServerError, "gateway", None),
        (reply(401, "Unauthorized\n", "text/plain"), AuthenticationError, "auth proxy", "Unauthorized"),
        (reply(403, "Forbidden (user=system:serviceaccount:ns:sa, verb=get, resource=inferenceservices, subresource=)\n", "text/plain"), PermissionDeniedError, "auth proxy", None),
        (reply(403, page("Log in with OpenShift"), "text/html"), PermissionDeniedError, "auth proxy", None),
        (reply(401, b"", None, x_ext_auth_reason="credential not found", www_authenticate="Bearer realm=x"), AuthenticationError, "gateway", ""),
        (reply(503, "upstream connect error or disconnect/reset before headers. reset reason: connection refused", "text/plain", server="envoy"), NotReadyError, "gateway", None),
        (reply(503, "no healthy upstream", "text/plain", server="istio-envoy"), NotReadyError, "gateway", "no healthy upstream"),
        (reply(504, "upstream request timeout", "text/plain", server="envoy"), NotReadyError, "gateway", "upstream request timeout"),
        (reply(504, "activator request timeout", "text/plain"), NotReadyError, "gateway", "activator request timeout"),
        (reply(429, "Too Many Requests\n", "text/plain"), RateLimitError, "gateway", "Too Many Requests"),
        (reply(503, {"error": "queue is full"}), ServerError, "runtime", "queue is full"),
        (reply(418, {"error": "teapot"}), InvalidRequestError, "runtime", "teapot"),
    ],
)  # fmt: skip
def test_kind_layer_and_words(response: Response, kind: type[KServeError], layer: str, said: str | None) -> None:
    error = error_of(response)
    assert type(error) is kind
    assert error.layer == layer
    assert error.status == response.status
    if said is not None:
        assert error.server_message == said
    if said:
        assert said in str(error)
    assert "<" not in error.server_message
    assert isinstance(error, ResponseError)
    assert error.response is not None
    assert error.response.status_code == response.status
    assert PROMPT not in repr(pickle.dumps(error)) + str(error) + error.response.text


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "You passed 300 input tokens and requested 16 output tokens. However, the model's context length is only 256 tokens",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is",
        "max_tokens=9999 cannot be greater than max_model_len=max_total_tokens=2048.",
        "Token sequence length (+2 for start/end tokens) exceeds the maximum sequence length for this model (256).",
        "input tokens (1600) plus prefix length (0) must be < 512",
        "`inputs` must have less than 512 tokens. Given: 1000",
        "The prompt is too long for this model",
    ],
)
def test_context_overflow(text: str) -> None:
    for body in ({"error": {"message": text, "code": 400}}, {"details": text, "code": 400}, {"error": text}):
        assert type(error_of(reply(400, body))) is ContextOverflowError
    assert type(error_of(reply(413, {"error": text, "error_type": "Validation"}))) is ContextOverflowError


def test_context_overflow_by_parameter() -> None:
    body = {"error": {"message": "too much of it", "param": "input_tokens", "code": 400}}
    assert type(error_of(reply(400, body))) is ContextOverflowError


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (422, "batch size 60 > maximum allowed batch size 32"),
        (400, "batch size is invalid, it should not be larger than 25.: input.contents"),
        (400, "inference request batch-size must be <= 8 for 'simple'"),
        (413, "Payload Too Large"),
        (413, ""),
        (400, "http: request body too large"),
        (400, "Number of documents to rank exceeds the maximum of 100"),
    ],
)
def test_request_too_large(status: int, text: str) -> None:
    error = error_of(reply(status, {"error": text} if text else b""))
    assert type(error) is RequestTooLargeError
    assert "batch" in error.hint


def test_ordinary_refusals_are_neither_too_long_nor_too_large() -> None:
    for text in ("max_tokens must be at least 1, got 0", "prompt must be text", "batch must not be empty", "bad input"):
        assert type(error_of(reply(400, {"error": text}))) is InvalidRequestError


def test_echo_of_the_request_is_taken_out() -> None:
    python_style = (
        "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', "
        f"'input': {{'model': 'm', 'prompt': \"{PROMPT}, isn't it\", 'n': [1, (2)]}}, 'url': 'https://x'}}"
    )
    pydantic_style = f"Input should be a valid integer [type=int_type, input_value='{PROMPT}', input_type=str]"
    bodies: list[Any] = [
        {"error": {"message": python_style, "code": 400}},
        {"detail": pydantic_style},
        {"detail": [{"loc": ["body"], "msg": pydantic_style, "input": PROMPT, "ctx": {"input_value": PROMPT}}]},
        {"details": "x", "additional_info": [{"input": {"a": [PROMPT]}, "msg": "bad"}], "code": 422},
    ]
    for body in bodies:
        error = error_of(reply(400, body))
        assert error.response is not None
        assert PROMPT not in str(error) + error.response.text
    assert "Field required" in error_of(reply(400, bodies[0])).server_message
    assert "https://x" in error_of(reply(400, bodies[0])).server_message
    assert "type=int_type" in error_of(reply(400, bodies[1])).server_message
    text = error_of(reply(400, f"bad: 'input': '{PROMPT}'", "text/plain"))
    assert text.response is not None
    assert PROMPT not in str(text) + text.response.text


def test_words_are_bounded_and_on_one_line() -> None:
    error = error_of(reply(400, {"error": "word\n" * 5000 + "\x1b[31m"}))
    assert len(error.server_message) == 500
    assert "\n" not in error.server_message
    assert "\x1b" not in error_of(reply(400, {"error": "\x1b[31mred"})).server_message
    huge = error_of(reply(400, b"{" + b'"a":"' + b"x" * 1_000_000 + b'"}'))
    assert huge.response is not None
    assert len(huge.response.content) <= 16 * 1024


def test_deep_json_does_not_break_anything() -> None:
    nested = b'{"error":' * 500 + b"1" + b"}" * 500
    assert isinstance(error_of(reply(400, nested)), InvalidRequestError)
    assert isinstance(error_of(reply(400, b"[" * 100_000)), InvalidRequestError)


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{}",
        b'{"error":null}',
        b'[{"error":"first"}]',
        b'{"error":[]}',
        b'{"error":{"message":{"a":1}}}',
    ],
)
def test_odd_json_is_read_somehow(body: bytes) -> None:
    assert error_of(reply(400, body)).status == 400


def test_page_that_calls_itself_json_or_nothing() -> None:
    assert error_of(reply(503, ROUTER_PAGE, "application/json")).layer == "router"
    assert error_of(reply(200, ROUTER_PAGE, None)).status == 200
    assert "color: red" not in error_of(reply(503, ROUTER_PAGE, "text/html")).server_message


def test_success_is_no_error() -> None:
    assert error_from_response(reply(200, {"error": "handled by the codec"})) is None
    assert error_from_response(reply(204)) is None


def test_page_with_success_status() -> None:
    sign_in = error_of(reply(200, page("Log in to your account"), "text/html; charset=utf-8"))
    assert type(sign_in) is AuthenticationError
    assert sign_in.layer == "auth proxy"
    assert "api_key" in sign_in.hint
    assert "base_url" in error_of(reply(200, page("Welcome to nginx!"), "text/html")).hint


def test_hints_for_a_refused_or_missing_token() -> None:
    assert "expired" in error_of(reply(401, {"error": "Unauthorized"}), token_sent=True).hint
    assert "KSERVE_API_KEY" in error_of(reply(401, {"error": "Unauthorized"})).hint


def test_hint_for_a_missing_permission_names_the_verb() -> None:
    general = error_of(reply(403, b"", None)).hint
    for words in ("`get`", "inferenceservices.serving.kserve.io/<name>", "services", "llminferenceservices", "`post`"):
        assert words in general
    exact = error_of(
        reply(
            403,
            "Forbidden (user=system:serviceaccount:ns:app, verb=get, resource=inferenceservices, subresource=)",
            "text/plain",
        )
    ).hint
    assert "system:serviceaccount:ns:app" in exact
    assert "`get` on `inferenceservices.serving.kserve.io`" in exact
    assert "header" in error_of(reply(403, {"error": "This API is restricted, expecting header 'x'"})).hint


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/openai/v1/chat/completions", "/v1, not /openai/v1"),
        ("/v1/chat/completions", "/openai/v1"),
        ("/v1/v1/models", "twice"),
        ("/chat/completions", "forget /v1"),
    ],
)
def test_hint_for_a_wrong_path(path: str, words: str) -> None:
    assert words in error_of(reply(404, {"detail": "Not Found"}), path=path).hint


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_who_answers_at_a_wrong_path_can_be_found_out(path: str) -> None:
    assert "kserve-doctor" in error_of(reply(404, {"detail": "Not Found"}), path=path).hint


def test_hint_for_a_missing_chat_template() -> None:
    text = "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template"
    assert "chat_template=" in error_of(reply(400, {"error": {"message": text}})).hint


def test_quota_and_rate_are_told_apart() -> None:
    rate = error_of(reply(429, {"error": {"message": "slow", "type": "rate_limit_error"}}, x_ratelimit_limit="5"))
    quota = error_of(reply(429, {"error": {"message": "gone", "type": "quota_error"}}))
    assert rate.hint != quota.hint
    assert "quota" in quota.hint
    assert rate.layer == "gateway"


# Redirects


@pytest.mark.parametrize(
    ("location", "origin", "kind", "said", "hint"),
    [
        (
            "https://sso.example.com/oauth/authorize?state=abc",
            "https://m",
            AuthenticationError,
            "sso.example.com",
            "oc create token",
        ),
        ("/oauth/start?rd=%2F", "https://m", AuthenticationError, "m", "api_key"),
        (
            "https://keycloak/auth/realms/x/protocol/openid-connect/auth",
            "https://m",
            AuthenticationError,
            "keycloak",
            "",
        ),
        ("https://m/v1/models", "http://m", RedirectError, "https://m", "https://"),
        ("https://evil.example.com/v1", "https://m", RedirectError, "https://evil.example.com", "not followed"),
        ("/v1/models", "https://m", RedirectError, "https://m", "/v1/models"),
        ("http://[bad", "https://m", RedirectError, "m", ""),
        ("", "https://m", RedirectError, "m", ""),
    ],
)
def test_redirects(location: str, origin: str, kind: type[KServeError], said: str, hint: str) -> None:
    error = error_of(reply(307, b"", None, location=location), origin=origin)
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint
    assert "abc" not in str(error) + repr(error.response)


# What an error carries


def test_request_id_from_header_or_body() -> None:
    assert error_of(reply(400, {"error": "x"}, x_request_id="r-1")).request_id == "r-1"
    assert error_of(reply(400, {"details": "x", "code": 400, "id": "ab12"}, None)).request_id == "ab12"
    assert error_of(reply(400, {"details": "x", "id": "ab12"}, None, x_request_id="r-1")).request_id == "r-1"
    assert error_of(reply(400, {"error": "x"})).request_id is None


def test_headers_that_may_hold_secrets_are_left_out() -> None:
    error = error_of(
        reply(401, {"error": "x"}, set_cookie="canary", www_authenticate="canary", location="canary", server="envoy")
    )
    assert error.response is not None
    assert dict(error.response.headers) == {"content-type": "application/json", "server": "envoy"}


def test_secrets_are_taken_out() -> None:
    error = error_of(reply(401, {"error": "Invalid key canary-token"}), secrets=["canary-token"])
    assert error.response is not None
    assert "canary" not in str(error) + error.server_message + error.response.text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=60.0) == seconds
    assert error_of(Response(429, headers, b""), now=60.0).retry_after == seconds


def test_reset_time_of_a_rate_limit() -> None:
    assert error_of(reply(429, x_ratelimit_reset="1700000030"), now=1_700_000_000.0).retry_after == 30.0
    assert error_of(reply(429, x_ratelimit_reset="12"), now=1_700_000_000.0).retry_after == 12.0
    assert error_of(reply(400, {"error": "x"}, x_ratelimit_reset="12")).retry_after is None


def test_runtime_explains_first_and_is_completed() -> None:
    def explain(response: Response) -> KServeError | None:
        return NotReadyError("backend is starting") if response.status == 501 else None

    error = error_of(reply(501, {"details": "closed", "code": 501, "id": "ab"}), explain=explain, attempts=3)
    assert (str(error).splitlines()[0], error.status, error.request_id) == (
        "backend is starting (answered by: runtime, request id: ab, requests sent: 3)", 501, "ab",
    )  # fmt: skip
    assert error.server_message == "closed"
    assert type(error_of(reply(400, {"error": "x"}), explain=explain)) is InvalidRequestError
    assert type(error_of(reply(503, ROUTER_PAGE, "text/html"), explain=lambda _: ServerError("no"))) is NotReadyError


def test_runtime_that_fails_to_explain_does_not_hide_the_error() -> None:
    def explain(response: Response) -> KServeError | None:
        raise KeyError("error")

    assert type(error_of(reply(400, {"error": "x"}), explain=explain)) is InvalidRequestError


def test_error_under_a_success_status() -> None:
    triton = embedded_error(reply(200, {"error": "generate expects model to produce exactly 1 response"}))
    assert type(triton) is ServerError
    assert triton.status == 200
    caikit = embedded_error(reply(200, {"details": "Model 'x' not loaded", "code": 404, "id": "a"}))
    assert type(caikit) is ModelNotFoundError
    assert embedded_error(reply(200, {"choices": []})) is None
    assert embedded_error(reply(200, {"details": {"finish_reason": "x"}, "code": 1})) is None
    assert embedded_error(reply(200, b"text", "text/plain")) is None
