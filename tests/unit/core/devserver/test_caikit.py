"""The development server's Caikit wires, compared with what a real server answered to the same requests."""

from __future__ import annotations

import json
import re
import time

import grpc
import httpx
import pytest
from unit.core.runtimes.caikit_wire import ANSWERS, recorded

from kserve_core.devserver import DevServer, Model
from kserve_core.protos import messages

TASK = "/api/v1/task/"
SAY = {"inputs": "Count to ten.", "parameters": {"max_new_tokens": 40}, "model_id": "both"}
STREAM = f"{TASK}server-streaming-text-generation"
MODELS = (
    "both",
    Model(name="minilm-embed", max_model_len=256),
    Model(name="tinytgis-gen", max_model_len=256),
    Model(name="gen-local"),
)
# Names of the recording, and what they are here.
NAMES = {"minilm": "minilm-embed", "tinytgis": "tinytgis-gen"}


@pytest.fixture(scope="module")
def running():
    with DevServer(runtime="caikit", caikit_grpc=True, models=MODELS) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture
def call(server):
    """Calls a gRPC method with a message's fields."""
    with grpc.insecure_channel(server.caikit_grpc_url.removeprefix("grpc://")) as channel:

        def send(method, model="both", stream=False, metadata=(), **fields):
            request = messages.get(ANSWERS_REQUESTS[method])(**fields)
            path = f"/caikit.runtime.Nlp.NlpService/{method}Predict"
            make = channel.unary_stream if stream else channel.unary_unary
            answer = messages.get(ANSWERS[path])
            run = make(
                path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
            )
            given = (("mm-model-id", model), *metadata) if model is not None else metadata
            return run(request, metadata=given, timeout=10)

        yield send


ANSWERS_REQUESTS = {
    path.rsplit("/", 1)[1].removesuffix("Predict"): f"caikit.runtime.Nlp.{path.rsplit('/', 1)[1][:-7]}Request"
    for path in ANSWERS
    if path.endswith("Predict")
}


