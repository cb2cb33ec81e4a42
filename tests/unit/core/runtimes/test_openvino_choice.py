"""Which of OpenVINO Model Server's two APIs a model is asked by."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.openvino_wire import BASE, OpenVINO, error, listed, metadata

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest
from kserve_core.errors import ConfigurationError, ModelNotFoundError, UnsupportedParameterError
from kserve_core.runtimes.openvino.paths import Paths

MISSING = error(404, "Model with requested name is not found")


def v3_vectors(body):
    data = [{"object": "embedding", "embedding": [3.0, 0.0], "index": i} for i in range(len(body["input"]))]
    return 200, orjson.dumps({"object": "list", "data": data})


def v2_vectors(_body):
    output = {"name": "embedding", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 0.0]}
    return 200, orjson.dumps({"model_name": "bge", "model_version": "1", "outputs": [output]})


@pytest.fixture
def server():
    made = OpenVINO().route("/v3/models", listed("bge")).route("/v3/embeddings", v3_vectors)

    return made.route("/v2/models/bge", metadata("bge")).route("/v2/models/bge/infer", v2_vectors)


def embed(server, base_url=BASE, **options):
    client = server.at(base_url, **{"model": "bge", **options})
    return client.run(embed_all(client.runtime, ["x"])).embeddings


class TestPaths:
    @pytest.mark.parametrize(
        ("base", "root", "api", "named"),
        [
            ("", "", "/v3", None),
            ("/", "", "/v3", None),
            ("/v3", "", "/v3", "v3"),
            ("/v3/", "", "/v3", "v3"),
            ("/v1", "", "/v1", "v3"),
            ("/v3/v1", "", "/v3/v1", "v3"),
            ("/v2", "", "/v3", "v2"),
            ("/team/model", "/team/model", "/team/model/v3", None),
            ("/team/model/v3", "/team/model", "/team/model/v3", "v3"),
            ("/team/model/v2", "/team/model", "/team/model/v3", "v2"),
        ],
    )
    def test_any_url_people_paste(self, base, root, api, named):
        paths = Paths.of(base)
        assert (paths.root, paths.api, paths.named) == (root, api, named)

    @pytest.mark.parametrize("base", ["/v3/chat/completions", "/v3/embeddings", "/v2/models/bge/infer", "/v2/models"])
    def test_the_address_of_one_endpoint(self, server, base):
        with pytest.raises(ConfigurationError, match="root of all"):
            server.at(f"{BASE}{base}")


class TestChoice:
    def test_a_model_with_tensors(self, server):
        assert embed(server) == [[2.0, 0.0]]
        assert server.asked == ["GET /v2/models/bge", "POST /v2/models/bge/infer"]

    def test_a_graph_has_no_datatypes(self, server):
        server.route("/v2/models/bge", metadata("bge", "INVALID"))
        assert embed(server) == [[3.0, 0.0]]
        assert server.asked == ["GET /v2/models/bge", "POST /v3/embeddings"]

    def test_a_graph_that_is_not_known_there(self, server):
        server.route("/v2/models/bge", MISSING)
        assert embed(server) == [[3.0, 0.0]]
        assert server.asked[0] == "GET /v2/models/bge"
        assert server.asked[-2:] == ["GET /v3/models", "POST /v3/embeddings"]

    def test_it_is_asked_once(self, server):
        client = server.at(model="bge")
        for _ in range(3):
            client.run(embed_all(client.runtime, ["x"]))
        assert server.asked.count("GET /v2/models/bge") == 1

    def test_a_model_nobody_knows_yet_is_looked_for_again(self, server):
        server.route("/v2/models/bge", MISSING).route("/v3/models", listed("other"))
        server.route("/v3/embeddings", error(404, "Mediapipe graph definition with requested name is not found"))
        client = server.at(model="bge")
        with pytest.raises(ModelNotFoundError) as caught:
            client.run(embed_all(client.runtime, ["x"]))
        assert "'other'" in caught.value.hint
        server.route("/v2/models/bge", metadata("bge"))
        assert client.run(embed_all(client.runtime, ["x"])).embeddings == [[2.0, 0.0]]

    def test_a_gateway_that_routes_one_api_only(self, server):
        server.route("/v2/models/bge", (404, b'{"detail":"Not Found"}'))
        assert embed(server) == [[3.0, 0.0]]

    @pytest.mark.parametrize("end", ["/v3", "/v1", "/v3/v1"])
    def test_the_url_says_text(self, server, end):
        server.route(f"{end}/embeddings", v3_vectors)
        assert embed(server, f"{BASE}{end}") == [[3.0, 0.0]]
        assert server.asked == [f"POST {end}/embeddings"]

    def test_the_url_says_tensors(self, server):
        assert embed(server, f"{BASE}/v2") == [[2.0, 0.0]]

    def test_an_option_for_tensors_says_it(self, server):
        server.route("/v2/models/bge", metadata("bge"))
        assert embed(server, normalize=True) == [[1.0, 0.0]]
        assert "GET /v3/models" not in server.asked

    @pytest.mark.parametrize(("api", "vector"), [("v3", [3.0, 0.0]), ("v2", [2.0, 0.0])])
    def test_what_is_given_wins(self, server, api, vector):
        assert embed(server, f"{BASE}/v2", api=api) == [vector]
        assert embed(server, BASE, api=api) == [vector]

    def test_the_only_model_is_found(self, server):
        assert embed(server, model=None) == [[2.0, 0.0]]
        assert server.asked[0] == "GET /v3/models"

    def test_reranking_looks_as_well(self, server):
        server.route("/v2/models/bge", metadata("bge", "INVALID"))
        server.route("/v3/rerank", (200, b'{"results": [{"index": 0, "relevance_score": 0.5}]}'))
        client = server.at(model="bge")
        assert client.run(client.runtime.rerank(RerankRequest(query="q", documents=["d"]))).results[0].score == 0.5
        client = server.at(model="bge")
        assert client.run(rerank_all(client.runtime, "q", ["d"])).results[0].score == 0.5
        assert server.asked.count("POST /v3/rerank") == 2

    def test_no_documents_no_request(self, server):
        client = server.at(model="bge")
        assert client.run(rerank_all(client.runtime, "q", [])).results == []
        assert server.asked == []

    def test_a_model_that_was_not_resolved(self, server):
        client = server.at(model="bge")
        with pytest.raises(ConfigurationError, match="not known yet"):
            client.runtime.embed(EmbeddingRequest(texts=["x"]))


class TestContradictions:
    @pytest.mark.parametrize(
        ("base", "options", "said"),
        [
            (f"{BASE}/v3", {"input_name": "x"}, "input_name"),
            (f"{BASE}/v3", {"model_version": 2}, "model_version"),
            (BASE, {"api": "v3", "pooling": "cls"}, "pooling"),
            (BASE, {"api": "v4"}, "v4"),
            (BASE, {"api": "v3", "protocol": "grpc"}, "REST only"),
        ],
    )
    def test_they_are_errors(self, server, base, options, said):
        with pytest.raises(ConfigurationError, match=said):
            server.at(base, **options)

    def test_text_needs_v3(self, server):
        client = server.at(f"{BASE}/v2", model="bge")
        with pytest.raises(UnsupportedParameterError, match="/v3"):
            client.run(client.runtime.chat(ChatRequest(messages=[{"role": "user", "content": "x"}])))


class TestAbout:
    def test_version_and_readiness_come_by_v2(self, server):
        server.route("/v2", (200, b'{"name": "OpenVINO Model Server", "version": "2026.2"}'))
        server.route("/v2/models/bge/ready", (200, b""))
        client = server.at(f"{BASE}/v3", model="bge")
        assert client.run(client.runtime.version()) == "2026.2"
        assert client.run(client.runtime.health()) is True

    def test_where_v2_is_not_routed_the_list_says_it(self, server):
        client = server.at(f"{BASE}/v3", model="bge")
        assert client.run(client.runtime.health()) is True
        other = server.at(f"{BASE}/v3", model="other")
        assert other.run(other.runtime.health()) is False

    def test_models(self, server):
        client = server.at(f"{BASE}/v3")
        assert [info.id for info in client.run(client.runtime.models())] == ["bge"]
        assert client.run(client.runtime.model_info()).max_model_len is None
        with pytest.raises(ModelNotFoundError, match="nope"):
            client.run(client.runtime.model_info("nope"))
