"""Finding models and their metadata, and what a server tells about itself; answers recorded where they name a server."""

from __future__ import annotations

import pickle

import pytest
from unit.core.runtimes.v2_wire import NO_ROUTE, Server, answer, json_answer, messages_of, types, vectors

from kserve_core.calls import Call, GrpcFailure, Response
from kserve_core.capabilities import InfoRuntime
from kserve_core.errors import (
    ConfigurationError,
    EndpointConnectionError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
)
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.dialects import OPENVINO, PLAIN, TRITON
from kserve_core.runtimes.open_inference.metadata import with_config
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.values import ModelMetadata, RepositoryModel
from kserve_core.runtimes.registry import RUNTIMES
from kserve_core.tensors import Tensor

EMPTY = Response(200, {}, b"")
INDEX = "POST /v2/repository/index"


def index(*names, state="READY"):
    return json_answer([{"name": name, "version": "1", "state": state} for name in names])


def run(client, flow):
    return client.run(flow(client.runtime))


# which model


def test_the_only_model_is_found_once():
    server = Server().route(INDEX, index("embed"))
    client = server.client()
    assert [run(client, lambda runtime: runtime.resolve_model()) for _ in range(2)] == ["embed", "embed"]
    assert server.asked == [INDEX]


def test_the_only_model_that_is_ready_is_meant():
    models = [{"name": "a", "version": "1", "state": "READY"}, {"name": "b"}, {"name": "a", "version": "2"}]
    client = Server().route(INDEX, json_answer(models)).client()
    assert run(client, lambda runtime: runtime.resolve_model()) == "a"


def test_several_models_have_to_be_told_apart():
    client = Server().route(INDEX, index("a", "b")).client()
    with pytest.raises(ConfigurationError, match="2 models") as caught:
        run(client, lambda runtime: runtime.resolve_model())
    assert caught.value.hint == "It has 'a', 'b'."
    with pytest.raises(ModelNotFoundError, match="no model"):
        run(Server().route(INDEX, index()).client(), lambda runtime: runtime.resolve_model())


@pytest.mark.parametrize(("server", "protocol"), [("kserve", "grpc"), ("openvino", "grpc"), ("triton", "rest")])
def test_a_server_that_lists_nothing_wants_the_name(server, protocol):
    about = json_answer({"name": server})
    with pytest.raises(ConfigurationError, match="`model` has to be given"):
        run(Server().route("GET /v2", about).client(server, protocol), lambda runtime: runtime.resolve_model())


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_where_no_server_of_the_protocol_answers_that_is_said(protocol):
    server = Server()
    with pytest.raises(ConfigurationError, match="No server of the Open Inference Protocol") as caught:
        run(server.client("triton", protocol), lambda runtime: runtime.resolve_model())
    assert "kserve-doctor" in caught.value.hint
    assert "model=" in caught.value.hint
    assert len(server.calls) == 2


def test_a_runtime_that_was_pickled_knows_its_servers_ways():
    status = json_answer({"m": {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}})
    client = Server().route("GET /v1/config", status).client("openvino")
    client.runtime = pickle.loads(pickle.dumps(client.runtime))
    assert run(client, lambda runtime: runtime.resolve_model()) == "m"


def test_a_question_for_help_that_fails_hides_no_error():
    class Lost(Server):
        def run(self, call):
            if call.path.endswith("/index"):
                raise EndpointConnectionError("gone")
            return super().run(call)

    client = Lost().route("POST /v2/models/m/infer", answer("triton", "unknown model")).client()
    with pytest.raises(ModelNotFoundError):
        client.run(client.runtime.infer(client.runtime.request([], model="m")))


def test_every_servers_list_is_read():
    for server, route, found, names in (
        ("triton", INDEX, answer("triton", "repository index"), {"embed", "broken"}),
        ("mlserver", INDEX, answer("mlserver", "repository index"), {"embed"}),
        ("kserve", "GET /v2/models", answer("kserve", "model list"), {"embed"}),
    ):
        client = Server().route(route, found).client(server)
        models = {info.id: info for info in run(client, lambda runtime: runtime.models())}
        assert names <= models.keys()
        assert models["embed"].extra["ready"] is True
    for server in ("triton", "mlserver"):
        client = Server().route("RepositoryIndex", messages_of(server, "repository index")).client(server, "grpc")
        models = {info.id: info for info in run(client, lambda runtime: runtime.models())}
        assert models["embed"].extra["ready"] is True


