"""Whole texts from Caikit, over both protocols, from recorded answers."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.caikit_wire import Server, answer, json_answer, recorded

from kserve_core.capabilities import OutputConstraint, TextRequest, TextRuntime
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ServerError,
    UnsupportedParameterError,
)
from kserve_core.protos import messages
from kserve_core.runtimes.caikit import CaikitRuntime, tasks
from kserve_core.types import Usage

METHOD = tasks.GENERATION.method
RUNTIME = "The runtime"


def generate(server, prompts, *, protocol="rest", **fields):
    client = server.client(model="tinytgis", protocol=protocol)
    return client.run(client.runtime.generate(TextRequest(prompts=prompts, **fields)))


def test_satisfies_the_protocol():
    assert isinstance(CaikitRuntime(), TextRuntime)


def test_the_request_over_rest():
    server = Server().task("text-generation", answer("text-generation tinytgis ok"))
    generate(server, [RUNTIME], headers={"x-request-id": "7"})
    assert server.body == {"inputs": RUNTIME, "parameters": {"preserve_input_text": False}, "model_id": "tinytgis"}
    headers = server.calls[-1].headers
    assert headers["content-type"] == "application/json"  # with a charset the server answers 415
    assert headers["x-request-id"] == "7"


def test_the_request_over_grpc_has_what_was_set_and_nothing_else():
    server = Server().route(METHOD, "generation tinytgis")
    params = {"temperature": 0.5, "seed": 0, "length_penalty": (0, 1.5), "stop": ["a"]}
    generate(server, [RUNTIME], protocol="grpc", params=params, headers={"X-Request-Id": "7"})
    present = {field.name: value for field, value in server.message.ListFields()}
    penalty = present.pop("exponential_decay_length_penalty")
    assert present == {
        "text": RUNTIME,
        "decoding_method": "SAMPLING",
        "temperature": 0.5,
        "seed": 0,
        "stop_sequences": ["a"],
        "preserve_input_text": False,
    }
    assert (penalty.start_index, penalty.decay_factor) == (0, 1.5)
    assert server.calls[-1].metadata == {"mm-model-id": "tinytgis", "x-request-id": "7"}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_answer(protocol):
    server = Server().task("text-generation", answer("text-generation tinytgis ok"))
    server.route(METHOD, "generation tinytgis")
    result = generate(server, [RUNTIME], protocol=protocol)
    (generation,) = result.generations[0]
    assert generation.text == " answers a request with generated text."
    assert (generation.finish_reason, generation.extra) == ("stop", {"server_finish_reason": "EOS_TOKEN"})
    assert result.usage == generation.usage == Usage(2, 8, 10)
    assert result.model == "tinytgis"
    assert result.raw == orjson.loads(answer("text-generation tinytgis ok").body)


def test_token_details():
    server = Server().task("text-generation", answer("text-generation tinytgis token details"))
    generation = generate(server, [RUNTIME], params={"logprobs": True, "prompt_logprobs": True}).generations[0][0]
    assert generation.finish_reason == "length"
    assert generation.logprobs == {
        "tokens": ["Ġanswers", "Ġa", "Ġrequest"],
        "token_logprobs": [-0.007557964883744717, -0.00485977903008461, -0.008106189779937267],
        "top_logprobs": [None, None, None],
    }
    assert generation.extra["tokens"][0] == {"text": "Ġanswers", "logprob": -0.007557964883744717, "rank": 1}
    assert [token["text"] for token in generation.extra["input_tokens"]] == ["The", "Ġruntime"]


def test_token_details_over_grpc():
    server = Server().route(METHOD, "generation tinytgis details")
    generation = generate(server, [RUNTIME], protocol="grpc", params={"logprobs": True}).generations[0][0]
    assert generation.logprobs["token_logprobs"] == [-0.007557964883744717, -0.00485977903008461]
    assert [token["rank"] for token in generation.extra["tokens"]] == [1, 1]


def test_tokens_that_came_without_logprobs_are_not_shown_as_certain():
    server = Server().task("text-generation", answer("text-generation tinytgis token details"))
    generation = generate(server, [RUNTIME], params={"generated_tokens": True}).generations[0][0]
    assert generation.logprobs is None
    assert len(generation.extra["tokens"]) == 3


def test_the_seed_is_told():
    server = Server().task("text-generation", answer("text-generation tinytgis sampling"))
    generation = generate(server, [RUNTIME], params={"seed": 42}).generations[0][0]
    assert generation.extra == {"server_finish_reason": "MAX_TOKENS", "seed": 42}


def test_stop_text_is_taken_off_unless_asked_for():
    server = Server().task("text-generation", answer("text-generation tinytgis stop"))
    trimmed = generate(server, [RUNTIME], params={"stop": ["request", "st"]}).generations[0][0]
    assert (trimmed.text, trimmed.finish_reason) == (" answers a ", "stop")
    assert "include_stop_sequence" not in server.body["parameters"]  # older servers do not know it
    kept = generate(server, [RUNTIME], params={"stop": "request", "include_stop_str_in_output": True})
    assert kept.generations[0][0].text == " answers a request"
    assert server.body["parameters"]["include_stop_sequence"] is True


def test_several_prompts_are_several_requests_with_usage_summed():
    def by_prompt(body):
        text = f"answer to {body['inputs']}"
        return json_answer(
            {"generated_text": text, "generated_tokens": 3, "finish_reason": "EOS_TOKEN", "input_token_count": 2}
        )

    server = Server().task("text-generation", by_prompt)
    result = generate(server, ["one", "two", "three"])
    assert [group[0].text for group in result.generations] == ["answer to one", "answer to two", "answer to three"]
    assert result.usage == Usage(6, 9, 15)
    assert len(server.calls) == 3


def test_one_failed_prompt_fails_them_all():
    def second_fails(body):
        return answer(f"text-generation {'backend INTERNAL' if body['inputs'] == 'two' else 'tinytgis ok'}")

    server = Server().task("text-generation", second_fails)
    with pytest.raises(ServerError, match="injected failure"):
        generate(server, ["one", "two"])


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("MAX_TOKENS", "length"),
        ("TOKEN_LIMIT", "length"),
        ("TIME_LIMIT", "length"),
        ("EOS_TOKEN", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("CANCELLED", "abort"),
        ("NEW_WORD", "NEW_WORD"),
    ],
)
def test_finish_reasons(word, reason):
    server = Server().task("text-generation", json_answer({"generated_text": "x", "finish_reason": word}))
    generation = generate(server, [RUNTIME]).generations[0][0]
    assert (generation.finish_reason, generation.extra) == (reason, {"server_finish_reason": word})
    assert generation.usage is None  # older servers count nothing


@pytest.mark.parametrize("number", range(1, 8))
def test_finish_reasons_over_grpc_are_the_ones_of_the_protocol(number):
    message = messages.caikit_data_model_nlp.GeneratedTextResult(generated_text="x", finish_reason=number)
    server = Server().route(METHOD, message.SerializeToString())
    word = messages.caikit_data_model_nlp.FinishReason.Name(number)
    if word == "ERROR":
        with pytest.raises(ServerError, match="ERROR") as caught:
            generate(server, [RUNTIME], protocol="grpc")
        assert caught.value.partial_text == "x"
    else:
        generation = generate(server, [RUNTIME], protocol="grpc").generations[0][0]
        assert generation.extra["server_finish_reason"] == word


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_answer_of_another_task_says_what_is_wrong(protocol):
    vector = {"result": {"data": {"values": [0.5, 0.25]}}, "producer_id": None, "input_token_count": 3}
    server = Server().task("text-generation", json_answer(vector))
    message = messages.caikit_data_model_caikit_nlp.EmbeddingResult()
    message.result.data_npfloat32sequence.values.extend([0.5, 0.25])
    server.route(METHOD, message.SerializeToString())
    with pytest.raises(BadResponseError, match="'tinytgis' most likely does not have this task") as caught:
        generate(server, [RUNTIME], protocol=protocol)
    assert "text generation" in str(caught.value)
    assert "0.25" not in str(caught.value)


def test_the_library_may_find_out_first_that_it_is_another_message():
    server = Server().route(METHOD, "generation embedding model")
    with pytest.raises(BadResponseError, match="most likely does not have this task"):
        generate(server, [RUNTIME], protocol="grpc")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("prompts", [[], [""], ["a", ""], [3]])
def test_prompts_that_cannot_be_sent(protocol, prompts):
    server = Server()
    with pytest.raises(ConfigurationError):
        generate(server, prompts, protocol=protocol)
    assert server.calls == []


def test_a_form_cannot_be_enforced():
    with pytest.raises(UnsupportedParameterError, match="Caikit"):
        generate(Server(), [RUNTIME], constraint=OutputConstraint("regex", "a+"))


def test_extra_body_becomes_parameters():
    server = Server().task("text-generation", answer("text-generation tinytgis ok"))
    generate(server, [RUNTIME], params={"max_tokens": 3}, extra_body={"brand_new": 1, "max_new_tokens": 4})
    assert server.body["parameters"] == {"max_new_tokens": 4, "preserve_input_text": False, "brand_new": 1}


def test_over_grpc_a_parameter_without_a_field_is_refused():
    with pytest.raises(UnsupportedParameterError, match="brand_new"):
        generate(Server(), [RUNTIME], protocol="grpc", extra_body={"brand_new": 1})


def test_recorded_messages_have_the_recorded_number_of_bytes():
    from google.protobuf.json_format import ParseDict
    from unit.core.runtimes.caikit_wire import ANSWERS

    for name, case in recorded("grpc").items():
        for piece in case["answers"]:
            if "bytes" in piece:
                message = ParseDict(piece["message"], messages.get(ANSWERS[case["method"]])())
                assert message.ByteSize() == piece["bytes"], name