def shape(value):
    """The form of JSON: keys, and types where values are the model's own."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def task_of(name):
    found = re.match(
        r"(embedding-tasks|sentence-similarity-tasks|sentence-similarity|rerank-tasks|rerank|"
        r"tokenization|text-generation|embedding|stream)\b(?!-)",
        name,
    )
    return "server-streaming-text-generation" if found[1] == "stream" else found[1]


REPLAYED = [
    name
    for name, case in recorded("http").items()
    if case["request"]
    and "[[fail" not in case["request"]
    and "..." not in case["request"]
    and "tinylm" not in case["request"]
    and not re.search(r"unknown task|content-type|charset", name)
]


@pytest.mark.parametrize("name", REPLAYED)
def test_answers_like_the_real_server(http, name):
    real = recorded("http")[name]
    request = real["request"]
    for old, new in NAMES.items():
        request = request.replace(f'"{old}"', f'"{new}"')
    sent = request.encode()
    answer = http.post(TASK + task_of(name), content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == real["status"]
    assert answer.headers.get("content-type") == real["content_type"]
    mine, theirs = answer.json(), json.loads(real["body"])
    assert shape(mine) == shape(theirs)
    if "details" in theirs:
        assert (
            re.sub(r"\d+", "N", mine["details"]) == re.sub(r"\d+", "N", theirs["details"]) or "JSON" in mine["details"]
        )
    if "additional_info" in theirs:
        assert [entry["loc"] for entry in mine["additional_info"]] == [e["loc"] for e in theirs["additional_info"]]


def test_over_long_texts(http):
    text = "word " * 400
    one = http.post(f"{TASK}embedding", json={"inputs": text, "model_id": "minilm-embed"})
    assert one.status_code == 400
    real = json.loads(recorded("http")["embedding too long, default 0"]["body"])
    assert one.json()["details"] == real["details"]
    body = {"inputs": ["ok", text, text], "model_id": "minilm-embed"}
    several = http.post(f"{TASK}embedding-tasks", json=body)
    real = json.loads(recorded("http")["embedding-tasks too long one"]["body"])
    assert several.json()["details"] == real["details"]
    cut = http.post(f"{TASK}embedding", json={**body, "inputs": text, "parameters": {"truncate_input_tokens": -1}})
    assert cut.json()["input_token_count"] == 256
    kept = http.post(f"{TASK}embedding", json={**body, "inputs": text, "parameters": {"truncate_input_tokens": 100}})
    assert kept.json()["input_token_count"] == 102
    over = http.post(f"{TASK}text-generation", json={"inputs": text, "model_id": "tinytgis-gen"})
    assert re.search(
        r"input tokens \(\d+\) plus prefix length \(0\) plus max_new_tokens \(20\)", over.json()["details"]
    )


@pytest.mark.parametrize(
    ("headers", "name"),
    [({"content-type": "application/json; charset=utf-8"}, "embedding charset"), ({}, "embedding no content-type")],
)
def test_the_content_type_has_to_be_exact(http, headers, name):
    real = recorded("http")[name]
    answer = http.post(f"{TASK}embedding", content=b'{"inputs": "x", "model_id": "minilm-embed"}', headers=headers)
    assert (answer.status_code, answer.headers.get("content-type")) == (real["status"], real["content_type"])
    assert {**answer.json(), "id": 0} == {**json.loads(real["body"]), "id": 0}


def test_about_the_server(http):
    assert (http.get("/health").text, http.get("/info/runtime").status_code) == ("OK", 404)
    real = json.loads(recorded("http")["info /info/models"]["body"])["models"]
    listed = http.get("/info/models", params={"model_ids": ["minilm-embed", "tinytgis-gen"]}).json()["models"]
    assert [shape(model) for model in listed] == [shape(model) for model in real]
    unknown = http.get("/info/models?model_ids=nope")
    assert (unknown.status_code, unknown.json()["details"]) == (404, "Model nope is not loaded")
    assert "caikit" in http.get("/info/version").json()["python_packages"]


def test_null_is_refused_everywhere(http):
    for body in (
        {"inputs": None, "model_id": "both"},
        {"inputs": "x", "model_id": None},
        {"inputs": "x", "parameters": None, "model_id": "both"},
        {"inputs": "x", "parameters": {"top_k": None}, "model_id": "both"},
    ):
        assert http.post(f"{TASK}text-generation", json=body).status_code == 422


def test_a_stream_is_framed_like_the_real_ones(http):
    answer = http.post(STREAM, json=SAY)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    blocks = answer.text.split("\r\n\r\n")
    assert blocks.pop() == ""
    real = [chunk.removesuffix("\r\n\r\n").split("\r\n") for chunk in recorded("streams")["stream tgis to eos"]]
    mine = [block.split("\r\n") for block in blocks]
    assert {lines[0] for lines in mine} == {"event: message"}
    values = [json.loads(lines[1].removeprefix("data: ")) for lines in mine]
    assert shape(values[0]) == shape(json.loads(real[0][1].removeprefix("data: ")))
    assert "".join(value["generated_text"] for value in values) == "one two three four five six seven eight nine ten."
    assert [value["details"]["input_token_count"] > 0 for value in values] == [True] + [False] * (len(values) - 1)
    assert values[-1]["details"]["finish_reason"] == "EOS_TOKEN"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({**SAY, "model_id": "nope"}, "stream unknown model"),
        ({**SAY, "model_id": "gen-local"}, "stream wrong-task model"),
        ({**SAY, "parameters": {"decoding_method": "BEAM"}}, "stream bad decoding_method"),
    ],
)
def test_errors_of_a_stream_come_as_events(http, body, name):
    answer = http.post(STREAM, json=body)
    assert answer.status_code == 200
    real = recorded("streams")[name][0]
    pattern = re.compile(r'"id": "\w+"')
    assert pattern.sub("", answer.text) == pattern.sub("", real)


def test_a_scripted_failure_in_the_middle_has_the_wires_form(server, http):
    server.fault(error_after=3, error={"code": 400})
    text = http.post(STREAM, json=SAY).text
    assert text.count("event: message") == 3
    last = text.split("\r\n\r\n")[-2]
    assert last.startswith("event: error\r\ndata: ")
    assert json.loads(last.partition("data: ")[2])["code"] == 400


def test_a_scripted_status_has_the_wires_form(server, http):
    server.fault(status=501)
    answer = http.post(f"{TASK}text-generation", json=SAY)
    assert (answer.status_code, answer.headers.get("content-type")) == (501, None)
    assert set(answer.json()) == {"details", "code", "id"}
    server.fault(body="router-page")
    assert http.post(f"{TASK}text-generation", json=SAY).headers["content-type"].startswith("text/html")


def test_pings_while_nothing_comes(server, http):
    server.fault(idle_after=2, idle=0.12, keepalive=1)
    text = http.post(STREAM, json=SAY).text
    assert re.search(r"\r\n\r\n: ping - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00\r\n\r\n", text)
    assert "EOS_TOKEN" in text


def test_tokens_of_clients_are_checked_on_every_path():
    with (
        DevServer(runtime="caikit", caikit_grpc=True, api_key="k") as server,
        httpx.Client(base_url=server.url) as http,
    ):
        assert [http.get(path).status_code for path in ("/health", "/info/models")] == [401, 401]
        assert http.get("/health", headers={"authorization": "Bearer k"}).text == "OK"


# gRPC


def test_grpc_streams_like_the_real_server(server, call):
    pieces = list(call("ServerStreamingTextGenerationTask", stream=True, text="Count to ten.", max_new_tokens=3))
    assert pieces[0].details.input_token_count > 0
    assert [piece.details.generated_tokens for piece in pieces] == [0, 1, 2, 3]
    assert pieces[-1].details.finish_reason == 1
    assert [record.method for record in server.requests] == ["GRPC"]


@pytest.mark.parametrize(
    ("case", "method", "fields"),
    [
        ("embedding unknown model", "EmbeddingTask", {"model": "nope", "text": "x"}),
        ("embedding no metadata", "EmbeddingTask", {"model": None, "text": "x"}),
        ("embeddings empty", "EmbeddingTasks", {}),
        ("generation tinytgis bad method", "TextGenerationTask", {"text": "x", "decoding_method": "BEAM"}),
        ("generation embedding model", "TextGenerationTask", {"model": "minilm-embed", "text": "x"}),
        ("embedding on generation model", "EmbeddingTask", {"model": "tinytgis-gen", "text": "Say hello."}),
        ("stream unknown model", "ServerStreamingTextGenerationTask", {"model": "nope", "text": "x", "stream": True}),
        ("embedding too long", "EmbeddingTask", {"model": "minilm-embed", "text": "word " * 400}),
        ("request over 4 MiB", "EmbeddingTask", {"text": "word " * 1_000_000}),
    ],
)
def test_grpc_statuses_like_the_real_server(call, case, method, fields):
    real = recorded("grpc")[case]["error"]
    with pytest.raises(grpc.RpcError) as caught:
        list([call(method, **fields)] if "stream" not in fields else call(method, **fields))
    assert caught.value.code().name == real["code"]
    assert re.sub(r"\d+", "N", caught.value.details()) == re.sub(r"\d+", "N", real["details"])


def test_grpc_takes_an_empty_text_which_rest_does_not(call, http):
    assert call("EmbeddingTask").input_token_count == 2
    assert http.post(f"{TASK}embedding", json={"inputs": "", "model_id": "both"}).status_code == 400


def test_grpc_faults(server, call):
    server.fault(code="UNAVAILABLE", details="The underlying TCP connection is closed")
    with pytest.raises(grpc.RpcError, match="TCP connection is closed"):
        call("EmbeddingTask", text="x")
    server.fault(cut_after=2)
    stream = call("ServerStreamingTextGenerationTask", stream=True, text="Count to ten.")
    assert [next(stream).details.generated_tokens for _ in range(2)] == [0, 1]
    with pytest.raises(grpc.RpcError):
        next(stream)


def test_pace(server):
    with DevServer(runtime="caikit", caikit_grpc=True, pace=0.02) as slow:
        began = time.monotonic()
        httpx.post(
            f"{slow.url}{TASK}text-generation",
            json={**SAY, "model_id": "dev-model", "parameters": {"max_new_tokens": 5}},
        )
        assert time.monotonic() - began >= 0.1
        limited = {**SAY, "model_id": "dev-model", "parameters": {"max_time": 0.07}}
        answer = httpx.post(f"{slow.url}{TASK}text-generation", json=limited).json()
        assert (answer["finish_reason"], answer["generated_tokens"]) == ("TIME_LIMIT", 3)