def test_a_model_that_failed_to_load_says_why():
    client = Server().route(INDEX, answer("triton", "repository index")).client()
    broken = next(info for info in run(client, lambda runtime: runtime.models()) if info.id == "broken")
    assert broken.extra["ready"] is False
    assert "never loads" in broken.extra["reason"]


def test_openvinos_models_are_those_of_its_configuration():
    status = {"error_code": "OK", "error_message": "OK"}
    versions = [{"version": "1", "state": "AVAILABLE", "status": status}, {"version": 2, "state": "LOADING"}]
    server = Server().route("GET /ns/v1/config", json_answer({"m": {"model_version_status": versions}, "x": None}))
    client = server.client(OPENVINO, base_path="/ns/v2")
    assert run(client, lambda runtime: runtime.repository_index()) == [
        RepositoryModel("m", "1", "READY"),
        RepositoryModel("m", "2", "LOADING"),
    ]


def test_of_an_unknown_server_any_list_will_do():
    server = Server().route("GET /v2/models", json_answer({"models": ["a"]}))
    assert run(server.client(PLAIN), lambda runtime: runtime.resolve_model()) == "a"
    assert server.asked == [INDEX, "GET /v2/models"]


def test_an_unknown_model_makes_the_server_be_asked_for_those_there_are_once():
    server = (
        Server().route(INDEX, index("embed")).route("POST /v2/models/embd/infer", answer("triton", "unknown model"))
    )
    client = server.client()
    for _ in range(2):
        with pytest.raises(ModelNotFoundError) as caught:
            client.run(client.runtime.infer(client.runtime.request([], model="embd")))
        assert caught.value.hint == "Did you mean 'embed'? The server has 'embed'."
    assert server.asked.count(INDEX) == 1


def test_an_unknown_version_tells_the_versions():
    models = [{"name": "m", "version": version, "state": "READY"} for version in ("1", "7")]
    server = Server().route(INDEX, json_answer(models))
    server.route("POST /v2/models/m/versions/9/infer", answer("triton", "unknown version"))
    client = server.client(model_version=9)
    with pytest.raises(ModelNotFoundError, match="version '9'") as caught:
        client.run(client.runtime.infer(client.runtime.request([], model="m")))
    assert caught.value.hint == "It has the versions '1', '7'."


def test_a_model_that_was_found_and_is_gone_is_looked_for_again():
    server = Server().route(INDEX, index("old"))
    client = server.client()
    run(client, lambda runtime: runtime.resolve_model())
    server.route("POST /v2/models/old/infer", answer("triton", "unknown model")).route(INDEX, index("new"))
    with pytest.raises(ModelNotFoundError) as caught:
        client.run(client.runtime.infer(client.runtime.request([], model="old")))
    assert "'new'" in caught.value.hint
    assert run(client, lambda runtime: runtime.resolve_model()) == "new"


# what a model takes and gives


def test_a_description_is_asked_for_once_for_each_version():
    server = Server().route("GET /v2/models/embed_wide", answer("triton", "metadata embed_wide"))
    server.route("GET /v2/models/embed_wide/config", answer("triton", "config embed_wide"))
    client = server.client(model="embed_wide")
    assert client.runtime.known_model() is None
    for _ in range(2):
        found = run(client, lambda runtime: runtime.describe_model())
    assert (found.inputs[0].name, found.inputs[0].datatype, found.inputs[0].shape) == ("text", "BYTES", (-1, 1))
    assert (found.max_batch_size, found.decoupled, found.versions) == (64, False, ("1",))
    assert client.runtime.known_model() is found
    assert client.runtime.known_model("embed_wide", "1") is None
    assert server.asked == ["GET /v2/models/embed_wide", "GET /v2/models/embed_wide/config"]


def test_descriptions_are_the_same_over_both_protocols():
    for name in ("embed_wide", "tiny", "tensorrt_llm", "embed"):
        rest = Server().route(f"GET /v2/models/{name}", answer("triton", f"metadata {name}"))
        rest.route(f"GET /v2/models/{name}/config", answer("triton", f"config {name}"))
        grpc = Server().route("ModelMetadata", messages_of("triton", f"metadata {name}"))
        grpc.route("ModelConfig", messages_of("triton", f"config {name}"))
        both = [
            run(server.client("triton", protocol, model=name), lambda runtime: runtime.describe_model())
            for server, protocol in ((rest, "rest"), (grpc, "grpc"))
        ]
        assert both[0] == both[1]


