"""Text generation by a real TGIS endpoint."""

from __future__ import annotations

import pytest
from runtimes.prompts import COUNT, ENDLESS, GREEDY, HELLO, ask, chatml

from kserve_core.capabilities import TextRequest


def one(client, request):
    ((generation,),) = client.run(client.runtime.generate(request)).generations
    return generation


def test_several_prompts_are_answered_by_one_request_in_their_order(plain):
    result = plain.run(plain.runtime.generate(ask("Say hello.", "Count to ten.", "Say hello.")))
    assert [generation.text for (generation,) in result.generations] == [HELLO, COUNT, HELLO]
    own = [generation.usage for (generation,) in result.generations]
    assert own[0] == own[2]
    assert result.usage.completion_tokens == sum(usage.completion_tokens for usage in own)
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens


def test_a_stream_joins_to_the_whole(plain):
    whole = one(plain, ask("Count to ten."))
    pieces = list(plain.stream(plain.runtime.stream_generate(ask("Count to ten."))))
    assert len([piece for piece in pieces if piece.text]) > 5
    assert "".join(piece.text for piece in pieces) == whole.text == COUNT
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [whole.finish_reason] == ["stop"]
    assert [piece.usage for piece in pieces if piece.usage] == [whole.usage]
    assert pieces[-1].extra == whole.extra == {"server_finish_reason": "EOS_TOKEN"}


async def test_asyncio_gets_the_same(plain):
    result = await plain.arun(plain.runtime.generate(ask("Say hello.", "Count to ten.")))
    assert [generation.text for (generation,) in result.generations] == [HELLO, COUNT]
    pieces = [piece async for piece in plain.astream(plain.runtime.stream_generate(ask("Say hello.")))]
    assert "".join(piece.text for piece in pieces) == HELLO
    await plain.aclose()


def test_token_details(plain):
    generation = one(plain, ask("Say hello.", params={"logprobs": True, "top_logprobs": 2, "prompt_logprobs": 1}))
    found = generation.logprobs
    assert len(found["tokens"]) == len(found["token_logprobs"]) == generation.usage.completion_tokens
    assert found["tokens"][0] == "Hello"
    assert all(value <= 0 for value in found["token_logprobs"])
    for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert len(top) == 2
        assert top[token] == pytest.approx(value)  # greedy: the likeliest was taken
    prompt = generation.extra["prompt_logprobs"]
    assert len(prompt["tokens"]) == generation.usage.prompt_tokens
    assert prompt["token_logprobs"][0] is None
    assert all(value <= 0 for value in prompt["token_logprobs"][1:])


def test_streamed_token_details_are_those_of_the_whole(plain):
    request = ask("Say hello.", params={"logprobs": True, "top_logprobs": 1})
    whole = one(plain, request).logprobs
    pieces = [piece.logprobs for piece in plain.stream(plain.runtime.stream_generate(request)) if piece.logprobs]
    assert [token for piece in pieces for token in piece["tokens"]] == whole["tokens"]
    values = [value for piece in pieces for value in piece["token_logprobs"]]
    assert values == pytest.approx(whole["token_logprobs"], abs=1e-4)


def test_token_details_without_probabilities(plain):
    generation = one(plain, ask("Say hello.", params={"generated_tokens": True, "token_ranks": True}))
    assert generation.logprobs["tokens"][0] == "Hello"
    assert set(generation.logprobs["token_ranks"]) == {1}


@pytest.mark.parametrize(("stop", "kept"), [(" can", ""), ("you", "")])
def test_a_stop_text_is_left_out(plain, stop, kept):
    request = ask("Say hello.", params={"stop": ["never seen", stop]})
    generation = one(plain, request)
    assert generation.text == HELLO.partition(stop)[0]
    assert (generation.finish_reason, generation.stop_reason) == ("stop", stop)
    pieces = list(plain.stream(plain.runtime.stream_generate(request)))
    assert "".join(piece.text for piece in pieces) == generation.text
    assert pieces[-1].stop_reason == stop


