"""Generated text over V2 REST: Triton's flat routes with the vLLM backend and an ensemble, MLServer's streams."""

from __future__ import annotations

import json

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.v2_wire import MODELS, events, text

HELLO = "Hello! How can I help you today?"
GENERATE, STREAM = "/v2/models/tiny/generate", "/v2/models/tiny/generate_stream"


@pytest.fixture(scope="module")
def servers():
    made = {
        "triton": DevServer(runtime="triton", models=MODELS).start(),
        "mlserver": DevServer(runtime="mlserver", models=(*MODELS, "tiny-hf", "tiny-hf-embedding")).start(),
    }
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def triton(servers):
    servers["triton"].reset()
    with httpx.Client(base_url=servers["triton"].url, timeout=10) as client:
        yield client


@pytest.fixture
def mlserver(servers):
    servers["mlserver"].reset()
    with httpx.Client(base_url=servers["mlserver"].url, timeout=10) as client:
        yield client


def prompt(said="Say hello.", **sampling):
    """A request of the vLLM backend that does not repeat the prompt."""
    fields = {"max_tokens": 100, **sampling}
    return {"text_input": said, "exclude_input_in_output": True, "sampling_parameters": json.dumps(fields)}


# --- Triton


def test_one_answer_is_a_flat_object(triton):
    assert triton.post(GENERATE, json={**prompt(), "id": "7"}).json() == {
        "id": "7",
        "model_name": "tiny",
        "model_version": "1",
        "text_output": HELLO,
    }


def test_the_prompt_comes_first_unless_it_is_refused(triton):
    body = prompt()
    del body["exclude_input_in_output"]
    assert triton.post(GENERATE, json=body).json()["text_output"] == f"Say hello.{HELLO}"


def test_parameters_may_be_nested_or_beside(triton):
    for more in ({"parameters": {"max_tokens": 2}}, {"max_tokens": 2}):
        body = {"text_input": "Say hello.", "exclude_input_in_output": True, **more}
        assert triton.post(GENERATE, json=body).json()["text_output"] == "Hello"


def test_the_default_length_is_short(triton):
    body = {"text_input": "word " * 40, "exclude_input_in_output": True, "return_num_output_tokens": True}
    assert triton.post(GENERATE, json=body).json()["num_output_tokens"] == 16


def test_stops_and_further_outputs(triton):
    body = {**prompt(stop=["can", "nothing"]), "return_finish_reason": True, "return_num_input_tokens": True}
    found = triton.post(GENERATE, json=body).json()
    assert (found["text_output"], found["finish_reason"]) == ("Hello! How ", "stop")
    assert found["num_input_tokens"] > 0
    found = triton.post(GENERATE, json={**prompt(max_tokens=2), "return_finish_reason": True}).json()
    assert found["finish_reason"] == "length"


def test_several_choices_and_log_probabilities(triton):
    asked_for = {"return_finish_reason": True, "return_logprobs": True, "return_num_output_tokens": True}
    found = triton.post(GENERATE, json={**prompt(n=2, logprobs=1, temperature=1), **asked_for}).json()
    assert found["text_output"] == [HELLO, f"(2) {HELLO}"]
    assert found["finish_reason"] == ["stop", "stop"]
    told = json.loads(found["logprobs"][0])
    assert "".join(next(iter(table.values()))["decoded_token"] for table in told) == f"{HELLO}<|im_end|>"
    assert found["num_output_tokens"] == 2 * len(told)
    steps = events(triton.post(STREAM, json={**prompt(n=2, temperature=1), "stream": True, **asked_for}))
    assert ["".join(texts) for texts in zip(*(step["text_output"] for step in steps), strict=True)] == [
        HELLO,
        f"(2) {HELLO}",
    ]
    assert steps[0]["logprobs"] == ["null", "null"]


def test_structured_outputs(triton):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    found = triton.post(GENERATE, json=prompt("The city of Paris.", structured_outputs={"json": schema})).json()
    assert set(json.loads(found["text_output"])) == {"city"}
    guided = json.dumps({"choice": ["yes", "no"]})
    found = triton.post(GENERATE, json=prompt("Is it?", guided_decoding=guided)).json()
    assert found["text_output"] in {"yes", "no"}


def test_a_chat_prompt_is_understood(triton):
    made = (
        "<|im_start|>system\nThe capital of Peru is Lima.<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of Peru?<|im_end|>\n<|im_start|>assistant\n"
    )
    found = triton.post(GENERATE, json=prompt(made)).json()
    assert "Lima" in found["text_output"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"sampling_parameters": json.dumps({"typo": 1})}, 500, "typo"),
        ({"sampling_parameters": "{"}, 500, "Error generating stream"),
        ({"sampling_parameters": json.dumps({"temperature": -1})}, 500, "temperature"),
        ({"stop": ["a"]}, 400, "invalid type"),
        ({"stream": "yes"}, 500, "stream"),
        ({"text_input": None}, 500, "text_input"),
        ({"stream": True, "exclude_input_in_output": False}, 500, "When streaming"),
    ],
)
def test_what_is_refused(triton, fields, status, words):
    found = triton.post(GENERATE, json={"text_input": "Say hello.", **fields})
    assert found.status_code == status
    assert words in found.json()["error"]


