"""What the server tells about its model, its health and its tokens."""

from __future__ import annotations

import pytest
from unit.core.runtimes.tgis_wire import M, Server

from kserve_core.capabilities import ChatRequest
from kserve_core.errors import BadResponseError, EndpointConnectionError, NotFoundError, UnsupportedParameterError
from kserve_core.grpc_health import HealthCheckRequest, HealthCheckResponse

INFO = M.ModelInfoResponse(max_sequence_length=512, max_new_tokens=1024)


def tokens(*texts):
    responses = [M.TokenizeResponse(token_count=len(pieces), tokens=pieces) for pieces in texts]
    return M.BatchedTokenizeResponse(responses=responses)


def test_the_model_is_asked_for_once():
    server = Server(ModelInfo=INFO)
    client = server.client(model="m")
    info = client.run(client.runtime.model_info())
    assert client.run(client.runtime.model_info()) is info
    assert client.run(client.runtime.models()) == [info]
    assert server.asked == ["ModelInfo"]
    assert server.request.model_id == "m"
    assert (info.id, info.max_model_len, info.kind) == ("m", 512, "generate")
    assert info.extra == {"model_kind": "decoder_only", "max_new_tokens": 1024}


def test_an_encoder_decoder_without_a_name():
    kind = M.ModelInfoResponse.ModelKind.ENCODER_DECODER
    client = Server(ModelInfo=M.ModelInfoResponse(model_kind=kind)).client()
    info = client.run(client.runtime.model_info())
    assert (info.id, info.max_model_len) == ("", None)
    assert info.extra["model_kind"] == "encoder_decoder"


def test_which_model_without_asking():
    server = Server()
    client = server.client(model="m")
    assert client.run(client.runtime.resolve_model()) == "m"
    assert client.run(client.runtime.resolve_model("other")) == "other"
    assert server.calls == []


@pytest.mark.parametrize(("status", "healthy"), [(1, True), (2, False), (0, False)])
def test_health(status, healthy):
    server = Server(Check=HealthCheckResponse(status))
    client = server.client()
    assert client.run(client.runtime.health()) is healthy
    assert server.request.service == "fmaas.GenerationService"
    assert server.calls[0].retry is False


def test_health_of_a_server_without_a_health_service():
    # The classic one answers UNIMPLEMENTED.
    server = Server(ModelInfo=INFO)
    client = server.client()
    assert client.run(client.runtime.health()) is True
    assert server.asked == ["Check", "ModelInfo"]


def test_health_of_something_else():
    client = Server().client()
    with pytest.raises(NotFoundError):
        client.run(client.runtime.health())


def test_health_when_it_is_loading_or_not_there():
    client = Server(Check=("UNAVAILABLE", "still loading the model")).client()
    assert client.run(client.runtime.health()) is False
    details = "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:8033: Connection refused"
    client = Server(Check=("UNAVAILABLE", details)).client()
    with pytest.raises(EndpointConnectionError):
        client.run(client.runtime.health())


def test_the_health_messages_are_those_of_the_protocol():
    # Field 1 is a string in the request and an enum in the answer.
    assert HealthCheckRequest("abc").SerializeToString() == b"\x0a\x03abc"
    assert HealthCheckRequest().SerializeToString() == b""
    assert HealthCheckRequest.FromString(b"\x0a\x03abc").service == "abc"
    assert HealthCheckResponse.FromString(b"\x08\x01").status == HealthCheckResponse.SERVING
    assert HealthCheckResponse.FromString(b"").status == 0
    with pytest.raises(ValueError):
        HealthCheckResponse.FromString(b"\x12\x00")


def test_tokens_have_texts_and_no_ids():
    server = Server(Tokenize=tokens(["The", "\u0120weather"]))
    client = server.client(model="m", adapter_id="lora")
    found = client.run(client.runtime.tokenize("The weather"))
    assert (found.count, found.tokens, found.token_ids) == (2, ["The", "\u0120weather"], [])
    assert [request.text for request in server.request.requests] == ["The weather"]
    assert (server.request.model_id, server.request.adapter_id) == ("m", "lora")
    assert server.request.return_tokens


@pytest.mark.parametrize(
    ("found", "around", "left"),
    [
        (["<s>", "The", "</s>"], ["<s>", "</s>"], ["The"]),
        (["<s>", "The"], ["<s>"], ["The"]),
        (["The", "</s>"], ["</s>"], ["The"]),
        (["The"], [], ["The"]),
    ],
)
def test_tokens_without_what_the_tokenizer_puts_around(found, around, left):
    server = Server(Tokenize=tokens(found, around))
    client = server.client()
    result = client.run(client.runtime.tokenize("The", add_special_tokens=False))
    assert [request.text for request in server.request.requests] == ["The", ""]
    assert (result.count, result.tokens) == (1, left)


def test_tokens_of_another_text_are_noticed():
    client = Server(Tokenize=tokens()).client()
    with pytest.raises(BadResponseError, match="0 texts came where 1"):
        client.run(client.runtime.tokenize("a"))


def test_what_the_service_does_not_have():
    runtime = Server().client().runtime
    with pytest.raises(UnsupportedParameterError, match="version"):
        runtime.version()
    with pytest.raises(UnsupportedParameterError, match="token ids"):
        runtime.detokenize([1])
    with pytest.raises(UnsupportedParameterError) as caught:
        runtime.tokenize_messages(ChatRequest(messages=[{"role": "user", "content": "a"}]))
    assert "chat_template" in caught.value.hint
