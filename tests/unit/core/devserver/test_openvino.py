"""OpenVINO Model Server: its `/v3` routes and what of V2 is its own, as documented."""

from __future__ import annotations

import base64
import json
import struct

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.v2_wire import text
from tests.unit.core.devserver.wire import WEATHER, deltas, events

HELLO = "Hello! How can I help you today?"
MODELS = ("tiny", "tiny-embedding", "tiny-rerank", "broken")


@pytest.fixture(scope="module")
def running():
    with DevServer(runtime="openvino", models=MODELS) as server:
        yield server


@pytest.fixture
def http(running):
    running.reset()
    with httpx.Client(base_url=running.url, timeout=10) as client:
        yield client
    running.reset()


@pytest.fixture
def chat(http):
    def post(said, **fields):
        body = {"model": "tiny", "messages": [{"role": "user", "content": said}], **fields}
        return http.post("/v3/chat/completions", json=body)

    return post


def test_a_chat_answer_has_no_id(chat):
    found = chat("Say hello.").json()
    assert set(found) == {"choices", "created", "model", "object", "usage"}
    assert set(found["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    (choice,) = found["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (HELLO, "stop")


def test_a_chat_stream_opens_with_null(chat):
    found = chat("Say hello.", stream=True, stream_options={"include_usage": True})
    parts = deltas(found.text)
    assert parts[0] == {"role": "assistant", "content": None}
    assert "".join(part.get("content") or "" for part in parts) == HELLO
    last = events(found.text)[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert not any("id" in event or "system_fingerprint" in event for event in events(found.text))


def test_the_stop_text_is_kept_while_streaming(chat):
    streamed = deltas(chat("Say hello.", stream=True, stop=["can"]).text)
    assert chat("Say hello.", stop=["can"]).json()["choices"][0]["message"]["content"] == "Hello! How "
    assert "".join(part.get("content") or "" for part in streamed) == "Hello! How can"
    found = chat("Say hello.", stream=True, stop=["can"], include_stop_str_in_output=False)
    assert (found.status_code, "cannot be set to false" in found.json()["error"]) == (400, True)


def test_tools_and_schemas(chat):
    (choice,) = chat("What is the weather in Paris?", tools=[WEATHER]).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    found = chat("The city of Paris.", response_format=form).json()
    assert set(json.loads(found["choices"][0]["message"]["content"])) == {"city"}


def test_several_choices_but_no_biases(chat):
    assert len(chat("Say hello.", n=2, temperature=0.5).json()["choices"]) == 2
    assert chat("Say hello.", logit_bias={"x": 1}, user="u").status_code == 200  # left aside


@pytest.mark.parametrize("prefix", ["/v3", "/v1", "/v3/v1"])
def test_the_same_routes_under_three_prefixes(http, prefix):
    body = {"model": "tiny", "prompt": "Say hello.", "max_tokens": 50}
    found = http.post(f"{prefix}/completions", json=body).json()
    assert found["choices"][0]["text"] == HELLO
    assert "id" not in found
    assert {entry["id"] for entry in http.get(f"{prefix}/models").json()["data"]} == set(MODELS)
    assert http.get(f"{prefix}/models/tiny").json()["owned_by"] == "OVMS"
    assert http.get(f"{prefix}/models/nope").status_code == 404


def test_embeddings(http):
    body = {"model": "tiny-embedding", "input": ["a cat", "a dog"]}
    found = http.post("/v3/embeddings", json=body).json()
    assert set(found) == {"object", "data", "usage"}
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    packed = http.post("/v3/embeddings", json={**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(struct.unpack("<256f", base64.b64decode(packed))) == found["data"][0]["embedding"]
    v2 = http.post("/v2/models/tiny-embedding/infer", json={"inputs": [text("text", "a cat")]}).json()
    assert v2["outputs"][0]["data"] == found["data"][0]["embedding"]


def test_reranking(http):
    body = {"model": "tiny-rerank", "query": "cats", "documents": ["a dog", "cats and cats"]}
    found = http.post("/v3/rerank", json=body).json()
    assert set(found) == {"results"}
    assert [entry["index"] for entry in found["results"]] == [1, 0]
    assert set(found["results"][0]) == {"index", "relevance_score"}
    (best,) = http.post("/v3/rerank", json={**body, "top_n": 1, "return_documents": True}).json()["results"]
    assert best["document"] == {"text": "cats and cats"}
    pair = {"inputs": [text("query", "cats"), text("passage", "cats and cats")]}
    v2 = http.post("/v2/models/tiny-rerank/infer", json=pair).json()["outputs"][0]["data"]
    assert v2 == pytest.approx([best["relevance_score"]])


def test_tokenize_reads_text(http):
    body = {"model": "tiny", "text": "a cat"}
    whole = http.post("/v3/tokenize", json=body).json()["tokens"]
    assert http.post("/v3/tokenize", json={**body, "max_length": 2}).json()["tokens"] == whole[:2]
    padded = http.post("/v3/tokenize", json={**body, "max_length": 9, "pad_to_max_length": True}).json()["tokens"]
    assert padded[: len(whole)] == whole
    assert len(padded) == 9
    assert http.post("/v3/tokenize", json={"model": "tiny", "prompt": "a cat"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("chat/completions", b"{", 412),
        ("chat/completions", {"messages": []}, 400),
        ("chat/completions", {"model": "nope", "messages": [{"role": "user", "content": "x"}]}, 404),
        ("chat/completions", {"model": "tiny"}, 400),
        ("completions", {"model": "tiny", "prompt": "x", "stop": ["a", "b", "c", "d", "e"]}, 400),
        ("completions", {"model": "tiny", "prompt": ["a", "b"]}, 400),
        ("completions", {"model": "tiny", "prompt": "x", "temperature": -1}, 400),
        ("embeddings", {"model": "tiny", "input": ["x"] * 1025}, 400),
        ("embeddings", {"model": "tiny", "input": "x" * 30000}, 400),
        ("embeddings", {"model": "tiny", "input": "x" * 2_000_001}, 400),
        ("embeddings", {"model": "tiny", "input": [[1, 2]]}, 400),
        ("rerank", {"model": "tiny", "query": "x", "documents": ["x"] * 101}, 400),
        ("rerank", {"model": "tiny", "query": "x", "documents": [{"text": "x"}]}, 400),
        ("responses", {"model": "tiny"}, 404),
    ],
)
def test_errors_are_plain_texts(http, path, body, status):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = http.post(f"/v3/{path}", content=content)
    assert found.status_code == status
    assert isinstance(found.json()["error"], str)


def test_states_of_all_models(http):
    found = http.get("/v1/config").json()
    (state,) = found["tiny-embedding"]["model_version_status"]
    assert (state["version"], state["state"], state["status"]["error_code"]) == ("1", "AVAILABLE", "OK")
    assert found["broken"]["model_version_status"][0]["state"] == "LOADING"


def test_text_models_are_no_v2_models(http):
    assert http.get("/v2/models/tiny").status_code == 404
    assert http.get("/v2/models/tiny/ready").status_code == 200  # but they tell that they are there
    assert http.get("/v2/models/nope/ready").status_code == 404
    assert http.get("/v2/models/tiny-embedding/").status_code == 200


def test_sizes_of_binary_numbers_may_be_left_out():
    with DevServer(runtime="openvino", models=["echo"]) as server:
        head = json.dumps({"inputs": [{"name": "in_fp32", "datatype": "FP32", "shape": [2]}]}).encode()
        found = httpx.post(
            f"{server.url}/v2/models/echo/infer",
            content=head + struct.pack("<2f", 1.5, 2.5),
            headers={"inference-header-content-length": str(len(head))},
        )
        assert found.json()["outputs"][0]["data"] == [1.5, 2.5]


def test_the_key_guards_v3_and_v1_only():
    with DevServer(runtime="openvino", models=MODELS, api_key="key") as server:
        body = {"model": "tiny", "text": "x"}
        for path in ("/v3/tokenize", "/v1/tokenize"):
            found = httpx.post(server.url + path, json=body)
            assert (found.status_code, found.json()) == (
                500,
                {"error": "Unauthorized request due to invalid or missing api-key"},
            )
            found = httpx.post(server.url + path, json=body, headers={"authorization": "Bearer key"})
            assert found.status_code == 200
        assert httpx.get(f"{server.url}/v2/models/tiny-embedding").status_code == 200


def test_a_failing_stream_ends_with_an_error_event(running, chat):
    running.fault(path="/chat/completions", error_after=3, error={"message": "gone"})
    blocks = chat("Say hello.", stream=True).text.split("\n\n")
    assert json.loads(blocks[3].removeprefix("data: ")) == {"error": "gone"}
    assert blocks[4:] == [""]
