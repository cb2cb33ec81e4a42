"""Chat against a real vLLM: what only its own tokenizer, sampler and scheduler can answer."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

HELLO = "Hello! How can I help you today?"
COUNT = "one two three four five six seven eight nine ten."


def test_a_whole_answer(generator, ask):
    result = generator.run(generator.runtime.chat(ask("Say hello.")))
    (choice,) = result.choices
    assert choice.content == HELLO
    assert choice.finish_reason == "stop"
    assert choice.tool_calls == []
    assert result.model == "tiny"
    assert result.id.startswith("chatcmpl-")


def test_a_stream_joins_to_the_whole_answer(generator, ask):
    pieces = list(generator.stream(generator.runtime.stream_chat(ask("Count to ten."))))
    assert "".join(piece.content for piece in pieces) == COUNT
    assert sum(bool(piece.content) for piece in pieces) > 5  # really in pieces
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]
    assert sum(piece.usage is not None for piece in pieces) == 1
    assert sum(piece.model is not None for piece in pieces) == 1


async def test_async_answers_are_the_same(generator, ask):
    result = await generator.arun(generator.runtime.chat(ask("Say hello.")))
    pieces = [piece async for piece in generator.astream(generator.runtime.stream_chat(ask("Say hello.")))]
    await generator.aclose()
    assert result.choices[0].content == "".join(piece.content for piece in pieces) == HELLO


def test_usage_counts_what_the_tokenizer_counts(generator, ask):
    request = ask("Count to ten.")
    result = generator.run(generator.runtime.chat(request))
    prompt = generator.run(generator.runtime.tokenize_messages(request))
    answer = generator.run(generator.runtime.tokenize(COUNT, add_special_tokens=False))
    assert result.usage.prompt_tokens == prompt.count == len(prompt.token_ids)
    assert result.usage.completion_tokens == answer.count + 1  # the end mark is a token too
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens


def test_streamed_usage_is_the_same(generator, ask):
    whole = generator.run(generator.runtime.chat(ask("Count to ten.")))
    pieces = list(generator.stream(generator.runtime.stream_chat(ask("Count to ten."))))
    (usage,) = [piece.usage for piece in pieces if piece.usage is not None]
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)


def test_a_repeated_prompt_comes_from_the_cache(generator, ask):
    long = "Count to ten. " * 40
    generator.run(generator.runtime.chat(ask(long, params={"max_tokens": 1})))
    again = generator.run(generator.runtime.chat(ask(long, params={"max_tokens": 1})))
    assert 0 < again.usage.cached_tokens < again.usage.prompt_tokens


def test_a_stop_string_stops_and_is_named(generator, ask):
    result = generator.run(generator.runtime.chat(ask("Count to ten.", params={"stop": [" five"]})))
    assert result.choices[0].content == "one two three four"
    assert result.choices[0].finish_reason == "stop"
    assert result.choices[0].stop_reason == " five"


def test_max_tokens_cuts(generator, ask):
    result = generator.run(generator.runtime.chat(ask("Count to ten.", params={"max_tokens": 3})))
    assert result.choices[0].finish_reason == "length"
    assert result.usage.completion_tokens == 3
    assert COUNT.startswith(result.choices[0].content)


def test_several_choices(generator, ask):
    params = {"n": 3, "temperature": 1.0, "seed": 7, "max_tokens": 8}
    whole = generator.run(generator.runtime.chat(ask("Say hello.", params=params)))
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = {0: "", 1: "", 2: ""}
    for piece in generator.stream(generator.runtime.stream_chat(ask("Say hello.", params=params))):
        texts[piece.index] += piece.content
    assert all(texts.values())


def test_log_probabilities(generator, ask):
    result = generator.run(generator.runtime.chat(ask("Say hello.", params={"logprobs": True, "top_logprobs": 3})))
    tokens = result.choices[0].logprobs["content"]
    assert "".join(token["token"] for token in tokens).removesuffix("<|im_end|>") == HELLO
    assert all(len(token["top_logprobs"]) == 3 for token in tokens)
    assert math.exp(tokens[0]["logprob"]) > 0.5  # it was taught this


def test_streamed_log_probabilities(generator, ask):
    request = ask("Say hello.", params={"logprobs": True, "top_logprobs": 2})
    pieces = list(generator.stream(generator.runtime.stream_chat(request)))
    tokens = [token["token"] for piece in pieces if piece.logprobs for token in piece.logprobs["content"]]
    assert "".join(tokens).removesuffix("<|im_end|>") == HELLO


def test_an_adapter(generator, vllm, ask):
    result = generator.run(generator.runtime.chat(ask("Say hello.", model=vllm.other_model)))
    assert result.model == vllm.other_model
    assert result.choices[0].content == HELLO


def test_fields_without_a_name_here_reach_the_server(generator, ask):
    request = ask("Say hello.", extra_body={"return_token_ids": True, "max_completion_tokens": 2})
    result = generator.run(generator.runtime.chat(request))
    assert len(result.raw["choices"][0]["token_ids"]) == 2
    assert result.raw["prompt_token_ids"]


def test_a_request_id_is_the_servers_too(generator, ask):
    result = generator.run(generator.runtime.chat(ask("Say hello.", headers={"x-request-id": "abc-123"})))
    assert result.id == "chatcmpl-abc-123"


def test_an_answer_can_be_continued(generator, ask):
    request = ask("Count to ten.", params={"continue_final_message": True, "add_generation_prompt": False})
    start = {"role": "assistant", "content": "one two three four"}
    result = generator.run(
        generator.runtime.chat(type(request)(messages=[*request.messages, start], params=request.params))
    )
    assert result.choices[0].content.strip() == COUNT.removeprefix("one two three four ")


def test_letters_of_several_bytes_arrive_whole(generator, ask):
    text = "你好啊集团 こんにちは 🎈"
    tokens = generator.run(generator.runtime.tokenize(text)).token_ids
    assert len(tokens) > len(text) // 2
    regex = ask("Say hello.", extra_body={"structured_outputs": {"choice": [text]}})
    pieces = list(generator.stream(generator.runtime.stream_chat(regex)))
    assert "".join(piece.content for piece in pieces) == text
    assert not any("\ufffd" in piece.content for piece in pieces)


def test_many_threads_share_a_client(generator, ask):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: generator.run(generator.runtime.chat(ask("Say hello."))), range(24)))
    assert {result.choices[0].content for result in results} == {HELLO}


def test_several_event_loops_share_a_client(generator, ask):
    async def several():
        exchanges = [generator.arun(generator.runtime.chat(ask("Say hello."))) for _ in range(6)]
        results = await asyncio.gather(*exchanges)
        await generator.aclose()
        return {result.choices[0].content for result in results}

    assert asyncio.run(several()) == asyncio.run(several()) == {HELLO}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_in_front(generator, ask, role):
    request = ask("Say hello.")
    messages = [{"role": role, "content": "Be brief."}, *request.messages]
    result = generator.run(generator.runtime.chat(type(request)(messages=messages, params=request.params)))
    assert result.choices[0].content == HELLO
