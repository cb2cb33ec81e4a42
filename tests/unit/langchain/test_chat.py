"""`ChatVLLM` between LangChain and a codec: what is asked for, and what comes back."""

from __future__ import annotations

import gc

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import SecretStr
from unit.langchain.chat_fakes import USAGE, chat, deltas, joined, result

from kserve_core.types import ChatChoice, ChatDelta, ChatResult
from langchain_kserve import ChatVLLM, ConfigurationError
from langchain_kserve._base_chat import RuntimeChat
from langchain_kserve._runtimes import Declaration


class Seen(BaseCallbackHandler):
    """Notes what callbacks are told."""

    def __init__(self):
        self.tokens, self.chunks, self.params, self.events, self.ends, self.logprobs = [], [], [], [], [], []

    def on_chat_model_start(self, serialized, messages, *, invocation_params=None, **kwargs):
        self.params.append(invocation_params)

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append(token)
        self.chunks.append(chunk)
        self.logprobs.append(kwargs.get("logprobs"))

    def on_stream_event(self, event, **kwargs):
        self.events.append(event)

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)


# Requests


def test_nothing_is_asked_for_that_was_not_set():
    model, client = chat(result(), deltas("a"))
    model.invoke("x")
    request = client.request
    assert request.messages == [{"role": "user", "content": "x"}]
    assert (request.params, request.extra_body, request.headers) == ({}, {}, {})
    assert (request.tools, request.tool_choice, request.constraint) == ([], None, None)
    assert (request.parallel_tool_calls, request.model) == (None, "m")


PARAMETERS = {
    "temperature": 0.0,
    "max_tokens": 5,
    "min_tokens": 1,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "stop": ["x"],
    "stop_token_ids": [1],
    "seed": 0,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "repetition_penalty": 1.5,
    "length_penalty": 1.0,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": 1.0},
    "ignore_eos": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "allowed_token_ids": [1, 2],
    "bad_words": ["x"],
    "use_beam_search": True,
    "truncate_prompt_tokens": 5,
    "chat_template_kwargs": {"enable_thinking": False},
    "add_generation_prompt": False,
    "continue_final_message": True,
    "reasoning_effort": "low",
    "include_reasoning": False,
    "thinking_token_budget": 10,
    "mm_processor_kwargs": {"a": 1},
    "priority": 0,
    "user": "ann",
}


@pytest.mark.parametrize(("name", "value"), PARAMETERS.items())
def test_a_parameter_is_a_field_a_call_argument_and_can_be_taken_back(name, value):
    model, client = chat(result(), result(), result(), **{name: value})
    model.invoke("x")
    assert client.request.params == {name: value}
    model.invoke("x", **{name: [] if name == "stop" else None})  # LangChain itself passes stop=None every time
    assert client.request.params == {}
    plain, client = chat(result(), result())
    plain.invoke("x", **{name: value})
    assert client.request.params == {name: value}
    plain.bind(**{name: value}).invoke("x")
    assert client.request.params == {name: value}


def test_every_parameter_field_was_tried():
    assert set(PARAMETERS) | {"n", "chat_template"} == ChatVLLM._parameters.parameter_names()


def test_a_calls_arguments_go_before_the_fields():
    model, client = chat(result(), temperature=0.1, stop=["a"], model_kwargs={"min_tokens": 1, "echo": True})
    model.invoke("x", stop=["b"], temperature=0.9, min_tokens=2, model="other", stop_token_ids=[3])
    assert client.request.params == {
        "temperature": 0.9,
        "stop": ["b"],
        "min_tokens": 2,
        "echo": True,
        "stop_token_ids": [3],
    }
    assert client.request.model == "other"


def test_extra_fields_and_headers_are_passed_on():
    model, client = chat(result(), extra_body={"a": 1, "b": 1})
    model.invoke("x", extra_body={"b": 2}, extra_headers={"x-request-id": "r", "x-key": SecretStr("s")})
    assert client.request.extra_body == {"a": 1, "b": 2}
    assert client.request.headers == {"x-request-id": "r", "x-key": "s"}


