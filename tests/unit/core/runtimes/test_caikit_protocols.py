"""The same over REST and gRPC: answers and errors of a development server that speaks both, over sockets."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import EmbeddingRequest, RerankRequest, SimilarityRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer, Model
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError
from kserve_core.runtimes.caikit import CaikitRuntime

MODELS = ("both", Model(name="small", max_model_len=48), "only-embed", "only-gen", "gen-local")
TEXTS = ["The cat sat on the mat.", "Stock prices fell sharply.", "", "Zürich ☃ 日本語", "a" * 30]


def say(*prompts, model="both", **params):
    return TextRequest(prompts=prompts or ("Count to ten.",), model=model, params=params)


EXCHANGES = {
    "text": lambda r: r.generate(say(max_tokens=40)),
    "several texts": lambda r: r.generate(say("Say hello.", "Count to ten.", "Zürich?", max_tokens=5)),
    "details": lambda r: r.generate(say(logprobs=True, prompt_logprobs=True, temperature=0.5, seed=7)),
    "greedy": lambda r: r.generate(say(temperature=0, min_tokens=30, max_tokens=40)),
    "stop": lambda r: r.generate(say(stop=["three", "four"])),
    "stop kept": lambda r: r.generate(say(stop=["three"], include_stop_str_in_output=True)),
    "truncated": lambda r: r.generate(say("Some words first. Say hello.", truncate_prompt_tokens=4)),
    "decay": lambda r: r.generate(say(length_penalty=(0, 1.5), repetition_penalty=1.1, time_limit=5)),
    "one vector": lambda r: r.embed(EmbeddingRequest(texts=TEXTS[:1], model="both")),
    "empty text": lambda r: r.embed(EmbeddingRequest(texts=[""], model="both")),
    "vectors": lambda r: embed_all(r, TEXTS, model="both", batch_size=2),
    "cut vectors": lambda r: embed_all(r, ["word " * 100] * 3, model="small", truncate=-1),
    "ranking": lambda r: r.rerank(RerankRequest(query="cats", documents=TEXTS, model="both", top_n=3)),
    "long ranking": lambda r: rerank_all(r, "cats", TEXTS * 5, model="both", batch_size=4),
    "rankings": lambda r: r.rerank_many(["cats", "finance"], TEXTS, model="both"),
    "similarity": lambda r: r.similarity("A cat", TEXTS, model="both"),
    "similarities": lambda r: r.similarities(SimilarityRequest(sources=TEXTS[:2], sentences=TEXTS, model="both")),
    "tokens": lambda r: r.tokenize("Hello, big world", model="both"),
    "models": lambda r: r.models(),
    "model": lambda r: r.model_info("small"),
    "version": lambda r: r.version(),
    "health": lambda r: r.health(),
}

STREAMS = {
    "text": say(max_tokens=40),
    "limit": say(max_tokens=4),
    "details": say(max_tokens=3, logprobs=True, prompt_logprobs=True),
    "stop": say(stop=["five"], max_tokens=40),
    "unicode": say("Zürich ☃ 日本語", max_tokens=40),
}

FAILURES = {
    "unknown model": lambda r: r.generate(say(model="nope")),
    "several models": lambda r: r.generate(say(model=None)),
    "prompt too long": lambda r: r.generate(say("word " * 100, model="small")),
    "text too long": lambda r: embed_all(r, ["ok", "word " * 100], model="small"),
    "too many stops": lambda r: r.generate(say(stop=list("abcdefgh"))),
    "greedy with seed": lambda r: r.generate(say(temperature=0, seed=1)),
    "empty prompt": lambda r: r.generate(say("")),
    "embedding asked for text": lambda r: r.generate(say(model="only-embed")),
    "generator asked for vectors": lambda r: r.embed(EmbeddingRequest(texts=["a"], model="only-gen")),
    "generator asked for a ranking": lambda r: r.rerank(RerankRequest(query="a", documents=["b"], model="only-gen")),
}


@pytest.fixture(scope="module")
def server():
    with DevServer(runtime="caikit", caikit_grpc=True, models=MODELS, api_key="key") as running:
        yield running


@pytest.fixture
def clients(server):
    server.reset()
    made = {
        protocol: RuntimeClient(Endpoint.create(url, api_key="key", max_retries=0), CaikitRuntime(protocol=protocol))
        for protocol, url in (("rest", server.url), ("grpc", server.caikit_grpc_url))
    }
    yield made
    for client in made.values():
        client.close()
    server.reset()


def error_of(action):
    with pytest.raises(KServeError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("name", EXCHANGES)
def test_answers_are_equal(clients, name):
    rest, over_grpc = (client.run(EXCHANGES[name](client.runtime)) for client in clients.values())
    assert rest == over_grpc
    assert rest


@pytest.mark.parametrize("name", ["several texts", "vectors", "long ranking", "similarity"])
def test_async_answers_are_equal(clients, name):
    async def ask(client):
        try:
            return await client.arun(EXCHANGES[name](client.runtime))
        finally:
            await client.aclose()

    rest, over_grpc = (asyncio.run(ask(client)) for client in clients.values())
    assert rest == over_grpc


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_equal_and_add_up(clients, name):
    rest, over_grpc = (list(c.stream(c.runtime.stream_generate(STREAMS[name]))) for c in clients.values())
    assert rest == over_grpc
    whole = clients["rest"].run(clients["rest"].runtime.generate(STREAMS[name]))
    (generation,) = whole.generations[0]
    assert "".join(piece.text for piece in rest) == generation.text
    assert rest[-1].usage == whole.usage
    assert rest[-1].finish_reason == generation.finish_reason


def test_async_streams_are_equal(clients):
    async def ask(client):
        pieces = [piece async for piece in client.astream(client.runtime.stream_generate(STREAMS["details"]))]
        await client.aclose()
        return pieces

    rest, over_grpc = (asyncio.run(ask(client)) for client in clients.values())
    assert rest == over_grpc


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_of_the_same_kind(clients, name):
    rest, over_grpc = (error_of(lambda c=client: c.run(FAILURES[name](c.runtime))) for client in clients.values())
    assert type(rest) is type(over_grpc)
    assert rest.hint == over_grpc.hint
    assert rest.layer == over_grpc.layer
    if name not in {"embedding asked for text", "generator asked for vectors", "generator asked for a ranking"}:
        assert rest.status == over_grpc.status


@pytest.mark.parametrize("model", ["nope", "gen-local"])
def test_a_streams_failures_are_of_the_same_kind(clients, model):
    request = say(model=model)
    rest, over_grpc = (
        error_of(lambda c=c: list(c.stream(c.runtime.stream_generate(request)))) for c in clients.values()
    )
    assert type(rest) is type(over_grpc)
    assert rest.message == over_grpc.message


def test_a_backend_that_is_down(clients, server):
    server.fault(status=501, body={"details": "The underlying TCP connection is closed", "code": 501, "id": "1"})
    server.fault(code="UNAVAILABLE", details="The underlying TCP connection is closed", method="GRPC")
    rest, over_grpc = (error_of(lambda c=c: c.run(c.runtime.generate(say()))) for c in clients.values())
    assert (type(rest), rest.status, rest.hint) == (type(over_grpc), over_grpc.status, over_grpc.hint)


def test_a_backend_that_comes_back_is_waited_for(server):
    server.reset()
    for protocol, url in (("rest", server.url), ("grpc", server.caikit_grpc_url)):
        endpoint = dataclasses.replace(Endpoint.create(url, api_key="key"), max_retries=1)
        client = RuntimeClient(endpoint, CaikitRuntime(protocol=protocol, model="both"))
        method = "GRPC" if protocol == "grpc" else "POST"
        scripted = {"status": 501, "method": method}
        if protocol == "grpc":
            scripted = {"code": "UNAVAILABLE", "details": "The underlying TCP connection is closed", "method": method}
        server.fault(**scripted)
        assert client.run(client.runtime.generate(say())).generations
        client.close()


@pytest.mark.parametrize("fault", [{"cut_after": 3}, {"cut_after": 3, "cut": "clean"}, {"error_after": 3}])
def test_a_stream_that_breaks_keeps_what_had_come(clients, server, fault):
    texts = []
    for client in clients.values():
        server.reset()
        server.fault(**fault)
        seen = []
        pieces = client.stream(client.runtime.stream_generate(say()))
        with pytest.raises(KServeError) as caught:
            seen.extend(piece.text for piece in pieces)
        assert caught.value.partial_text.startswith("".join(seen))  # the last piece may come with the error
        texts.append(caught.value.partial_text)
    assert texts == ["one two", "one two"]


def test_a_refused_token(server):
    for protocol, url in (("rest", server.url), ("grpc", server.caikit_grpc_url)):
        client = RuntimeClient(Endpoint.create(url, api_key="wrong"), CaikitRuntime(protocol=protocol, model="both"))
        error = error_of(lambda c=client: c.run(c.runtime.generate(say())))
        assert error.status == 401
        assert "wrong" not in str(error)
        client.close()
