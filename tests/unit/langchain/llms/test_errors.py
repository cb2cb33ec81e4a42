"""Errors are this project's and LangChain's."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core import exceptions as lc
from unit.langchain.llms.seen import KEY

from kserve_core import errors as core
from kserve_core.devserver import DevServer
from langchain_kserve import VLLM


@pytest.mark.parametrize(
    ("status", "ours", "theirs", "retryable"),
    [
        (401, core.AuthenticationError, lc.ModelAuthenticationError, False),
        (403, core.PermissionDeniedError, lc.ModelPermissionDeniedError, False),
        (404, core.NotFoundError, lc.ModelNotFoundError, False),
        (400, core.InvalidRequestError, lc.ModelInvalidRequestError, False),
        (413, core.RequestTooLargeError, lc.ModelInvalidRequestError, False),
        (429, core.RateLimitError, lc.ModelRateLimitError, True),
        (500, core.ServerError, lc.ModelAPIError, True),
    ],
)
async def test_errors_are_typed_for_both_sides(server, llm, status, ours, theirs, retryable):
    calls = [
        lambda: llm.invoke("Say hello."),
        lambda: list(llm.stream("Say hello.")),
        lambda: asyncio.run(llm.ainvoke("Say hello.")),
    ]
    for call in calls:
        server.fault(status=status, path="/completions")
        with pytest.raises(theirs) as caught:
            await asyncio.to_thread(call)
        assert isinstance(caught.value, ours)
        assert caught.value.status == status
        assert caught.value.response.status_code == status
        assert caught.value.is_retryable is retryable
        assert KEY not in f"{caught.value!r} {caught.value}"


def test_a_prompt_over_the_context_window_is_recognized():
    with DevServer(max_model_len=16) as server:
        with pytest.raises(lc.ContextOverflowError) as caught:
            VLLM(base_url=server.url).invoke("word " * 100)
        assert isinstance(caught.value, core.ContextOverflowError)


def test_an_unknown_model_names_the_ones_served(llm):
    with pytest.raises(core.ModelNotFoundError) as caught:
        llm.invoke("Say hello.", model="dev-modle")
    assert "dev-model" in str(caught.value)


def test_nobody_listening_is_a_connection_error():
    with pytest.raises(lc.ModelConnectionError):
        VLLM(base_url="http://127.0.0.1:9", max_retries=0, timeout=5).invoke("Say hello.")
