"""Triton's generate extension: its flat JSON, and the errors it hides under a good status."""

from __future__ import annotations

import pytest
from unit.core.runtimes.v2_text_wire import Server, Triton, events, http, json_answer, model, tensor

from kserve_core.calls import Response
from kserve_core.capabilities import TextRequest
from kserve_core.errors import (
    BadResponseError,
    ContextOverflowError,
    InvalidRequestError,
    ModelNotFoundError,
    ServerError,
)
from kserve_core.types import Usage

INPUTS = [tensor("text_input"), tensor("stream", "BOOL"), tensor("max_tokens", "INT32")]


def server(answer, *, decoupled=False, route="generate", **options):
    return Server({**model(INPUTS, decoupled=decoupled, **options), f"/v2/models/m/{route}": answer})


def completed(server, *prompts, params=None, **options):
    client = server.client(Triton, **options)
    return client.run(client.runtime.generate(TextRequest(prompts=prompts or ("Hi",), params=params or {})))


def test_recorded_answer_is_read():
    result = completed(server(http("triton", "generate generate")))
    (generation,) = result.generations[0]
    assert generation.text
    assert generation.finish_reason is None
    assert result.model == "generate"
    assert result.raw["text_output"] == [generation.text]


def test_answer_of_the_vllm_backend_has_reason_and_counts():
    """What the recorded server answers if it is asked for the counts as well."""
    answer = (
        b'{"finish_reason":"length","model_name":"vllm","model_version":"1","num_input_tokens":4,'
        b'"num_output_tokens":6,"text_output":"Hello thereHello! How can "}'
    )
    result = completed(server(Response(200, {"content-type": "application/json"}, answer)), "Hello there")
    (generation,) = result.generations[0]
    assert (generation.text, generation.finish_reason) == ("Hello! How can ", "length")
    assert result.usage == Usage(4, 6, 10)
    assert result.raw["num_output_tokens"] == [6]
    assert generation.usage == result.usage


def test_prompt_in_front_of_the_answer_is_taken_off():
    answer = json_answer({"text_output": "Hi there, and Hi"})
    assert completed(server(answer)).generations[0][0].text == " there, and Hi"


def test_echo_puts_the_prompt_in_front_whatever_the_server_does():
    for text in ("Hi there", " there"):
        answer = json_answer({"text_output": text})
        assert completed(server(answer), params={"echo": True}).generations[0][0].text == "Hi there"


def test_decoupled_model_is_asked_for_events_with_stream_off():
    decoupled = server(events({"text_output": "Hel"}, {"text_output": "lo"}), decoupled=True, route="generate_stream")
    assert completed(decoupled).generations[0][0].text == "Hello"
    assert decoupled.body == {"text_input": "Hi", "stream": False}
    assert decoupled.calls[-1].together


def test_decoupled_model_is_stopped_at_a_stop_text_it_does_not_know():
    """So `stream` is on though a whole answer is wanted: the model need not generate the rest."""
    decoupled = server(events({"text_output": "a"}, {"text_output": "b"}, {"text_output": "c"}), decoupled=True)
    decoupled.routes["/v2/models/m/generate_stream"] = decoupled.routes.pop("/v2/models/m/generate")
    decoupled.size = 1
    result = completed(decoupled, params={"stop": ["b"]})
    assert result.generations[0][0].text == "a"
    assert decoupled.stopped_reading
    assert decoupled.body["stream"] is True


def test_model_that_turns_out_to_be_decoupled_is_remembered():
    routes = {
        "/v2/models/m/generate": http("triton", "generate, more than one answer"),
        "/v2/models/m/generate_stream": events({"text_output": "Hel"}, {"text_output": "lo"}),
    }
    unknown = Server({**model(INPUTS, decoupled=None), **routes})
    client = unknown.client(Triton)
    for _ in range(2):
        result = client.run(client.runtime.generate(TextRequest(prompts=("Hi",))))
        assert result.generations[0][0].text == "Hello"
    assert [path.rpartition("/")[2] for path in unknown.asked if "generate" in path] == [
        "generate",
        "generate_stream",
        "generate_stream",
    ]


def test_other_error_under_a_good_status_is_an_error():
    with pytest.raises(ServerError, match="out of luck"):
        completed(server(json_answer({"error": "out of luck"})))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("generate, unknown list", InvalidRequestError),
        ("generate, number as text", InvalidRequestError),
        ("generate, no prompt", InvalidRequestError),
        ("generate, max_tokens missing", InvalidRequestError),
        ("generate, too long", ContextOverflowError),
        ("generate, too long, vllm", ContextOverflowError),
        ("generate_stream, fails at once", ServerError),
    ],
)
def test_recorded_errors_are_told_apart(name, kind):
    route = "generate_stream" if "stream" in name else "generate"
    with pytest.raises(kind) as caught:
        completed(server(http("triton", name), decoupled="stream" in name, route=route))
    assert type(caught.value) is kind


def test_model_that_is_gone_since_its_metadata_was_read():
    with pytest.raises(ModelNotFoundError):
        completed(server(http("triton", "generate nobody")))


@pytest.mark.parametrize("answer", [{}, {"model_name": "m"}, {"text_output": 1.5}, {"other": "x"}])
def test_answer_without_the_text_says_what_it_has(answer):
    with pytest.raises(BadResponseError, match="generated text"):
        completed(server(json_answer(answer)))


def test_output_is_found_in_the_answer_where_the_server_tells_of_none():
    only = Server({"/v2/models/m/generate": json_answer({"model_name": "m", "score": 0.5, "reply": "yes"})})
    only.routes["/v2/models/m"] = json_answer({"error": "restricted"}, 403)
    result = completed(only, input_name="q")
    assert result.generations[0][0].text == "yes"
    assert only.body == {"q": "Hi"}


def test_version_is_in_the_path():
    versioned = server(json_answer({"text_output": "a"}))
    versioned.routes.update(
        {path.replace("models/m", "models/m/versions/2"): each for path, each in versioned.routes.items()}
    )
    completed(versioned, model_version=2)
    assert versioned.asked[-1] == "/v2/models/m/versions/2/generate"


def test_text_that_is_no_utf8_is_replaced():
    answer = http("triton", "generate generate")
    broken = type(answer)(200, answer.headers, b'{"text_output":"a\xffb"}')
    assert completed(server(broken)).generations[0][0].text == "a\ufffdb"
