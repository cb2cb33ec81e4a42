"""Text generation over both protocols and of both servers."""

from __future__ import annotations

import pickle

import orjson
import pytest
from unit.core.runtimes.v2_text_wire import (
    M,
    MLServer,
    Server,
    Triton,
    events,
    grpc,
    http,
    json_answer,
    model,
    tensor,
)

from kserve_core.calls import GrpcFailure
from kserve_core.capabilities import ChatRequest, TextRequest, TextRuntime
from kserve_core.chat_template import ChatTemplate
from kserve_core.errors import (
    ConfigurationError,
    ContextOverflowError,
    InvalidRequestError,
    ModelNotFoundError,
    ServerError,
    StreamInterrupted,
)
from kserve_core.runtimes.open_inference.generation import TensorGeneration
from kserve_core.templated import TemplatedChat
from kserve_core.types import Usage

TINY = {"ModelMetadata": grpc("triton", "metadata tiny"), "ModelConfig": grpc("triton", "config tiny")}
VLLM_INPUTS = [
    tensor("text_input"),
    tensor("stream", "BOOL"),
    tensor("sampling_parameters"),
    tensor("exclude_input_in_output", "BOOL"),
    tensor("return_finish_reason", "BOOL"),
    tensor("return_num_input_tokens", "BOOL"),
    tensor("return_num_output_tokens", "BOOL"),
    tensor("return_logprobs", "BOOL"),
]


def whole(client, *prompts, **fields):
    params = fields.pop("params", {})
    return client.run(client.runtime.generate(TextRequest(prompts=prompts or ("Hi",), params=params, **fields)))


def pieces(client, prompt="Hi", **fields):
    params = fields.pop("params", {})
    return list(client.stream(client.runtime.stream_generate(TextRequest(prompts=(prompt,), params=params, **fields))))


def text_of(found):
    return "".join(piece.text for piece in found)


def test_it_is_a_text_runtime_that_pickles():
    runtime = Triton(model="m")
    assert isinstance(runtime, TextRuntime)
    assert issubclass(Triton, TensorGeneration)
    assert pickle.loads(pickle.dumps(runtime)).model == "m"


@pytest.mark.parametrize("kind", [Triton, MLServer])
@pytest.mark.parametrize("prompts", [(), (1,), (None,)])
def test_prompts_that_are_none_are_refused_at_once(kind, prompts):
    with pytest.raises(ConfigurationError):
        kind(model="m").generate(TextRequest(prompts=prompts))


def test_stream_takes_one_prompt():
    with pytest.raises(ConfigurationError, match="one prompt"):
        Triton(model="m").stream_generate(TextRequest(prompts=("a", "b")))


# --- Triton over gRPC -----------------------------------------------------------------------------------------------


def test_decoupled_model_streams_over_grpc_and_asks_for_a_last_message():
    server = Server({**TINY, "ModelStreamInfer": grpc("triton", "stream, final")})
    found = pieces(server.client(model="tiny", protocol="grpc"))
    assert len(found) > 2
    assert found[-1].finish_reason == "stop"
    assert found[0].model == "tiny"
    assert [piece.model for piece in found[1:]] == [None] * (len(found) - 1)
    assert server.request.parameters["triton_enable_empty_final_response"].bool_param
    assert server.sent("stream") == ("BOOL", [1], b"\1")


def test_whole_answer_of_a_decoupled_model_is_its_stream_put_together():
    server = Server({**TINY, "ModelStreamInfer": grpc("triton", "stream, final")})
    result = whole(server.client(model="tiny", protocol="grpc"))
    assert result.generations[0][0].text == text_of(pieces(server.client(model="tiny", protocol="grpc")))
    assert result.generations[0][0].finish_reason == "stop"
    assert server.asked == ["ModelMetadata", "ModelConfig", "ModelStreamInfer"] * 2


