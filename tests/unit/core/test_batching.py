"""Long lists cut into requests."""

from __future__ import annotations

import asyncio
import threading
import time

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, models

from kserve_core.batching import add_usage, embed_all, rerank_all
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    RequestTooLargeError,
    ServerError,
)
from kserve_core.types import Usage

EMBED = "/v1/embeddings"
RERANK = "/v1/rerank"


def texts(count):
    return [f"text {number}" for number in range(count)]


def vectors(body, *, limit=10**9, length=2):
    """One vector per text whose first value is the text's number, sent in reverse order."""
    given = body["input"]
    if len(given) > limit:
        message = f"batch size {len(given)} > maximum allowed batch size {limit}"
        return 413, orjson.dumps({"error": {"message": message, "code": 413}})
    data = [
        {"index": place, "embedding": [float(text.split()[1]), *[0.5] * (length - 1)]}
        for place, text in enumerate(given)
    ]
    usage = {"prompt_tokens": len(given), "total_tokens": len(given)}
    return 200, orjson.dumps({"data": data[::-1], "model": "minilm", "usage": usage})


def scores(body, *, limit=10**9):
    given = body["documents"]
    if len(given) > limit:
        return 413, b'{"error":"too many documents, the limit is exceeded"}'
    ranked = [{"index": place, "relevance_score": float(text.split()[1]) % 7} for place, text in enumerate(given)]
    ranked.sort(key=lambda entry: -entry["relevance_score"])
    top = body.get("top_n") or len(ranked)
    return 200, orjson.dumps({"model": "rr", "results": ranked[:top], "usage": {"total_tokens": len(given)}})


def embed(server, given, client=None, **options):
    client = client or server.client()
    return client.run(embed_all(client.runtime, given, **options))


def sizes(server, key="input"):
    return [len(body[key]) for body in server.bodies]


def test_order_usage_and_model_over_all_batches():
    server = Server().route(EMBED, vectors)
    result = embed(server, texts(300), batch_size=64)
    assert [vector[0] for vector in result.embeddings] == [float(n) for n in range(300)]
    assert result.usage == Usage(300, 0, 300)
    assert result.model == "minilm"
    assert sorted(sizes(server)) == [44, 64, 64, 64, 64]
    assert server.asked.count("GET /v1/models") == 1


def test_nothing_asks_nothing():
    server = Server()
    assert embed(server, []).embeddings == []
    assert server.calls == []


def test_any_iterable_will_do():
    server = Server().route(EMBED, vectors)
    assert len(embed(server, (f"text {n}" for n in range(5)), batch_size=2).embeddings) == 5


def test_settings_reach_every_request():
    server = Server().route(EMBED, vectors)
    embed(
        server,
        texts(4),
        model="m",
        dimensions=2,
        truncate=-1,
        batch_size=2,
        extra_body={"priority": 1},
        headers={"x-a": "1"},
    )
    for body, call in zip(server.bodies, server.calls, strict=True):
        assert (body["model"], body["dimensions"], body["truncate_prompt_tokens"], body["priority"]) == ("m", 2, -1, 1)
        assert call.headers["x-a"] == "1"


@pytest.mark.parametrize("limit", [1, 10, 32, 63])
def test_batches_that_are_too_large_are_halved(limit):
    server = Server().route(EMBED, lambda body: vectors(body, limit=limit))
    result = embed(server, texts(200), batch_size=64, concurrency=2)
    assert [vector[0] for vector in result.embeddings] == [float(n) for n in range(200)]
    assert result.usage.prompt_tokens == 200


def test_what_one_refusal_teaches_holds_for_the_rest():
    server = Server().route(EMBED, lambda body: vectors(body, limit=32))
    embed(server, texts(64 * 100), batch_size=64, concurrency=4)
    assert sum(size > 32 for size in sizes(server)) == 4


def test_one_text_that_is_too_large_is_an_error_that_says_which():
    def answer(body):
        return vectors(body, limit=0) if "text 5" in body["input"] else vectors(body)

    with pytest.raises(RequestTooLargeError, match="the text at position 5"):
        embed(Server().route(EMBED, answer), texts(8), batch_size=4)


