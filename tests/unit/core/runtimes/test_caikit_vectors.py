"""Embeddings, similarity, reranking and tokens from Caikit, over both protocols."""

from __future__ import annotations

import pytest
from unit.core.runtimes.caikit_wire import Server, answer, json_answer, parsed

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import (
    ChatRequest,
    EmbeddingRequest,
    EmbeddingRuntime,
    RerankRequest,
    RerankRuntime,
    SimilarityRequest,
    SimilarityRuntime,
    TokenizerRuntime,
)
from kserve_core.errors import BadResponseError, ConfigurationError, UnsupportedParameterError
from kserve_core.protos import messages
from kserve_core.runtimes.caikit import CaikitRuntime, tasks
from kserve_core.types import RankedDocument, Usage

PROTOCOLS = pytest.mark.parametrize("protocol", ["rest", "grpc"])


def vector(*values):
    return {"data": {"values": list(values)}}


def both(server, task, value):
    """Gives an answer under the task's REST and gRPC names."""
    message = messages.get(task.response)()
    for entry, target in (
        [(value["result"], message.result)]
        if "result" in value
        else [(entry, message.results.vectors.add()) for entry in value["results"]["vectors"]]
    ):
        target.data_npfloat32sequence.values.extend(entry["data"]["values"])
    message.input_token_count = value["input_token_count"]
    return server.task(task.name, json_answer(value)).route(task.method, message.SerializeToString())


def run(server, exchange_of, *, protocol="rest", model="minilm"):
    client = server.client(model=model, protocol=protocol)
    return client.run(exchange_of(client.runtime))


def test_satisfies_the_protocols():
    runtime = CaikitRuntime()
    for protocol in (EmbeddingRuntime, RerankRuntime, SimilarityRuntime, TokenizerRuntime):
        assert isinstance(runtime, protocol)


@PROTOCOLS
def test_one_text_has_a_task_of_its_own(protocol):
    server = both(Server(), tasks.EMBEDDING, {"result": vector(0.5, -0.25), "input_token_count": 4})
    result = run(server, lambda r: r.embed(EmbeddingRequest(texts=["Hello world"], truncate=-1)), protocol=protocol)
    assert result.embeddings == [[0.5, -0.25]]
    assert (result.usage, result.model) == (Usage(4, 0, 4), "minilm")
    if protocol == "rest":
        parameters = {"truncate_input_tokens": -1}
        assert server.body == {"inputs": "Hello world", "parameters": parameters, "model_id": "minilm"}
    else:
        assert (server.message.text, server.message.truncate_input_tokens) == ("Hello world", -1)


@PROTOCOLS
def test_several_texts_are_a_bare_list(protocol):
    value = {"results": {"vectors": [vector(1.0), vector(0.5)]}, "input_token_count": 6}
    server = both(Server(), tasks.EMBEDDINGS, value)
    result = run(server, lambda r: r.embed(EmbeddingRequest(texts=["Hello", "world"])), protocol=protocol)
    assert (result.embeddings, result.usage) == ([[1.0], [0.5]], Usage(6, 0, 6))
    if protocol == "rest":
        assert server.body == {"inputs": ["Hello", "world"], "model_id": "minilm"}
    else:
        assert list(server.message.texts) == ["Hello", "world"]
        assert not server.message.HasField("truncate_input_tokens")


@PROTOCOLS
def test_an_empty_text_goes_as_a_list_of_one(protocol):
    server = both(Server(), tasks.EMBEDDINGS, {"results": {"vectors": [vector(1.0)]}, "input_token_count": 2})
    assert run(server, lambda r: r.embed(EmbeddingRequest(texts=[""])), protocol=protocol).embeddings == [[1.0]]
    assert server.asked == ["/api/v1/task/embedding-tasks" if protocol == "rest" else tasks.EMBEDDINGS.method]


@pytest.mark.parametrize("member", ["data_pyfloatsequence", "data_npfloat32sequence", "data_npfloat64sequence"])
def test_a_vector_is_read_from_whichever_member_the_server_chose(member):
    message = messages.caikit_data_model_caikit_nlp.EmbeddingResult()
    getattr(message.result, member).values.extend([0.5, 0.125])
    server = Server().route(tasks.EMBEDDING.method, message.SerializeToString())
    result = run(server, lambda r: r.embed(EmbeddingRequest(texts=["a"])), protocol="grpc")
    assert result.embeddings == [[0.5, 0.125]]
    assert result.usage is None  # older servers do not count


@PROTOCOLS
def test_many_texts_in_batches(protocol):
    value = {"results": {"vectors": [vector(1.0), vector(0.5)]}, "input_token_count": 6}
    server = both(Server(), tasks.EMBEDDINGS, value)
    both(server, tasks.EMBEDDING, {"result": vector(0.25), "input_token_count": 3})
    counts = []
    result = run(
        server,
        lambda r: embed_all(r, ["a", "b", "c", "d", "e"], batch_size=2, on_progress=counts.append),
        protocol=protocol,
    )
    assert result.embeddings == [[1.0], [0.5], [1.0], [0.5], [0.25]]
    assert result.usage == Usage(15, 0, 15)
    assert sorted(counts) == [1, 2, 2]