def test_stream_without_the_last_message_that_was_asked_for_is_not_complete():
    server = Server({**TINY, "ModelStreamInfer": grpc("triton", "stream")})
    with pytest.raises(StreamInterrupted) as caught:
        pieces(server.client(model="tiny", protocol="grpc"))
    assert caught.value.partial_text


@pytest.mark.parametrize(
    ("name", "kind", "partial"),
    [
        ("stream, fails at once", ServerError, False),
        ("stream, fails midway", ServerError, True),
        ("stream, too long", ContextOverflowError, False),
    ],
)
def test_errors_inside_of_messages(name, kind, partial):
    server = Server({**TINY, "ModelStreamInfer": grpc("triton", name)})
    with pytest.raises(kind) as caught:
        pieces(server.client(model="tiny", protocol="grpc"))
    assert bool(caught.value.partial_text) is partial


def test_plain_model_is_asked_once_over_grpc_and_streams_as_one_piece():
    config = M.ModelConfigResponse()
    config.config.name = "generate"
    for name in ("text_input", "max_tokens", "temperature"):
        config.config.input.add(name=name, optional=name != "text_input")
    routes = {
        "ModelMetadata": grpc("triton", "metadata generate"),
        "ModelConfig": [config.SerializeToString()],
        "ModelStreamInfer": grpc("triton", "stream, plain model"),
        "ModelInfer": [
            M.ModelStreamInferResponse.FromString(
                grpc("triton", "stream, plain model")[0]
            ).infer_response.SerializeToString()
        ],
    }
    server = Server(routes)
    client = server.client(model="generate", protocol="grpc")
    (piece,) = pieces(client)
    result = whole(client)
    assert piece.text == result.generations[0][0].text
    assert server.asked[-2:] == ["ModelStreamInfer", "ModelInfer"]


def test_model_without_configuration_that_is_decoupled_is_found_out_over_grpc():
    routes = {
        "ModelMetadata": grpc("triton", "metadata tiny"),
        "ModelConfig": [GrpcFailure("UNIMPLEMENTED", "")],
        "ModelInfer": [
            GrpcFailure("UNIMPLEMENTED", "ModelInfer RPC doesn't support models with decoupled transaction policy")
        ],
        "ModelStreamInfer": grpc("triton", "stream, final"),
    }
    server = Server(routes)
    client = server.client(model="tiny", protocol="grpc")
    assert whole(client).generations[0][0].text
    assert whole(client).generations[0][0].text
    assert server.asked.count("ModelInfer") == 1


# --- the vLLM backend -----------------------------------------------------------------------------------------------


def vllm(*answers, decoupled=True):
    outputs = [tensor(name) for name in ("text_output", "finish_reason", "logprobs")]
    outputs += [tensor(name, "UINT32") for name in ("num_input_tokens", "num_output_tokens")]
    return Server(
        {**model(VLLM_INPUTS, outputs, decoupled=decoupled), "/v2/models/m/generate_stream": events(*answers)}
    )


def test_recorded_stream_of_the_vllm_backend_says_why_it_ended():
    server = vllm()
    server.routes["/v2/models/m/generate_stream"] = http("triton", "generate_stream vllm")
    found = pieces(server.client())
    assert text_of(found) == "Hello! How can I help you today?"
    assert [piece.finish_reason for piece in found] == [None] * (len(found) - 1) + ["stop"]
    assert server.body["stream"] is True


def test_counts_of_the_vllm_backend_are_summed_up_for_the_last_piece():
    told = {"num_input_tokens": 4, "num_output_tokens": 1, "finish_reason": "None"}
    server = vllm(
        {"text_output": "a", **told}, {"text_output": "", **told}, {"text_output": "b", **told, "finish_reason": "stop"}
    )
    found = pieces(server.client())
    assert [piece.usage for piece in found] == [None, None, Usage(4, 3, 7)]


def test_counts_are_not_asked_for_if_they_are_not_wanted():
    server = vllm({"text_output": "a", "finish_reason": "stop"})
    found = pieces(server.client(), include_usage=False)
    assert found[-1].usage is None
    assert "return_num_input_tokens" not in server.body
    assert server.body["return_finish_reason"] is True