def test_a_context_overflow_is_not_halved_and_says_where():
    body = {
        "error": {"message": "This model's maximum context length is 256 tokens.", "param": "input_tokens", "code": 400}
    }
    server = Server().route(
        EMBED, lambda sent: (400, orjson.dumps(body)) if "text 5" in sent["input"] else vectors(sent)
    )
    with pytest.raises(ContextOverflowError, match="positions 4 to 7"):
        embed(server, texts(8), batch_size=4)
    assert len(server.bodies) == 2


def test_a_refused_token_costs_a_few_requests_only():
    server = Server().route(EMBED, (401, b'{"error":"Unauthorized"}'))
    with pytest.raises(AuthenticationError):
        embed(server, texts(10_000), model="m", batch_size=10, concurrency=4)
    assert len(server.calls) == 4


def test_two_models_behind_one_url_are_noticed():
    server = Server().route(EMBED, lambda body: vectors(body, length=2 if "text 0" in body["input"] else 3))
    with pytest.raises(BadResponseError, match="2, 3") as info:
        embed(server, texts(4), batch_size=2)
    assert "canary" in info.value.hint


def test_progress_counts_each_text_once_even_when_batches_are_halved():
    server = Server().route(EMBED, lambda body: vectors(body, limit=10))
    seen = []
    embed(server, texts(100), batch_size=64, on_progress=seen.append)
    assert sum(seen) == 100
    one = []
    embed(server, texts(3), on_progress=one.append)
    assert one == [3]


class Gate:
    """Counts how many requests are answered at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, body):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return vectors(body)


def test_several_requests_at_once_but_not_more_than_allowed():
    gate = Gate()
    embed(Server().route(EMBED, gate), texts(24), model="m", batch_size=1, concurrency=3)
    assert gate.most == 3


async def test_the_same_in_an_event_loop():
    server = Server().route(EMBED, lambda body: vectors(body, limit=10))
    client = server.client()
    result = await asyncio.wait_for(client.arun(embed_all(client.runtime, texts(100))), 10)
    assert [vector[0] for vector in result.embeddings] == [float(n) for n in range(100)]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"concurrency": 0}])
def test_numbers_that_make_no_sense(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        embed(Server(), texts(1), **options)


# --- reranking


def rank(server, count, client=None, **options):
    client = client or server.client(model="rr")
    return client.run(rerank_all(client.runtime, "query", texts(count), **options))


def expected(count):
    return sorted(range(count), key=lambda n: (-(n % 7), n))


def test_rankings_of_batches_are_merged_best_first():
    server = Server().route(RERANK, scores)
    result = rank(server, 50, batch_size=8)
    assert [r.index for r in result.results] == expected(50)
    assert result.usage == Usage(50, 0, 50)
    assert sizes(server, "documents") == [8, 8, 8, 8, 8, 8, 2]


def test_top_n_is_of_all_documents():
    server = Server().route(RERANK, scores)
    assert [r.index for r in rank(server, 50, batch_size=8, top_n=9).results] == expected(50)[:9]
    assert {body["top_n"] for body in server.bodies} == {8, 2}


def test_one_batch_is_one_request():
    server = Server().route(RERANK, scores)
    assert len(rank(server, 100).results) == 100
    assert len(server.calls) == 1


def test_the_route_is_looked_for_once():
    server = Server().route("/rerank", scores).route("/v1/models", models("rr"))
    client = server.client()
    assert len(rank(server, 50, client, batch_size=8).results) == 50
    assert server.asked.count("POST /v1/rerank") == 1
    assert server.asked.count("POST /rerank") == 7


def test_too_many_documents_are_halved():
    server = Server().route(RERANK, lambda body: scores(body, limit=5))
    seen = []
    assert [r.index for r in rank(server, 40, batch_size=16, on_progress=seen.append).results] == expected(40)
    assert sum(seen) == 40


def test_no_documents_no_request():
    server = Server()
    assert rank(server, 0).results == []
    assert server.calls == []


def test_other_errors_come_through():
    server = Server().route(RERANK, (500, b'{"error":{"message":"boom","code":500}}'))
    with pytest.raises(ServerError, match="boom"):
        rank(server, 3)
    with pytest.raises(ConfigurationError, match="top_n"):
        rank(server, 3, top_n=0)


# --- usage


def test_usage_adds_up_and_details_that_nobody_told_stay_unknown():
    total = add_usage([None, Usage(1, 2, 3), Usage(4, 5, 9, cached_tokens=2), Usage(1, 0, 1, cached_tokens=3)])
    assert total == Usage(6, 7, 13, cached_tokens=5)
    assert add_usage([None, None]) is None