def test_what_embeddings_cannot_do():
    runtime = CaikitRuntime(model="m")
    with pytest.raises(UnsupportedParameterError, match="Caikit cannot shorten vectors"):
        runtime.embed(EmbeddingRequest(texts=["a"], dimensions=8))
    for texts in ([], [None]):
        with pytest.raises(ConfigurationError):
            runtime.embed(EmbeddingRequest(texts=texts))
    with pytest.raises(ConfigurationError, match="none is known"):
        CaikitRuntime().embed(EmbeddingRequest(texts=["a"]))


@pytest.mark.parametrize(
    "value",
    [
        {"generated_text": " x", "finish_reason": "EOS_TOKEN"},
        {"result": {"scores": [1.0]}},
        {"result": {"data": {"values": []}}},
    ],
)
def test_the_answer_of_another_task_says_what_is_wrong(value):
    server = Server().task("embedding", json_answer(value))
    with pytest.raises(BadResponseError, match="'minilm' most likely does not have this task"):
        run(server, lambda r: r.embed(EmbeddingRequest(texts=["a"])))


@pytest.mark.parametrize("task", [tasks.EMBEDDING, tasks.SIMILARITY, tasks.RERANK, tasks.TOKENIZATION])
def test_a_generated_text_is_not_taken_for_anything_else(task):
    text = parsed(tasks.GENERATION.method, {"generated_text": " answers a request", "generated_tokens": 3})
    server = Server().route(task.method, text)
    exchanges = {
        tasks.EMBEDDING: lambda r: r.embed(EmbeddingRequest(texts=["a"])),
        tasks.SIMILARITY: lambda r: r.similarity("a", ["b"]),
        tasks.RERANK: lambda r: r.rerank(RerankRequest(query="a", documents=["b"])),
        tasks.TOKENIZATION: lambda r: r.tokenize("a"),
    }
    with pytest.raises(BadResponseError, match="does not have this task"):
        run(server, exchanges[task], protocol="grpc")


@pytest.mark.parametrize("values", [["a"], [1e400], [None]])
def test_vectors_of_something_else_than_numbers(values):
    body = json_answer({"result": vector(*values)}) if values != [1e400] else None
    if body is None:
        body = json_answer({})
        body = type(body)(200, body.headers, b'{"result": {"data": {"values": [1e400]}}}')
    with pytest.raises(BadResponseError):
        run(Server().task("embedding", body), lambda r: r.embed(EmbeddingRequest(texts=["a"])))


def test_a_missing_vector():
    server = Server().task("embedding-tasks", json_answer({"results": {"vectors": [vector(1.0)]}}))
    with pytest.raises(BadResponseError, match="1 vectors came for 2 texts"):
        run(server, lambda r: r.embed(EmbeddingRequest(texts=["a", "b"])))


# similarity


@PROTOCOLS
def test_similarity(protocol):
    server = Server().task("sentence-similarity", answer("sentence-similarity ok"))
    server.route(tasks.SIMILARITY.method, "similarity")
    scores = run(server, lambda r: r.similarity("A cat", ["A kitten", "A car"]), protocol=protocol)
    assert scores == [0.7662765979766846, 0.3521878123283386]
    if protocol == "rest":
        inputs = {"source_sentence": "A cat", "sentences": ["A kitten", "A car"]}
        assert server.body == {"inputs": inputs, "model_id": "minilm"}


def test_similarities():
    server = Server().task("sentence-similarity-tasks", answer("sentence-similarity-tasks ok"))
    request = SimilarityRequest(
        sources=["A cat", "A truck"], sentences=["A kitten", "A car", "A dog"], model="other", truncate=5
    )
    rows = run(server, lambda r: r.similarities(request))
    assert [len(row) for row in rows] == [3, 3]
    assert rows[1][1] == 0.6113449931144714
    assert server.body["model_id"] == "other"
    assert server.body["parameters"] == {"truncate_input_tokens": 5}


def test_similarity_over_grpc_for_several():
    server = Server().route(tasks.SIMILARITIES.method, "similarities")
    request = SimilarityRequest(sources=["A cat"], sentences=["A kitten", "A car"])
    rows = run(server, lambda r: r.similarities(request), protocol="grpc")
    assert rows == [[0.7662765979766846, 0.3521878123283386]]


def test_no_sentences_no_request():
    server = Server()
    assert run(server, lambda r: r.similarity("A cat", [])) == []
    assert run(server, lambda r: r.similarities(SimilarityRequest(sources=["a", "b"], sentences=[]))) == [[], []]
    assert server.calls == []
    with pytest.raises(ConfigurationError, match="source sentence cannot be empty"):
        run(server, lambda r: r.similarity("", ["a"]))


def test_a_missing_score():
    server = Server().task("sentence-similarity", answer("sentence-similarity ok"))
    with pytest.raises(BadResponseError, match="2 scores came for 3 sentences"):
        run(server, lambda r: r.similarity("A cat", ["a", "b", "c"]))


# reranking


