"""Embeddings: one batch."""

from __future__ import annotations

import base64
import struct

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, fixture, ok

from kserve_core.capabilities import EmbeddingRequest, EmbeddingRuntime
from kserve_core.errors import BadResponseError, ConfigurationError, InvalidRequestError
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.types import Usage

PATH = "/v1/embeddings"
VECTORS = [[0.125, 2.0, -3.5], [0.5, -0.25, 1.0]]


def embed(answer, texts=("a", "b"), options=None, **fields):
    server = Server().route(PATH, answer)
    client = server.client(model="minilm", **(options or {}))
    return server, client.run(client.runtime.embed(EmbeddingRequest(texts=texts, **fields)))


def answer(*vectors, **fields):
    data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return 200, orjson.dumps({"data": data, **fields})


def packed(*values):
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def test_satisfies_the_protocol():
    assert isinstance(VLLMRuntime(), EmbeddingRuntime)


@pytest.mark.parametrize("name", ["embeddings_base64.json", "embeddings_float.json"])
def test_vectors_come_in_the_order_of_the_texts(name):
    server, result = embed(ok(name))
    assert result.embeddings == VECTORS
    assert all(type(value) is float for vector in result.embeddings for value in vector)
    assert result.usage == Usage(9, 0, 9)
    assert result.model == "minilm"
    assert server.body == {"input": ["a", "b"], "encoding_format": "base64", "model": "minilm"}


def test_decimal_numbers_can_be_asked_for():
    server, _ = embed(ok("embeddings_float.json"), options={"embedding_encoding": "float"})
    assert server.body["encoding_format"] == "float"
    server, _ = embed(ok("embeddings_float.json"), extra_body={"encoding_format": "float"})
    assert server.body["encoding_format"] == "float"


def test_length_and_truncation_are_sent_only_when_asked_for():
    server, result = embed(answer([1.0, 0.0], [0.0, 1.0]), dimensions=2, truncate=-1)
    assert (server.body["dimensions"], server.body["truncate_prompt_tokens"]) == (2, -1)
    assert result.embeddings == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "fields", [{"dimensions": 0}, {"truncate": 0}, {"truncate": -2}, {"texts": []}, {"texts": ["a", None]}]
)
def test_what_cannot_be_sent(fields):
    with pytest.raises(ConfigurationError):
        embed(ok("embeddings_base64.json"), **fields)


@pytest.mark.parametrize("extra", [{"encoding_format": "bytes"}, {"embed_dtype": "float16"}, {"endianness": "big"}])
def test_forms_that_would_be_misread_are_refused(extra):
    with pytest.raises(ConfigurationError, match=next(iter(extra))):
        embed(ok("embeddings_base64.json"), extra_body=extra)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer([1.0]), "1 vectors came for 2 texts"),
        (answer([1.0], [1.0], [1.0]), "3 vectors came for 2 texts"),
        (answer([1.0], [1.0, 2.0]), "differ in length"),
        (answer([], []), "empty"),
        (answer("", ""), "empty"),
        (answer("AAA", "AAA"), "base64"),
        (answer("AAAA", packed(1.0)), "base64"),
        (answer([1.0], ["x"]), "other than numbers"),
        (answer([1.0], [None]), "other than numbers"),
        (answer([1.0], None), "no vector"),
        (answer(packed(float("nan")), packed(1.0)), "NaN"),
        (answer(packed(float("inf")), packed(1.0)), "NaN or infinite"),
        ((200, b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}'), "indices"),
        ((200, b'{"data":[{"index":0,"embedding":[1]},{"index":7,"embedding":[1]}]}'), "indices"),
        ((200, b'{"data":[1,2]}'), "indices"),
        ((200, b'{"object":"list"}'), "no `data`"),
    ],
)
def test_an_answer_that_is_wrong_never_becomes_vectors(given, words):
    with pytest.raises(BadResponseError, match=words):
        embed(given)


def test_another_length_than_asked_for():
    with pytest.raises(BadResponseError, match="length 2 were expected"):
        embed(answer([1.0], [1.0]), dimensions=2)


def test_a_model_that_cannot_shorten_says_what_to_do():
    with pytest.raises(InvalidRequestError, match="Matryoshka") as info:
        embed((400, fixture("error_matryoshka.json")), dimensions=2)
    assert "dimensions" in info.value.hint


def test_without_a_known_model_the_request_names_none():
    server = Server().route(PATH, ok("embeddings_base64.json"))
    client = server.client()
    client.run(client.runtime.embed(EmbeddingRequest(texts=["a", "b"])))
    assert "model" not in server.body
    assert len(server.calls) == 1