def test_a_missing_prompt_and_a_missing_model(triton):
    found = triton.post(GENERATE, json={})
    assert found.status_code == 400
    assert "missing required input(s) ['text_input']" in found.json()["error"]
    found = triton.post(GENERATE, json={"stream": False})  # as many inputs as are required, so the model finds it
    assert (found.status_code, found.json()) == (400, {"error": "input 'text_input' is missing"})
    found = triton.post("/v2/models/nope/generate_stream", json=prompt())
    assert (found.status_code, set(found.json())) == (404, {"error"})


def test_a_stream_ends_without_a_marker(triton):
    found = triton.post(STREAM, json={**prompt(), "stream": True})
    assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
    pieces = [event["text_output"] for event in events(found)]
    assert "".join(pieces) == HELLO
    assert len(pieces) > 5


def test_a_model_that_does_not_stream_gives_one_event(triton):
    found = events(triton.post("/v2/models/tiny-embedding/generate_stream", json={"text": "a cat"}))
    assert len(found) == 1
    assert len(found[0]["embedding"]) == 256


def test_an_error_before_the_first_event_decides_the_status(triton):
    found = triton.post(STREAM, json={**prompt(temperature=-1), "stream": True})
    assert found.status_code == 500
    assert found.headers["content-type"].startswith("text/event-stream")
    assert set(events(found)[0]) == {"error"}


def test_generate_wants_exactly_one_answer(triton):
    found = triton.post(GENERATE, json={**prompt(), "stream": True})
    assert found.status_code == 200
    assert found.json()["error"].startswith("generate expects model to produce exactly 1 response")


def test_a_decoupled_model_is_not_for_infer(triton):
    found = triton.post("/v2/models/tiny/infer", json={"inputs": [text("text_input", "Say hello.")]})
    assert found.status_code == 501
    assert "decoupled transaction policy" in found.json()["error"]


def test_a_plain_model_takes_inputs_and_parameters(triton):
    inputs = [text("text_input", "Say hello."), text("stop", "can", "x")]
    body = {"inputs": inputs, "parameters": {"max_tokens": 50}}
    found = triton.post("/v2/models/tiny-plain/infer", json=body).json()["outputs"][0]
    assert (found["shape"], found["data"]) == ([1], ["Hello! How "])
    body = {"text_input": "Say hello.", "stop": ["can", "x"], "max_tokens": 50}
    assert triton.post("/v2/models/tiny-plain/generate", json=body).json()["text_output"] == "Hello! How "


def test_the_ensemble_is_batched_and_needs_a_length(triton):
    url = "/v2/models/ensemble/generate"
    assert triton.post(url, json={"text_input": "Say hello."}).status_code == 400
    body = {"text_input": "Say hello.", "max_tokens": 50, "stop_words": ["can"]}
    assert triton.post(url, json=body).json()["text_output"] == "Say hello.Hello! How "
    stream = {**body, "stream": True, "exclude_input_in_output": True}
    found = events(triton.post("/v2/models/ensemble/generate_stream", json=stream))
    assert "".join(event["text_output"] for event in found) == "Hello! How "


# --- MLServer


def asked(said="Say hello.", **parameters):
    return {"id": "1", "inputs": [text("text_input", said)], "parameters": {"max_tokens": 50, **parameters}}


@pytest.mark.parametrize("verb", ["infer", "generate"])
def test_whole_text_has_a_column(mlserver, verb):
    output, reason = mlserver.post(f"/v2/models/tiny/{verb}", json=asked()).json()["outputs"]
    assert (reason["name"], reason["shape"], reason["data"]) == ("finish_reason", [1, 1], ["stop"])
    assert output == {
        "name": "text_output",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"content_type": "str"},
        "data": [HELLO],
    }


@pytest.mark.parametrize("verb", ["infer_stream", "generate_stream"])
def test_a_stream_has_whole_answers_as_events(mlserver, verb):
    found = events(mlserver.post(f"/v2/models/tiny/{verb}", json=asked(stop=["can"])))
    assert "".join(event["outputs"][0]["data"][0] for event in found) == "Hello! How "
    assert all("headers" in event["parameters"] for event in found)


@pytest.mark.parametrize("model", ["nope", "broken", "tiny-embedding"])
def test_an_error_breaks_the_stream_off_after_200(mlserver, model):
    with mlserver.stream("POST", f"/v2/models/{model}/infer_stream", json=asked()) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()


def test_the_hugging_face_runtime(mlserver):
    inputs = [text("args", "Say hello."), {**text("max_new_tokens", "2"), "parameters": {"content_type": "hg_json"}}]
    (output,) = mlserver.post("/v2/models/tiny-hf/infer", json={"inputs": inputs}).json()["outputs"]
    assert (output["shape"], output["parameters"]) == ([1, 1], {"content_type": "hg_jsonlist"})
    assert json.loads(output["data"][0]) == {"generated_text": "Say hello.Hello"}
    unknown = [text("args", "x"), text("typo", "1")]
    assert mlserver.post("/v2/models/tiny-hf/infer", json={"inputs": unknown}).status_code == 500


def test_feature_extraction_answers_the_first_text_with_token_states(mlserver):
    (output,) = mlserver.post("/v2/models/tiny-hf-embedding/infer", json={"inputs": [text("args", "a", "b")]}).json()[
        "outputs"
    ]
    assert output["shape"] == [1, 1]
    (states,) = json.loads(output["data"][0])
    assert all(len(state) == 256 for state in states)
