"""What the servers' errors mean; the answers were recorded from real servers, those of OpenVINO's are documented."""

from __future__ import annotations

import pickle

import pytest
from unit.core.runtimes.v2_wire import ENDPOINT, answer, json_answer, messages_of, recorded

from kserve_core.calls import GrpcFailure, Response
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
    RequestTooLargeError,
    ServerError,
)
from kserve_core.failures import error_from_response
from kserve_core.grpc_failures import error_from_failure
from kserve_core.retry import is_cold_start, is_retryable
from kserve_core.runtimes.open_inference.dialects import DIALECTS, OPENVINO, TRITON
from kserve_core.runtimes.open_inference.errors import Asked, explain, explain_grpc, stream_failure
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec

TEXT = TensorSpec("text", "BYTES", (-1,))
EMBED = ModelMetadata("embed", inputs=(TEXT,))


def over_rest(server, found, what="infer", model="embed", **more):
    response = answer(server, found) if isinstance(found, str) else found
    asked = Asked(DIALECTS[server], what, model, **more)
    error = error_from_response(response, explain=explain(asked))
    assert error is not None
    return error


def over_grpc(server, found, what="infer", model="embed", **more):
    failure = messages_of(server, found) if isinstance(found, str) else found
    assert isinstance(failure, GrpcFailure)
    asked = Asked(DIALECTS[server], what, model, **more)
    return error_from_failure(failure, endpoint=ENDPOINT, method="/x/Y", explain=explain_grpc(asked))


BOTH = [pytest.param(over_rest, id="rest"), pytest.param(over_grpc, id="grpc")]


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
def test_an_unknown_model_says_what_there_is(read, server):
    error = read(server, "unknown model", model="embd", known=["embed", "rerank"])
    assert type(error) is ModelNotFoundError
    assert error.message == "The server does not serve a model named 'embd'."
    assert error.hint == "Did you mean 'embed'? The server has 'embed', 'rerank'."
    assert (error.status, error.layer) == (404, "model")


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("server", ["triton", "mlserver"])
def test_an_unknown_version_is_not_an_unknown_model(read, server):
    declared = ModelMetadata("versioned", versions=("1", "2"))
    error = read(server, "unknown version", model="versioned", version="9", known=["versioned"], declared=declared)
    assert type(error) is ModelNotFoundError
    assert "version '9' of the model 'versioned'" in error.message
    assert "'1', '2'" in error.hint


def test_versions_where_there_are_none():
    error = over_rest("kserve", "version of infer")
    assert type(error) is InvalidRequestError
    assert "leave model_version out" in error.hint


@pytest.mark.parametrize(
    ("read", "server", "name"),
    [
        (over_rest, "triton", "broken model"),
        (over_grpc, "triton", "broken model"),
        (over_rest, "mlserver", "infer, broken"),
        (over_grpc, "mlserver", "infer, broken"),
        (over_rest, "triton", "infer of an unloaded model"),
        (over_grpc, "triton", "infer of an unloaded model"),
        (over_rest, "kserve", "load embed_states"),
        (over_grpc, "kserve", "load embed_int8"),
    ],
)
def test_a_model_that_is_not_ready_is_waited_for(read, server, name):
    error = read(server, name)
    assert isinstance(error, NotReadyError)
    assert is_cold_start(error)
    assert "load" in error.hint


@pytest.mark.parametrize("name", ["model ready, broken", "ready, a model is not"])
def test_readiness_without_a_word_is_a_plain_no(name):
    assert isinstance(over_rest("mlserver", name, what="ready", model=None), NotReadyError)


@pytest.mark.parametrize("name", ["wrong count", "wrong datatype", "unknown input", "missing input"])
@pytest.mark.parametrize("read", BOTH)
def test_wrong_tensors_show_what_the_model_declares(read, name):
    error = read("triton", name, declared=EMBED)
    assert type(error) is InvalidRequestError
    assert error.hint == "The model declares text BYTES[-1]."
    assert "request id" not in error.message
    assert not is_retryable(error)


def test_a_batch_that_is_too_large_can_be_halved():
    error = over_rest("triton", "embed_wide, too many")
    assert type(error) is RequestTooLargeError
    assert error.hint == "The model takes at most 64 rows in one request."
    assert "64" in error.message


@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
@pytest.mark.parametrize("read", BOTH)
def test_a_text_that_is_too_long(read, server):
    error = read(server, "embed, too long")
    assert type(error) is ContextOverflowError
    assert "truncate" in error.hint


@pytest.mark.parametrize("name", ["malformed JSON", "no inputs", "mixed, wrong header", "generate, number as text"])
def test_tritons_500_for_a_bad_request_is_the_callers(name):
    error = over_rest("triton", name)
    assert type(error) is InvalidRequestError
    assert error.status == 500


@pytest.mark.parametrize("name", ["no inputs", "unknown datatype", "binary input"])
def test_a_refusal_never_repeats_the_request(name):
    raw = recorded("mlserver", "http")[name]["response"]["body"]
    assert '"input":' in raw
    error = over_rest("mlserver", name)
    assert type(error) is InvalidRequestError
    assert error.status == 422
    everything = f"{error}{error.server_message}{error.response.text}"
    assert '"id"' not in everything
    assert "r1" not in everything


def test_a_traceback_is_not_passed_on():
    secret = "what the user wrote"
    body = f"Traceback (most recent call last):\n  File x, line 1, in y\n    z\nValueError: no such word: {secret}"
    error = over_rest("mlserver", Response(500, {"content-type": "text/plain"}, body.encode()))
    assert type(error) is ServerError
    assert "ValueError" in error.message
    assert secret not in f"{error}{error.server_message}{error.response.text}{error!r}"
    real = over_rest("mlserver", "fails RAISE")
    assert "RuntimeError" in real.message
    assert "File" not in real.message + real.response.text
    assert over_rest("mlserver", "quiet: fails RAISE").layer == "model"


