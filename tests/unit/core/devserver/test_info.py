"""Routes about the server: models, health, tokenizer, authentication, routing."""

from __future__ import annotations

import httpx
import pytest

from kserve_core.devserver import DevServer


def test_models_list_every_name(http):
    body = http.get("/v1/models").json()
    assert body["object"] == "list"
    entries = {entry["id"]: entry for entry in body["data"]}
    assert set(entries) == {"dev-model", "dev-alias", "dev-reasoner", "dev-matryoshka", "dev-small", "dev-lora"}
    assert entries["dev-alias"]["root"] == entries["dev-model"]["root"]
    assert entries["dev-lora"]["parent"] == "dev-model"
    assert entries["dev-model"]["parent"] is None
    assert entries["dev-small"]["max_model_len"] == 64
    assert entries["dev-model"]["owned_by"] == "vllm"
    assert len(entries["dev-model"]["permission"]) == 1


def test_simple_routes(http):
    assert http.get("/version").json() == {"version": "0.32.0"}
    assert http.get("/load").json() == {"server_load": 0}
    for path in ("/health", "/ping"):
        response = http.get(path)
        assert (response.status_code, response.content) == (200, b"")
        assert "content-type" not in response.headers
    assert "vllm:num_requests_running" in http.get("/metrics").text


@pytest.mark.parametrize(
    "text", ["", "Say hello.", "Ünï©ode 你好 🌍\n\ttabs  and   spaces", "x<|im_end|>y", "CamelCase42"]
)
def test_tokens_turn_back_into_the_text(http, text):
    found = http.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert set(found) == {"count", "max_model_len", "tokens", "token_strs"}
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert http.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}


def test_tokenizing_messages_counts_what_chat_reports(http, chat):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
    counted = http.post("/tokenize", json={"messages": messages}).json()
    assert counted["token_strs"] is None
    assert chat(messages).json()["usage"]["prompt_tokens"] == counted["count"]


def test_tokenizer_refusals(http):
    assert http.post("/tokenize", json={"prompt": ["a", "b"]}).status_code == 400
    assert http.post("/tokenize", json={}).status_code == 400
    assert http.post("/detokenize", json={"tokens": [-1]}).status_code == 400
    assert http.post("/detokenize", json={"tokens": [10**9]}).json() == {"prompt": ""}


def test_unknown_routes_methods_and_slashes(http):
    for path in ("/v1/models/dev-model", "/v1/tokenize", "/nothing"):
        response = http.get(path)
        assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
    for method, path in (("GET", "/v1/chat/completions"), ("DELETE", "/health")):
        response = http.request(method, path)
        assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert http.head("/health").status_code == 405
    slash = http.get("/v1/models/", headers={"host": "outside.example"})
    assert (slash.status_code, slash.headers["location"]) == (307, "http://outside.example/v1/models")


def test_routes_of_other_tasks_do_not_exist():
    with DevServer(tasks=("embed",)) as server:
        found = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": []})
        assert (found.status_code, found.json()) == (404, {"detail": "Not Found"})
        assert httpx.post(f"{server.url}/v1/embeddings", json={"input": "a"}).status_code == 200


def test_a_base_path_moves_every_route():
    with DevServer(base_path="/openai/") as server:
        assert server.url.endswith("/openai")
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
        assert httpx.get(f"{server.origin}/v1/models").status_code == 404
        assert httpx.get(f"{server.origin}/openaiv1/models").status_code == 404


@pytest.fixture(scope="module")
def locked():
    with DevServer(api_key=["one", "two"]) as server, httpx.Client(base_url=server.url) as client:
        yield client


class TestAuthentication:
    @pytest.mark.parametrize("value", [None, "Bearer wrong", "Basic one", "one", "Bearer"])
    def test_a_missing_or_wrong_key(self, locked, value):
        response = locked.get("/v1/models", headers={} if value is None else {"authorization": value})
        assert response.status_code == 401
        assert response.content == b'{"error":"Unauthorized"}'
        assert "www-authenticate" not in response.headers

    @pytest.mark.parametrize("value", ["Bearer one", "bearer two", "BEARER one"])
    def test_every_key_and_any_case_of_the_scheme(self, locked, value):
        assert locked.get("/v1/models", headers={"authorization": value}).status_code == 200

    def test_what_stands_open(self, locked):
        for path in ("/version", "/health", "/load"):
            assert locked.get(path).status_code == 200
        assert locked.post("/tokenize", json={"prompt": "a"}).status_code == 200
        assert locked.post("/rerank", json={"query": "a", "documents": ["a"]}).status_code == 200
        assert locked.post("/v2/rerank", json={"query": "a", "documents": ["a"]}).status_code == 401

    def test_a_proxy_in_front_protects_everything(self):
        with DevServer(api_key="k", protect_all=True) as server:
            assert httpx.get(f"{server.url}/health").status_code == 401


def test_request_ids_are_echoed_only_when_the_server_does_so(http):
    assert "x-request-id" not in http.get("/version", headers={"x-request-id": "a"}).headers
    with DevServer(request_id_headers=True) as server:
        assert httpx.get(f"{server.url}/version", headers={"x-request-id": "a"}).headers["x-request-id"] == "a"
        assert httpx.get(f"{server.url}/nothing").headers["x-request-id"]
