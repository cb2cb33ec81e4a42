"""Parameters: in their place, with the right datatype and shape, or refused."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from unit.core.runtimes.v2_text_wire import M, Server, Triton, grpc, http, json_answer, model, tensor

from kserve_core.capabilities import OutputConstraint, TextRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.tensors import Tensor

PLAIN = [
    tensor("text_input"),
    tensor("max_tokens", "INT32"),
    tensor("temperature", "FP32"),
    tensor("random_seed", "UINT64"),
    tensor("stop_words", "BYTES", -1),
    tensor("bad_words", "BYTES", -1),
    tensor("end_id", "INT32"),
]


def body(routes=None, *, options=None, server=None, **fields):
    """The JSON that a request becomes."""
    params = fields.pop("params", {})
    server = server or Server({**(routes or model(PLAIN)), "/v2/models/m/generate": json_answer({"text_output": "a"})})
    client = server.client(Triton, **(options or {}))
    client.run(client.runtime.generate(TextRequest(prompts=("Hi",), params=params, **fields)))
    return server.body


def vllm(**fields):
    inputs = orjson.loads(http("triton", "metadata vllm").body)["inputs"]
    return body(model(inputs), **fields)


def test_parameters_go_to_the_inputs_that_are_named_like_them():
    params = {"max_tokens": 5, "temperature": 1, "seed": 2**64 - 1, "bad_words": ["a", "b"], "stop": ["x"], "end_id": 7}
    sent = body(params=params)
    assert sent == {
        "text_input": "Hi",
        "max_tokens": 5,
        "temperature": 1.0,
        "random_seed": 2**64 - 1,
        "bad_words": ["a", "b"],
        "stop_words": "x",
        "end_id": 7,
    }
    assert type(sent["temperature"]) is float


def test_nothing_is_sent_that_was_not_set():
    assert body(params={"max_tokens": None, "stop": [], "n": 1}) == {"text_input": "Hi"}


def test_max_completion_tokens_is_another_name():
    assert body(params={"max_completion_tokens": 3})["max_tokens"] == 3
    with pytest.raises(ConfigurationError, match="same thing"):
        body(params={"max_completion_tokens": 3, "max_tokens": 3})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"top_k": 3}, "top_k"),
        ({"n": 2}, "n must be 1"),
        ({"logprobs": True}, "logprobs"),
        ({"bogus": 1}, "bogus"),
        ({"max_new_token": 1}, "max_new_token"),
    ],
)
def test_parameter_without_a_place_is_refused_and_the_inputs_named(params, words):
    server = Server(model(PLAIN))
    with pytest.raises(UnsupportedParameterError, match=words) as caught:
        body(server=server, params=params)
    if "n" not in params:
        assert "'m'" in caught.value.message
        assert "random_seed" in caught.value.hint
    assert not any(path.endswith("generate") for path in server.asked)


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 2**31},
        {"max_tokens": 0},
        {"seed": -1},
        {"temperature": -1},
        {"temperature": "hot"},
        {"end_id": 1.5},
        {"min_tokens": 5, "max_tokens": 2},
        {"stop": [""]},
        {"top_logprobs": 2},
    ],
)
def test_value_that_cannot_be_right_is_refused(params):
    with pytest.raises(ConfigurationError):
        body(params=params)


def test_constraint_is_refused():
    with pytest.raises(UnsupportedParameterError, match="form"):
        body(constraint=OutputConstraint("json_object"))


def test_place_may_be_a_request_parameter_that_the_user_names():
    options = {"parameters": {"top_k": 1, "tone": "dry"}}
    assert body(options=options)["parameters"] == {"top_k": 1, "tone": "dry"}
    assert body(options=options, params={"top_k": 9})["parameters"] == {"top_k": 9, "tone": "dry"}


def test_place_may_be_an_extra_input_that_the_user_names():
    options = {"extra_inputs": {"top_p": 0.5, "end_id": [2]}}
    assert body(options=options) == {"text_input": "Hi", "top_p": 0.5, "end_id": 2}
    assert body(options=options, params={"top_p": 0.9})["top_p"] == 0.9


def test_extra_body_goes_over_everything_as_input_or_parameter():
    sent = body(params={"max_tokens": 5}, options={"parameters": {"tone": "dry"}}, extra_body={"max_tokens": 7, "x": 1})
    assert sent == {"text_input": "Hi", "max_tokens": 7, "parameters": {"tone": "dry", "x": 1}}
    with pytest.raises(ConfigurationError, match="prompt"):
        body(extra_body={"text_input": "other"})


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}])
def test_request_parameter_that_triton_refuses_is_refused_here(value):
    with pytest.raises(ConfigurationError, match="which Triton does not take"):
        body(extra_body={"x": value})


def test_vllm_backend_takes_one_json_text():
    sent = vllm(params={"max_tokens": 5, "stop": ["a", "b"], "min_p": 0.1, "top_k": -1})
    assert orjson.loads(sent.pop("sampling_parameters")) == {
        "max_tokens": 5,
        "stop": ["a", "b"],
        "min_p": 0.1,
        "top_k": -1,
    }
    assert sent == {
        "text_input": "Hi",
        "stream": False,
        "exclude_input_in_output": True,
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def test_vllm_backend_does_not_see_request_parameters_beside_its_json():
    sent = vllm(
        params={"max_tokens": 5},
        options={"parameters": {"temperature": 0.5, "priority": 1}},
        extra_body={"lora_name": "x", "timeout": 5},
    )
    assert orjson.loads(sent["sampling_parameters"]) == {"temperature": 0.5, "max_tokens": 5, "lora_name": "x"}
    assert sent["parameters"] == {"priority": 1, "timeout": 5}


def test_vllm_backend_refuses_what_its_json_has_no_name_for():
    for params in ({"typical_p": 0.5}, {"bogus": 1}, {"logprobs": True}, {"prompt_logprobs": 1}):
        with pytest.raises(UnsupportedParameterError):
            vllm(params=params)


def test_inputs_over_grpc_have_the_declared_datatype_and_rank():
    routes = {
        "ModelMetadata": grpc("triton", "metadata tensorrt_llm"),
        "ModelConfig": grpc("triton", "config tensorrt_llm"),
        "ModelStreamInfer": grpc("triton", "stream"),
    }
    server = Server(routes)
    client = server.client(Triton, model="tensorrt_llm", protocol="grpc")
    params = {"max_tokens": 5, "temperature": 0.5, "stop": ["ab", "c"], "seed": 1}
    client.run(client.runtime.generate(TextRequest(prompts=("Hi",), params=params)))
    assert server.sent("text_input") == ("BYTES", [1, 1], b"\x02\0\0\0Hi")
    assert server.sent("max_tokens") == ("INT32", [1, 1], b"\x05\0\0\0")
    assert server.sent("temperature") == ("FP32", [1, 1], b"\0\0\0?")
    assert server.sent("stop_words") == ("BYTES", [1, 2], b"\x02\0\0\0ab\x01\0\0\0c")
    assert server.sent("seed")[0] == "UINT64"
    assert server.sent("stream") == ("BOOL", [1, 1], b"\0")
    assert [each.name for each in server.request.outputs] == ["text_output"]


def test_input_the_model_cannot_do_without_is_asked_for_before_anything_is_sent():
    server = Server(model(PLAIN, required=("max_tokens", "end_id")))
    with pytest.raises(ConfigurationError, match="'max_tokens', 'end_id'") as caught:
        body(server=server)
    assert "max_tokens=" in caught.value.hint
    assert "extra_inputs" in caught.value.hint
    assert not any(path.endswith("generate") for path in server.asked)


def test_number_that_json_cannot_hold_is_refused():
    with pytest.raises(ConfigurationError, match="only be sent as binary"):
        body(model([tensor("text_input"), tensor("top_p", "FP16")]), params={"top_p": 0.5})


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ([1, 2], [1, 2]),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1], [2]]), [2, 1]),
        (Tensor.of("end_ids", [1, 2], datatype="INT32", shape=[2, 1]), [2, 1]),
    ],
)
def test_extra_inputs_may_be_lists_arrays_and_tensors(value, shape):
    metadata, config = M.ModelMetadataResponse(name="m"), M.ModelConfigResponse()
    for name, datatype, dims in (("text_input", "BYTES", [-1, 1]), ("end_ids", "INT32", [-1, -1])):
        metadata.inputs.add(name=name, datatype=datatype, shape=dims)
        config.config.input.add(name=name, optional=name != "text_input")
    metadata.outputs.add(name="text_output", datatype="BYTES", shape=[-1, 1])
    routes = {
        "ModelMetadata": [metadata.SerializeToString()],
        "ModelConfig": [config.SerializeToString()],
        "ModelInfer": grpc("mlserver", "infer tiny"),
    }
    server = Server(routes)
    client = server.client(Triton, protocol="grpc", extra_inputs={"end_ids": value})
    client.run(client.runtime.generate(TextRequest(prompts=("Hi",))))
    assert server.sent("end_ids") == ("INT32", shape, b"\1\0\0\0\2\0\0\0")


@pytest.mark.parametrize(
    ("value", "datatype"),
    [(float("nan"), "INT32"), (float("inf"), "INT64"), (1, "STRING"), (float("nan"), "FP32"), (b"\xff", "BYTES")],
)
def test_what_no_input_can_hold_is_refused_before_anything_is_sent(value, datatype):
    with pytest.raises(ConfigurationError):
        body(model([tensor("text_input"), tensor("x", datatype)]), extra_body={"x": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, "\ud800"])
def test_a_request_parameter_that_json_would_change_is_refused(value):
    with pytest.raises(ConfigurationError):
        body(extra_body={"x": value})
