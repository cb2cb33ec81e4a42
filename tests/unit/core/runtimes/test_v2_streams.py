"""Streams of the V2 servers: recorded bytes, cut anywhere, broken off and failing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.core.runtimes.v2_text_wire import M, MLServer, Server, Triton, events, grpc, http, model, tensor

from kserve_core.capabilities import TextRequest
from kserve_core.deadline import Deadline
from kserve_core.errors import BadResponseError, ServerError, StreamInterrupted
from kserve_core.retry import RetryPolicy, is_retryable
from kserve_core.runtimes.open_inference.answers import Reading, TextPieces, of_object
from kserve_core.runtimes.open_inference.bodies import result_of
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.errors import Asked, stream_failure
from kserve_core.runtimes.open_inference.grpc import read_infer_message
from kserve_core.runtimes.open_inference.stops import Deltas, EchoStripper, StopCutter
from kserve_core.runtimes.open_inference.streams import EventStream, MessageStream
from kserve_core.stream_reader import StreamReader
from kserve_core.templated import mapped

ASKED = Asked(TRITON, "stream", "m")


def fail(said, *, partial_text=""):
    return stream_failure(ASKED, said, partial_text=partial_text)


def decoder(**fields):
    return EventStream(TextPieces(Reading("tensors", "m", "Say.", "text_output", **fields)), of_object, fail)


def text_of(pieces):
    return "".join(piece.text for piece in pieces)


def fed(stream, data, size):
    pieces = []
    for at in range(0, len(data), size):
        pieces += stream.feed(data[at : at + size])
    return [*pieces, *stream.close()]


@pytest.mark.parametrize("name", ["generate_stream tiny", "generate_stream vllm", "generate_stream tensorrt_llm"])
def test_stream_is_the_same_wherever_its_bytes_are_cut(name):
    body = http("triton", name).body
    expected = fed(decoder(), body, len(body))
    assert len(expected) > 2
    for size in (1, 2, 3, 7, 61):
        assert fed(decoder(), body, size) == expected


def test_mlserver_stream_is_the_same_wherever_its_bytes_are_cut():
    def make():
        return EventStream(TextPieces(Reading("tensors", "m", "", "text_output")), result_of, fail, log=True)

    body = http("mlserver", "infer_stream tiny").body
    expected = fed(make(), body, len(body))
    assert len(expected) > 2
    assert expected[-1].finish_reason == "length"
    for size in (1, 5, 100):
        assert fed(make(), body, size) == expected


def test_error_in_a_stream_tells_the_words_and_keeps_the_text():
    body = http("triton", "generate_stream, fails midway").body
    for size in (1, len(body)):
        with pytest.raises(ServerError, match="generation failed midway") as caught:
            fed(decoder(), body, size)
        assert caught.value.partial_text
        assert caught.value.layer == "model"


def test_body_that_is_cut_inside_an_event_is_an_interrupted_stream():
    body = http("triton", "generate_stream tiny").body
    with pytest.raises(StreamInterrupted) as caught:
        fed(decoder(), body[: body.rindex(b"text_output") + 4], 1 << 16)
    assert caught.value.partial_text


def test_last_event_without_its_empty_line_still_counts():
    body = http("triton", "generate_stream tiny").body
    assert fed(decoder(), body.rstrip(b"\n"), 1 << 16) == fed(decoder(), body, 1 << 16)


def test_stream_without_any_answer_is_not_an_empty_text():
    with pytest.raises(StreamInterrupted, match="before the model answered"):
        decoder().close()


@pytest.mark.parametrize(("data", "words"), [(b"data: [1]\n\n", "no JSON object"), (b"data: {oops\n\n", "is not")])
def test_unreadable_event_says_so_without_repeating_the_models_text(data, words):
    with pytest.raises(BadResponseError, match=words) as caught:
        decoder().feed(data)
    assert "oops" not in str(caught.value)


def test_bytes_that_are_no_utf8_are_replaced():
    (piece,) = decoder().feed(b'data: {"text_output":"a\xff"}\n\n')
    assert piece.text == "a\ufffd"


def test_triton_says_in_the_messages_that_an_answer_failed():
    stream = MessageStream(TextPieces(Reading("tensors", "m", "", "text_output")), read_infer_message, fail)
    messages = [M.ModelStreamInferResponse.FromString(each) for each in grpc("triton", "stream, fails midway")]
    pieces = [*stream.feed(messages[0]), *stream.feed(messages[1])]
    assert len(pieces) == 2
    with pytest.raises(ServerError, match="generation failed midway") as caught:
        stream.feed(messages[2])
    assert caught.value.partial_text == text_of(pieces)


def test_last_message_without_outputs_completes_an_answer_that_has_no_text():
    stream = MessageStream(TextPieces(Reading("tensors", "m", "", "text_output")), read_infer_message, fail)
    last = M.ModelStreamInferResponse()
    last.infer_response.parameters["triton_final_response"].bool_param = True
    assert stream.feed(last) == ()
    assert stream.close() == []


def test_stream_that_ends_although_the_server_said_there_is_more_is_incomplete():
    recorded = [M.ModelStreamInferResponse.FromString(each) for each in grpc("triton", "stream, fails midway")][:2]
    stream = MessageStream(TextPieces(Reading("tensors", "m", "", "text_output")), read_infer_message, fail)
    pieces = [piece for message in recorded for piece in stream.feed(message)]
    with pytest.raises(StreamInterrupted, match="more to come") as caught:
        stream.close()
    assert caught.value.clean_end
    assert caught.value.partial_text == text_of(pieces)


def test_nothing_is_missed_where_the_mark_was_not_asked_for():
    recorded = [M.ModelStreamInferResponse.FromString(each) for each in grpc("triton", "stream, fails midway")][:2]
    reading = Reading("tensors", "m", "", "text_output")
    stream = MessageStream(TextPieces(reading), read_infer_message, fail, marked=False)
    for message in recorded:
        stream.feed(message)
    stream.close()


def test_mlservers_broken_connection_points_to_its_log():
    server = Server({"/v2/models/tiny": http("mlserver", "metadata tiny"), **_streams()})
    client = server.client(MLServer, model="tiny")
    list(client.stream(client.runtime.stream_generate(_request("Say."))))
    reader = StreamReader(
        server.calls[-1], idle_timeout=None, deadline=Deadline(None), status=200, headers={}, attempt=1
    )
    error = reader.failed(ConnectionError(), timed_out=False, broken=True)
    assert isinstance(error, StreamInterrupted)
    assert "log" in error.hint
    assert "MLServer" in error.hint


def test_client_stops_reading_at_a_stop_text_the_model_does_not_know():
    routes = model([tensor("text_input"), tensor("stream", "BOOL")], decoupled=True)
    routes["/v2/models/m/generate_stream"] = events(*({"text_output": each} for each in ("One", " E", "ND", " more")))
    for size in (1, 1 << 16):
        server = Server(routes, size=size)
        client = server.client(Triton)
        pieces = list(client.stream(client.runtime.stream_generate(_request("x", stop=["END"]))))
        assert text_of(pieces) == "One "
        assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == ("stop", "END")
        assert server.stopped_reading
        assert server.body == {"text_input": "x", "stream": True}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_text_is_cut_at_the_first_stop_text_however_it_came(keep, size):
    text, cutter, out = "a stab at stopping here; STOP there", StopCutter(["stopping", "STOP"], keep=keep), ""
    for at in range(0, len(text), size):
        out += cutter.feed(text[at : at + size])
    out += cutter.end()
    assert out == ("a stab at stopping" if keep else "a stab at ")
    assert cutter.matched == "stopping"


def test_what_only_looked_like_a_stop_text_is_given_in_the_end():
    cutter = StopCutter(["###"])
    assert cutter.feed("a #") == "a "
    assert cutter.feed("#") == ""
    assert cutter.end() == "##"
    assert cutter.matched is None


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    ("answer", "expected"), [("Hello there. I am.", " I am."), ("Hell no", "Hell no"), ("Hello", "Hello"), ("", "")]
)
def test_prompt_is_taken_off_only_if_it_is_all_there(answer, expected, size):
    stripper, out = EchoStripper("Hello there."), ""
    for at in range(0, len(answer), size):
        out += stripper.feed(answer[at : at + size])
    assert out + stripper.end() == expected


def test_cumulative_texts_become_new_ones_and_wait_for_whole_characters():
    deltas = Deltas()
    assert [deltas.feed(each) for each in ("caf", "caf\ufffd", "café", "café!")] == ["caf", "", "é", "!"]
    with pytest.raises(ValueError, match="repeat"):
        deltas.feed("other")


def test_cumulative_stream_of_tensorrt_llm():
    routes = model([tensor("text_input"), tensor("stream", "BOOL")], decoupled=True)
    routes["/v2/models/m/generate_stream"] = events(*({"text_output": each} for each in ("A", "A b", "A b c")))
    client = Server(routes).client(Triton, cumulative=True)
    pieces = list(client.stream(client.runtime.stream_generate(_request("x"))))
    assert [piece.text for piece in pieces] == ["A", " b", " c"]
    plain = Server(routes).client(Triton)
    assert text_of(plain.stream(plain.runtime.stream_generate(_request("x")))) == "AA bA b c"


def _streams():
    return {"/v2/models/tiny/infer_stream": http("mlserver", "infer_stream tiny")}


def _request(prompt, **params):
    return TextRequest(prompts=(prompt,), params=params)


def test_a_stream_that_mlserver_broke_off_is_not_asked_for_again():
    policy = RetryPolicy()
    for kind, again in ((MLServer, False), (Triton, True)):
        client = Server(model([tensor("text_input"), tensor("stream", "BOOL")])).client(kind)
        call = client._flow(client.runtime.stream_generate(_request("Say.")))
        for decoder in (call.decoder, mapped(call, lambda piece: piece).decoder):
            with pytest.raises(StreamInterrupted) as caught:
                decoder().close()
            assert is_retryable(caught.value, policy) is again
            one = replace(call, decoder=decoder)
            reader = StreamReader(one, idle_timeout=None, deadline=Deadline(None), status=200, headers={}, attempt=1)
            broken = reader.failed(ConnectionError(), timed_out=False, broken=True)
            assert is_retryable(broken, policy) is again
            assert ("not sent again" in broken.hint) is not again


def test_no_prompt_is_shown_by_what_is_asked_and_read():
    for kind, protocol in ((Triton, "rest"), (Triton, "grpc"), (MLServer, "rest")):
        names = {"ModelMetadata": grpc("triton", "metadata tiny"), "ModelConfig": grpc("triton", "config tiny")}
        server = Server({**model([tensor("text_input")]), **names})
        client = server.client(kind, protocol=protocol)
        plan = client._flow(client.runtime._plan(_request("a secret", stop=["hidden"]), pieces=False))
        for made in (plan, client.runtime._call(plan, "a secret"), client.runtime._infer_request(plan, "a secret")):
            assert "secret" not in repr(made)
            assert "hidden" not in repr(made)
