"""Requests and answers over gRPC, as messages; those of the answers were recorded from real servers where it says so."""

from __future__ import annotations

import pytest
from unit.core.runtimes.v2_wire import SERVERS, Server, messages_of, recorded, types

from kserve_core.calls import GrpcFailure, GrpcStreamCall
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    BadResponseError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    PermissionDeniedError,
    UnsupportedParameterError,
)
from kserve_core.grpc_messages import GrpcSending
from kserve_core.retry import Send, is_retryable
from kserve_core.runtimes.open_inference.dialects import KSERVE, MLSERVER, TRITON
from kserve_core.runtimes.open_inference.grpc import Grpc, infer_message, read_infer_message
from kserve_core.runtimes.open_inference.streams import ASK_FINAL
from kserve_core.runtimes.open_inference.values import InferRequest
from kserve_core.tensors import Tensor


def request(*tensors, **more):
    return InferRequest(inputs=tensors, model="m", **more)


def same(result):
    return result


def test_all_tensors_are_raw():
    message = infer_message(
        request(Tensor.of("a", ["hi"]), Tensor.of("b", [1.5], datatype="FP16"), outputs=["o"], version="3", id="1"),
        TRITON,
    )
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "1")
    assert [(part.name, part.datatype, list(part.shape)) for part in message.inputs] == [
        ("a", "BYTES", [1]),
        ("b", "FP16", [1]),
    ]
    assert list(message.raw_input_contents) == [b"\x02\x00\x00\x00hi", b"\x00\x3e"]
    assert [output.name for output in message.outputs] == ["o"]
    assert not any(part.HasField("contents") for part in message.inputs)


def test_an_id_is_always_sent_and_is_another_one_each_time():
    ids = {infer_message(request(), TRITON).id for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids


def test_parameters_have_the_type_they_were_given_in():
    message = infer_message(request(parameters={"b": True, "i": -3, "s": "x", "f": 0.5, "u": 2**63}), TRITON)
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in message.parameters.items()}
    assert kinds == {
        "b": "bool_param",
        "i": "int64_param",
        "s": "string_param",
        "f": "double_param",
        "u": "uint64_param",
    }
    numpy = pytest.importorskip("numpy")
    message = infer_message(request(parameters={"f": numpy.float32(0.5), "i": numpy.int64(7)}), TRITON)
    assert (message.parameters["f"].double_param, message.parameters["i"].int64_param) == (0.5, 7)


@pytest.mark.parametrize("dialect", [MLSERVER, KSERVE])
def test_floats_are_refused_where_they_would_be_dropped(dialect):
    with pytest.raises(UnsupportedParameterError, match="'temperature' is a float") as caught:
        infer_message(request(parameters={"temperature": 0.5}), dialect)
    assert "text" in caught.value.hint
    with pytest.raises(UnsupportedParameterError, match="64 bits"):
        infer_message(request(parameters={"n": 2**63}), dialect)


def test_values_without_a_form_are_refused():
    for value in ([1], {"a": 1}, None, b"x"):
        with pytest.raises(UnsupportedParameterError, match="'p'"):
            infer_message(request(parameters={"p": value}), TRITON)


# answers


@pytest.mark.parametrize("server", SERVERS)
def test_recorded_answers_say_the_same_typed_and_raw(server):
    compared = 0
    for name in recorded(server, "grpc"):
        kind, _, form = name.rpartition(" ")
        if form != "typed" or kind.endswith("and"):
            continue
        both = [messages_of(server, f"{kind} {form}") for form in ("typed", "raw")]
        if any(isinstance(answers, GrpcFailure) for answers in both):
            continue
        typed, raw = (read_infer_message(types.ModelInferResponse.FromString(found[0])).outputs for found in both)
        for key in typed.keys() & raw.keys() - {"params"}:
            assert typed[key].datatype == raw[key].datatype
            assert typed[key].flat() == raw[key].flat()
            compared += 1
    assert compared >= 12


def test_raw_contents_count_only_where_there_is_one_for_each_output():
    message = types.ModelInferResponse(raw_output_contents=[b"\x01"])
    message.outputs.add(name="a", datatype="INT8", shape=[1])
    message.outputs.add(name="b", datatype="INT8", shape=[1])
    with pytest.raises(BadResponseError, match="1 raw tensors for 2 outputs"):
        read_infer_message(message)


def test_sizes_that_do_not_match_are_typed_errors():
    message = types.ModelInferResponse(raw_output_contents=[b"\x01"])
    message.outputs.add(name="a", datatype="INT32", shape=[2**40, 2**40])
    with pytest.raises(BadResponseError):
        read_infer_message(message)
    message = types.ModelInferResponse()
    message.outputs.add(name="a", datatype="INT32", shape=[2])
    with pytest.raises(BadResponseError):
        read_infer_message(message)