def test_several_answers_to_one_prompt():
    server = vllm(
        {
            "text_output": ["a", "x"],
            "finish_reason": ["None", "None"],
            "num_output_tokens": [1, 1],
            "num_input_tokens": 3,
        },
        {
            "text_output": ["b", ""],
            "finish_reason": ["stop", "length"],
            "num_output_tokens": [1, 0],
            "num_input_tokens": 3,
        },
    )
    result = whole(server.client(), params={"n": 2, "temperature": 1})
    assert [(each.text, each.finish_reason) for each in result.generations[0]] == [("ab", "stop"), ("x", "length")]
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 3)
    assert {piece.index for piece in pieces(server.client(), params={"n": 2})} == {0, 1}


def test_logprobs_have_the_form_of_text_completions():
    told = (
        '[{"5": {"logprob": -0.5, "rank": 1, "decoded_token": "a"}, "7": {"logprob": -Infinity, "decoded_token": "b"}}]'
    )
    server = vllm(*[{"text_output": "a", "finish_reason": "None", "logprobs": told}] * 2)
    result = whole(server.client(), params={"logprobs": True, "top_logprobs": 1})
    logprobs = result.generations[0][0].logprobs
    assert logprobs["tokens"] == ["a", "a"]
    assert logprobs["token_logprobs"] == [-0.5, -0.5]
    assert logprobs["top_logprobs"][0] == {"a": -0.5, "b": float("-inf")}
    assert server.body["return_logprobs"] is True
    assert '"logprobs":1' in server.body["sampling_parameters"]


def test_log_probabilities_of_tensorrt_llm():
    inputs = [tensor("text_input"), tensor("return_log_probs", "BOOL")]
    outputs = [tensor("text_output"), tensor("cum_log_probs", "FP32"), tensor("output_log_probs", "FP32", -1, -1)]
    answer = json_answer({"text_output": "ab", "cum_log_probs": -1.5, "output_log_probs": [-1.0, -0.5]})
    server = Server({**model(inputs, outputs), "/v2/models/m/generate": answer})
    generation = whole(server.client(), params={"logprobs": True}).generations[0][0]
    assert generation.logprobs == {"token_logprobs": [-1.0, -0.5]}
    assert generation.extra["cumulative_logprob"] == -1.5
    assert whole(server.client()).generations[0][0].logprobs is None


# --- MLServer -------------------------------------------------------------------------------------------------------


def mlserver(**routes):
    return Server({"/v2/models/tiny": http("mlserver", "metadata tiny"), **routes})


def test_mlserver_answers_whole_and_in_pieces_over_rest():
    server = mlserver(
        **{
            "/v2/models/tiny/infer": http("mlserver", "infer tiny"),
            "/v2/models/tiny/infer_stream": http("mlserver", "infer_stream tiny"),
        }
    )
    client = server.client(MLServer, model="tiny")
    assert whole(client).generations[0][0].text
    (prompt,) = server.body["inputs"]
    assert (prompt["datatype"], prompt["data"]) == ("BYTES", ["Hi"])
    found = pieces(client)
    assert len(found) > 2
    assert found[0].model == "tiny"
    assert server.asked[1:] == ["/v2/models/tiny/infer", "/v2/models/tiny/infer_stream"]


def test_mlserver_streams_bare_messages_over_grpc():
    routes = {
        "ModelMetadata": grpc("mlserver", "metadata tiny"),
        "ModelStreamInfer": grpc("mlserver", "stream"),
        "ModelInfer": grpc("mlserver", "infer tiny"),
    }
    server = Server(routes)
    client = server.client(MLServer, model="tiny", protocol="grpc")
    assert len(pieces(client)) > 2
    assert "triton_enable_empty_final_response" not in server.request.parameters
    assert whole(client).generations[0][0].text


