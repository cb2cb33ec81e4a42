"""Finding the model, information about a Caikit server, its URLs and its errors."""

from __future__ import annotations

import pickle

import orjson
import pytest
from unit.core.runtimes.caikit_wire import NO_ROUTE, Server, answer, json_answer, models, recorded

from kserve_core.calls import GrpcFailure
from kserve_core.capabilities import EmbeddingRequest, InfoRuntime, RerankRequest, TextRequest
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    EndpointConnectionError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    RequestTooLargeError,
    ServerError,
)
from kserve_core.retry import RetryPolicy, decide, is_cold_start
from kserve_core.runtimes.caikit import CaikitRuntime, tasks
from kserve_core.runtimes.registry import get_runtime

MODELS = "/caikit.runtime.info.InfoService/GetModelsInfo"
RUNTIME = "/caikit.runtime.info.InfoService/GetRuntimeInfo"
HEALTH = "/grpc.health.v1.Health/Check"
PROTOCOLS = pytest.mark.parametrize("protocol", ["rest", "grpc"])


def text(runtime, model=None):
    return runtime.generate(TextRequest(prompts=["x"], model=model))


def run(server, exchange_of, **options):
    client = server.client(**options)
    return client.run(exchange_of(client.runtime))


# which model


def test_the_only_model_is_found_once():
    server = Server().task("text-generation", answer("text-generation tinytgis ok"))
    server.route("/info/models", models("tinytgis"))
    client = server.client()
    for _ in range(2):
        client.run(text(client.runtime))
    assert server.asked == ["/info/models", "/api/v1/task/text-generation", "/api/v1/task/text-generation"]
    assert server.body["model_id"] == "tinytgis"
    assert client.runtime.model == "tinytgis"


def test_the_only_model_is_found_over_grpc():
    server = Server().route(MODELS, "models info one").route(tasks.RERANK.method, "rerank options")
    run(server, lambda r: r.rerank(RerankRequest(query="q", documents=["a"], top_n=1)), protocol="grpc")
    assert server.calls[-1].metadata == {"mm-model-id": "minilm"}


@PROTOCOLS
def test_several_models_have_to_be_told_apart_by_the_user(protocol):
    server = Server().route("/info/models", answer("info /info/models")).route(MODELS, "models info")
    with pytest.raises(ConfigurationError, match="2 models") as caught:
        run(server, text, protocol=protocol)
    assert "'minilm', 'tinytgis'" in caught.value.hint


def test_no_model_at_all():
    with pytest.raises(ModelNotFoundError, match="no model"):
        run(Server().route("/info/models", models()), text)


@PROTOCOLS
def test_an_older_server_that_lists_nothing_needs_the_name(protocol):
    server = Server().route("/info/models", NO_ROUTE)
    with pytest.raises(ConfigurationError, match="does not list its models") as caught:
        run(server, text, protocol=protocol)
    assert "model=" in caught.value.hint


@PROTOCOLS
def test_an_unknown_model_is_told_with_the_names_there_are(protocol):
    server = Server().route("/info/models", answer("info /info/models")).route(MODELS, "models info")
    server.task("text-generation", answer("embedding unknown model"))
    server.route(tasks.GENERATION.method, "embedding unknown model")
    with pytest.raises(ModelNotFoundError, match="'nope'") as caught:
        run(server, lambda r: text(r, "nope"), protocol=protocol)
    assert "'minilm', 'tinytgis'" in caught.value.hint
    assert (caught.value.status, caught.value.layer) == (404, "model")


def test_a_found_model_that_is_gone_is_looked_for_again():
    server = Server().task("text-generation", answer("embedding unknown model"))
    server.route("/info/models", models("old"))
    client = server.client()
    with pytest.raises(ModelNotFoundError):
        client.run(text(client.runtime))
    server.route("/info/models", models("new")).task("text-generation", answer("text-generation tinytgis ok"))
    client.run(text(client.runtime))
    assert server.body["model_id"] == "new"


# information


def test_satisfies_the_protocol():
    assert isinstance(CaikitRuntime(), InfoRuntime)


