"""Whatever is asked, REST and gRPC answer the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runtimes.prompts import COUNT, HELLO, ask

from kserve_core.capabilities import EmbeddingRequest, RerankRequest, SimilarityRequest

EMBEDDER = "minilm"
TEXTS = ["A cat sat on the mat.", "", "Börsenkurse fielen 📉", "  \n", "word " * 150]
DOCUMENTS = ["Stock prices fell sharply.", "The cat sat on the mat.", "", "Kittens sleep a lot."]


def both(rest, grpc, make):
    """The answers of the two, once they are known to be equal."""
    answers = [client.run(make(client.runtime)) for client in (rest, grpc)]
    assert answers[0] == answers[1]
    return answers[0]


def without_raw(result):
    return replace(result, raw={})


GENERATIONS = [
    pytest.param({}, id="greedy"),
    pytest.param({"max_tokens": 3}, id="length"),
    pytest.param({"stop": [" can"]}, id="stop"),
    pytest.param({"stop": [" can"], "include_stop_str_in_output": True}, id="kept-stop"),
    pytest.param({"temperature": 2.0, "seed": 2**53, "top_k": 50, "top_p": 0.9}, id="seed"),
    pytest.param({"logprobs": True, "prompt_logprobs": 0}, id="details"),
    pytest.param({"truncate_prompt_tokens": 5, "min_tokens": 3, "max_tokens": 4}, id="truncated"),
    pytest.param({"repetition_penalty": 1.5, "max_tokens": 8}, id="penalty"),
]


@pytest.mark.parametrize("params", GENERATIONS)
def test_generated_texts(rest, grpc, params):
    request = ask("Say hello.", "Count to ten.", params=params)
    answers = [client.run(client.runtime.generate(request)) for client in (rest, grpc)]
    assert without_raw(answers[0]) == without_raw(answers[1])
    assert answers[0].raw == answers[1].raw
    assert answers[0].usage.completion_tokens


@pytest.mark.parametrize("params", GENERATIONS)
def test_streamed_texts(rest, grpc, params):
    request = ask("Say hello.", params=params)
    streams = [list(client.stream(client.runtime.stream_generate(request))) for client in (rest, grpc)]
    joined = ["".join(piece.text for piece in stream) for stream in streams]
    assert joined[0] == joined[1]
    # How tokens fall into pieces is a matter of timing; what the pieces add up to is not.
    for name in ("finish_reason", "usage", "model"):
        found = [[getattr(piece, name) for piece in stream if getattr(piece, name)] for stream in streams]
        assert found[0] == found[1]
        assert len(found[0]) == 1
    tokens = [[token for piece in stream for token in (piece.extra or {}).get("tokens", ())] for stream in streams]
    assert [token["text"] for token in tokens[0]] == [token["text"] for token in tokens[1]]
    for one, other in zip(*tokens, strict=True):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
        assert one["rank"] == other["rank"]


def test_the_whole_and_the_stream(client):
    whole = client.run(client.runtime.generate(ask("Count to ten."))).generations[0][0]
    pieces = list(client.stream(client.runtime.stream_generate(ask("Count to ten."))))
    assert "".join(piece.text for piece in pieces) == whole.text == COUNT
    assert pieces[-1].finish_reason == whole.finish_reason == "stop"
    assert pieces[-1].usage == whole.usage
    assert len([piece for piece in pieces if piece.text]) > 5


async def test_by_asyncio(client):
    result = await client.arun(client.runtime.generate(ask("Say hello.", "Count to ten.")))
    assert [generation.text for (generation,) in result.generations] == [HELLO, COUNT]
    pieces = [piece async for piece in client.astream(client.runtime.stream_generate(ask("Say hello.")))]
    assert "".join(piece.text for piece in pieces) == HELLO
    await client.aclose()


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], [""]], ids=["several", "one", "empty"])
def test_vectors(rest, grpc, texts):
    result = both(rest, grpc, lambda runtime: runtime.embed(EmbeddingRequest(texts=texts, model=EMBEDDER)))
    assert [len(vector) for vector in result.embeddings] == [384] * len(texts)
    assert result.usage.prompt_tokens >= 2 * len(texts)


def test_vectors_of_texts_that_are_cut(rest, grpc):
    long = "word " * 5000
    request = EmbeddingRequest(texts=[long, long], model=EMBEDDER, truncate=-1)
    whole = both(rest, grpc, lambda runtime: runtime.embed(request))
    assert whole.usage.prompt_tokens == 2 * 256
    cut = both(rest, grpc, lambda runtime: runtime.embed(replace(request, truncate=10)))
    assert cut.usage.prompt_tokens == 2 * 12  # and two special tokens each
    assert cut.embeddings != whole.embeddings


def test_one_vector_is_the_same_alone_and_in_a_list(client):
    alone = client.run(client.runtime.embed(EmbeddingRequest(texts=TEXTS[:1], model=EMBEDDER)))
    listed = client.run(client.runtime.embed(EmbeddingRequest(texts=TEXTS[:1] * 2, model=EMBEDDER)))
    assert listed.embeddings[0] == pytest.approx(alone.embeddings[0], abs=1e-5)


def test_similarity(rest, grpc):
    sentences = ["A kitten", "A car"]
    scores = both(rest, grpc, lambda runtime: runtime.similarity("A cat", sentences, model=EMBEDDER))
    assert scores[0] > scores[1]
    request = SimilarityRequest(sources=["A cat", "A truck"], sentences=sentences, model=EMBEDDER)
    rows = both(rest, grpc, lambda runtime: runtime.similarities(request))
    assert rows[0] == pytest.approx(scores, abs=1e-5)
    assert rows[1][1] > rows[1][0]


@pytest.mark.parametrize("top_n", [None, 2, 99])
def test_rankings(rest, grpc, top_n):
    request = RerankRequest(query="cats", documents=DOCUMENTS, model=EMBEDDER, top_n=top_n)
    ranking = both(rest, grpc, lambda runtime: runtime.rerank(request))
    assert len(ranking.results) == min(top_n or 99, len(DOCUMENTS))
    assert {row.index for row in ranking.results[:2]} == {1, 3}
    assert [row.score for row in ranking.results] == sorted((row.score for row in ranking.results), reverse=True)
    assert ranking.usage.prompt_tokens


def test_rankings_for_several_queries(rest, grpc):
    def make(runtime):
        return runtime.rerank_many(["cats", "stock prices"], DOCUMENTS[:2], model=EMBEDDER, top_n=1)

    cats, stocks = both(rest, grpc, make)
    assert cats.results[0].index == 1
    assert stocks.results[0].index == 0


def test_token_counts(rest, grpc):
    tokens = both(rest, grpc, lambda runtime: runtime.tokenize("Say hello."))
    assert tokens.count >= 3


def test_what_the_server_tells(rest, grpc):
    models = both(rest, grpc, lambda runtime: runtime.models())
    assert {model.id: model.kind for model in models} == {
        "minilm": "embed",
        "tiny": "generate",
        "unreachable": "generate",
    }
    info = both(rest, grpc, lambda runtime: runtime.model_info(EMBEDDER))
    assert info.max_model_len == 256
    assert info.extra["metadata"]["sentence_embedding_dimension"] == 384
    assert both(rest, grpc, lambda runtime: runtime.version()) == "0.28.3"
    about = both(rest, grpc, lambda runtime: runtime.runtime_info())
    assert about["runtime_version"] == "caikit-for-tests"
    assert both(rest, grpc, lambda runtime: runtime.health()) is True