def test_optional_inputs_and_decoupled_models_are_known_from_the_configuration():
    server = Server().route("GET /v2/models/tiny", answer("triton", "metadata tiny"))
    server.route("GET /v2/models/tiny/config", answer("triton", "config tiny"))
    found = run(server.client(model="tiny"), lambda runtime: runtime.describe_model())
    assert found.decoupled is True
    assert found.input("text_input").optional is False
    assert any(spec.optional for spec in found.inputs)


@pytest.mark.parametrize("refusal", [NO_ROUTE, answer("triton", "restricted metadata, no token")])
def test_a_model_without_metadata_is_described_by_its_name(refusal):
    server = Server().route("GET /v2/models/m", refusal).route("GET /v2/models/m/config", refusal)
    client = server.client(model="m")
    for _ in range(2):
        assert run(client, lambda runtime: runtime.describe_model()) == ModelMetadata("m")
    assert len(server.calls) == 2
    grpc = Server().client("triton", "grpc", model="m")
    assert run(grpc, lambda runtime: runtime.describe_model()) == ModelMetadata("m")


def test_a_model_that_is_not_there_is_not_described():
    server = Server().route("GET /v2/models/m", answer("triton", "metadata, unknown model"))
    with pytest.raises(ModelNotFoundError):
        run(server.client(model="m"), lambda runtime: runtime.describe_model())


def test_strange_metadata_is_read_as_far_as_it_goes():
    raw = {"name": "m", "versions": None, "inputs": [{"name": "a", "datatype": "fp32", "shape": ["-1", 3, None]}, 7]}
    client = Server().route("GET /v2/models/m", json_answer(raw)).client("openvino", model="m")
    found = run(client, lambda runtime: runtime.describe_model())
    assert (found.versions, found.inputs[0].shape, found.inputs[0].datatype) == ((), (-1, 3, -1), "FP32")


def test_what_is_known_of_a_model_is_forgotten_when_it_is_loaded_anew():
    server = Server().route("GET /v2/models/m", json_answer({"name": "m"}))
    server.route("POST /v2/repository/models/m/load", EMPTY)
    client = server.client("mlserver", model="m")
    run(client, lambda runtime: runtime.describe_model())
    run(client, lambda runtime: runtime.load_model())
    assert client.runtime.known_model() is None
    assert server.calls[-1].body == b"{}"


# the server


def test_metadata_of_every_server_over_both_protocols():
    for server in ("triton", "mlserver", "kserve"):
        rest = Server().route("GET /v2", answer(server, "server metadata")).client(server)
        grpc = Server().route("ServerMetadata", messages_of(server, "server metadata")).client(server, "grpc")
        found = run(rest, lambda runtime: runtime.server_metadata())
        assert found.name == server
        assert found == run(grpc, lambda runtime: runtime.server_metadata())
        assert run(rest, lambda runtime: runtime.version()) == found.version


@pytest.mark.parametrize(
    ("server", "found", "expected"),
    [
        ("triton", EMPTY, True),
        ("triton", Response(400, {}, b""), False),
        ("mlserver", answer("mlserver", "ready, a model is not"), False),
        ("kserve", json_answer({"ready": True}), True),
        ("kserve", json_answer({"ready": False}), False),
        ("kserve", json_answer({"error": "not ready"}, 503), False),
        ("openvino", Response(200, {}, b"whatever"), True),
    ],
)
def test_whether_a_server_is_ready(server, found, expected):
    client = Server().route("GET /v2/health/ready", found).client(server)
    assert run(client, lambda runtime: runtime.server_ready()) is expected
    assert run(client, lambda runtime: runtime.health()) is expected


@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
def test_whether_a_model_is_ready(server):
    client = Server().route("GET /v2/models/m/ready", answer(server, "model ready")).client(server, model="m")
    assert run(client, lambda runtime: runtime.health()) is True
    for name in ("model ready, unknown", "model ready, broken"):
        no = Server().route("GET /v2/models/m/ready", answer(server, name)).client(server, model="m")
        assert run(no, lambda runtime: runtime.model_ready()) is False
    grpc = Server().route("ModelReady", messages_of(server, "model ready, unknown")).client(server, "grpc")
    assert run(grpc, lambda runtime: runtime.model_ready("m")) is False


def test_other_answers_than_a_plain_no_are_raised():
    server = Server().route("GET /v2/health/ready", Response(403, {}, b"Forbidden"))
    with pytest.raises(PermissionDeniedError):
        run(server.client(), lambda runtime: runtime.health())
    refused = GrpcFailure("UNAVAILABLE", "failed to connect to all addresses; last error: Connection refused")
    grpc = Server().route("ServerReady", refused).client("triton", "grpc")
    with pytest.raises(EndpointConnectionError):
        run(grpc, lambda runtime: runtime.health())


