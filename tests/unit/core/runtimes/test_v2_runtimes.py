"""The runtimes of the Open Inference Protocol put together: what each can do, under which name."""

from __future__ import annotations

import pickle

import pytest
from unit.core.runtimes.v2_wire import Server, answer, json_answer, vectors

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import (
    ChatRuntime,
    EmbeddingRuntime,
    InfoRuntime,
    LimitedEmbeddings,
    LimitedReranking,
    ReadinessRuntime,
    RerankRequest,
    RerankRuntime,
    TextRequest,
    TextRuntime,
    TokenizerRuntime,
)
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, PermissionDeniedError, UnsupportedParameterError
from kserve_core.runtimes.mlserver import MLServerRuntime
from kserve_core.runtimes.registry import get_runtime

VECTORS = (EmbeddingRuntime, RerankRuntime, LimitedEmbeddings, LimitedReranking, InfoRuntime, ReadinessRuntime)
KEYS = ("triton", "mlserver", "openvino", "kserve")
MODELS = ("tiny", "tiny-embedding", "tiny-rerank")


@pytest.mark.parametrize("key", KEYS)
def test_all_embed_and_rank_and_tell_about_themselves(key):
    runtime = get_runtime(key).create()
    assert runtime.name == get_runtime(key).title
    for capability in VECTORS:
        assert isinstance(runtime, capability)
    assert isinstance(runtime, TokenizerRuntime)
    assert pickle.loads(pickle.dumps(runtime)).name == runtime.name


def test_which_generate_text():
    made = {key: get_runtime(key).create() for key in KEYS}
    assert {key for key, runtime in made.items() if isinstance(runtime, TextRuntime)} == {
        "triton",
        "mlserver",
        "openvino",
    }
    assert {key for key, runtime in made.items() if isinstance(runtime, ChatRuntime)} == {"openvino"}


@pytest.fixture(scope="module", params=KEYS)
def served(request):
    with DevServer(runtime=request.param, api_key="k", v2_grpc=True, models=MODELS) as server:
        yield request.param, server


@pytest.fixture(params=["rest", "grpc"])
def client(request, served):
    key, server = served

    def client(model, **options):
        endpoint = Endpoint.create(server.url if request.param == "rest" else server.v2_grpc_url, api_key="k")
        runtime = get_runtime(key).create(base_path=endpoint.base_path, model=model, protocol=request.param, **options)
        return RuntimeClient(endpoint, runtime)

    return client


def test_vectors_and_rankings_over_both_protocols(client):
    embedding, reranker = client("tiny-embedding"), client("tiny-rerank")
    first, second = embedding.run(embed_all(embedding.runtime, ["a cat", "a dog"])).embeddings
    assert len(first) == len(second) > 1
    assert first != second
    ranking = reranker.run(rerank_all(reranker.runtime, "cat", ["a dog", "a cat"]))
    assert [place.index for place in ranking.results] == [1, 0]


def test_what_it_learnt_stays_out_of_nothing(client):
    embedding = client("tiny-embedding")
    before = embedding.run(embed_all(embedding.runtime, ["x"])).embeddings
    again = pickle.loads(pickle.dumps(embedding))
    assert again.run(embed_all(again.runtime, ["x"])).embeddings == before


@pytest.mark.parametrize("key", ["triton", "mlserver"])
class TestDefaultLength:
    @pytest.fixture
    def text(self, key):
        with DevServer(runtime=key, models=("tiny",)) as server:

            def text(params=None, **options):
                endpoint = Endpoint.create(server.url)
                runtime = get_runtime(key).create(model="tiny", default_max_tokens=3, **options)
                client = RuntimeClient(endpoint, runtime)
                request = TextRequest(prompts=["Count to ten."], params=params or {})
                return client.run(runtime.generate(request)).generations[0][0].text

            yield text

    def test_it_is_for_requests_that_set_none(self, text):
        assert len(text()) < len(text({"max_tokens": 50}))

    def test_the_users_own_words_go_before_it(self, text, key):
        own = (
            {"extra_inputs": {"max_tokens": 50}}
            if key == "mlserver"
            else {"extra_inputs": {"sampling_parameters": '{"max_tokens": 50}'}}
        )
        assert text(**own) == text({"max_tokens": 50})


class TestMLServersProtocol:
    def test_kserves_own_server_lists_its_models_and_has_no_versions(self):
        with DevServer(runtime="kserve", models=("tiny-embedding",)) as server:
            endpoint = Endpoint.create(server.url)
            runtime = MLServerRuntime(server="kserve")
            client = RuntimeClient(endpoint, runtime)
            assert len(client.run(embed_all(runtime, ["a", "b"])).embeddings) == 2
            assert runtime.model == "tiny-embedding"
            assert b'"binary_data":true' in server.requests.last.body
        with pytest.raises(UnsupportedParameterError, match="versions"):
            MLServerRuntime(server="kserve", model_version=1)

    def test_its_models_answer_to_mlservers_ways_too(self):
        with DevServer(runtime="kserve", models=("tiny-embedding",)) as server:
            runtime = MLServerRuntime(model="tiny-embedding")
            client = RuntimeClient(Endpoint.create(server.url), runtime)
            assert len(client.run(embed_all(runtime, ["a", "b"])).embeddings) == 2
            assert b"binary" not in server.requests.last.body

    def test_other_servers_are_refused(self):
        with pytest.raises(ConfigurationError, match="triton"):
            MLServerRuntime(server="triton")


def test_inputs_that_the_server_keeps_to_itself_are_a_refusal_and_asked_for_again():
    refusal = answer("triton", "restricted metadata, no token")
    server = Server().route("GET /v2/models/tiny", refusal).route("GET /v2/models/tiny/config", refusal)
    server.route("GET /v2/models/rerank", refusal).route("GET /v2/models/rerank/config", refusal)
    client = RuntimeClient(Endpoint.create("http://127.0.0.1:1"), get_runtime("triton").create(), transport=server)
    requests = [
        lambda: client.runtime.generate(TextRequest(prompts=["a"], model="tiny")),
        lambda: client.runtime.stream_generate(TextRequest(prompts=["a"], model="tiny")),
        lambda: client.runtime.rerank(RerankRequest(query="a", documents=["b"], model="rerank")),
    ]
    for count, request in enumerate(requests, start=1):
        with pytest.raises(PermissionDeniedError, match=r"does not tell .* restricted") as caught:
            client.run(request())
        assert "api_key" in caught.value.hint
        assert "input_name" in caught.value.hint
        assert (caught.value.layer, caught.value.status) == ("runtime", 403)
        assert server.asked.count("GET /v2/models/tiny") == min(count, 2)
    server.route("GET /v2/models/rerank", answer("triton", "metadata rerank"))
    server.route("POST /v2/models/rerank/infer", json_answer(vectors([0.5], name="score")))
    assert client.run(requests[2]()).results[0].score == 0.5