def test_an_empty_stop_list_is_not_sent():
    model, client = chat(result(), stop=[])
    model.invoke("x")
    assert client.request.params == {}


def test_usage_of_streams_can_be_declined():
    model, client = chat(deltas("a"), deltas("a"), deltas("a"), stream_usage=False)
    list(model.stream("x"))
    assert client.request.include_usage is False
    list(model.stream("x", stream_usage=True))
    assert client.request.include_usage is True
    list(model.stream("x", stream_options={"include_usage": False}))
    assert client.request.include_usage is False


def test_reasoning_is_sent_back_when_asked():
    history = [HumanMessage("a"), AIMessage("b", additional_kwargs={"reasoning_content": "r"}), HumanMessage("c")]
    model, client = chat(result(), result())
    model.invoke(history)
    assert "reasoning" not in client.request.messages[1]
    model.invoke(history, send_reasoning=True)
    assert client.request.messages[1]["reasoning"] == "r"


# Answers


def test_the_whole_answer():
    model, _ = chat(result("Hi.", reasoning="hm", stop_reason="x", extra={"token_ids": [1], "audio": None}))
    answer = model.invoke("x")
    assert answer.content == "Hi."
    assert answer.content_blocks == [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Hi."}]
    assert answer.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }
    metadata = answer.response_metadata
    assert metadata.pop("token_usage") == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert metadata == {
        "model_provider": "kserve",
        "model_name": "m",
        "id": "chatcmpl-1",
        "system_fingerprint": "fp",
        "finish_reason": "stop",
        "stop_reason": "x",
        "token_ids": [1],
    }


async def test_the_name_a_call_asked_for_is_the_name_it_reports():
    model, client = chat(result(), deltas("a"), result(), deltas("a"))
    answers = [model.invoke("x", model="alias"), joined(model.stream("x", model="alias"))]
    answers.append(await model.bind(model="alias").ainvoke("x"))
    answers.append(joined([chunk async for chunk in model.astream("x", model="alias")]))
    assert [answer.response_metadata["model_name"] for answer in answers] == ["alias"] * 4
    assert [request.model for request in client.requests] == ["alias"] * 4


