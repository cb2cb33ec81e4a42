"""Counting tokens."""

from __future__ import annotations

import pytest
from langchain_core import exceptions as lc
from langchain_core.messages import AIMessage, HumanMessage

from kserve_core import errors as core
from langchain_kserve import VLLM


def test_tokens_are_counted_by_the_server(server, llm):
    ids = llm.get_token_ids("Say hello.")
    assert llm.get_num_tokens("Say hello.") == len(ids) > 0
    assert llm.generate(["Say hello."]).llm_output["token_usage"]["prompt_tokens"] == len(ids)


def test_messages_are_counted_as_the_prompt_they_become(server, llm):
    messages = [HumanMessage("Say hello."), AIMessage("Hello.")]
    count = llm.get_num_tokens_from_messages(messages)
    assert len(server.requests.to("/tokenize")) == 1
    assert llm.generate(["Human: Say hello.\nAI: Hello."]).llm_output["token_usage"]["prompt_tokens"] == count
    with pytest.raises(lc.ModelInvalidRequestError, match="tools"):
        llm.get_num_tokens_from_messages(messages, tools=[{"type": "function"}])


def test_a_tokenizer_of_ones_own_goes_first(server, make):
    llm = make(custom_get_token_ids=lambda text: [ord(letter) for letter in text])
    assert llm.get_token_ids("ab") == [97, 98]
    assert llm.get_num_tokens("ab") == 2
    assert len(server.requests) == 0


def test_an_endpoint_that_counts_no_tokens_says_so(server, llm):
    server.fault(status=404, body={"detail": "Not Found"}, path="/tokenize")
    with pytest.raises(lc.ModelNotFoundError, match="custom_get_token_ids"):
        llm.get_num_tokens("a")


def test_a_runtime_that_counts_no_tokens_says_so(make):
    class Silent(VLLM):
        def _make_runtime(self, endpoint):
            return object()

    with pytest.raises(core.UnsupportedParameterError, match="vLLM does not count tokens"):
        Silent(base_url="http://127.0.0.1:1").get_num_tokens("a")
