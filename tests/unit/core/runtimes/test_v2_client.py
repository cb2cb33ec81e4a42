"""The client for any V2 model: arrays in and out, mistakes found before anything is sent."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest
from unit.core.runtimes.v2_wire import INDEX_ROUTE, NO_ROUTE, Server, answer, json_answer, messages_of, vectors

import kserve_core
from kserve_core import InferenceClient, Tensor
from kserve_core.errors import ConfigurationError, ModelNotFoundError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.values import ModelMetadata

URL = "http://127.0.0.1:1"


def client(answers, /, **options):
    made = InferenceClient(URL, **options)
    made._client.transport = answers
    return made


def declaring(server_name, *inputs, outputs=(), config=None):
    """A server of a name with one model."""
    metadata = {
        "name": "m",
        "inputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in inputs],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in outputs],
    }
    server = Server().route("GET /v2", json_answer({"name": server_name, "version": "1", "extensions": []}))
    server.route("GET /v2/models/m", json_answer(metadata))
    server.route("POST /v2/models/m/infer", json_answer(vectors([0.5, 2.0])))
    server.route(INDEX_ROUTE, json_answer([{"name": "m", "version": "1", "state": "READY"}]))
    return server.route("GET /v2/models/m/config", json_answer(config or {"name": "m", "max_batch_size": 0}))


TEXT = ("text", "BYTES", [-1])
IDS = ("ids", "INT32", [-1, 2])


def test_arrays_and_texts_go_in_and_arrays_come_out():
    server = declaring("triton", TEXT, IDS)
    result = client(server).infer({"text": ["a", "ü"], "ids": np.array([[1, 2]], "i8")})
    assert result["embedding"].dtype == np.float32
    assert result["embedding"].tolist() == [[0.5, 2.0]]
    assert (list(result), len(result), result.model, result.version) == (["embedding"], 1, "m", "1")
    assert [(item["name"], item["datatype"], item["shape"], item["data"]) for item in server.sent["inputs"]] == [
        ("text", "BYTES", [2], ["a", "ü"]),
        ("ids", "INT32", [1, 2], [1, 2]),
    ]


def test_the_server_and_the_model_are_asked_once():
    server = declaring("triton", TEXT)
    made = client(server)
    for _ in range(2):
        made.infer({"text": "a"})
    assert server.asked == [
        "GET /v2",
        INDEX_ROUTE,
        "GET /v2/models/m",
        "GET /v2/models/m/config",
        *["POST /v2/models/m/infer"] * 2,
    ]
    told = declaring("triton", TEXT)
    client(told, server="mlserver", model="m").infer({"text": "a"})
    assert told.asked == ["GET /v2/models/m", "POST /v2/models/m/infer"]


@pytest.mark.parametrize(
    ("name", "raw"), [("triton", True), ("mlserver", False), ("OpenVINO Model Server", True), ("else", False)]
)
def test_the_servers_name_says_what_works(name, raw):
    server = declaring(name, ("x", "FP32", [-1]), outputs=["embedding"])
    client(server, model="m").infer({"x": np.zeros(100, "f4")})
    assert ("inference-header-content-length" in server.calls[-1].headers) is raw
    assert (b"binary_data" in server.calls[-1].body) is raw


def test_a_server_that_does_not_say_what_it_is_gets_what_all_take():
    server = Server().route("POST /v2/models/m/infer", json_answer(vectors([1.0])))
    made = client(server, model="m")
    assert made.infer({"x": np.zeros(100, "f4")})["embedding"].tolist() == [[1.0]]
    assert made.model_metadata() == ModelMetadata("m")
    assert server.asked.count("GET /v2") == 1


@pytest.mark.parametrize(
    ("inputs", "message", "hint"),
    [
        ({"txt": ["a"]}, "no input 'txt'", "Did you mean 'text'? The model declares text BYTES[-1], ids INT32[-1, 2]."),
        ({"text": ["a"]}, "needs the input 'ids', which was not given", "ids INT32[-1, 2]"),
        ({}, "needs the inputs 'text', 'ids', which were not given", "The model declares"),
        ({"text": ["a"], "ids": [[1, 2]], "more": 1}, "no input 'more'", "The model declares"),
        ({"text": [1], "ids": [[1, 2]]}, "'text'", "text BYTES[-1]"),
        ({"text": ["a"], "ids": [[1, 2**40]]}, "'ids'", "ids INT32[-1, 2]"),
        ({"text": ["a"], "ids": [[0.5, 1]]}, "'ids'", "ids INT32[-1, 2]"),
        ({"text": ["a"], "ids": [1, 2]}, "the shape [2]", "ids INT32[-1, 2]"),
        ({"text": ["a"], "ids": [[1, 2, 3]]}, "the shape [1, 3]", "-1 is any size"),
        ({"text": [["a"]], "ids": [[1, 2]]}, "the shape [1, 1]", "text BYTES[-1]"),
        ({1: ["a"]}, "must be text", ""),
        (["a"], "must be a dict", "infer({"),
        ("", "must be a dict", "infer({"),
        ({"text": Tensor.of("ids", [1])}, "is named 'ids'", ""),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(inputs, message, hint):
    server = declaring("triton", TEXT, IDS)
    with pytest.raises(ConfigurationError) as caught:
        client(server, model="m").infer(inputs)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not any(asked.startswith("POST") for asked in server.asked)


def test_unknown_outputs_are_found_too():
    server = declaring("triton", TEXT, outputs=["embedding", "other"])
    made = client(server, model="m")
    with pytest.raises(ConfigurationError, match="no output 'embeding'") as caught:
        made.infer({"text": "a"}, outputs=["embeding"])
    assert "Did you mean 'embedding'?" in caught.value.hint
    assert made.infer({"text": "a"}, outputs=["embedding"])
    assert [output["name"] for output in server.sent["outputs"]] == ["embedding"]


def test_optional_inputs_may_be_left_out():
    config = {"max_batch_size": 0, "input": [{"name": "ids", "optional": True}]}
    assert client(declaring("triton", TEXT, IDS, config=config), model="m").infer({"text": "a"})


def test_which_inputs_are_needed_is_not_known_where_the_configuration_is_not():
    server = declaring("triton", TEXT, IDS).route("GET /v2/models/m/config", NO_ROUTE)
    assert client(server, model="m").infer({"text": "a"})


def test_where_declarations_may_be_incomplete_only_a_plain_mistake_is_refused():
    made = client(declaring("mlserver", TEXT, IDS), model="m")
    assert made.infer({"text": [["a"]]})
    assert made.infer({"text": "a", "ids": [1], "more": [1.0]})
    with pytest.raises(ConfigurationError, match="no input 'txt'"):
        made.infer({"txt": "a", "ids": [1]})


def test_tensors_are_sent_as_they_are():
    server = declaring("triton", ("x", "FP32", [-1]))
    client(server, model="m").infer([Tensor.of("x", [[1, 2]], datatype="INT8", parameters={"p": 1})])
    assert server.sent["inputs"] == [
        {"name": "x", "datatype": "INT8", "shape": [1, 2], "data": [1, 2], "parameters": {"p": 1}}
    ]


def test_versions_parameters_ids_and_headers_reach_the_server():
    server = declaring("triton", TEXT)
    server.route("GET /v2/models/m/versions/2", json_answer({"name": "m"}))
    server.route("POST /v2/models/m/versions/2/infer", json_answer({"id": "mine", "outputs": []}))
    made = client(server, model="m")
    result = made.infer({"text": "a"}, model_version=2, parameters={"p": 1}, id="mine", headers={"x-a": "b"})
    assert result.id == "mine"
    assert (server.sent["id"], server.sent["parameters"]["p"]) == ("mine", 1)
    assert server.calls[-1].headers["x-a"] == "b"


def test_it_runs_in_an_event_loop():
    async def main():
        async with client(declaring("triton", TEXT), model="m") as made:
            result = await made.ainfer({"text": "a"})
            described = await made.amodel_metadata()
            return result["embedding"].tolist(), described.inputs[0].name, (await made.arepository_index())[0].name

    assert asyncio.run(main()) == ([[0.5, 2.0]], "text", "m")


def test_the_server_answers_about_itself():
    server = declaring("triton", TEXT)
    server.route("GET /v2/health/live", json_answer(None)).route("GET /v2/health/ready", NO_ROUTE)
    server.route("GET /v2/models/m/ready", json_answer(None))
    server.route("POST /v2/repository/models/m/load", json_answer(None))
    server.route("POST /v2/repository/models/m/unload", json_answer(None))
    with client(server) as made:
        assert made.is_server_live() is True
        assert made.is_model_ready() is True
        assert made.server_metadata().name == "triton"
        assert made.load_model("m") is None
        assert made.unload_model("m") is None
    with pytest.raises(kserve_core.NotFoundError):
        made.is_server_ready()


def test_a_decoupled_model_gives_out_its_answers_one_by_one():
    server = Server().route("ModelStreamInfer", messages_of("triton", "stream, final"))
    for method, name in (("ServerMetadata", "server metadata"), ("ModelMetadata", "metadata tiny")):
        server.route(method, messages_of("triton", name))
    made = InferenceClient("grpc://127.0.0.1:1", model="tiny")
    made._client.transport = server

    async def main():
        return [piece.texts("text_output") async for piece in made.astream_infer({"text_input": ["Hi"]})]

    pieces = [piece.texts("text_output") for piece in made.stream_infer({"text_input": ["Hi"]})]
    assert len(pieces) == 13
    assert pieces[0] == ["Hel"]
    assert asyncio.run(main()) == pieces


def test_streaming_where_there_is_none_says_where_there_is():
    with pytest.raises(UnsupportedParameterError) as caught:
        list(client(declaring("triton", TEXT), model="m").stream_infer({"text": "a"}))
    assert "grpc" in caught.value.hint


def test_an_unknown_model_says_which_there_are():
    server = declaring("triton", TEXT).route("GET /v2/models/n", answer("triton", "metadata, unknown model"))
    with pytest.raises(ModelNotFoundError) as caught:
        client(server).infer({"text": "a"}, model="n")
    assert "'m'" in caught.value.hint


def test_a_result_tells_what_it_has():
    result = client(declaring("triton", TEXT)).infer({"text": "a"})
    with pytest.raises(KeyError, match="the answer has 'embedding'"):
        result["score"]
    assert repr(result) == "InferenceResult(Tensor('embedding', FP32, [1, 2]))"
    assert result.tensors["embedding"].rows() == [[0.5, 2.0]]


def test_arguments_are_checked_when_the_client_is_made():
    for options, message in (
        ({"server": "tgis"}, "server must be one of"),
        ({"base_url": "grpc://h:1", "protocol": "rest"}, "gRPC server"),
        ({"base_url": f"{URL}/v2/models/m/infer"}, "one operation"),
        ({"server": "kserve", "model_version": "1"}, "no model versions"),
        ({"timeout": -1}, "timeout"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            InferenceClient(**{"base_url": URL, **options})


def test_a_client_pickles_and_shows_no_secret():
    made = InferenceClient(f"{URL}/v2", api_key="s3cret", model="m", server="triton")
    again = pickle.loads(pickle.dumps(made))
    assert again.endpoint == made.endpoint
    assert "s3cret" not in repr(made)
    assert "model='m'" in repr(again)