def test_a_traceback_still_says_what_went_wrong():
    assert type(over_rest("mlserver", "infer_stream, unknown model", what="stream")) is ModelNotFoundError
    assert type(over_rest("mlserver", "infer_stream, too long", what="stream")) is ContextOverflowError
    assert type(over_rest("mlserver", "infer_stream, fails at once", what="stream")) is ServerError


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", InvalidRequestError),
        ("UNSUPPORTED", InvalidRequestError),
        ("INTERNAL", ServerError),
        ("UNAVAILABLE", ServerError),
        ("RAISE", ServerError),
    ],
)
def test_a_models_own_errors_are_the_models(read, code, kind):
    error = read("triton", f"fails {code}")
    assert type(error) is kind
    assert error.layer == "model"
    assert "base_url" not in error.hint
    assert len(error.message) <= 600


def test_a_models_own_status_counts_on_mlserver():
    assert type(over_rest("mlserver", "fails 429")) is RateLimitError
    assert is_retryable(over_rest("mlserver", "fails 503"))


def test_a_hidden_failure_says_what_it_may_be():
    error = over_grpc("kserve", "wrong count")
    assert type(error) is ServerError
    assert "shape" in error.hint
    assert "declares text" in over_rest("kserve", "wrong count", declared=EMBED).hint


def test_a_decoupled_model_wants_to_be_streamed():
    for error in (over_rest("triton", "infer of a decoupled model"), over_grpc("triton", "infer of a decoupled model")):
        assert type(error) is InvalidRequestError
        assert "pieces" in error.hint


@pytest.mark.parametrize("name", ["restricted, no token", "restricted, wrong token"])
def test_a_restricted_api_is_a_refusal(name):
    error = over_rest("triton", name)
    assert type(error) is PermissionDeniedError
    assert error.status == 403
    assert "api_key" in error.hint


def test_what_is_not_routed_is_not_a_missing_model():
    for server, name, what in (
        ("triton", "model list", "repository"),
        ("triton", "infer by GET", "infer"),
        ("triton", "metadata, version that is no number", "metadata"),
        ("mlserver", "model list", "repository"),
        ("kserve", "repository index", "repository"),
        ("kserve", "generate tiny", "stream"),
    ):
        error = over_rest(server, name, what=what)
        assert type(error) is NotFoundError, (server, name)
        assert ("ModelMesh" in error.hint) is (what != "infer")
        assert "kserve-doctor" in error.hint
    for server, name in (("kserve", "repository index"), ("mlserver", "config")):
        assert type(over_grpc(server, name, what="config")) is NotFoundError


def test_loading_where_it_is_not_allowed_is_not_tried_again():
    error = over_rest("triton", "load in default mode", what="load")
    assert type(error) is InvalidRequestError
    assert "explicit" in error.hint
    assert not is_retryable(error)


@pytest.mark.parametrize("read", BOTH)
def test_loading_a_model_that_is_not_in_the_repository(read):
    for server in ("triton", "mlserver"):
        assert type(read(server, "load an unknown model", what="load", model="nobody")) is ModelNotFoundError
    assert type(read("triton", "load a broken model", what="load")) is InvalidRequestError


# OpenVINO Model Server, as documented


def ovms(status, said):
    asked = Asked(OPENVINO, "infer", "m", declared=EMBED)
    return error_from_response(json_answer({"error": said}, status), explain=explain(asked))


def test_openvinos_own_statuses():
    assert type(ovms(412, "Invalid JSON structure")) is InvalidRequestError
    assert type(ovms(404, "Model with requested name is not found")) is ModelNotFoundError
    assert type(ovms(406, "Unsupported method")) is NotFoundError
    assert type(ovms(400, "Invalid number of inputs - Expected: 1; Actual: 2")) is InvalidRequestError
    error = ovms(500, "Unauthorized request")
    assert type(error) is AuthenticationError
    assert error.status == 401


# in streams


def test_the_words_of_a_stream_are_read_like_an_answers():
    asked = Asked(DIALECTS["triton"], "stream", "m", known=["embed"])
    error = stream_failure(asked, "Request for unknown model: 'm' is not found", partial_text="so far")
    assert type(error) is ModelNotFoundError
    assert error.partial_text == "so far"
    error = stream_failure(asked, "prompt of 16001 tokens is longer than the maximum sequence length 4096")
    assert type(error) is ContextOverflowError
    assert stream_failure(asked, "something broke").layer == "model"


# everything that was recorded


@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
def test_every_recorded_error_is_a_typed_bounded_one(server):
    count = 0
    for name, exchange in recorded(server, "http").items():
        if exchange["response"]["status"] >= 400:
            error = over_rest(server, name)
            count += 1
            check(error)
    for name, exchange in recorded(server, "grpc").items():
        if exchange["code"] != "OK":
            check(over_grpc(server, name))
            count += 1
    assert count > 30


def check(error):
    assert isinstance(error, KServeError)
    assert len(str(error)) < 2000
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_only_openvino_says_by_500_that_a_key_is_wrong():
    """A model may as well fail because something behind it wants a key; `/v2` of OpenVINO's server is open."""
    response = Response(500, {}, b'{"error":"Unauthorized: the vector store wants a token"}')
    assert type(explain(Asked(OPENVINO, "repository"))(response)) is AuthenticationError
    assert type(explain(Asked(TRITON, "infer", "m"))(response)) is ServerError
