"""Reasoning, parted from the answer by a server that is behind TLS with a certificate authority of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kserve_core.errors import EndpointConnectionError, TLSError

THINK = "Think: what is two plus two?"
THOUGHT, ANSWER = "Two plus two makes four.", "The answer is four."


def test_reasoning_and_answer_apart(secure, ask):
    result = secure.run(secure.runtime.chat(ask(THINK)))
    (choice,) = result.choices
    assert choice.reasoning.strip() == THOUGHT
    assert choice.content.strip() == ANSWER
    assert 0 < result.usage.reasoning_tokens < result.usage.completion_tokens


def test_streamed_reasoning_comes_first(secure, ask):
    pieces = list(secure.stream(secure.runtime.stream_chat(ask(THINK))))
    assert "".join(piece.reasoning for piece in pieces).strip() == THOUGHT
    assert "".join(piece.content for piece in pieces).strip() == ANSWER
    kinds = ["r" if piece.reasoning else "c" for piece in pieces if piece.reasoning or piece.content]
    assert kinds == sorted(kinds, reverse=True)


def test_reasoning_before_a_call(secure, ask, weather):
    (choice,) = secure.run(secure.runtime.chat(ask("Think, then call.", tools=[weather]))).choices
    assert choice.reasoning.strip() == "I need the weather."
    assert [call.name for call in choice.tool_calls] == ["get_weather"]
    pieces = list(secure.stream(secure.runtime.stream_chat(ask("Think, then call.", tools=[weather]))))
    assert "".join(piece.reasoning for piece in pieces).strip() == "I need the weather."
    assert "".join(delta.arguments for piece in pieces for delta in piece.tool_calls) == '{"city": "Paris"}'


def test_reasoning_can_be_sent_back(secure, ask):
    first = ask(THINK)
    (choice,) = secure.run(secure.runtime.chat(first)).choices
    spoken = {"role": "assistant", "content": choice.content, "reasoning": choice.reasoning}
    again = replace(first, messages=[*first.messages, spoken, *first.messages])
    assert secure.run(secure.runtime.chat(again)).choices[0].content.strip() == ANSWER


def test_an_answer_without_marks_is_all_reasoning(secure, ask):
    (choice,) = secure.run(secure.runtime.chat(ask("Say hello."))).choices
    assert choice.content == ""
    assert choice.reasoning == "Hello! How can I help you today?"


def test_without_the_authority_the_certificate_is_refused(connect, vllm, ask):
    client = connect(vllm.reasoning, ca_cert=None)
    with pytest.raises(TLSError) as caught:
        client.run(client.runtime.chat(ask(THINK)))
    assert "ca_cert" in caught.value.hint


def test_plain_http_to_it_gets_no_answer(connect, vllm, ask):
    client = connect(vllm.reasoning, base_url=vllm.reasoning["base_url"].replace("https", "http"), ca_cert=None)
    with pytest.raises(EndpointConnectionError):
        client.run(client.runtime.chat(ask(THINK)))


async def test_the_authority_counts_for_async_too(secure, ask):
    pieces = [piece async for piece in secure.astream(secure.runtime.stream_chat(ask(THINK)))]
    await secure.aclose()
    assert pieces[-1].usage is not None
