"""Whole answers."""

from __future__ import annotations

import pickle

import pytest
from unit.core.runtimes.tgis_wire import M, Server, batch, done

from kserve_core.capabilities import InfoRuntime, TextRequest, TextRuntime, TokenizerRuntime
from kserve_core.errors import BadResponseError, ConfigurationError, ServerError, StreamInterrupted
from kserve_core.runtimes.registry import get_runtime
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.types import Usage


def generate(*responses, prompts=("a",), model=None, headers=None, options=None, **params):
    server = Server(Generate=batch(*responses))
    client = server.client(**(options or {}))
    request = TextRequest(prompts=list(prompts), model=model, params=params, headers=headers or {})
    return server, client.run(client.runtime.generate(request))


def test_what_it_is():
    runtime = get_runtime("TGIS").create(model="m")
    assert isinstance(runtime, TGISRuntime)
    for protocol in (TextRuntime, TokenizerRuntime, InfoRuntime):
        assert isinstance(runtime, protocol)
    assert runtime.supports_constraints == {"json_schema", "json_object", "regex", "choice", "grammar"}
    assert pickle.loads(pickle.dumps(runtime)).model == "m"


def test_it_speaks_grpc_only():
    with pytest.raises(ConfigurationError, match="TGIS speaks gRPC, not 'rest'"):
        TGISRuntime(protocol="rest")
    with pytest.raises(ConfigurationError, match="no paths"):
        TGISRuntime(base_path="/v1")


def test_several_prompts_go_out_in_one_request_and_come_back_in_order():
    first = done("one", input_token_count=2, generated_token_count=3)
    second = done("two", "MAX_TOKENS", input_token_count=4, generated_token_count=5)
    server, result = generate(first, second, prompts=["a", "b"])
    assert [request.text for request in server.request.requests] == ["a", "b"]
    assert server.asked == ["Generate"]
    assert [[one.text for one in group] for group in result.generations] == [["one"], ["two"]]
    assert [group[0].usage for group in result.generations] == [Usage(2, 3, 5), Usage(4, 5, 9)]
    assert result.usage == Usage(6, 8, 14)
    assert result.raw["responses"][1]["stop_reason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("MAX_TOKENS", "length"),
        ("TOKEN_LIMIT", "length"),
        ("TIME_LIMIT", "length"),
        ("EOS_TOKEN", "stop"),
        ("STOP_SEQUENCE", "stop"),
    ],
)
def test_why_it_ended(reason, finish):
    _, result = generate(done("x", reason, stop_sequence="END" if finish == "stop" else ""))
    one = result.generations[0][0]
    assert one.finish_reason == finish
    assert one.extra["server_finish_reason"] == reason
    assert one.stop_reason == ("END" if reason == "STOP_SEQUENCE" else None)


@pytest.mark.parametrize(
    ("reason", "error"), [("ERROR", ServerError), ("CANCELLED", ServerError), ("NOT_FINISHED", BadResponseError)]
)
def test_an_answer_that_is_not_complete_is_an_error(reason, error):
    with pytest.raises(error) as caught:
        generate(done("half an ans", reason))
    assert caught.value.partial_text == "half an ans"
    assert not isinstance(caught.value, StreamInterrupted)


def test_missing_answers_are_noticed():
    with pytest.raises(BadResponseError, match="1 completions came where 2"):
        generate(done(), prompts=["a", "b"])


def test_end_of_text_is_never_part_of_an_answer():
    _, result = generate(done("Yes.<|im_end|>", stop_sequence="<|im_end|>"))
    assert result.generations[0][0].text == "Yes."


def test_a_server_that_does_not_know_include_stop_sequence():
    # The old classic one: it keeps the stop text and does not say which one it was.
    _, result = generate(done("one, two,", "STOP_SEQUENCE"), stop=[",", "two,"])
    assert result.generations[0][0].text == "one, "
    _, result = generate(done("one,", "STOP_SEQUENCE"), stop=[","], include_stop_str_in_output=True)
    assert result.generations[0][0].text == "one,"


def test_a_server_that_names_the_match_trimmed_it_itself():
    _, result = generate(done("a, b,", "STOP_SEQUENCE", stop_sequence=","), stop=[","], min_tokens=5, max_tokens=9)
    assert result.generations[0][0].text == "a, b,"


def test_token_details_come_as_parallel_lists():
    tokens = [
        M.TokenInfo(text="\u0120weather", logprob=-0.5, rank=1, top_tokens=[
            M.TokenInfo.TopToken(text="\u0120weather", logprob=-0.5), M.TokenInfo.TopToken(text="\u010a", logprob=-2.0)
        ]),
        M.TokenInfo(text="\u00c3", logprob=-0.25, rank=3),
    ]  # fmt: skip
    prompt = [M.TokenInfo(text="The"), M.TokenInfo(text="\u0120cat", logprob=-1.0)]
    _, result = generate(done(tokens=tokens, input_tokens=prompt, seed=42), logprobs=2, prompt_logprobs=0, seed=42)
    one = result.generations[0][0]
    assert one.logprobs == {
        "tokens": ["\u0120weather", "\u00c3"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"\u0120weather": -0.5, "\u010a": -2.0}, None],
        "token_ranks": [1, 3],
    }
    assert one.extra["prompt_logprobs"]["token_logprobs"] == [None, -1.0]
    assert one.extra["seed"] == 42


def test_model_adapter_and_prefix():
    options = {"model": "m", "adapter_id": "lora", "prefix_id": "prefix"}
    server, result = generate(done(), options=options)
    request = server.request
    assert (request.model_id, request.adapter_id, request.prefix_id) == ("m", "lora", "prefix")
    assert server.calls[-1].metadata == {"mm-model-id": "m"}
    assert result.model == "m"
    server, result = generate(done(), options=options, model="other", adapter_id="lora2")
    assert (server.request.model_id, server.request.adapter_id) == ("other", "lora2")
    server, _ = generate(done())
    assert not server.request.HasField("adapter_id")
    assert server.calls[-1].metadata == {}


def test_the_request_id_becomes_the_correlation_id():
    server, _ = generate(done(), headers={"X-Request-Id": "r-1"})
    assert server.calls[-1].metadata == {"x-request-id": "r-1", "x-correlation-id": "r-1"}
    server, _ = generate(done(), headers={"x-request-id": "r-1", "x-correlation-id": "c-1"})
    assert server.calls[-1].metadata["x-correlation-id"] == "c-1"


def test_prompts_must_be_texts():
    with pytest.raises(ConfigurationError, match="At least one prompt"):
        generate(prompts=[])
    with pytest.raises(ConfigurationError, match="prompt at position 1 is of type"):
        generate(prompts=["a", 3])


def test_a_word_that_is_newer_than_this_package_is_passed_on():
    response = done("x", generated_token_count=1)
    response.stop_reason = 99
    _, result = generate(response)
    assert result.generations[0][0].finish_reason == "99"