@pytest.mark.parametrize(("name", "partial"), [("stream, fails at once", False), ("stream, fails midway", True)])
def test_mlserver_streams_fail_with_a_status_over_grpc(name, partial):
    routes = {"ModelMetadata": grpc("mlserver", "metadata tiny"), "ModelStreamInfer": grpc("mlserver", name)}
    with pytest.raises(ServerError, match="generation failed midway") as caught:
        pieces(Server(routes).client(MLServer, model="tiny", protocol="grpc"))
    assert bool(caught.value.partial_text) is partial


@pytest.mark.parametrize("name", ["infer_stream, fails at once", "infer_stream, model that does not stream"])
def test_mlserver_fails_with_plain_text_and_points_to_its_log(name):
    server = mlserver(**{"/v2/models/tiny/infer_stream": http("mlserver", name)})
    with pytest.raises(ServerError) as caught:
        pieces(server.client(MLServer, model="tiny"))
    assert "log" in caught.value.hint


# --- several prompts, chat ------------------------------------------------------------------------------------------


def test_prompts_are_sent_side_by_side_and_answered_in_order():
    def answer(call):
        return json_answer({"text_output": orjson.loads(call.body)["text_input"].upper(), "num_input_tokens": 1})

    server = Server({**model([tensor("text_input")]), "/v2/models/m/generate": answer})
    result = whole(server.client(), "a", "b", "c")
    assert [each[0].text for each in result.generations] == ["A", "B", "C"]
    assert result.usage.prompt_tokens == 3
    assert len(result.raw["responses"]) == 3


def test_one_failed_prompt_fails_all():
    def answer(call):
        return (
            json_answer({"error": "must not be b"}, 400) if b'"b"' in call.body else json_answer({"text_output": "x"})
        )

    server = Server({**model([tensor("text_input")]), "/v2/models/m/generate": answer})
    with pytest.raises(InvalidRequestError, match="must not be b"):
        whole(server.client(), "a", "b")


def test_unknown_model_is_told_with_the_ones_there_are():
    index = json_answer([{"name": "tiny", "version": "1", "state": "READY"}])
    server = Server({"/v2/repository/index": index})
    with pytest.raises(ModelNotFoundError) as caught:
        whole(server.client(model="tini"))
    assert "Did you mean 'tiny'" in caught.value.hint


@pytest.mark.parametrize("kind", ["whole", "pieces"])
def test_templated_chat_ends_at_the_templates_own_stop_text(kind):
    """The model has no input for stop texts: the answer is cut here, and the stop text is nobody's."""
    routes = model([tensor("text_input"), tensor("stream", "BOOL")], decoupled=True)
    routes["/v2/models/m/generate_stream"] = events(
        {"text_output": "Hello"}, {"text_output": "<|im_"}, {"text_output": "end|>\n<|im_start|>user"}
    )
    server = Server(routes)
    client = server.client()
    chat = TemplatedChat(client.runtime, ChatTemplate.load("chatml"))
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}])
    if kind == "whole":
        (choice,) = client.run(chat.chat(request)).choices
        assert (choice.content, choice.finish_reason, choice.stop_reason) == ("Hello", "stop", None)
    else:
        deltas = list(client.stream(chat.stream_chat(request)))
        assert "".join(delta.content for delta in deltas) == "Hello"
        assert (deltas[-1].finish_reason, deltas[-1].stop_reason) == ("stop", None)
    assert server.body["text_input"].startswith("<|im_start|>user\nHi")


async def test_the_same_from_an_event_loop():
    class Loop(Server):
        async def arun(self, call):
            return self.run(call)

        async def astream(self, call):
            for piece in self.stream(call):
                yield piece

    server = Loop(
        {**model([tensor("text_input")], decoupled=True), "/v2/models/m/generate_stream": events({"text_output": "a"})}
    )
    client = server.client()
    result = await client.arun(client.runtime.generate(TextRequest(prompts=("x", "y"))))
    assert [each[0].text for each in result.generations] == ["a", "a"]
    request = TextRequest(prompts=("x",))
    assert [piece.text async for piece in client.astream(client.runtime.stream_generate(request))] == ["a"]