@PROTOCOLS
def test_rerank_sends_text_only_and_wants_positions_only(protocol):
    server = Server().task("rerank", answer("rerank return_query false return_text false"))
    server.route(tasks.RERANK.method, "rerank options")
    documents = ["The cat sat on the mat.", "Stock prices fell"]
    ranking = run(
        server,
        lambda r: r.rerank(RerankRequest(query="cats", documents=documents, top_n=1, truncate=-1)),
        protocol=protocol,
    )
    assert [result.index for result in ranking.results] == [0]
    assert ranking.results[0].score == pytest.approx(0.35108387)
    assert ranking.model == "minilm"
    flags = {"top_n": 1, "truncate_input_tokens": -1, "return_documents": False, "return_text": False}
    if protocol == "rest":
        assert ranking.usage == Usage(30, 0, 30)
        inputs = {"query": "cats", "documents": [{"text": text} for text in documents]}
        assert server.body == {
            "inputs": inputs,
            "parameters": {**flags, "return_query": False},
            "model_id": "minilm",
        }
    else:
        assert ranking.usage == Usage(17, 0, 17)
        present = {field.name: value for field, value in server.message.ListFields()}
        assert [dict(struct) for struct in present.pop("documents")] == [{"text": text} for text in documents]
        assert present == {"query": "cats", **flags, "return_query": False}


def test_rerank_for_several_queries_names_its_flag_otherwise():
    server = Server().task("rerank-tasks", answer("rerank-tasks minimal"))
    rankings = run(server, lambda r: r.rerank_many(["cats", "finance"], ["a", "b", "c"], top_n=2))
    assert [[result.index for result in ranking.results] for ranking in rankings] == [[0, 2], [1, 0]]
    assert [ranking.usage for ranking in rankings] == [Usage(31, 0, 31), None]
    assert server.body["parameters"] == {
        "top_n": 2,
        "return_documents": False,
        "return_text": False,
        "return_queries": False,
    }


@PROTOCOLS
def test_many_documents_in_batches(protocol):
    entries = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]
    value = {"result": {"scores": entries}, "input_token_count": 5}
    server = Server().task("rerank", json_answer(value)).route(tasks.RERANK.method, parsed(tasks.RERANK.method, value))
    ranking = run(server, lambda r: rerank_all(r, "q", ["a", "b", "c", "d"], batch_size=2, top_n=3), protocol=protocol)
    assert ranking.results == [RankedDocument(1, 0.9), RankedDocument(3, 0.9), RankedDocument(0, 0.1)]
    assert ranking.usage == Usage(10, 0, 10)


def test_no_documents_no_request():
    server = Server()
    assert run(server, lambda r: r.rerank(RerankRequest(query="q", documents=[]))).results == []
    assert [len(ranking.results) for ranking in run(server, lambda r: r.rerank_many(["q", "r"], []))] == [0, 0]
    assert server.calls == []


@pytest.mark.parametrize(
    "entries",
    [
        [{"index": 0, "score": 0.5}],
        [{"index": 0, "score": 0.5}, {"index": 0, "score": 0.5}],
        [{"index": 0, "score": 0.5}, {"index": 2, "score": 0.5}],
        [{"index": 0, "score": 0.5}, {"index": 1, "score": None}],
    ],
)
def test_rankings_that_do_not_fit_the_documents(entries):
    server = Server().task("rerank", json_answer({"result": {"scores": entries}}))
    with pytest.raises(BadResponseError):
        run(server, lambda r: r.rerank(RerankRequest(query="q", documents=["a", "b"])))


@pytest.mark.parametrize(
    "request_", [{"query": "", "documents": ["a"]}, {"query": "q", "documents": ["a"], "top_n": 0}]
)
def test_rankings_that_cannot_be_asked_for(request_):
    with pytest.raises(ConfigurationError):
        CaikitRuntime(model="m").rerank(RerankRequest(**request_))


# tokens


@PROTOCOLS
def test_tokens_are_counted(protocol):
    server = Server().task("tokenization", answer("tokenization tinytgis"))
    server.route(tasks.TOKENIZATION.method, "tokenization tinytgis")
    found = run(server, lambda r: r.tokenize("Hello, big world", model="tinytgis"), protocol=protocol)
    assert (found.count, found.token_ids, found.tokens) == (3 if protocol == "rest" else 16, [], None)


def test_an_embedding_models_tokens_with_and_without_special_ones():
    server = Server().route(tasks.TOKENIZATION.method, "tokenization minilm")
    found = run(server, lambda r: r.tokenize("Hello, big world"), protocol="grpc")
    assert (found.count, found.tokens) == (6, ["Hello", ",", "big", "world"])
    bare = run(server, lambda r: r.tokenize("Hello, big world", add_special_tokens=False), protocol="grpc")
    assert bare.count == 4


def test_tokens_it_cannot_tell():
    runtime = CaikitRuntime(model="m")
    with pytest.raises(UnsupportedParameterError, match="Caikit"):
        runtime.tokenize_messages(ChatRequest(messages=[]))
    with pytest.raises(UnsupportedParameterError, match="Caikit"):
        runtime.detokenize([1])
    with pytest.raises(ConfigurationError, match="empty"):
        runtime.tokenize("")