def test_models():
    one, two = run(Server().route("/info/models", answer("info /info/models")), lambda r: r.models())
    assert (one.id, one.max_model_len, one.kind) == ("minilm", 256, "embed")
    assert (two.id, two.max_model_len, two.kind, two.root) == ("tinytgis", None, "generate", "/models/tinytgis")
    assert one.extra["module_metadata"] == {"name": "EmbeddingModule", "version": "0.0.1"}


def test_models_over_grpc_are_the_same():
    server = Server().route("/info/models", answer("info /info/models")).route(MODELS, "models info")
    assert run(server, lambda r: r.models(), protocol="grpc") == run(server, lambda r: r.models())


def test_model_info():
    server = Server().route("/info/models", answer("info /info/models"))
    client = server.client(model="minilm")
    assert client.run(client.runtime.model_info()).max_model_len == 256
    assert client.run(client.runtime.model_info("tinytgis")).kind == "generate"
    assert len(server.calls) == 1
    with pytest.raises(ModelNotFoundError) as caught:
        client.run(client.runtime.model_info("minilmm"))
    assert "Did you mean 'minilm'?" in caught.value.hint


@PROTOCOLS
def test_version_is_that_of_the_package(protocol):
    server = Server().route("/info/version", answer("info /info/version")).route(RUNTIME, "runtime info")
    assert run(server, lambda r: r.version(), protocol=protocol) == "0.28.3"
    assert run(server, lambda r: r.runtime_info(), protocol=protocol)["runtime_version"] == "demo"


def test_version_without_packages_or_at_another_place():
    server = Server().route("/info/runtime", json_answer({"runtime_version": "1.2", "python_packages": {}}))
    assert run(server, lambda r: r.version()) == "1.2"
    assert server.asked == ["/info/version", "/info/runtime"]
    with pytest.raises(NotFoundError):
        run(Server(), lambda r: r.version())


@pytest.mark.parametrize(
    ("listed", "model", "healthy"),
    [
        (models("a"), None, True),
        (models("a"), "a", True),
        (models("a"), "b", False),
        (models(), None, False),
        (json_answer({"models": [{"name": "a", "loaded": False}]}), "a", False),
        (NO_ROUTE, "a", True),
    ],
)
def test_health_is_that_of_the_model(listed, model, healthy):
    server = Server().route("/health", answer("info /health")).route("/info/models", listed)
    assert run(server, lambda r: r.health(), model=model) is healthy


def test_health_over_grpc():
    server = Server().route(HEALTH, b"\x08\x01").route(MODELS, "models info")
    assert run(server, lambda r: r.health(), protocol="grpc", model="minilm") is True
    server.route(HEALTH, b"\x08\x02")
    assert run(server, lambda r: r.health(), protocol="grpc", model="minilm") is False
    server.route(HEALTH, GrpcFailure("UNAVAILABLE", "no healthy upstream"))
    assert run(server, lambda r: r.health(), protocol="grpc", model="minilm") is False


# URLs


@pytest.mark.parametrize(
    ("base", "options", "task", "info"),
    [
        ("", {}, "/api/v1/task/embedding", "/info/models"),
        ("/api/v1", {}, "/api/v1/task/embedding", "/info/models"),
        ("/api/v1/", {}, "/api/v1/task/embedding", "/info/models"),
        ("/ns/name", {}, "/ns/name/api/v1/task/embedding", "/ns/name/info/models"),
        ("/ns/name/api/v1", {}, "/ns/name/api/v1/task/embedding", "/ns/name/info/models"),
        ("/caikit", {"route_prefix": "/v2/"}, "/caikit/v2/task/embedding", "/caikit/info/models"),
        ("", {"route_prefix": ""}, "/task/embedding", "/info/models"),
    ],
)
def test_paths(base, options, task, info):
    runtime = CaikitRuntime(base_path=base, model="m", **options)
    assert runtime.embed(EmbeddingRequest(texts=["a"])).path == task
    assert next(runtime.models()).path == info


@pytest.mark.parametrize("base", ["/api/v1/task/embedding", "/api/v1/task", "/health", "/info/models"])
def test_the_address_of_one_endpoint_is_refused(base):
    with pytest.raises(ConfigurationError, match="one endpoint"):
        CaikitRuntime(base_path=base)


