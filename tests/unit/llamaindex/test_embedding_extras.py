"""Embedding models with LlamaIndex's rate limiters, caches and events."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.storage.kvstore import SimpleKVStore
from unit.llamaindex.embedding_fakes import embedding, texts
from unit.llamaindex.fake_endpoint import TOKEN, FakeEndpoint, Recorder, vector_of
from unit.llamaindex.handler import Handler

from kserve_core.errors import AuthenticationError


@pytest.fixture
def endpoint() -> FakeEndpoint:
    return FakeEndpoint()


class CountingLimiter(BaseRateLimiter):
    def __init__(self) -> None:
        self.asked = 0

    def acquire(self, num_tokens: int = 0) -> None:
        self.asked += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.asked += 1


class TestRateLimiter:
    def test_is_asked_once_per_blocking_request(self, endpoint):
        limiter = CountingLimiter()
        model = embedding(endpoint, rate_limiter=limiter, embed_batch_size=100, request_batch_size=30)
        given = texts(150)
        assert model.get_text_embedding_batch(given) == [vector_of(text) for text in given]
        model.get_query_embedding("x")
        model.get_text_embedding("x")
        assert limiter.asked == len(endpoint.requests) == 8

    async def test_is_asked_once_per_async_request(self, endpoint):
        limiter = CountingLimiter()
        model = embedding(endpoint, rate_limiter=limiter, embed_batch_size=100, request_batch_size=30)
        await model.aget_text_embedding_batch(texts(150))
        await model.aget_query_embedding("x")
        await model.aget_text_embedding("x")
        assert limiter.asked == len(endpoint.requests) == 8

    async def test_is_asked_by_async_batches_that_go_through_a_cache(self, endpoint):
        limiter = CountingLimiter()
        model = embedding(
            endpoint,
            rate_limiter=limiter,
            embed_batch_size=100,
            request_batch_size=30,
            embeddings_cache=SimpleKVStore(),
        )
        await model.aget_text_embedding_batch(texts(150))
        assert limiter.asked == len(endpoint.requests) == 6

    def test_a_failure_ends_limited_batches_early(self, endpoint):
        endpoint.fail = lambda body: AuthenticationError("no")
        limiter = CountingLimiter()
        model = embedding(endpoint, rate_limiter=limiter, request_batch_size=1, max_concurrency=1)
        with pytest.raises(AuthenticationError):
            model.get_text_embedding_batch(texts(400))
        assert len(endpoint.requests) < 400

    def test_limited_batches_still_overlap(self):
        endpoint = FakeEndpoint(delay=0.02)
        model = embedding(endpoint, rate_limiter=CountingLimiter(), request_batch_size=10, max_concurrency=3)
        model.get_text_embedding_batch(texts(100))
        assert endpoint.peak == 3


class TestCache:
    def test_a_known_text_is_not_sent_again(self, endpoint):
        model = embedding(endpoint, embeddings_cache=SimpleKVStore())
        first = model.get_text_embedding_batch(["a", "b"])
        assert model.get_text_embedding_batch(["b", "c", "a"]) == [first[1], vector_of("c"), first[0]]
        assert model.get_text_embedding("a") == first[0]
        assert endpoint.texts == ["a", "b", "c"]

    async def test_a_known_text_is_not_sent_again_async(self, endpoint):
        model = embedding(endpoint, embeddings_cache=SimpleKVStore())
        await model.aget_text_embedding_batch(["a", "b"])
        await model.aget_query_embedding("q")
        assert await model.aget_text_embedding_batch(["b", "a"]) == [vector_of("b"), vector_of("a")]
        assert await model.aget_query_embedding("q") == vector_of("q")
        assert sorted(endpoint.texts) == ["a", "b", "q"]

    async def test_a_query_never_gets_a_passages_vector(self, endpoint):
        model = embedding(
            endpoint, query_instruction="query: ", text_instruction="passage: ", embeddings_cache=SimpleKVStore()
        )
        for _ in range(2):
            assert model.get_text_embedding("tea") == vector_of("passage: tea")
            assert model.get_query_embedding("tea") == vector_of("query: tea")
            assert await model.aget_query_embedding("tea") == vector_of("query: tea")
            assert await model.aget_text_embedding("tea") == vector_of("passage: tea")
        assert len(endpoint.texts) == 2

    @pytest.mark.parametrize(
        "other",
        [{"model": "e5"}, {"dimensions": 2}, {"truncate": 10}, {"text_instruction": "p: "}, {"extra_body": {"a": 1}}],
    )
    def test_models_and_settings_sharing_a_store_are_told_apart(self, endpoint, other):
        store = SimpleKVStore()
        embedding(endpoint, embeddings_cache=store).get_text_embedding("tea")
        embedding(endpoint, embeddings_cache=store, **other).get_text_embedding("tea")
        assert len(endpoint.texts) == 2

    def test_unnamed_models_are_told_apart_by_their_endpoint(self, endpoint):
        store = SimpleKVStore()
        embedding(endpoint, model=None, embeddings_cache=store).get_text_embedding("tea")
        other = embedding(endpoint, model=None, base_url="https://other.example.com/v1", embeddings_cache=store)
        other.get_text_embedding("tea")
        assert len(endpoint.texts) == 2

    def test_a_new_token_keeps_the_cache(self, endpoint):
        store = SimpleKVStore()
        embedding(endpoint, embeddings_cache=store, api_key="one").get_text_embedding("tea")
        embedding(endpoint, embeddings_cache=store, api_key="two", timeout=3).get_text_embedding("tea")
        assert len(endpoint.texts) == 1

    def test_a_changed_setting_and_a_cache_given_later_count(self, endpoint):
        model = embedding(endpoint)
        model.embeddings_cache = SimpleKVStore()
        model.get_text_embedding("tea")
        model.dimensions = 2
        assert model.get_text_embedding("tea") == vector_of("tea", 2)

    def test_the_store_keeps_no_text(self, endpoint):
        store = SimpleKVStore()
        embedding(endpoint, embeddings_cache=store).get_text_embedding("a private sentence")
        assert len(store.get_all(collection="embeddings")) == 1
        assert "private" not in str(store.to_dict())

    def test_something_else_is_refused(self):
        with pytest.raises((TypeError, ValueError), match="BaseKVStore"):
            embedding(embeddings_cache={})


class TestEvents:
    async def test_each_call_has_one_pair_and_one_span(self, endpoint):
        model = embedding(endpoint, embeddings_cache=SimpleKVStore())
        pair = ["EmbeddingStartEvent", "EmbeddingEndEvent"]
        for call, name in (
            (lambda: model.get_query_embedding("a"), "get_query_embedding"),
            (lambda: model.get_text_embedding("b"), "get_text_embedding"),
            (lambda: model.get_text_embedding_batch(["c", "d"]), "get_text_embedding_batch"),
        ):
            with Recorder() as seen:
                call()
            assert seen.names == pair
            assert [span for span in seen.spans if span.endswith(f".{name}")] == [f"VLLMEmbedding.{name}"]
        for acall, name in (
            (lambda: model.aget_query_embedding("e"), "aget_query_embedding"),
            (lambda: model.aget_text_embedding("f"), "aget_text_embedding"),
            (lambda: model.aget_text_embedding_batch(["g", "h"]), "aget_text_embedding_batch"),
        ):
            with Recorder() as seen:
                await acall()
            assert seen.names == pair
            assert [span for span in seen.spans if span.endswith(f".{name}")] == [f"VLLMEmbedding.{name}"]

    async def test_a_long_list_has_one_pair_per_step(self, endpoint):
        model = embedding(endpoint, embed_batch_size=100)
        for run in (
            lambda: asyncio.to_thread(model.get_text_embedding_batch, texts(250)),
            lambda: model.aget_text_embedding_batch(texts(250)),
        ):
            with Recorder() as seen:
                await run()
            ends = [event for event in seen.events if event.class_name() == "EmbeddingEndEvent"]
            assert [len(event.chunks) for event in ends] == [100, 100, 50]
            assert seen.names.count("EmbeddingStartEvent") == 3

    def test_events_name_the_model_and_no_secret(self, endpoint):
        model = embedding(endpoint, model=None, default_headers={"x-tenant": "hidden-tenant"}, dimensions=2)
        model.get_text_embedding("x")
        with Recorder() as seen:
            model.get_text_embedding("x")
        payload = seen.events[0].model_dict
        assert payload["class_name"] == "VLLMEmbedding"
        assert payload["model"] == payload["model_name"] == "served-model"
        assert payload["dimensions"] == 2
        everything = str(seen.events) + str([event.model_dump() for event in seen.events])
        assert TOKEN not in everything
        assert "hidden-tenant" not in everything

    async def test_old_callbacks_come_once(self, endpoint):
        handler = Handler()
        model = embedding(endpoint, callback_manager=CallbackManager([handler]))
        model.get_query_embedding("x")
        await model.aget_text_embedding_batch(["y", "z"])
        assert [(when, kind) for when, kind, _ in handler.seen] == [
            ("start", CBEventType.EMBEDDING),
            ("end", CBEventType.EMBEDDING),
        ] * 2
        assert handler.seen[3][2][EventPayload.CHUNKS] == ["y", "z"]