def test_a_stop_text_is_kept_where_asked(plain):
    request = ask("Say hello.", params={"stop": [" can"], "include_stop_str_in_output": True})
    assert one(plain, request).text == "Hello! How can"
    assert "".join(piece.text for piece in plain.stream(plain.runtime.stream_generate(request))) == "Hello! How can"


def test_a_seed_repeats_a_sample(plain):
    def sample(seed):
        return one(plain, ask("Once", params={"temperature": 2.0, "seed": seed, "max_tokens": 24}))

    first = sample(2**63 - 1)
    assert sample(2**63 - 1).text == first.text
    assert first.extra["seed"] == 2**63 - 1
    assert len({sample(seed).text for seed in range(4)}) > 1


def test_temperature_zero_is_greedy_whatever_else_is_asked(plain):
    texts = {one(plain, ask("Say hello.", params={"top_p": 0.5, "seed": seed})).text for seed in range(3)}
    assert texts == {HELLO}


def test_lengths(plain):
    short = one(plain, ask("Say hello.", params={"max_tokens": 3}))
    assert (short.usage.completion_tokens, short.finish_reason) == (3, "length")
    assert short.extra["server_finish_reason"] == "MAX_TOKENS"
    long = one(plain, ask("Say hello.", params={"min_tokens": 40, "max_tokens": 50}))
    assert long.usage.completion_tokens >= 40


def test_a_prompt_that_leaves_little_room_ends_at_the_context_window(plain):
    prompt = "word " * 2000  # two tokens each
    request = TextRequest(prompts=[prompt], params={"temperature": 0, "max_tokens": 2000})
    room = 4096 - plain.run(plain.runtime.tokenize(prompt)).count
    assert 0 < room < 2000
    generation = one(plain, request)
    assert generation.usage.completion_tokens <= room
    if generation.finish_reason == "length":
        assert generation.extra["server_finish_reason"] == "TOKEN_LIMIT"


def test_the_prompt_can_be_echoed(plain):
    prompt = chatml("Say hello.")
    request = TextRequest(prompts=[prompt], params={**GREEDY, "echo": True})
    assert one(plain, request).text == prompt + HELLO
    assert "".join(piece.text for piece in plain.stream(plain.runtime.stream_generate(request))) == prompt + HELLO


def test_a_prompt_can_be_cut(plain):
    request = TextRequest(prompts=["word " * 9000], params={**GREEDY, "max_tokens": 2, "truncate_prompt_tokens": 7})
    assert one(plain, request).usage.prompt_tokens == 7


def test_a_time_limit_ends_a_stream(plain):
    request = ask("Say hello.", params={**ENDLESS, "time_limit": 0.5})
    last = list(plain.stream(plain.runtime.stream_generate(request)))[-1]
    assert last.finish_reason == "length"
    assert last.extra["server_finish_reason"] == "TIME_LIMIT"
    assert 0 < last.usage.completion_tokens < 2000


def test_fields_without_a_name_of_their_own(plain):
    request = ask("Say hello.", extra_body={"stopping": {"max_new_tokens": 2}})
    assert one(plain, request).usage.completion_tokens == 2


def test_characters_of_several_bytes_come_whole(plain):
    request = ask("Create a customer named '你好啊集团'", params={"max_tokens": 200})
    whole = one(plain, request)
    pieces = list(plain.stream(plain.runtime.stream_generate(request)))
    assert "".join(piece.text for piece in pieces) == whole.text


def test_the_model_name_is_handed_on(plain):
    first, *rest = plain.stream(plain.runtime.stream_generate(ask("Say hello.")))
    assert first.model == "tiny"
    assert {piece.model for piece in rest} == {None}
    # The service serves one model and does not look at the name.
    assert one(plain, ask("Say hello.", model="whatever")).text == HELLO