def test_protocols_are_two():
    with pytest.raises(ConfigurationError, match="'rest' or 'grpc'"):
        CaikitRuntime(protocol="http")


def test_it_is_in_the_list_of_runtimes_and_pickles():
    runtime = get_runtime("Caikit").create(model="m", protocol="grpc")
    copy = pickle.loads(pickle.dumps(runtime))
    assert (copy.model, copy.protocol, copy.name) == ("m", "grpc", "Caikit")


# errors

BACKEND = "text-generation backend "


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("embedding unknown model", ModelNotFoundError, "not loaded a model named 'nope'"),
        ("embedding missing model_id", InvalidRequestError, "model_id in payload"),
        ("embedding too long, default 0", ContextOverflowError, r"maximum sequence length for this model \(256\)"),
        ("embedding-tasks too long one", ContextOverflowError, "indexes: 1, 2"),
        ("text-generation tinytgis too long", ContextOverflowError, "must be <= 256"),
        ("text-generation tinytgis bad method", InvalidRequestError, "Decoding method"),
        ("text-generation tinytgis greedy with temperature", InvalidRequestError, "greedy decoding mode"),
        ("embedding params extra unknown", InvalidRequestError, "parameters.bogus: Extra inputs are not permitted"),
        ("rerank string documents", InvalidRequestError, "inputs.documents.0: Input should be an object"),
        ("stream bad json", InvalidRequestError, "Invalid JSON"),
        ("embedding no content-type", ServerError, "Unhandled exception"),
        ("embedding charset", InvalidRequestError, "Unsupported media type"),
        ("embedding GET", NotFoundError, "Method Not Allowed"),
        ("unknown task", NotFoundError, "Not Found"),
        (f"{BACKEND}INVALID_ARGUMENT", InvalidRequestError, "injected"),
        (f"{BACKEND}UNAVAILABLE", NotReadyError, "TCP connection is closed"),
        (f"{BACKEND}DEADLINE_EXCEEDED", NotReadyError, "TCP connection is closed"),
        (f"{BACKEND}INTERNAL", ServerError, "injected"),
        (f"{BACKEND}UNAUTHENTICATED", AuthenticationError, "injected"),
        (f"{BACKEND}NOT_FOUND", NotFoundError, "injected"),
        ("tokenization minilm", ServerError, "not JSON serializable"),
    ],
)
def test_recorded_errors(name, kind, words):
    server = Server().task("text-generation", answer(name))
    with pytest.raises(kind, match=words) as caught:
        run(server, lambda r: text(r, "m"))
    assert type(caught.value) is kind
    assert caught.value.status == recorded("http")[name]["status"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("embedding params extra unknown", "version may be older"),
        ("text-generation tinylm token details", "without TGIS"),
        ("text-generation tinylm stop", "stop sequences"),
        ("tokenization minilm", "protocol='grpc'"),
        ("unknown task", "route_prefix"),
        (f"{BACKEND}UNAVAILABLE", "TGIS server behind it"),
        ("embedding missing model_id", "models()"),
    ],
)
def test_hints(name, hint):
    with pytest.raises(KServeError) as caught:
        run(Server().task("text-generation", answer(name)), lambda r: text(r, "m"))
    assert hint in caught.value.hint


def test_an_overflow_of_an_embedding_says_how_to_cut():
    server = Server().task("embedding", answer("embedding too long, default 0"))
    with pytest.raises(ContextOverflowError) as caught:
        run(server, lambda r: r.embed(EmbeddingRequest(texts=["a"])), model="minilm")
    assert "truncate" in caught.value.hint
    assert caught.value.request_id == "3868e1d46cd44c9a881ec68accf39a0a"


def test_a_validation_error_does_not_repeat_the_prompt():
    entry = {"type": "string_type", "loc": ["inputs"], "msg": "Input should be a valid string", "input": "secret"}
    body = {"details": "Input should be a valid string", "additional_info": [entry], "code": 422, "id": "1"}
    with pytest.raises(InvalidRequestError) as caught:
        run(Server().task("text-generation", json_answer(body, 422)), lambda r: text(r, "m"))
    assert "secret" not in f"{caught.value!s}{caught.value.response.text}"


