"""Embeddings and rankings by real servers: text or token ids in, whatever the model's outputs are."""

from __future__ import annotations

import math

import pytest
from runtimes.v2.clients import EVERYWHERE, pairs, reference, servers_of

from kserve_core.capabilities import EmbeddingRequest, RerankRequest
from kserve_core.errors import ConfigurationError, ContextOverflowError

QUERY = "When does the train leave?"
DOCUMENTS = ["Cats purr at night.", "The train leaves at noon.", "Bread is baked at dawn.", "A bus is a vehicle."]


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def embed(client, texts, **more):
    client.run(client.runtime.resolve_model())
    return client.run(client.runtime.embed(EmbeddingRequest(texts=texts, **more)))


def ranked(client, **more):
    client.run(client.runtime.resolve_model())
    found = client.run(client.runtime.rerank(RerankRequest(query=QUERY, documents=DOCUMENTS, **more)))
    return [(one.index, one.score) for one in found.results]


MODELS = [
    ("embed", 0.9999),
    ("minilm", 0.9999),
    ("embed_fp16", 0.9999),
    ("embed_int8", 0.99),
    ("embed_ids", 0.9999),
    ("embed_states", 0.9999),
]


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize(("model", "least"), MODELS)
def test_vectors_are_those_of_the_reference(connect, where, model, least):
    options = {"tokenizer": servers_of(where[0])["tokenizer"]} if model in {"embed_ids", "embed_states"} else {}
    client = connect(*where, model=model, options={**options, "normalize": True})
    expected = reference()
    found = embed(client, expected["texts"]).embeddings
    for one, other in zip(found, expected["vectors"], strict=True):
        assert cosine(one, other) > least
        assert math.hypot(*one) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("where", pairs("triton"))
def test_a_model_that_wants_a_column(connect, where):
    client = connect(*where, model="embed_wide")
    expected = reference()
    found = embed(client, expected["texts"]).embeddings
    assert all(cosine(one, other) > 0.9999 for one, other in zip(found, expected["vectors"], strict=True))


@pytest.mark.parametrize("where", pairs("triton"))
def test_the_limit_of_a_batch_is_known(connect, where):
    client = connect(*where, model="embed_wide")
    client.run(client.runtime.resolve_model())
    assert client.runtime.embedding_limit() == 64


@pytest.mark.parametrize("where", EVERYWHERE)
def test_texts_that_are_too_long(connect, where):
    long = "word " * 400
    client = connect(*where, model="minilm")
    with pytest.raises(ContextOverflowError):
        embed(client, ["short", long])
    cut = embed(client, ["short", long], truncate=-1).embeddings
    assert len(cut) == 2
    ids = connect(*where, model="embed_ids", options={"tokenizer": servers_of(where[0])["tokenizer"]})
    with pytest.raises(ContextOverflowError):
        embed(ids, ["word " * 700])


@pytest.mark.parametrize("where", EVERYWHERE)
def test_token_ids_need_a_tokenizer(connect, where):
    with pytest.raises(ConfigurationError) as caught:
        embed(connect(*where, model="embed_ids"), ["a"])
    assert "tokenizer" in caught.value.hint


@pytest.mark.parametrize("where", EVERYWHERE)
def test_a_ranking(connect, where):
    found = ranked(connect(*where, model="rerank"))
    assert found[0][0] == 1
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert sorted(index for index, _ in found) == [0, 1, 2, 3]
    assert ranked(connect(*where, model="rerank"), top_n=2) == found[:2]


@pytest.mark.parametrize("where", EVERYWHERE)
def test_rankings_by_token_ids(connect, where):
    options = {"tokenizer": servers_of(where[0])["tokenizer"]}
    one, two = (ranked(connect(*where, model=model, options=options)) for model in ("rerank_ids", "rerank_ids_two"))
    assert one[0][0] == 1
    assert [index for index, _ in one] == [index for index, _ in two]
    assert [score for _, score in one] == pytest.approx([score for _, score in two], abs=1e-4)
    client = connect(*where, model="rerank_ids_two", options={**options, "sigmoid": True})
    assert [score for _, score in ranked(client)] == pytest.approx(
        [1 / (1 + math.exp(-score)) for _, score in one], abs=1e-5
    )
