"""What real servers refuse, over REST and gRPC, and the errors that become of it."""

from __future__ import annotations

import pytest
from runtimes.v2.clients import EVERYWHERE, pairs

from kserve_core.errors import (
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotReadyError,
    ServerError,
)
from kserve_core.runtimes.open_inference.values import InferRequest
from kserve_core.tensors import Tensor


def caught(client, kind, *inputs, model="embed", **more):
    """Sends tensors as they are, without the checks that metadata makes possible."""
    request = InferRequest(inputs=inputs or [Tensor.of("text", ["hello"])], model=model, **more)
    with pytest.raises(kind) as info:
        client.run(client.runtime.infer(request))
    return info.value


def fails(client, code, kind):
    return caught(client, kind, Tensor.of("code", [code]), model="fails")


@pytest.mark.parametrize("where", EVERYWHERE)
def test_an_unknown_model(connect, where):
    client = connect(*where)
    error = caught(client, ModelNotFoundError, model="embedd")
    assert not error.retryable
    if where != ("kserve", "grpc"):  # which cannot list its models
        assert "Did you mean 'embed'?" in error.hint
    named = connect(*where, model="nobody")
    with pytest.raises(ModelNotFoundError):
        named.run(named.runtime.resolve_model())


@pytest.mark.parametrize("where", pairs("triton", "mlserver"))
def test_an_unknown_version(connect, where):
    caught(connect(*where), ModelNotFoundError, Tensor.of("text", ["a"]), model="versioned", version="9")


@pytest.mark.parametrize("where", pairs("triton"))
def test_a_model_that_failed_to_load(connect, where):
    assert not caught(connect(*where), NotReadyError, model="broken").server_message.startswith("[request id")


@pytest.mark.parametrize("where", pairs("mlserver"))
def test_a_model_that_is_not_ready(connect, where):
    client = connect(*where, server="quiet")
    caught(client, NotReadyError, model="broken")
    assert client.run(client.runtime.model_ready("broken")) is False
    assert client.run(client.runtime.server_ready()) is False
    assert client.run(client.runtime.server_live()) is True
    assert client.run(client.runtime.model_ready("tiny")) is True


@pytest.mark.parametrize("where", pairs("triton"))
def test_tensors_that_do_not_fit(connect, where):
    client = connect(*where)
    for tensor in (
        Tensor.of("text", [1.0]),
        Tensor.of("txt", ["a"]),
        Tensor.of("text", [["a"]]),
    ):
        assert type(caught(client, InvalidRequestError, tensor)) is InvalidRequestError
    missing = caught(client, InvalidRequestError, Tensor.of("query", ["a"]), model="rerank")
    assert "passage" in missing.server_message
    assert type(caught(client, InvalidRequestError, outputs=["nothing"])) is InvalidRequestError
    tiny = caught(client, InvalidRequestError, Tensor.of("text_input", ["a"]), model="tiny")
    assert "decoupled" in tiny.server_message


@pytest.mark.parametrize("where", pairs("mlserver", "kserve"))
def test_an_input_that_the_model_misses(connect, where):
    error = caught(connect(*where), InvalidRequestError, Tensor.of("txt", ["a"]))
    assert error.server_message == "input 'text' is missing"


@pytest.mark.parametrize("where", pairs("triton"))
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INTERNAL", ServerError),
        ("INVALID_ARG", InvalidRequestError),
        ("UNAVAILABLE", ServerError),
        ("NOT_FOUND", InvalidRequestError),
        ("UNSUPPORTED", InvalidRequestError),
        ("RAISE", ServerError),
    ],
)
def test_what_a_triton_model_answers(connect, where, code, kind):
    error = fails(connect(*where), code, kind)
    assert type(error) is kind
    assert ("model raised" if code == "RAISE" else f"asked for {code}") in error.server_message


@pytest.mark.parametrize("where", pairs("triton"))
@pytest.mark.parametrize("code", ["UNKNOWN", "ALREADY_EXISTS", "CANCELLED"])
def test_codes_without_a_meaning_of_their_own(connect, where, code):
    assert f"asked for {code}" in fails(connect(*where), code, KServeError).server_message


@pytest.mark.parametrize("where", pairs("mlserver"))
def test_what_an_mlserver_model_answers(connect, where):
    client = connect(*where)
    assert fails(client, "INFERENCE", InvalidRequestError).server_message == "bad input"
    fails(client, "503", ServerError)
    for code in ("409", "429"):
        assert fails(client, code, KServeError).server_message
    fails(client, "RAISE", ServerError)


@pytest.mark.parametrize("where", EVERYWHERE)
async def test_requests_after_an_exception_of_a_model(connect, where):
    """Behind such an answer MLServer and KServe's SDK close the connection; with no retries allowed that must not show."""
    client = connect(*where)
    works = InferRequest(inputs=[Tensor.of("code", ["OK"])], model="fails")
    for _ in range(5):
        fails(client, "RAISE", ServerError)
        assert client.run(client.runtime.infer(works)).outputs
        with pytest.raises(ServerError):
            await client.arun(client.runtime.infer(InferRequest(inputs=[Tensor.of("code", ["RAISE"])], model="fails")))
        assert (await client.arun(client.runtime.infer(works))).outputs


@pytest.mark.parametrize("where", EVERYWHERE)
def test_an_exception_of_a_model_is_no_page_of_traceback(connect, where):
    error = fails(connect(*where), "RAISE", ServerError)
    assert "\n  File" not in str(error)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_what_a_user_sent_is_not_in_the_error(connect, where):
    secret = "the patient's name"
    client = connect(*where)
    error = caught(client, KServeError, Tensor.of("txt", [secret]))
    assert secret not in f"{error} {error.server_message} {error.hint}"


@pytest.mark.parametrize("where", EVERYWHERE)
def test_a_model_that_is_too_slow(connect, where):
    client = connect(*where, timeout=1)
    fails(client, "SLEEP", EndpointTimeoutError)
