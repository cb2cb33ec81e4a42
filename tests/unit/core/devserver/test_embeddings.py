"""Embeddings, scores and rankings."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest


def vectors(http, texts, **fields):
    body = http.post("/v1/embeddings", json={"input": texts, **fields}).json()
    return [entry["embedding"] for entry in body["data"]]


def cosine(one, two):
    return sum(a * b for a, b in zip(one, two, strict=True))


def test_the_answer(http):
    body = http.post("/v1/embeddings", json={"input": ["a", "b"], "model": "dev-model"}).json()
    assert body["id"].startswith("embd-")
    assert (body["object"], body["model"]) == ("list", "dev-model")
    assert [(entry["index"], entry["object"]) for entry in body["data"]] == [(0, "embedding"), (1, "embedding")]
    assert body["usage"]["completion_tokens"] == 0
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == 2


def test_vectors_have_length_one_and_near_texts_are_near(http):
    texts = ["The cat sleeps on the sofa.", "A cat is sleeping on a couch.", "Quarterly revenue grew in Asia."]
    cat, kitten, money = vectors(http, texts)
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-6) for vector in (cat, kitten, money))
    assert cosine(cat, kitten) > 0.5 > cosine(cat, money)
    assert vectors(http, texts)[0] == cat


def test_base64_holds_the_same_floats(http):
    (plain,) = vectors(http, "Hello world")
    (packed,) = vectors(http, "Hello world", encoding_format="base64")
    assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))) == pytest.approx(plain, abs=1e-7)
    (half,) = vectors(http, "Hello world", encoding_format="base64", embed_dtype="float16")
    assert len(base64.b64decode(half)) == 2 * len(plain)


def test_bytes_come_with_their_json_in_a_header(http):
    response = http.post("/v1/embeddings", json={"input": ["a", "b"], "encoding_format": "bytes"})
    assert response.headers["content-type"] == "application/octet-stream"
    metadata = json.loads(response.headers["metadata"])
    assert metadata["data"][1]["end"] == len(response.content) == 2 * 256 * 4


def test_shorter_vectors_only_where_the_model_can(http):
    body = {"input": "Hello world", "dimensions": 64}
    refused = http.post("/v1/embeddings", json=body)
    assert refused.status_code == 400
    assert "matryoshka" in refused.json()["error"]["message"]
    assert http.post("/v1/embeddings", json={**body, "dimensions": 256}).status_code == 400
    (vector,) = vectors(http, "Hello world", dimensions=64, model="dev-matryoshka")
    assert len(vector) == 64
    assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-6)


def test_long_texts_are_refused_or_truncated(http):
    long = {"input": "word " * 200, "model": "dev-small"}
    refused = http.post("/v1/embeddings", json=long)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input_tokens"
    assert "maximum context length is 64 tokens" in refused.json()["error"]["message"]
    cut = http.post("/v1/embeddings", json={**long, "truncate_prompt_tokens": -1})
    assert cut.json()["usage"]["prompt_tokens"] == 64
    assert http.post("/v1/embeddings", json={**long, "truncate_prompt_tokens": 65}).status_code == 400


def test_truncation_keeps_the_wanted_side(http):
    fields = {"input": "start middle finish", "truncate_prompt_tokens": 2}
    left = http.post("/v1/embeddings", json={**fields, "truncation_side": "left"}).json()
    right = http.post("/v1/embeddings", json=fields).json()
    (ends,) = vectors(http, "ish")
    assert cosine(left["data"][0]["embedding"], ends) > cosine(right["data"][0]["embedding"], ends)


def test_empty_text_is_fine_and_an_empty_list_is_not(http):
    assert http.post("/v1/embeddings", json={"input": ""}).status_code == 200
    assert http.post("/v1/embeddings", json={"input": []}).status_code == 400
    assert http.post("/v1/embeddings", json={"input": ["a"], "normalize": True}).status_code == 400


def test_token_counts_agree_with_the_tokenizer(http):
    text = "The weather in Paris — 21 °C."
    counted = http.post("/tokenize", json={"prompt": text}).json()
    used = http.post("/v1/embeddings", json={"input": text}).json()["usage"]["prompt_tokens"]
    assert used == counted["count"] == len(counted["tokens"])
    by_ids = http.post("/v1/embeddings", json={"input": counted["tokens"]}).json()
    assert by_ids["usage"]["prompt_tokens"] == used


def test_pooling_names_the_vectors_data(http):
    entry = http.post("/pooling", json={"input": "Hello"}).json()["data"][0]
    assert entry["object"] == "pooling"
    assert entry["data"] == vectors(http, "Hello")[0]


DOCUMENTS = ["Dogs bark at night.", "Paris is the capital of France.", "France has many rivers."]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(http, path):
    body = http.post(path, json={"query": "What is the capital of France?", "documents": DOCUMENTS}).json()
    assert set(body) == {"id", "model", "usage", "results"}
    assert set(body["usage"]) == {"prompt_tokens", "total_tokens"}
    assert [result["index"] for result in body["results"]] == [1, 2, 0]
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[-1] < 0.1
    assert body["results"][0]["document"] == {"text": DOCUMENTS[1], "multi_modal": None}


@pytest.mark.parametrize(("top_n", "count"), [(0, 3), (1, 1), (9, 3)])
def test_rerank_top_n(http, top_n, count):
    body = http.post("/rerank", json={"query": "France", "documents": DOCUMENTS, "top_n": top_n}).json()
    assert len(body["results"]) == count


@pytest.mark.parametrize(
    "fields", [{"documents": []}, {"documents": [{"text": "a"}]}, {"top_n": -1}, {"documents": None}, {"query": 3}]
)
def test_rerank_refuses(http, fields):
    assert http.post("/rerank", json={"query": "x", "documents": ["a"], **fields}).status_code == 400


def test_raw_scores_without_activation(http):
    fields = {"query": "capital of France", "documents": DOCUMENTS}
    raw = http.post("/rerank", json={**fields, "use_activation": False}).json()["results"]
    squashed = http.post("/rerank", json=fields).json()["results"]
    for one, two in zip(raw, squashed, strict=True):
        assert two["relevance_score"] == pytest.approx(1 / (1 + math.exp(-one["relevance_score"])))


def test_score_pairs(http):
    body = http.post("/score", json={"text_1": "cat", "text_2": ["cat", "car"]}).json()
    assert [(entry["index"], entry["object"]) for entry in body["data"]] == [(0, "score"), (1, "score")]
    assert body["data"][0]["score"] > body["data"][1]["score"]
    both = http.post("/v1/score", json={"queries": ["cat", "car"], "documents": ["cat", "car"]}).json()
    assert len(both["data"]) == 2
    assert http.post("/score", json={"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}).status_code == 400
