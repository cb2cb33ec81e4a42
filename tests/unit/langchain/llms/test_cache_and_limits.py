"""LangChain's cache and rate limiter."""

from __future__ import annotations

from langchain_core.caches import InMemoryCache
from unit.langchain.llms.seen import KEY, CountingLimiter, bodies

from kserve_core.devserver import DevServer


def test_the_cache_answers_a_repeated_prompt(server, make):
    llm = make(cache=InMemoryCache())
    assert llm.invoke("Say hello.") == llm.invoke("Say hello.")
    assert len(bodies(server)) == 1


async def test_the_cache_tells_calls_with_other_arguments_apart(server, make):
    llm = make(cache=InMemoryCache())
    llm.invoke("Count to ten.")
    assert llm.invoke("Count to ten.", max_tokens=1) != llm.invoke("Count to ten.")
    await llm.ainvoke("Count to ten.", model="other-model")
    assert len(bodies(server)) == 3
    await llm.ainvoke("Count to ten.", model="other-model")
    llm.invoke("Count to ten.", max_tokens=1)
    assert len(bodies(server)) == 3


def test_the_cache_tells_instances_with_other_fields_apart(server, make):
    cache = InMemoryCache()
    for fields in ({}, {"temperature": 0.5}, {"stop": ["x"]}, {"extra_body": {"a": 1}}, {"model": "other-model"}):
        make(cache=cache, **fields).invoke("Say hello.")
    assert len(bodies(server)) == 5


def test_the_cache_tells_endpoints_apart(server, make):
    cache = InMemoryCache()
    make(cache=cache).invoke("Say hello.")
    with DevServer(api_key=KEY) as other:
        make(cache=cache, base_url=other.url).invoke("Say hello.")
        assert len(other.requests.to("/completions")) == 1


def test_the_cache_key_has_no_secret(make):
    keys = []

    class Cache(InMemoryCache):
        def lookup(self, prompt, llm_string):
            keys.append(llm_string)
            return super().lookup(prompt, llm_string)

    make(cache=Cache(), default_headers={"x-secret": "hidden-header"}).invoke(
        "Say hello.", extra_headers={"x-other": "hidden-too"}
    )
    assert keys
    assert not any(secret in keys[0] for secret in (KEY, "hidden-header", "hidden-too"))


async def test_the_rate_limiter_is_asked_once_per_call_of_the_model(make):
    limiter = CountingLimiter()
    llm = make(rate_limiter=limiter, cache=InMemoryCache())
    llm.invoke("Say hello.")
    llm.invoke("Say hello.")
    assert limiter.acquired == 1
    await llm.ainvoke("Count to ten.")
    list(llm.stream("Say hello."))
    [piece async for piece in llm.astream("Say hello.")]
    make(rate_limiter=limiter, streaming=True).invoke("Say hello.")
    assert limiter.acquired == 5
