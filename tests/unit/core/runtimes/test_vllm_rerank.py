"""Reranking: one batch, and finding where the server does it."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, fixture, ok

from kserve_core.calls import Call
from kserve_core.capabilities import RerankRequest, RerankRuntime
from kserve_core.errors import BadResponseError, ConfigurationError, ModelNotFoundError, NotFoundError
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.types import RankedDocument, Usage

DOCUMENTS = ["a", "b", "c"]


def rank(server, client=None, documents=DOCUMENTS, **fields):
    client = client or server.client(model="rr")
    return client.run(client.runtime.rerank(RerankRequest(query="q", documents=documents, **fields)))


def test_satisfies_the_protocol():
    assert isinstance(VLLMRuntime(), RerankRuntime)


def test_best_first_with_usage():
    server = Server().route("/v1/rerank", ok("rerank.json"))
    result = rank(server)
    assert result.results == [RankedDocument(2, 0.91), RankedDocument(0, 0.5), RankedDocument(1, 0.02)]
    assert (result.usage, result.model) == (Usage(30, 0, 30), "rr")
    assert server.body == {"query": "q", "documents": DOCUMENTS, "model": "rr"}


def test_counts_of_old_versions():
    server = Server().route("/v1/rerank", ok("rerank_0.9.json"))
    assert rank(server, documents=["a", "b"]).usage == Usage(30, 0, 30)


def test_top_n_and_truncation():
    body = {"results": [{"index": 1, "relevance_score": 0.5}]}
    server = Server().route("/v1/rerank", (200, orjson.dumps(body)))
    assert rank(server, top_n=1, truncate=128).results == [RankedDocument(1, 0.5)]
    assert (server.body["top_n"], server.body["truncate_prompt_tokens"]) == (1, 128)


def test_an_unsorted_answer_is_sorted_and_cut():
    body = {"results": [{"index": i, "relevance_score": s} for i, s in ((0, 0.1), (1, 0.9), (2, 0.9))]}
    server = Server().route("/v1/rerank", (200, orjson.dumps(body)))
    assert [r.index for r in rank(server, top_n=2).results] == [1, 2]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_the_route_is_found_and_remembered(path):
    server = Server().route(path, ok("rerank.json"))
    client = server.client(model="rr")
    rank(server, client)
    tried = len(server.calls)
    rank(server, client)
    assert server.asked[tried:] == [f"POST {path}"]


def test_once_the_route_is_known_a_request_is_a_single_call():
    server = Server().route("/v1/rerank", ok("rerank.json"))
    client = server.client(model="rr")
    request = RerankRequest(query="q", documents=DOCUMENTS)
    assert not isinstance(client.runtime.rerank(request), Call)
    rank(server, client)
    assert isinstance(client.runtime.rerank(request), Call)


def test_a_server_that_only_scores_pairs():
    server = Server().route("/score", ok("score.json"))
    result = rank(server, top_n=2)
    assert result.results == [RankedDocument(1, 0.75), RankedDocument(2, 0.75)]
    assert server.body == {"text_1": "q", "text_2": DOCUMENTS, "model": "rr"}


def test_no_route_at_all_says_what_was_tried():
    server = Server()
    with pytest.raises(NotFoundError, match="cross-encoder") as info:
        rank(server)
    assert "/v1/rerank" in info.value.hint
    assert len(server.calls) == 5


def test_an_unknown_model_is_not_a_missing_route():
    server = Server().route("/v1/rerank", (404, fixture("error_unknown_model.json")))
    with pytest.raises(ModelNotFoundError):
        rank(server)
    assert server.asked == ["POST /v1/rerank", "GET /v1/models"]


def test_no_documents_no_request():
    server = Server()
    assert rank(server, documents=[]).results == []
    assert server.calls == []


@pytest.mark.parametrize("fields", [{"top_n": 0}, {"documents": ["a", 1]}, {"truncate": 0}])
def test_what_cannot_be_sent(fields):
    server = Server()
    with pytest.raises(ConfigurationError):
        rank(server, **fields)
    assert server.calls == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"results": [{"index": 0, "relevance_score": 1}]}, "1 documents came back where 3"),
        ({"results": [{"index": 0, "relevance_score": 1}] * 3}, "3 documents came back"),
        ({"results": [{"index": 3, "relevance_score": 1}]}, "indices"),
        ({"results": [{"index": None, "relevance_score": 1}]}, "indices"),
        ({"results": [{"index": 0, "relevance_score": None}]}, "not a number"),
        ({"results": [None]}, "indices"),
        ({"object": "list"}, "no `results`"),
    ],
)
def test_an_answer_that_is_wrong_never_becomes_a_ranking(body, words):
    with pytest.raises(BadResponseError, match=words):
        rank(Server().route("/v1/rerank", (200, orjson.dumps(body))))
