"""Several prompts at once."""

from __future__ import annotations

import pytest
from unit.langchain.llms.seen import Seen, bodies


def test_two_prompts_are_one_request_with_the_usage_of_both(server, llm):
    first = llm.generate(["Say hello."]).llm_output["token_usage"]
    second = llm.generate(["Count to ten."]).llm_output["token_usage"]
    server.requests.clear()
    result = llm.generate(["Say hello.", "Count to ten."])
    (body,) = bodies(server)
    assert body["prompt"] == ["Say hello.", "Count to ten."]
    assert result.llm_output["token_usage"]["prompt_tokens"] == first["prompt_tokens"] + second["prompt_tokens"]
    assert (
        result.llm_output["token_usage"]["completion_tokens"]
        == first["completion_tokens"] + second["completion_tokens"]
    )
    assert result.llm_output["model_name"] == "dev-model"
    assert [choices[0].text for choices in result.generations] == [
        llm.invoke("Say hello."),
        llm.invoke("Count to ten."),
    ]


async def test_batch_and_abatch_are_one_request_each(server, llm):
    prompts = ["Say hello.", "Count to ten.", "Say hello."]
    assert llm.batch(prompts) == await llm.abatch(prompts)
    assert [len(body["prompt"]) for body in bodies(server)] == [3, 3]


async def test_batch_size_makes_several_requests_in_flight_together(make, server):
    prompts = [f"Repeat: {number}" for number in range(10)]
    expected = [generation[0].text for generation in make().generate(prompts).generations]
    server.reset()
    server.fault(delay=0.2, path="/completions", times=None)
    result = await make(batch_size=2).agenerate(prompts)
    assert [len(body["prompt"]) for body in bodies(server)] == [2] * 5
    assert [generation[0].text for generation in result.generations] == expected
    assert server.max_in_flight == 4


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_batch_the_server_calls_too_large_is_halved(server, make, is_async):
    llm, prompts = make(), ["Say hello.", "Count to ten.", "Say hello."]
    expected = llm.batch(prompts)
    server.reset()
    server.fault(status=413, body="Request Entity Too Large", path="/completions")
    assert (await llm.abatch(prompts) if is_async else llm.batch(prompts)) == expected
    sent = [body["prompt"] for body in bodies(server)]
    assert [prompt if isinstance(prompt, list) else [prompt] for prompt in sent] == [prompts, prompts[:2], prompts[2:]]


def test_choices_go_to_their_prompts_whatever_their_order(server, llm):
    choices = [{"index": index, "text": text, "finish_reason": "stop"} for index, text in ((1, "b"), (0, "a"))]
    server.fault(status=200, body={"id": "cmpl-1", "model": "m", "choices": choices}, path="/completions")
    assert llm.batch(["one", "two"]) == ["a", "b"]


def test_several_completions_of_each_prompt(llm):
    result = llm.generate(["Say hello.", "Count to ten."], n=3, temperature=1.0)
    assert [len(choices) for choices in result.generations] == [3, 3]


def test_usage_is_told_once_to_callbacks(llm):
    seen = Seen()
    result = llm.generate(["Say hello.", "Count to ten."], callbacks=[seen])
    told = [end.llm_output["token_usage"] for end in seen.ends]
    assert [usage for usage in told if usage] == [result.llm_output["token_usage"]]


def test_generation_info_says_why_it_stopped(llm):
    cut = llm.generate(["Count to ten."], max_tokens=1).generations[0][0]
    assert cut.generation_info["finish_reason"] == "length"
    whole = llm.generate(["Say hello."]).generations[0][0]
    assert whole.generation_info["finish_reason"] == "stop"
