"""Text completions, whole and in pieces."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, feed, fixture, ok

from kserve_core.capabilities import TextRequest, TextRuntime
from kserve_core.errors import BadResponseError, ConfigurationError, StreamInterrupted
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.runtimes.vllm.completions import CompletionDecoder
from kserve_core.types import Usage

PATH = "/v1/completions"


def complete(name, prompts, **fields):
    server = Server().route(PATH, ok(name))
    client = server.client(model="granite")
    return server, client.run(client.runtime.generate(TextRequest(prompts=prompts, **fields)))


def test_satisfies_the_protocol():
    assert isinstance(VLLMRuntime(), TextRuntime)


def test_several_prompts_with_several_completions_each_in_one_request():
    server, result = complete("completion.json", ["a", "b"], params={"n": 2})
    assert server.body == {"prompt": ["a", "b"], "n": 2, "model": "granite"}
    assert [[g.text for g in group] for group in result.generations] == [["a0", "a1"], ["b1", "b0"]]
    assert result.generations[1][1].finish_reason == "stop"
    assert result.usage == Usage(4, 16, 20)
    assert (result.id, result.model, result.system_fingerprint) == ("cmpl-51d0c2", "granite", "vllm-0.32.0-3b1c0a52")


def test_one_prompt_goes_out_as_a_string_and_with_nothing_that_was_not_set():
    server, _ = complete("completion_logprobs_echo.json", ["Hello"])
    assert server.body == {"prompt": "Hello", "model": "granite"}


def test_log_probabilities_and_echo():
    params = {"echo": True, "logprobs": True, "max_tokens": 1, "suffix": "."}
    server, result = complete("completion_logprobs_echo.json", ["Hello"], params=params)
    assert server.body["logprobs"] == 0
    assert (server.body["echo"], server.body["suffix"]) == (True, ".")
    assert result.generations[0][0].logprobs["token_logprobs"] == [None, -0.75]


def test_missing_completions_are_noticed():
    for prompts, params in ((["a"], {}), (["a", "b", "c"], {"n": 2}), (["a", "b"], {})):
        with pytest.raises(BadResponseError, match="completions came"):
            complete("completion.json", prompts, params=params)


def test_no_choices():
    server = Server().route(PATH, (200, b'{"object":"text_completion"}'))
    client = server.client(model="m")
    with pytest.raises(BadResponseError, match="no choices"):
        client.run(client.runtime.generate(TextRequest(prompts=["a"])))


@pytest.mark.parametrize("prompts", [[], [1], [None]])
def test_prompts_that_are_none(prompts):
    with pytest.raises(ConfigurationError, match="prompt"):
        complete("completion.json", prompts)


def test_stream():
    server = Server().route(PATH, ok("completion.sse"))
    client = server.client(model="granite")
    pieces = list(client.stream(client.runtime.stream_generate(TextRequest(prompts=["Tell"]))))
    assert "".join(p.text for p in pieces) == "Once upon a time"
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["length"]
    assert [p.model for p in pieces if p.model] == ["granite"]
    assert [p.usage for p in pieces if p.usage] == [Usage(2, 4, 6)]
    assert pieces[-1].usage
    assert server.body == {
        "prompt": "Tell", "model": "granite", "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_the_same_pieces_wherever_the_bytes_are_cut():
    data = fixture("completion.sse")
    whole = feed(CompletionDecoder(), data)
    for cut in range(1, len(data)):
        assert feed(CompletionDecoder(), data, [cut]) == whole


def test_a_cut_stream_raises_with_the_text_so_far():
    data = fixture("completion.sse")
    with pytest.raises(StreamInterrupted) as info:
        feed(CompletionDecoder(), data[: data.index(b" a time")])
    assert info.value.partial_text == "Once upon"


def test_a_stream_takes_one_prompt():
    server = Server()
    client = server.client(model="m")
    with pytest.raises(ConfigurationError, match="one prompt"):
        list(client.stream(client.runtime.stream_generate(TextRequest(prompts=["a", "b"]))))
    assert server.calls == []


def test_token_ids_of_a_choice_are_kept():
    choice = {"index": 0, "text": "x", "token_ids": [5]}
    server = Server().route(PATH, (200, orjson.dumps({"choices": [choice]})))
    client = server.client(model="m")
    result = client.run(client.runtime.generate(TextRequest(prompts=["a"], params={"return_token_ids": True})))
    assert result.generations[0][0].extra == {"token_ids": [5]}