def test_a_proxy_that_only_infers():
    server = Server().route("POST /v2/models/m/infer", json_answer(vectors([1.0])))
    client = server.client(PLAIN, model="m")
    assert client.run(client.runtime.infer(client.runtime.request([Tensor.of("x", ["a"])], model="m")))
    for question in ("server_live", "server_ready", "server_metadata", "model_ready", "health"):
        with pytest.raises(NotFoundError) as caught:
            run(client, lambda runtime, question=question: getattr(runtime, question)())
        assert "ModelMesh" in caught.value.hint
    server.route("GET /v2/models/m", json_answer({"name": "m"}))
    assert run(client, lambda runtime: runtime.health()) is True


def test_a_request_brings_the_question_whether_its_model_is_ready():
    runtime = OpenInferenceRuntime(dialect=TRITON, model_version=2)
    call = runtime.infer_call(runtime.request([], model="m"), lambda result: result)
    assert isinstance(call, Call)
    assert call.probe.path == "/v2/models/m/versions/2/ready"
    assert runtime.probe().path == "/v2/health/ready"
    grpc = OpenInferenceRuntime(dialect=TRITON, protocol="grpc", model="m")
    assert grpc.infer_call(grpc.request([], model="m"), lambda result: result).probe.request.name == "m"


def test_model_info_tells_what_is_known():
    server = Server().route("GET /v2/models/embed_wide", answer("triton", "metadata embed_wide"))
    server.route("GET /v2/models/embed_wide/config", answer("triton", "config embed_wide"))
    info = run(server.client(), lambda runtime: runtime.model_info("embed_wide"))
    assert (info.id, info.extra["max_batch_size"], info.extra["platform"]) == ("embed_wide", 64, "python")


# the runtime itself


def test_options_may_be_given_one_by_one():
    runtime = OpenInferenceRuntime(options=TensorOptions(pooling="cls", output_name="o"), pooling="mean")
    assert (runtime.options.pooling, runtime.options.output_name) == ("mean", "o")
    with pytest.raises(ConfigurationError, match="no argument 'poolng'"):
        OpenInferenceRuntime(poolng="mean")
    with pytest.raises(ConfigurationError, match="protocol"):
        OpenInferenceRuntime(protocol="http")


def test_the_runtimes_parameters_go_with_every_request():
    runtime = OpenInferenceRuntime(parameters={"a": 1, "b": 2})
    assert runtime.request([], model="m", parameters={"b": 3}).parameters == {"a": 1, "b": 3}


def test_a_runtime_pickles_with_what_it_knows():
    server = Server().route("GET /v2/models/m", json_answer({"name": "m", "platform": "p"}))
    client = server.client("mlserver", model="m")
    run(client, lambda runtime: runtime.describe_model())
    for protocol in ("rest", "grpc"):
        client.runtime.protocol = protocol
        again = pickle.loads(pickle.dumps(client.runtime))
        assert again.known_model().platform == "p"
        assert again.dialect == client.runtime.dialect


def test_it_is_registered_under_its_names():
    for key in ("triton", "mlserver", "openvino", "kserve"):
        assert RUNTIMES[key].key == key
    assert isinstance(OpenInferenceRuntime(), InfoRuntime)
    assert "model='m'" in repr(OpenInferenceRuntime(model="m"))


def test_no_tensor_is_shown():
    secret = Tensor.of("text", ["what the user wrote"])
    request = OpenInferenceRuntime().request([secret], model="m")
    call = OpenInferenceRuntime().infer_call(request, lambda result: result)
    grpc = OpenInferenceRuntime(protocol="grpc").infer_call(request, lambda result: result)
    assert "what the user wrote" not in f"{request!r}{call!r}{grpc!r}{secret!r}"
    assert types.ModelInferRequest.FromString(grpc.request.SerializeToString()) == grpc.request


@pytest.mark.parametrize("strange", [{"input": 5}, {"input": {"a": 1}}, {"input": [3, {"name": [], "optional": True}]}])
def test_a_strange_configuration_is_read_as_far_as_it_goes(strange):
    described = ModelMetadata("m")
    assert with_config(described, {**strange, "max_batch_size": 4}).max_batch_size == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "max"},
        {"max_length": 0},
        {"max_length": "8"},
        {"batch_size": 0},
        {"input_name": 5},
        {"output_name": ""},
        {"parameters": [1]},
        {"extra_inputs": "x"},
    ],
)
def test_an_option_that_can_mean_nothing_is_refused_at_once(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        OpenInferenceRuntime(**wrong)