@PROTOCOLS
def test_an_unreachable_backend_is_waited_for_unless_it_was_slow(protocol):
    server = Server().task("text-generation", answer(f"{BACKEND}UNAVAILABLE"))
    server.route(tasks.GENERATION.method, "generation fail UNAVAILABLE")
    with pytest.raises(NotReadyError) as caught:
        run(server, lambda r: text(r, "m"), protocol=protocol)
    assert (caught.value.status, is_cold_start(caught.value)) == (501, True)
    policy = RetryPolicy()
    assert decide(5, 30.0, caught.value, policy, waits=5, took=0.1).cold
    assert (
        decide(5, 200.0, caught.value, policy, waits=0, took=60.0) is None
    )  # the backend was too slow, again and again


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("embedding unknown model", ModelNotFoundError, "'nope'"),
        ("embedding no metadata", InvalidRequestError, "INVALID_ARGUMENT: Missing required model ID"),
        ("embedding too long", ContextOverflowError, "maximum sequence length"),
        ("generation tinytgis long", ContextOverflowError, "must be <= 256"),
        ("generation tinytgis bad method", InvalidRequestError, "Decoding method"),
        ("generation fail INVALID_ARGUMENT", InvalidRequestError, "injected"),
        ("generation fail INTERNAL", ServerError, "injected"),
        ("generation fail UNAUTHENTICATED", AuthenticationError, "injected"),
        ("generation fail DEADLINE_EXCEEDED", NotReadyError, "TCP connection is closed"),
        ("request over 4 MiB", RequestTooLargeError, "larger than max"),
        ("generation embedding model", BadResponseError, "does not have this task"),
    ],
)
def test_recorded_statuses(case, kind, words):
    server = Server().route(tasks.GENERATION.method, case)
    with pytest.raises(kind, match=words):
        run(server, lambda r: text(r, "m"), protocol="grpc")


def test_a_connection_that_is_refused_is_not_taken_for_the_backend():
    failure = GrpcFailure("UNAVAILABLE", "failed to connect to all addresses; last error: Connection refused (111)")
    server = Server().route(tasks.GENERATION.method, failure)
    with pytest.raises(EndpointConnectionError):
        run(server, lambda r: text(r, "m"), protocol="grpc")


NOBODY_BEHIND = (
    "connections to all backends failing; last error: UNKNOWN: ipv4:10.0.0.7:8033: Failed to connect to remote host: "
    "Connection refused"
)
"""What a real server says in a stream when there is no TGIS server behind it."""


def test_nobody_behind_a_stream_is_the_same_as_behind_a_whole_answer():
    event = orjson.dumps({"details": NOBODY_BEHIND, "code": 500, "id": "1"}).decode()
    server = Server().task("server-streaming-text-generation", [f"event: error\r\ndata: {event}\r\n\r\n"])
    server.route(tasks.STREAM.method, GrpcFailure("UNAVAILABLE", NOBODY_BEHIND))
    for protocol in ("rest", "grpc"):
        client = server.client(model="m", protocol=protocol)
        with pytest.raises(NotReadyError, match="backends") as caught:
            list(client.stream(client.runtime.stream_generate(TextRequest(prompts=["x"]))))
        assert caught.value.status == 501


def test_a_model_that_does_not_know_the_parameters_of_the_task():
    said = "EmbeddingModule.run_embedding() got an unexpected keyword argument 'max_new_tokens'"
    server = Server().task("text-generation", json_answer({"details": said, "code": 400, "id": "1"}, 400))
    with pytest.raises(BadResponseError, match=r"'max_new_tokens'.*does not have this task") as caught:
        run(server, lambda r: text(r, "m"))
    assert not caught.value.retryable


def test_a_service_that_is_not_there():
    with pytest.raises(NotFoundError) as caught:
        run(Server(), lambda r: text(r, "m"), protocol="grpc")
    assert "no module for text generation" in caught.value.hint
