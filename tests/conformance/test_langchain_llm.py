"""What every LangChain text-completion class of this package does, whatever runtime is behind it.

`langchain-tests` has no suite for these. To run this one over a class of your own, subclass `LLMStandardTests` and say
which class it is and how it is made.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from typing import Any

import matrix
import pytest
import targets
from langchain_core import exceptions as lc
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models.llms import BaseLLM
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import HumanMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter

import langchain_kserve

PROMPT, OTHER = "Count to ten.", "Say hello."


class Seen(BaseCallbackHandler):
    """Notes what callbacks are told."""

    def __init__(self) -> None:
        self.starts: list[Any] = []
        self.tokens: list[str] = []
        self.chunks: list[Any] = []
        self.logprobs: list[Any] = []
        self.ends: list[Any] = []
        self.errors: list[BaseException] = []

    def on_llm_start(self, serialized, prompts, **kwargs):
        self.starts.append(prompts)

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append(token)
        self.chunks.append(chunk)
        self.logprobs.append(kwargs.get("logprobs"))

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)

    def on_llm_error(self, error, **kwargs):
        self.errors.append(error)


class AsyncSeen(AsyncCallbackHandler):
    """Notes the tokens, asynchronously."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)


class LLMStandardTests:
    """The suite. A subclass sets `runtime`, or `llm_class` and `llm_params` themselves."""

    runtime: str

    @property
    def llm_class(self) -> type[BaseLLM]:
        """The class under test."""
        return getattr(langchain_kserve, matrix.entry(self.runtime).langchain["llm"])

    @property
    def llm_params(self) -> dict[str, Any]:
        """Its constructor arguments."""
        return targets.capability_params(self.runtime, "text")

    def make(self, **fields: Any) -> BaseLLM:
        """An instance whose answers repeat."""
        return self.llm_class(**{**self.llm_params, "temperature": 0.0, "max_tokens": 24, **fields})

    @pytest.fixture
    def llm(self) -> BaseLLM:
        return self.make()

    # Answers

    async def test_invoke_and_ainvoke(self, llm):
        text = llm.invoke(PROMPT)
        assert isinstance(text, str)
        assert text
        assert await llm.ainvoke(PROMPT) == text

    async def test_invoke_takes_what_language_models_take(self, llm):
        assert llm.invoke([HumanMessage(PROMPT)])
        assert (PromptTemplate.from_template("{what}") | llm).invoke({"what": PROMPT}) == llm.invoke(PROMPT)

    async def test_stream_and_astream_add_up_to_the_answer(self, llm):
        whole = llm.invoke(PROMPT)
        pieces = list(llm.stream(PROMPT))
        assert len(pieces) > 1
        assert all(isinstance(piece, str) for piece in pieces)
        assert "".join(pieces) == whole
        assert "".join([piece async for piece in llm.astream(PROMPT)]) == whole

    async def test_batch_and_abatch_keep_the_order(self, llm):
        prompts = [PROMPT, OTHER, PROMPT]
        for texts in (llm.batch(prompts), await llm.abatch(prompts)):
            assert len(texts) == 3
            assert texts[0] == texts[2] != ""
        assert llm.batch([]) == []
        assert len(llm.batch(prompts, config={"max_concurrency": 2})) == 3

    async def test_generate_and_agenerate(self, llm):
        for result in (llm.generate([PROMPT, OTHER]), await llm.agenerate([PROMPT, OTHER])):
            assert [len(choices) for choices in result.generations] == [1, 1]
            if "finish_reason" in targets.features(self.runtime):
                assert result.generations[0][0].generation_info["finish_reason"] in {"stop", "length"}
            assert result.llm_output["model_name"]

    @pytest.mark.needs("choices")
    def test_several_completions_of_each_prompt(self):
        result = self.make(temperature=0.9).generate([PROMPT, OTHER], n=2)
        assert [len(choices) for choices in result.generations] == [2, 2]

    def test_max_tokens_of_a_call(self, llm):
        cut = llm.generate([PROMPT], max_tokens=1).generations[0][0]
        assert cut.generation_info["finish_reason"] == "length"
        assert len(cut.text) < len(llm.invoke(PROMPT))

    @pytest.mark.needs("stop")
    async def test_stop_of_a_call_and_of_the_constructor(self, llm):
        whole = llm.invoke(PROMPT)
        stop = whole[len(whole) // 2 :].strip()[:3]
        expected = whole.split(stop)[0]
        assert stop in whole
        assert llm.invoke(PROMPT, stop=[stop]) == expected
        assert await self.make(stop=[stop]).ainvoke(PROMPT) == expected
        assert "".join(llm.stream(PROMPT, stop=[stop])) == expected

    @pytest.mark.needs("logprobs")
    async def test_logprobs(self):
        llm = self.make(logprobs=2 if "top_logprobs" in targets.features(self.runtime) else True)
        whole = llm.generate([PROMPT]).generations[0][0].generation_info["logprobs"]
        assert len(whole["tokens"]) == len(whole["token_logprobs"]) > 0
        seen = Seen()
        list(llm.stream(PROMPT, config={"callbacks": [seen]}))
        streamed = seen.ends[0].generations[0][0].generation_info["logprobs"]
        assert streamed["tokens"] == whole["tokens"]
        assert any(seen.logprobs)

    @pytest.mark.needs("structured_output", "other_forms")
    async def test_constrained_answers(self, llm):
        assert llm.invoke("Is the sky blue?", guided_choice=["yes", "no"]) in {"yes", "no"}
        assert (await llm.ainvoke("A number:", guided_regex="[0-9]{3}")).isdigit()
        assert "".join(llm.stream("A number:", guided_regex="[0-9]{3}")).isdigit()
        schema = {
            "title": "answer",
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        }
        structured = self.make(max_tokens=200).with_structured_output(schema, include_raw=True)
        found = structured.invoke("Is the sky blue?")
        assert found["parsing_error"] is None
        assert isinstance(found["parsed"]["yes"], bool)

    @pytest.mark.needs("other_model")
    async def test_model_of_a_call(self, llm):
        target = targets.get_target(self.runtime)
        if target.chat is None or target.chat["base_url"] != self.llm_params["base_url"]:
            pytest.skip("the other model is on another server")
        for result in (
            llm.generate([PROMPT], model=target.other_model),
            await llm.agenerate([PROMPT], model=target.other_model),
        ):
            assert result.llm_output["model_name"] == target.other_model

    # Usage

    @pytest.mark.needs("usage")
    def test_usage_is_of_all_prompts(self, llm):
        one, other, both = (llm.generate(prompts) for prompts in ([PROMPT], [OTHER], [PROMPT, OTHER]))
        usage = both.llm_output["token_usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        for count in ("prompt_tokens", "completion_tokens"):
            assert usage[count] == one.llm_output["token_usage"][count] + other.llm_output["token_usage"][count]

    @pytest.mark.needs("usage")
    async def test_usage_of_a_stream_is_that_of_the_answer(self, llm):
        whole = llm.generate([PROMPT]).llm_output["token_usage"]
        seen = Seen()
        list(llm.stream(PROMPT, config={"callbacks": [seen]}))
        [piece async for piece in llm.astream(PROMPT, config={"callbacks": [seen]})]
        for end in seen.ends:
            usage = end.generations[0][0].generation_info["token_usage"]
            for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
                assert usage[count] == whole[count]

    # Callbacks

    async def test_each_chunk_is_told_once(self, llm):
        seen, seen_async = Seen(), AsyncSeen()
        pieces = list(llm.stream(PROMPT, config={"callbacks": [seen]}))
        assert seen.tokens == pieces
        assert [chunk.text for chunk in seen.chunks] == pieces
        assert (len(seen.starts), len(seen.ends), seen.errors) == (1, 1, [])
        pieces = [piece async for piece in llm.astream(PROMPT, config={"callbacks": [seen_async]})]
        assert seen_async.tokens == pieces

    async def test_streaming_tells_the_tokens_of_an_invoke(self):
        llm, seen, seen_async = self.make(streaming=True), Seen(), AsyncSeen()
        text = llm.invoke(PROMPT, config={"callbacks": [seen]})
        assert "".join(seen.tokens) == text
        assert len(seen.tokens) > 1
        assert await llm.ainvoke(PROMPT, config={"callbacks": [seen_async]}) == text
        assert "".join(seen_async.tokens) == text
        assert seen.ends[0].generations[0][0].text == text

    async def test_astream_events(self, llm):
        events = [event async for event in llm.astream_events(PROMPT, version="v2")]
        kinds = [event["event"] for event in events]
        assert (kinds[0], kinds[-1]) == ("on_llm_start", "on_llm_end")
        pieces = [event["data"]["chunk"] for event in events if event["event"] == "on_llm_stream"]
        assert "".join(piece if isinstance(piece, str) else piece.text for piece in pieces) == llm.invoke(PROMPT)

    def test_batch_tells_each_prompt_its_end(self, llm):
        seen = Seen()
        llm.batch([PROMPT, OTHER], config={"callbacks": [seen]})
        assert seen.starts == [[PROMPT], [OTHER]]
        assert len(seen.ends) == 2

    # Cache, rate limiter

    async def test_cache(self):
        llm, seen = self.make(cache=InMemoryCache()), Seen()
        texts = {llm.invoke(PROMPT, config={"callbacks": [seen]}) for _ in range(2)}
        texts.add(await llm.ainvoke(PROMPT, config={"callbacks": [seen]}))
        assert len(texts) == 1
        assert len(seen.starts) == 1
        assert llm.invoke(PROMPT, max_tokens=1) not in texts

    def test_rate_limiter(self):
        class Counting(InMemoryRateLimiter):
            acquired = 0

            def acquire(self, *, blocking=True):
                self.acquired += 1
                return super().acquire(blocking=blocking)

        limiter = Counting(requests_per_second=1000, max_bucket_size=10)
        llm = self.make(rate_limiter=limiter)
        llm.invoke(OTHER)
        list(llm.stream(OTHER))
        assert limiter.acquired == 2

    # Copies

    @pytest.mark.filterwarnings("ignore:The function `load` is in beta")
    def test_serialized_and_loaded_again(self, llm, monkeypatch):
        cls = self.llm_class
        text = dumps(llm)
        key = self.llm_params.get("api_key")
        assert not key or key not in text
        if key:
            monkeypatch.setenv("KSERVE_API_KEY", key)
        again = load(dumpd(llm), secrets_from_env=True, valid_namespaces=["langchain_kserve"], allowed_objects=[cls])
        assert type(again) is cls
        assert again.invoke(PROMPT) == llm.invoke(PROMPT)

    def test_pickled(self, llm):
        text = llm.invoke(PROMPT)
        assert pickle.loads(pickle.dumps(llm)).invoke(PROMPT) == text

    def test_no_secret_is_shown(self, llm):
        key = self.llm_params.get("api_key")
        if not key:
            pytest.skip("the target needs no key")
        for text in (repr(llm), str(llm), str(llm.asdict()), str(llm.model_dump()), llm.model_dump_json()):
            assert key not in text

    # Event loops, threads

    def test_three_event_loops(self, llm):
        assert len({asyncio.run(llm.ainvoke(PROMPT)) for _ in range(3)}) == 1

    def test_threads(self, llm):
        texts, errors = [], []

        def work() -> None:
            try:
                texts.append("".join(llm.stream(PROMPT)))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(texts) == 6
        assert all(texts)

    async def test_many_at_once(self, llm):
        texts = await asyncio.gather(*(llm.ainvoke(PROMPT) for _ in range(12)))
        assert all(texts)

    async def test_a_stream_left_early_leaves_the_instance_usable(self, llm):
        stream = llm.stream(PROMPT)
        next(stream)
        stream.close()
        async for _ in llm.astream(PROMPT):
            break
        gc.collect()
        assert llm.invoke(PROMPT)
        assert await llm.ainvoke(PROMPT)

    def test_closed_and_used_again(self):
        with self.make() as llm:
            text = llm.invoke(PROMPT)
        assert llm.invoke(PROMPT) == text

    # Tokens

    @pytest.mark.needs("token_ids")
    def test_token_ids(self, llm):
        assert llm.get_num_tokens(PROMPT) == len(llm.get_token_ids(PROMPT)) > 0

    @pytest.mark.needs("tokenize", "usage")
    def test_tokens_are_counted_as_the_server_does(self, llm):
        count = llm.get_num_tokens(PROMPT)
        assert llm.generate([PROMPT]).llm_output["token_usage"]["prompt_tokens"] == count

    # Errors

    async def test_nobody_listening(self):
        llm, seen = self.make(base_url="http://127.0.0.1:9", max_retries=0, timeout=5), Seen()
        with pytest.raises(lc.ModelConnectionError):
            llm.invoke(PROMPT, config={"callbacks": [seen]})
        with pytest.raises(lc.ModelConnectionError):
            [piece async for piece in llm.astream(PROMPT)]
        assert len(seen.errors) == 1

    @pytest.mark.needs("model_names")
    async def test_an_unknown_model(self, llm):
        with pytest.raises(lc.ModelNotFoundError):
            llm.invoke(PROMPT, model="no-such-model")
        with pytest.raises(lc.ModelNotFoundError):
            list(llm.stream(PROMPT, model="no-such-model"))

    async def test_a_wrong_key(self):
        if not self.llm_params.get("api_key"):
            pytest.skip("the target needs no key")
        llm = self.make(api_key="wrong")
        with pytest.raises(lc.ModelAuthenticationError):
            await llm.ainvoke(PROMPT)
        with pytest.raises(lc.ModelAuthenticationError):
            list(llm.stream(PROMPT))

    def test_a_prompt_over_the_context_window(self, llm):
        with pytest.raises(lc.ContextOverflowError):
            llm.invoke("word " * 200_000)

    def test_an_unknown_argument(self, llm):
        with pytest.raises(ValueError, match="temprature"):
            llm.invoke(PROMPT, temprature=0.5)
        with pytest.raises(ValueError, match="temprature"):
            self.make(temprature=0.5)

    # What LangChain asks

    def test_tracing_parameters(self):
        params = self.make(stop=["x"])._get_ls_params(model="other")
        assert params["ls_model_type"] == "llm"
        assert params["ls_provider"]
        assert (params["ls_model_name"], params["ls_temperature"], params["ls_max_tokens"]) == ("other", 0.0, 24)
        assert params["ls_stop"] == ["x"]

    def test_made_from_the_environment(self, llm, monkeypatch):
        params = self.llm_params
        monkeypatch.setenv("KSERVE_BASE_URL", params.pop("base_url"))
        if key := params.pop("api_key", None):
            monkeypatch.setenv("KSERVE_API_KEY", key)
        assert self.llm_class(**params, temperature=0.0, max_tokens=24).invoke(PROMPT) == llm.invoke(PROMPT)


for _entry in matrix.RUNTIMES:
    if "llm" in _entry.langchain:
        _name = _entry.suite(_entry.langchain["llm"])
        globals()[_name] = pytest.mark.needs("text")(
            type(_name, (LLMStandardTests,), {"runtime": _entry.key, "__module__": __name__})
        )
