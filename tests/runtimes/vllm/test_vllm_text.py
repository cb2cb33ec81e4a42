"""Text completion against a real vLLM."""

from __future__ import annotations

import pytest

from kserve_core.capabilities import TextRequest

HELLO = "Hello! How can I help you today?"
GREEDY = {"temperature": 0, "max_tokens": 32}


def test_several_prompts_keep_their_order(generator):
    request = TextRequest(prompts=["Say hello.", "Count to ten.", "Say hello."], params=GREEDY)
    result = generator.run(generator.runtime.generate(request))
    texts = [generation.text for (generation,) in result.generations]
    assert texts[0] == texts[2] == HELLO
    assert texts[1].startswith("one two three")
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens


def test_several_completions_of_each_prompt(generator):
    params = {"n": 2, "temperature": 1.0, "seed": 1, "max_tokens": 4}
    result = generator.run(generator.runtime.generate(TextRequest(prompts=["a", "b"], params=params)))
    assert [len(row) for row in result.generations] == [2, 2]


def test_a_stream_joins_to_the_whole(generator):
    request = TextRequest(prompts=["Count to ten."], params=GREEDY)
    ((whole,),) = generator.run(generator.runtime.generate(request)).generations
    pieces = list(generator.stream(generator.runtime.stream_generate(request)))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [whole.finish_reason]
    assert sum(piece.usage is not None for piece in pieces) == 1


def test_log_probabilities_and_echo(generator):
    params = {"temperature": 0, "max_tokens": 2, "logprobs": 2, "echo": True}
    request = TextRequest(prompts=["Say hello."], params=params)
    ((generation,),) = generator.run(generator.runtime.generate(request)).generations
    assert generation.text.startswith("Say hello.")
    assert "".join(generation.logprobs["tokens"]) == generation.text
    assert generation.logprobs["token_logprobs"][0] is None


@pytest.mark.parametrize("stop", [" help", " you"])
def test_stop(generator, stop):
    params = {"temperature": 0, "max_tokens": 32, "stop": [stop]}
    ((generation,),) = generator.run(
        generator.runtime.generate(TextRequest(prompts=["Say hello."], params=params))
    ).generations
    assert generation.text == HELLO.partition(stop)[0]
    assert generation.stop_reason == stop
