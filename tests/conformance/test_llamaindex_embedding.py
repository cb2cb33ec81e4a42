"""What every LlamaIndex embedding class of this package does, whatever runtime is behind it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import matrix
import numpy as np
import pytest
from conformance.counting import answered, refused, work
from conformance.own_server import over_grpc, own_server
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.storage.kvstore import SimpleKVStore

import llamaindex_kserve
from llamaindex_kserve import (
    AuthenticationError,
    ConfigurationError,
    ContextOverflowError,
    ModelNotFoundError,
    ServerError,
)

if TYPE_CHECKING:
    from targets import Target

pytestmark = pytest.mark.needs("embedding")

TEXTS = ["The cat sleeps.", "Invoices are due in March.", "Rain is expected in Oslo.", "The cat sleeps on the mat."]


def make(target: Target, **kwargs: Any) -> BaseEmbedding:
    cls = getattr(llamaindex_kserve, matrix.entry(target.runtime).llamaindex["embedding"])
    return cls(**{**target.embedding, **kwargs})


@pytest.fixture
def embedding(target: Target) -> BaseEmbedding:
    return make(target)


def same(one: Any, other: Any) -> bool:
    """Whether two vectors (or lists of them) are the same but for the noise of batching."""
    return np.allclose(np.array(one), np.array(other), atol=5e-3)


def numbered(count: int) -> list[str]:
    return [f"Sentence {number} is about {TEXTS[number % 4].lower()}" for number in range(count)]


class TestVectors:
    def test_a_text_has_a_vector(self, embedding):
        vector = embedding.get_text_embedding(TEXTS[0])
        assert len(vector) > 1
        assert all(isinstance(value, float) for value in vector)
        assert any(vector)

    def test_a_batch_is_its_texts_one_by_one(self, embedding):
        assert same(embedding.get_text_embedding_batch(TEXTS), [embedding.get_text_embedding(text) for text in TEXTS])

    async def test_async_is_the_same_as_blocking(self, embedding):
        assert same(await embedding.aget_text_embedding_batch(TEXTS), embedding.get_text_embedding_batch(TEXTS))
        assert same(await embedding.aget_text_embedding(TEXTS[0]), embedding.get_text_embedding(TEXTS[0]))
        assert same(await embedding.aget_query_embedding(TEXTS[0]), embedding.get_query_embedding(TEXTS[0]))

    async def test_order_is_kept_over_many_requests(self, target):
        embedding = make(target, embed_batch_size=30, request_batch_size=7, max_concurrency=4)
        texts = numbered(75)
        blocking = embedding.get_text_embedding_batch(texts)
        assert same(blocking, await embedding.aget_text_embedding_batch(texts))
        for place in (0, 29, 30, 74):
            assert same(blocking[place], embedding.get_text_embedding(texts[place]))

    def test_an_instruction_is_part_of_the_text(self, target, embedding):
        instructed = make(target, query_instruction="query: ", text_instruction="passage: ")
        assert same(instructed.get_query_embedding("tea"), embedding.get_text_embedding("query: tea"))
        assert same(instructed.get_text_embedding("tea"), embedding.get_text_embedding("passage: tea"))
        assert same(instructed.get_text_embedding_batch(["tea"])[0], embedding.get_text_embedding("passage: tea"))

    async def test_an_empty_text_has_a_vector_among_others(self, embedding):
        vectors = embedding.get_text_embedding_batch(["", TEXTS[0], "\n"])
        assert [len(vector) for vector in vectors] == [len(vectors[1])] * 3
        assert same(vectors[1], embedding.get_text_embedding(TEXTS[0]))

    async def test_no_texts_have_no_vectors(self, embedding):
        assert embedding.get_text_embedding_batch([]) == []
        assert await embedding.aget_text_embedding_batch([]) == []

    @pytest.mark.needs("truncate")
    def test_a_text_longer_than_the_model_takes_is_an_error_or_cut(self, target, embedding):
        long = "word " * 20_000
        with pytest.raises(ContextOverflowError):
            embedding.get_text_embedding(long)
        assert any(make(target, truncate=-1).get_text_embedding(long))


class TestUse:
    def test_an_index_finds_the_text_that_was_asked_for(self, embedding):
        index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=embedding)
        for text in TEXTS:
            assert index.as_retriever(similarity_top_k=1).retrieve(text)[0].text == text

    async def test_an_index_finds_it_async_too(self, embedding):
        index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in TEXTS], embed_model=embedding, use_async=False
        )
        found = await asyncio.gather(*(index.as_retriever(similarity_top_k=1).aretrieve(text) for text in TEXTS))
        assert [nodes[0].text for nodes in found] == TEXTS

    def test_one_instance_works_in_many_event_loops(self, embedding):
        expected = embedding.get_text_embedding_batch(TEXTS)
        for _ in range(3):
            assert same(asyncio.run(embedding.aget_text_embedding_batch(TEXTS)), expected)

    def test_one_instance_works_in_many_threads(self, embedding):
        expected = embedding.get_text_embedding_batch(TEXTS)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: embedding.get_text_embedding_batch(TEXTS), range(32)))
        assert all(same(answer, expected) for answer in answers)

    async def test_many_async_calls_at_once(self, embedding):
        vectors = await asyncio.gather(*(embedding.aget_text_embedding(text) for text in numbered(100)))
        assert len({len(vector) for vector in vectors}) == 1

    def test_a_cache_answers_the_second_time(self, target):
        store = SimpleKVStore()
        first = make(target, embeddings_cache=store).get_text_embedding_batch(TEXTS)
        unreachable = make(target, embeddings_cache=store, base_url="http://127.0.0.1:9", max_retries=0)
        assert unreachable.get_text_embedding_batch(TEXTS) == first

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_copies_work(self, embedding, duplicate):
        expected = embedding.get_text_embedding(TEXTS[0])
        assert same(duplicate(embedding).get_text_embedding(TEXTS[0]), expected)

    def test_a_dump_comes_back_when_the_credentials_are_given_again(self, target, embedding):
        data = embedding.to_dict()
        key = target.embedding.get("api_key")
        assert not key or key not in str(data)
        back = type(embedding).from_dict(data, **{**target.embedding, "model": embedding.model})
        assert same(back.get_text_embedding(TEXTS[0]), embedding.get_text_embedding(TEXTS[0]))


@pytest.mark.needs("similarity")
class TestSimilarity:
    async def test_is_what_the_vectors_say(self, embedding):
        first, *others = TEXTS
        vectors = embedding.get_text_embedding_batch(TEXTS)
        expected = [embedding.similarity(vectors[0], vector) for vector in vectors[1:]]
        for scores in (embedding.similarity(first, others), await embedding.asimilarity(first, others)):
            assert scores == pytest.approx(expected, abs=5e-3)
        assert embedding.similarity(first, others[0]) == pytest.approx(expected[0], abs=5e-3)
        assert await embedding.asimilarity(first, first) == pytest.approx(1, abs=5e-3)

    async def test_evaluates_answers(self, embedding):
        evaluator = llamaindex_kserve.CaikitSimilarityEvaluator(embedding, similarity_threshold=0.99)
        assert evaluator.evaluate(response=TEXTS[0], reference=TEXTS[0]).passing
        result = await evaluator.aevaluate(response=TEXTS[1], reference=TEXTS[0])
        assert not result.passing
        assert result.score == pytest.approx(embedding.similarity(TEXTS[0], TEXTS[1]), abs=5e-3)


class TestErrors:
    def test_a_model_that_is_not_there(self, target):
        with pytest.raises(ModelNotFoundError) as caught:
            make(target, model="no-such-model").get_text_embedding("x")
        assert caught.value.hint

    def test_an_unusable_address(self, target):
        with pytest.raises(ConfigurationError):
            make(target, base_url="not a url")

    @pytest.mark.needs("devserver")
    async def test_a_wrong_token_is_told_once_and_stays_secret(self, target):
        embedding = make(target, api_key="a-wrong-token", request_batch_size=10)
        with pytest.raises(AuthenticationError) as caught:
            await embedding.aget_text_embedding_batch(numbered(1000))
        assert caught.value.status_code == 401
        assert "a-wrong-token" not in str(caught.value)
        assert len(target.devserver.requests) <= 2 * embedding.max_concurrency

    @pytest.mark.needs("devserver")
    def test_a_server_that_starts_up_is_waited_for(self, target):
        name, key = target.embedding["model"], target.embedding.get("api_key")
        with own_server(target, models=(name,), api_key=key) as (server, base_url):
            server.fault(status=503, body="router-page", times=2)
            assert any(make(target, base_url=base_url).get_text_embedding("x"))
            assert len(refused(server.requests)) == 2
            assert len(answered(work(server.requests))) == 1

    @pytest.mark.needs("devserver")
    def test_a_server_that_stays_broken_is_asked_a_bounded_number_of_times(self, target):
        target.devserver.fault(status=500, body="oops", times=50)
        with pytest.raises(ServerError):
            make(target, max_retries=2).get_text_embedding("x")
        assert len(target.devserver.requests) <= 3

    @pytest.mark.needs("devserver")
    async def test_a_batch_that_is_too_large_is_halved(self, target, embedding):
        texts = numbered(40)
        expected = embedding.get_text_embedding_batch(texts)
        refusal = {"status": 413, "body": "Payload Too Large", "content_type": "text/plain"}
        if over_grpc(target):
            details = "SERVER: Received message larger than max (5000007 vs. 4194304)"
            refusal = {"code": "RESOURCE_EXHAUSTED", "details": details}
        target.devserver.fault(**refusal)
        assert same(embedding.get_text_embedding_batch(texts), expected)
        target.devserver.fault(**refusal)
        assert same(await embedding.aget_text_embedding_batch(texts), expected)


@pytest.mark.needs("devserver")
class TestOnTheWire:
    def test_line_breaks_are_sent_as_they_are(self, target, embedding):
        embedding.get_text_embedding("two\nlines\n")
        body = target.devserver.requests.last.body
        assert b"two\nlines\n" in (body if over_grpc(target) else body.replace(b"\\n", b"\n"))

    def test_a_rotated_token_file_is_read_again(self, target, tmp_path):
        token = tmp_path / "token"
        token.write_text("an-expired-token")
        embedding = make(target, api_key=token)
        with pytest.raises(AuthenticationError):
            embedding.get_text_embedding("x")
        token.write_text(target.embedding["api_key"])
        assert any(embedding.get_text_embedding("x"))

    def test_blocking_requests_overlap_within_the_bound(self, target):
        target.devserver.fault(delay=0.05, times=100)
        make(target, request_batch_size=5, max_concurrency=4).get_text_embedding_batch(numbered(100))
        assert 2 <= target.devserver.max_in_flight <= 4

    @pytest.mark.parametrize("step", [5, 500])
    async def test_async_requests_overlap_within_the_bound(self, target, step):
        target.devserver.fault(delay=0.03, times=100)
        embedding = make(target, embed_batch_size=step, request_batch_size=5, max_concurrency=4)
        await embedding.aget_text_embedding_batch(numbered(200))
        assert 2 <= target.devserver.max_in_flight <= 4
        assert len(work(target.devserver.requests)) == 40
        assert len({record.connection for record in target.devserver.requests}) <= 4
