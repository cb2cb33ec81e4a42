"""What is special about MLServer's streams: errors that only show in its log, and bare messages over gRPC."""

from __future__ import annotations

import pytest
from runtimes.prompts import chatml
from runtimes.v2.sentences import FAILS_AT_ONCE, FAILS_MIDWAY

from kserve_core.capabilities import TextRequest
from kserve_core.errors import InvalidRequestError, KServeError, ServerError, StreamInterrupted

pytestmark = pytest.mark.runtime("mlserver")


def ask(says):
    return TextRequest(prompts=[chatml(says)])


def caught(client, says):
    found = []
    stream = client.stream(client.runtime.stream_generate(ask(says)))
    with pytest.raises(KServeError) as info:
        found.extend(piece.text for piece in stream)
    assert info.value.partial_text == "".join(found)
    return info.value


@pytest.mark.parametrize("server", ["plain", "quiet"])
def test_a_stream_that_breaks_off(connect, server):
    error = caught(connect("mlserver", model="tiny", server=server), FAILS_MIDWAY)
    assert isinstance(error, StreamInterrupted)
    assert error.partial_text
    assert "log" in error.hint


def test_an_error_before_the_first_piece(connect):
    assert isinstance(caught(connect("mlserver", model="tiny"), FAILS_AT_ONCE), ServerError)
    quiet = caught(connect("mlserver", model="tiny", server="quiet"), FAILS_AT_ONCE)
    assert isinstance(quiet, StreamInterrupted)
    assert "log" in quiet.hint


def test_errors_over_grpc_have_words(connect):
    client = connect("mlserver", "grpc", model="tiny")
    assert "generation failed midway" in caught(client, FAILS_AT_ONCE).server_message
    assert "generation failed midway" in caught(client, FAILS_MIDWAY).server_message


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_streams_of_tensors(tensors, protocol):
    client = tensors("mlserver", protocol, model="tiny")
    found = list(client.stream_infer({"text_input": ["Say hello."]}))
    assert "".join(one.texts("text_output")[0] for one in found) == "Hello! How can I help you today?"
    assert found[0].model == "tiny"


def test_errors_of_a_stream_of_tensors_over_grpc(tensors):
    client = tensors("mlserver", "grpc", model="tiny")
    with pytest.raises(InvalidRequestError, match="maximum sequence length"):
        list(client.stream_infer({"text_input": ["word " * 9000]}))