# calls


def test_the_token_travels_under_tritons_own_key_too():
    endpoint = Endpoint.create("grpc://127.0.0.1:1", api_key="secret")
    sent = {}
    for dialect in (TRITON, MLSERVER):
        sending = GrpcSending(endpoint, Grpc("", dialect).infer(request(), read=same))
        metadata, _ = sending.begin(Send("secret", None, fresh=False, attempt=1))
        sent[dialect.title] = dict(metadata)
    assert sent == {
        "Triton": {"authorization": "Bearer secret", "triton-grpc-protocol-authorization": "Bearer secret"},
        "MLServer": {"authorization": "Bearer secret"},
    }
    given = Endpoint.create("grpc://127.0.0.1:1", default_headers={"Authorization": "Basic x"})
    metadata, _ = GrpcSending(given, Grpc("", TRITON).ready()).begin(Send(None, None, fresh=False, attempt=1))
    assert dict(metadata)["triton-grpc-protocol-authorization"] == "Basic x"


def test_a_restricted_method_is_a_refusal_and_not_tried_again():
    server = Server().route("ModelInfer", messages_of("triton", "restricted, no token"))
    client = server.client("triton", "grpc")
    with pytest.raises(PermissionDeniedError) as caught:
        client.run(client.runtime.infer(client.runtime.request([], model="m")))
    assert caught.value.status == 403
    assert not is_retryable(caught.value)
    assert "api_key" in caught.value.hint


def test_models_are_loaded_by_the_message_the_server_reads():
    for dialect, field in ((TRITON, b"\x12"), (KSERVE, b"\x0a")):
        assert Grpc("", dialect).load("m").request.SerializeToString() == field + b"\x01m"
        assert Grpc("", dialect).unload("m").request.SerializeToString() == field + b"\x01m"
        assert Grpc("", dialect).load("m").retry is False


def test_a_stream_asks_triton_for_its_end_and_reads_the_message_the_server_sends():
    triton = Grpc("", TRITON).stream_infer(request(), decoder=list)
    assert isinstance(triton, GrpcStreamCall)
    assert triton.request.parameters["triton_enable_empty_final_response"].bool_param is True
    assert triton.response_type is types.ModelStreamInferResponse
    mlserver = Grpc("", MLSERVER).stream_infer(request(), decoder=list)
    assert dict(mlserver.request.parameters) == {}
    assert mlserver.response_type is types.ModelInferResponse
    with pytest.raises(UnsupportedParameterError):
        Grpc("", KSERVE).stream_infer(request(), decoder=list)


@pytest.mark.parametrize(("name", "asked"), [("stream", {ASK_FINAL: False}), ("stream, final", {})])
def test_a_recorded_stream_of_triton_is_read_to_its_end(name, asked):
    pieces = list(streamed("triton", name, asked))
    assert len(pieces) == 13
    assert all("text_output" in piece for piece in pieces)


def test_a_recorded_stream_of_mlserver_is_read():
    assert len(list(streamed("mlserver", "stream"))) == len(messages_of("mlserver", "stream"))


def test_an_error_inside_a_stream_is_raised_after_what_came_before():
    pieces = streamed("triton", "stream, fails midway")
    first = [next(pieces) for _ in range(2)]
    assert len(first) == 2
    with pytest.raises(KServeError, match="generation failed midway"):
        list(pieces)
    with pytest.raises(KServeError, match="generation failed midway"):
        list(streamed("triton", "stream, fails at once"))


def test_an_unknown_model_inside_a_stream_is_told_apart():
    with pytest.raises(KServeError, match="does not serve a model named 'm'") as caught:
        list(streamed("triton", "stream, unknown model"))
    assert isinstance(caught.value, ModelNotFoundError)


def streamed(server, name, parameters=None):
    found = messages_of(server, name)
    client = Server().route("ModelStreamInfer", found).client(server, "grpc")
    sent = client.runtime.request([Tensor.of("text_input", ["hi"])], model="m", parameters=parameters or {})
    return client.stream(client.runtime.stream_results(sent, lambda result: result.outputs))


def test_a_model_that_answers_in_pieces_says_how_to_ask():
    server = Server().route("ModelInfer", messages_of("triton", "infer of a decoupled model"))
    client = server.client("triton", "grpc")
    with pytest.raises(InvalidRequestError) as caught:
        client.run(client.runtime.infer(client.runtime.request([], model="m")))
    assert "stream_infer" in caught.value.hint