def test_content_blocks_of_another_version():
    model, _ = chat(result("Hi.", reasoning="hm"), output_version="v1")
    assert model.invoke("x").content == [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Hi."}]


def test_an_answer_without_text_or_usage():
    model, _ = chat(ChatResult(choices=[ChatChoice(reasoning="only this")]))
    answer = model.invoke("x")
    assert answer.content == ""
    assert answer.usage_metadata is None
    assert answer.content_blocks == [{"type": "reasoning", "reasoning": "only this"}]


def test_several_choices_are_all_there_and_counted_once():
    choices = [ChatChoice(content=text, index=place) for place, text in enumerate("ab")]
    model, client = chat(ChatResult(choices=choices, usage=USAGE, model="m"), n=2)
    usage = UsageMetadataCallbackHandler()
    made = model.generate([[HumanMessage("x")]], callbacks=[usage])
    assert client.request.params == {"n": 2}
    assert [one.text for one in made.generations[0]] == ["a", "b"]
    assert [one.message.usage_metadata is not None for one in made.generations[0]] == [True, False]
    assert usage.usage_metadata["m"]["total_tokens"] == 12


def test_tokens_of_a_batch_are_summed():
    model, _ = chat(result(), result())
    made = model.generate([[HumanMessage("x")], [HumanMessage("y")]])
    assert made.llm_output["token_usage"] == {"prompt_tokens": 14, "completion_tokens": 10, "total_tokens": 24}
    assert made.llm_output["model_name"] == "m"


def test_logprobs_are_kept_as_the_server_wrote_them():
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": []}]}
    model, _ = chat(result(logprobs=logprobs))
    assert model.invoke("x").response_metadata["logprobs"] == logprobs


# Streams


def test_callbacks_of_a_stream():
    model, _ = chat(deltas("a", "b"), deltas("a", "b"), deltas("a", "b"), streaming=True)
    seen = Seen()
    chunks = list(model.stream("x", {"callbacks": [seen]}))
    assert len(chunks) == len(seen.tokens) == 6  # five pieces and LangChain's own last one
    assert "".join(seen.tokens) == "ab"
    assert all(chunk is not None for chunk in seen.chunks)
    assert seen.events == []

    seen = Seen()
    assert model.invoke("x", {"callbacks": [seen]}).content == "ab"
    assert "".join(seen.tokens) == "ab"
    assert seen.ends[0].generations[0][0].message.usage_metadata["total_tokens"] == 12

    seen = Seen()
    events = list(model.stream_events("x", {"callbacks": [seen]}, version="v3"))
    assert len(seen.events) == len(events) > 4
    assert "".join(seen.tokens) == "ab"


async def test_async_callbacks_of_a_stream():
    class AsyncSeen(AsyncCallbackHandler):
        tokens = ()

        async def on_llm_new_token(self, token, **kwargs):
            self.tokens = (*self.tokens, token)

    model, _ = chat(deltas("a", "b"), deltas("a", "b"))
    seen = AsyncSeen()
    assert [chunk.text async for chunk in model.astream("x", {"callbacks": [seen]})] == ["", "a", "b", "", "", ""]
    assert "".join(seen.tokens) == "ab"
    stream = await model.astream_events("x", version="v3")
    message = await stream.output
    assert message.text == "ab"


def test_direct_streams_call_back_once_per_piece_with_logprobs():
    class Manager:
        calls = ()

        def on_llm_new_token(self, token, *, chunk, logprobs):
            self.calls = (*self.calls, (token, chunk.text, logprobs))

    manager = Manager()
    model, _ = chat([ChatDelta(content="a", logprobs={"content": []}), ChatDelta(content="b")])
    list(model._stream([HumanMessage("x")], run_manager=manager))
    assert manager.calls == (("a", "a", {"content": []}), ("b", "b", None))


def test_leaving_a_stream_early_closes_it():
    model, client = chat(deltas("a", "b", "c"))
    stream = model.stream("x")
    next(stream)
    assert (client.opened, client.closed) == (1, 0)
    stream.close()
    gc.collect()
    assert client.closed == 1


async def test_leaving_an_async_stream_early_closes_it():
    model, client = chat(deltas("a", "b", "c"))
    stream = model._astream([HumanMessage("x")])
    await anext(stream)
    assert (client.opened, client.closed) == (1, 0)
    await stream.aclose()
    assert client.closed == 1


def test_streams_and_whole_answers_agree():
    model, _ = chat(deltas("H", "i."), result("Hi."))
    streamed, whole = joined(model.stream("x")), model.invoke("x")
    assert streamed.content == whole.content
    assert streamed.usage_metadata == whole.usage_metadata
    whole.response_metadata.pop("token_usage")
    assert streamed.response_metadata == whole.response_metadata


@pytest.mark.parametrize("way", ["field", "call"])
def test_several_choices_are_never_streamed_into_one_text(way):
    both = ChatResult(choices=[ChatChoice(content="a"), ChatChoice(content="b", index=1)])
    fields, kwargs = ({"n": 2}, {}) if way == "field" else ({}, {"n": 2})
    model, _ = chat(both, both, **fields, streaming=True)
    assert [chunk.content for chunk in model.stream("x", **kwargs)] == ["a"]
    assert model.invoke("x", **kwargs).content == "a"
    with pytest.raises(ConfigurationError, match="one answer"):
        list(model._stream([HumanMessage("x")], **kwargs))


# What LangChain knows about the model


def test_tracing_parameters():
    model, _ = chat(temperature=0.5, max_tokens=9, stop=["x"])
    assert model._get_ls_params() == {
        "ls_provider": "kserve-vllm",
        "ls_model_name": "m",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    assert model._get_ls_params(stop=["y"], model="other")["ls_stop"] == ["y"]
    assert model._llm_type == "kserve-vllm-chat"
    assert model.metadata["lc_versions"].keys() >= {"langchain-core", "kserve-integrations"}


def test_invocation_parameters_of_a_trace():
    model, _ = chat(result(), temperature=0.5, extra_body={"a": 1})
    seen = Seen()
    model.invoke("x", {"callbacks": [seen]}, top_k=3)
    (params,) = seen.params
    assert params.items() >= {"model": "m", "temperature": 0.5, "top_k": 3, "_type": "kserve-vllm-chat"}.items()


def test_it_can_be_dumped_and_loaded(monkeypatch):
    model, _ = chat(temperature=0.5, stop=["x"], extra_body={"a": 1}, api_key="sk-secret")
    monkeypatch.setenv("KSERVE_API_KEY", "sk-other")
    dumped = dumpd(model)
    assert dumped["id"] == ["langchain_kserve", "chat_models", "ChatVLLM"]
    assert "sk-secret" not in str(dumped)
    loaded = load(dumped, allowed_objects=[ChatVLLM], valid_namespaces=["langchain_kserve"], secrets_from_env=True)
    assert (loaded.temperature, loaded.stop, loaded.extra_body) == (0.5, ["x"], {"a": 1})
    assert loaded.api_key == SecretStr("sk-other")


def test_caching_distinguishes_what_changes_the_answer():
    model, client = chat(*[result(str(number)) for number in range(9)], cache=InMemoryCache())
    first = model.invoke("x").content
    assert model.invoke("x").content == first
    assert model.invoke("x", temperature=0.1).content != first
    assert model.invoke("x", guided_regex="a").content != first
    assert model.invoke("x", model="other").content != first
    model.temperature = 0.9
    assert model.invoke("x").content != first
    assert len(client.requests) == 5


def test_headers_of_a_call_are_neither_traced_nor_part_of_the_cache_key():
    model, client = chat(result("a"), cache=InMemoryCache())
    seen = Seen()
    config = {"callbacks": [seen]}
    for number in range(2):
        headers = {"x-request-id": f"r{number}", "x-key": "sk-secret"}
        assert model.invoke("x", config, extra_headers=headers).content == "a"
    assert len(client.requests) == 1
    assert "sk-secret" not in str(seen.params)
    assert seen.params[0]["extra_headers"] == ["x-key", "x-request-id"]


class CountingLimiter(BaseRateLimiter):
    def __init__(self):
        self.acquired = 0

    def acquire(self, *, blocking=True):
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire()


async def test_the_rate_limiter_is_asked_once_per_call():
    limiter = CountingLimiter()
    model, _ = chat(result(), result(), deltas("a"), deltas("a"), rate_limiter=limiter)
    model.invoke("x")
    await model.ainvoke("x")
    list(model.stream("x"))
    _ = [chunk async for chunk in model.astream("x")]
    assert limiter.acquired == 4


def test_configurable_fields_make_a_working_copy():
    from langchain_core.runnables import ConfigurableField

    model, _ = chat(api_key="k")
    configurable = model.configurable_fields(temperature=ConfigurableField(id="t"))
    made, _ = configurable._prepare({"configurable": {"t": 0.7}})
    assert (made.temperature, made.api_key, made.base_url) == (0.7, SecretStr("k"), model.base_url)


def test_async_is_native():
    assert ChatVLLM._astream is not BaseChatModel._astream
    assert ChatVLLM._agenerate is not BaseChatModel._agenerate


def test_another_runtime_is_a_declaration_and_a_class():
    class ChatOther(RuntimeChat):
        """Another."""

        _declaration = Declaration(label="Other", codecs={"rest": "collections:OrderedDict"})

    model = ChatOther(base_url="http://localhost/v1", model="m", temperature=1)
    assert model._llm_type == "kserve-other-chat"
    with pytest.raises(ConfigurationError, match="min_p"):
        ChatOther(base_url="http://localhost/v1", min_p=0.1)
