"""What goes wrong at an endpoint, seen through the LLM class: typed errors, counted requests, no lost text."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import time

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool

from kserve_core.devserver import DevServer
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    ServerError,
    StreamInterrupted,
)
from llamaindex_kserve import VLLM

KEY = "sha256~canary-token"
HELLO = [ChatMessage("Say hello.")]
COUNT = [ChatMessage("Count to ten.")]
FORMS = ["chat", "achat", "stream_chat", "astream_chat"]
STREAMS = ["stream_chat", "astream_chat", "stream_complete", "astream_complete"]


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.reset()


def make(server, **fields):
    return VLLM(**{"base_url": f"{server.url}/v1", "api_key": KEY, "model": "dev-model", "timeout": 20, **fields})


async def call(llm, form, content=HELLO, *, seen=None, **kwargs):
    """The responses of an endpoint; `seen` gets a stream's text even if it breaks off."""
    seen = [] if seen is None else seen
    content = content[0].content if "complete" in form else content
    result = getattr(llm, form)(content, **kwargs)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return [result]
    responses = []
    if form.startswith("a"):
        async for item in result:
            responses.append(item)
            seen.append(item.delta)
        return responses
    for item in result:
        responses.append(item)
        seen.append(item.delta)
    return responses


class TestRetries:
    @pytest.mark.parametrize("form", FORMS)
    async def test_two_failures_are_waited_out(self, server, form):
        server.fault(status=503, times=2)
        responses = await call(make(server), form)
        assert responses[-1].message.content == "Hello! How can I help you today?"
        assert len(server.requests) == 3

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_lasting_one_is_not_multiplied(self, server, form):
        # Retries on top of retries would send 12 requests here.
        server.fault(status=503, times=None)
        with pytest.raises(ServerError) as caught:
            await call(make(server, max_retries=2), form)
        assert len(server.requests) == 3
        assert caught.value.attempts == 3

    @pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (400, InvalidRequestError)])
    @pytest.mark.parametrize("form", FORMS)
    async def test_what_cannot_get_better_is_sent_once(self, server, form, status, kind):
        server.fault(status=status, times=None)
        with pytest.raises(kind):
            await call(make(server), form)
        assert len(server.requests) == 1

    async def test_no_retry_means_none(self, server):
        server.fault(status=503, times=None)
        with pytest.raises(ServerError):
            await call(make(server, max_retries=0), "chat")
        assert len(server.requests) == 1


class TestErrors:
    @pytest.mark.parametrize("form", FORMS)
    async def test_a_wrong_token(self, server, form):
        with pytest.raises(AuthenticationError) as caught:
            await call(make(server, api_key="wrong-but-secret"), form)
        assert "wrong-but-secret" not in str(caught.value) + repr(caught.value)

    @pytest.mark.parametrize("form", FORMS)
    async def test_an_unknown_model_names_those_there_are(self, server, form):
        with pytest.raises(ModelNotFoundError):
            await call(make(server, model="granite"), form)
        with pytest.raises(ModelNotFoundError, match="dev-model"):
            await call(make(server, model="granite"), "chat")

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_prompt_that_does_not_fit(self, server, form):
        with pytest.raises(ContextOverflowError):
            await call(make(server), form, [ChatMessage("word " * 20000)])

    async def test_they_pickle_for_whoever_runs_the_worker(self, server):
        with pytest.raises(ModelNotFoundError) as caught:
            await call(make(server, model="granite"), "chat")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    @pytest.mark.parametrize("form", FORMS)
    async def test_no_secret_and_no_prompt_in_the_log(self, server, form, caplog):
        server.fault(status=503, times=1)
        with caplog.at_level(logging.DEBUG):
            await call(make(server), form, [ChatMessage("My diagnosis is confidential.")])
        assert KEY not in caplog.text
        assert "diagnosis" not in caplog.text


class TestStreams:
    @pytest.mark.parametrize("cut", ["abrupt", "clean", "mid-piece"])
    @pytest.mark.parametrize("form", STREAMS)
    async def test_one_that_breaks_off_raises_with_its_text(self, server, form, cut):
        server.fault(cut_after=4, cut=cut)
        seen = []
        with pytest.raises(StreamInterrupted) as caught:
            await call(make(server), form, COUNT, seen=seen)
        assert seen
        assert caught.value.partial_text == "".join(seen)
        assert "one two three".startswith("".join(seen)[:8])
        assert len(server.requests) == 1

    @pytest.mark.parametrize("form", STREAMS)
    async def test_one_that_reports_an_error_raises_it(self, server, form):
        server.fault(error_after=4)
        with pytest.raises(ServerError) as caught:
            await call(make(server), form, COUNT)
        assert caught.value.partial_text
        assert len(server.requests) == 1

    @pytest.mark.parametrize("form", STREAMS)
    async def test_one_that_falls_silent_raises(self, server, form):
        server.fault(idle_after=4)
        with pytest.raises(KServeError) as caught:
            await call(make(server, idle_timeout=0.3), form, COUNT)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.partial_text

    async def test_one_that_is_left_stops_the_server(self, server):
        server.fault(slow_body=0.05)
        llm = make(server)
        stream = llm.stream_chat(COUNT)
        next(stream)
        stream.close()
        await self.stopped(server)

    async def test_an_async_one_too(self, server):
        server.fault(slow_body=0.05)
        stream = await make(server).astream_chat(COUNT)
        await anext(stream)
        await stream.aclose()
        del stream
        gc.collect()
        await self.stopped(server)

    @pytest.mark.parametrize("form", ["astream_chat", "astream_complete"])
    async def test_an_async_one_left_by_break_too(self, server, form):
        server.fault(slow_body=0.05)
        async for _ in await getattr(make(server), form)(COUNT if "chat" in form else "Count to ten."):
            break
        await self.stopped(server)

    async def test_a_cancelled_task_too(self, server):
        server.fault(slow_body=0.05)

        async def read():
            async for _ in await make(server).astream_chat(COUNT):
                pass

        task = asyncio.create_task(read())
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.stopped(server)

    @staticmethod
    async def stopped(server):
        end = time.monotonic() + 3
        while server.requests[-1].cancelled is None and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert server.requests[-1].cancelled is not None


class TestTokenRotation:
    @pytest.mark.parametrize("form", FORMS)
    async def test_a_rotated_token_file_is_read_again(self, server, form, tmp_path):
        path = tmp_path / "token"
        path.write_text("stale-token\n")
        llm = make(server, api_key=path)
        with pytest.raises(AuthenticationError):
            await call(llm, form)
        path.write_text(KEY + "\n")
        responses = await call(llm, form)
        assert responses[-1].message.content.startswith("Hello!")

    async def test_a_function_is_asked_again_after_a_refusal(self, server):
        answers = iter(["stale", KEY, KEY, KEY])
        llm = make(server, api_key=lambda: next(answers))
        assert (await call(llm, "chat"))[0].message.content.startswith("Hello!")


class TestCutToolCall:
    async def test_it_is_not_taken_for_a_call(self, server):
        def get_weather(city: str) -> str:
            """The weather in a city."""
            pytest.fail(f"called with {city}")

        llm = make(server, max_tokens=2)
        for form in ("chat_with_tools", "stream_chat_with_tools"):
            result = getattr(llm, form)([FunctionTool.from_defaults(get_weather)], user_msg="Weather in Paris?")
            response = result if form == "chat_with_tools" else list(result)[-1]
            assert response.additional_kwargs["finish_reason"] == "length"
            try:
                calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            except ValueError as error:
                assert "max_tokens" in str(error)  # noqa: PT017
            else:
                assert calls == []
