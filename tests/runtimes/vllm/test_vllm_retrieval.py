"""Embeddings and reranking against real servers."""

from __future__ import annotations

import math

import pytest

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import EmbeddingRequest, RerankRequest
from kserve_core.errors import ContextOverflowError, InvalidRequestError

TEXTS = ["A cat sleeps on the sofa.", "The kitten naps on the couch.", "Interest rates rose again."]
DOCUMENTS = ["Bread is baked in an oven.", "Paris is the capital of France.", "The sea is deep."]


def cosine(one, two):
    return sum(a * b for a, b in zip(one, two, strict=True)) / (math.hypot(*one) * math.hypot(*two))


def test_near_meanings_have_near_vectors(embedder):
    result = embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=TEXTS)))
    first, second, third = result.embeddings
    assert len(first) == 384
    assert cosine(first, second) > cosine(first, third) + 0.3
    assert result.usage.prompt_tokens == sum(embedder.run(embedder.runtime.tokenize(text)).count for text in TEXTS)


def test_both_encodings_give_the_same_vectors(embedder):
    packed = embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=TEXTS)))
    floats = EmbeddingRequest(texts=TEXTS, extra_body={"encoding_format": "float"})
    plain = embedder.run(embedder.runtime.embed(floats))
    for one, two in zip(packed.embeddings, plain.embeddings, strict=True):
        assert one == pytest.approx(two, abs=1e-6)


def test_many_texts_keep_their_order(embedder):
    texts = [f"number {index} {'and more ' * (index % 5)}" for index in range(150)]
    done = []
    together = embedder.run(embed_all(embedder.runtime, texts, batch_size=16, concurrency=4, on_progress=done.append))
    assert len(together.embeddings) == len(texts)
    assert sum(done) == len(texts)
    for index in (0, 17, 149):
        alone = embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=[texts[index]])))
        assert cosine(alone.embeddings[0], together.embeddings[index]) > 0.9999


async def test_many_texts_from_an_event_loop(embedder):
    result = await embedder.arun(embed_all(embedder.runtime, TEXTS * 20, batch_size=8))
    await embedder.aclose()
    assert len(result.embeddings) == 60


def test_a_text_that_is_too_long_is_an_error_until_it_may_be_cut(embedder):
    long = "word " * 2000
    with pytest.raises(ContextOverflowError):
        embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=[long])))
    cut = embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=[long], truncate=-1)))
    assert len(cut.embeddings[0]) == 384


def test_vectors_of_another_length_are_refused(embedder):
    with pytest.raises(InvalidRequestError) as caught:
        embedder.run(embedder.runtime.embed(EmbeddingRequest(texts=["a"], dimensions=64)))
    assert "dimensions" in str(caught.value)


def test_the_best_document_is_first(reranker):
    ranking = reranker.run(reranker.runtime.rerank(RerankRequest(query="capital of France", documents=DOCUMENTS)))
    assert ranking.results[0].index == 1
    assert sorted(result.index for result in ranking.results) == [0, 1, 2]
    assert 0.9 < ranking.results[0].score <= 1
    assert ranking.usage.total_tokens > 0


def test_only_the_best(reranker):
    request = RerankRequest(query="capital of France", documents=DOCUMENTS, top_n=1)
    assert [result.index for result in reranker.run(reranker.runtime.rerank(request)).results] == [1]


def test_long_lists_are_merged(reranker):
    documents = [f"Nothing about it, {index}." for index in range(70)]
    documents[41] = "Paris is the capital of France."
    documents[68] = "The capital is old."
    ranking = reranker.run(rerank_all(reranker.runtime, "capital of France", documents, top_n=3, batch_size=20))
    assert [result.index for result in ranking.results][:2] == [41, 68]
    assert len(ranking.results) == 3


def test_an_embedding_model_ranks_too(embedder):
    request = RerankRequest(query="a pet cat", documents=["Tax law.", "My kitten purrs."])
    assert embedder.run(embedder.runtime.rerank(request)).results[0].index == 1
