"""Vectors and rankings of models that do not take raw tensors, or wishes for them, as their server does."""

from __future__ import annotations

import pickle

import pytest
from unit.core.runtimes.v2_wire import Server, answer, json_answer, vectors

from kserve_core.batching import embed_all, rerank_all
from kserve_core.calls import Call, Response
from kserve_core.capabilities import EmbeddingRequest, RerankRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, InvalidRequestError
from kserve_core.runtimes.kserve import KServeRuntime
from kserve_core.runtimes.mlserver import MLServerRuntime
from kserve_core.runtimes.triton import TritonRuntime

INFER = "POST /v2/models/m/infer"
WISH = b"binary_data"


def kserve(answers, inputs=("text",), outputs=("embedding",)):
    """A server whose answers are given, or made by a function of the body."""
    metadata = {
        "name": "m",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in inputs],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in outputs],
    }
    server = Server().route("GET /v2/models/m", json_answer(metadata)).route(INFER, answers)
    runtime = KServeRuntime(model="m")
    return server, RuntimeClient(Endpoint.create("http://kserve.example.svc"), runtime, transport=server)


def picky(found):
    """Refuses to be asked for raw outputs."""

    def answered(body):
        return json_answer({"error": "binary data is not supported"}, 400) if WISH in body else found

    return answered


def wishes(server):
    return [WISH in call.body for call in server.calls if call.method == "POST"]


def test_a_list_of_texts_is_embedded_though_the_model_refuses_the_wish_for_raw_vectors():
    server, client = kserve(picky(json_answer(vectors([1.0]))))
    for _ in range(2):
        found = client.run(embed_all(client.runtime, ["a", "b", "c"], batch_size=1))
        assert found.embeddings == [[1.0], [1.0], [1.0]]
    assert wishes(server) == [True, *[False] * 6]


def test_what_was_learnt_makes_plain_calls_and_travels():
    _, client = kserve(json_answer(vectors([1.0])))
    request = EmbeddingRequest(texts=["a"])
    client.run(client.runtime.resolve_model())
    assert not isinstance(client.runtime.embed(request), Call)
    assert client.run(client.runtime.embed(request)).embeddings == [[1.0]]
    assert isinstance(client.runtime.embed(request), Call)
    assert isinstance(pickle.loads(pickle.dumps(client.runtime)).embed(request), Call)


def test_documents_are_ranked_though_the_model_refuses_the_wish_for_raw_scores():
    server, client = kserve(picky(json_answer(vectors([0.5], name="score"))), ("query", "document"), ("score",))
    ranking = client.run(rerank_all(client.runtime, "q", ["a", "b"], batch_size=1))
    assert [result.score for result in ranking.results] == [0.5, 0.5]
    request = RerankRequest(query="q", documents=["a"])
    assert client.run(client.runtime.rerank(request)).results[0].score == 0.5
    assert wishes(server) == [True, False, False, False]


def test_a_refusal_that_was_about_something_else_teaches_nothing():
    refusal = json_answer({"detail": [{"type": "value_error", "loc": ["body"], "msg": "no"}]}, 422)
    server, client = kserve([refusal, refusal, json_answer(vectors([1.0]))])
    with pytest.raises(InvalidRequestError):
        client.run(embed_all(client.runtime, ["a"]))
    assert client.run(embed_all(client.runtime, ["a"])).embeddings == [[1.0]]
    assert wishes(server) == [True, False, True]


@pytest.mark.parametrize("kind", [TritonRuntime, MLServerRuntime])
def test_servers_whose_ways_are_the_same_for_all_models_get_plain_calls_at_once(kind):
    _, client = kserve(Response(500, {}, b""))
    client.runtime = kind(model="m")
    client.run(client.runtime.resolve_model())
    assert isinstance(client.runtime.embed(EmbeddingRequest(texts=["a"])), Call)


def test_another_kind_of_server_is_not_taken_for_a_model_without_metadata():
    nothing = Response(404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')
    server = Server().route("GET /v2", nothing).route("GET /v2/models/m", nothing)
    for kind in (TritonRuntime, KServeRuntime):
        client = RuntimeClient(Endpoint.create("http://vllm.example.svc"), kind(model="m"), transport=server)
        for _ in range(2):  # and it is asked anew, as another one may be there by then
            with pytest.raises(ConfigurationError, match="No server of the Open Inference Protocol") as caught:
                client.run(embed_all(client.runtime, ["a"]))
            assert "kserve-doctor" in caught.value.hint
            assert "input_name" in caught.value.hint
        server.route("GET /v2", answer("triton", "server metadata"))
        with pytest.raises(ConfigurationError, match="does not tell what inputs"):
            client.run(embed_all(client.runtime, ["a"]))
        server.route("GET /v2", nothing)


def test_whoever_names_the_input_is_not_asked_whether_a_server_is_there():
    server = Server().route(INFER, json_answer(vectors([1.0])))
    runtime = TritonRuntime(model="m", input_name="text", output_name="embedding")
    client = RuntimeClient(Endpoint.create("http://mesh.example.svc"), runtime, transport=server)
    assert client.run(embed_all(runtime, ["a"])).embeddings == [[1.0]]
    assert "GET /v2" not in server.asked
