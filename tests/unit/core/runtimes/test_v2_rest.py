"""Requests and answers over REST, as bytes: those of the answers were recorded from real servers where it says so."""

from __future__ import annotations

import math

import orjson
import pytest
from unit.core.runtimes.v2_wire import SERVERS, Server, answer, json_answer, raw_answer, recorded, vectors

from kserve_core.calls import Response
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    InvalidRequestError,
    ServerError,
    UnsupportedParameterError,
)
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.bodies import read_infer
from kserve_core.runtimes.open_inference.dialects import KSERVE, MLSERVER, OPENVINO, PLAIN, TRITON
from kserve_core.runtimes.open_inference.errors import Asked
from kserve_core.tensors import Tensor

INFER = "POST /v2/models/m/infer"
ASKED = Asked(TRITON, "infer", "m")


def infer(server, *tensors, dialect="triton", **more):
    options = {key: more.pop(key) for key in ("base_path",) if key in more}
    client = server.client(dialect, **options)
    return client.run(client.runtime.infer(client.runtime.request(tensors, model="m", **more)))


def answering(found=None):
    return Server().route(INFER, json_answer(vectors([1.0, 2.0])) if found is None else found)


# URLs


@pytest.mark.parametrize(
    ("base", "root"),
    [("", ""), ("/", ""), ("/v2", ""), ("/v2/", ""), ("/ns/x", "/ns/x"), ("/ns/x/v2", "/ns/x"), ("ns/x/", "/ns/x")],
)
def test_the_api_is_found_under_any_base_url(base, root):
    server = Server().route(f"POST {root}/v2/models/m/infer", json_answer(vectors([1.0])))
    assert infer(server, Tensor.of("text", ["a"]), base_path=base).outputs["embedding"].rows() == [[1.0]]


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models", "/ns/v2/health/ready", "/v2/repository/index/"])
def test_the_url_of_one_operation_is_refused(path):
    with pytest.raises(ConfigurationError, match="one operation") as caught:
        OpenInferenceRuntime(base_path=path)
    assert caught.value.hint.startswith("Give the URL up to ")


@pytest.mark.parametrize("path", ["/v1", "/openai/v1", "/ns/v3", "/v3/v1"])
def test_the_url_of_another_api_is_refused_where_the_server_has_one_only(path):
    with pytest.raises(ConfigurationError, match="another API"):
        OpenInferenceRuntime(base_path=path, dialect=TRITON)
    prefix = path[: path.index("/v")].removesuffix("/openai")
    server = Server().route(f"POST {prefix}/v2/models/m/infer", json_answer(vectors([1.0])))
    assert infer(server, Tensor.of("text", ["a"]), dialect=OPENVINO, base_path=path)


def test_names_go_into_the_path_as_the_server_reads_them():
    server = Server()
    for dialect, name, path in (
        (MLSERVER, "a b", "/v2/models/a%20b"),
        (MLSERVER, "é", "/v2/models/%C3%A9"),
        (TRITON, "org:model@1", "/v2/models/org:model@1"),
    ):
        runtime = server.client(dialect).runtime
        assert runtime.wire.model_metadata(name).path == path
    for dialect, name in ((TRITON, "a b"), (TRITON, "é"), (TRITON, "a?b"), (MLSERVER, "a/b"), (MLSERVER, "..")):
        with pytest.raises(ConfigurationError, match="cannot carry") as caught:
            server.client(dialect).runtime.wire.model_metadata(name)
        assert "grpc" in caught.value.hint


def test_versions_are_those_the_server_can_have():
    assert OpenInferenceRuntime(dialect=TRITON, model_version=3).model_version == "3"
    assert OpenInferenceRuntime(dialect=MLSERVER, model_version="v0.1.0").model_version == "v0.1.0"
    with pytest.raises(ConfigurationError, match="whole numbers"):
        OpenInferenceRuntime(dialect=TRITON, model_version="latest")
    with pytest.raises(UnsupportedParameterError, match="no model versions"):
        OpenInferenceRuntime(dialect=KSERVE, model_version="1")


# what is sent


def test_json_carries_text_an_id_and_the_wish_for_raw_outputs():
    server = answering()
    result = infer(server, Tensor.of("text", ["a", "wörld"]), parameters={"x": 1})
    body = dict(server.sent)
    assert len(body.pop("id")) == 32
    assert body == {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "wörld"]}],
        "parameters": {"x": 1, "binary_data_output": True},
    }
    assert server.calls[-1].headers == {"content-type": "application/json"}
    assert result.outputs["embedding"].rows() == [[1.0, 2.0]]


def test_named_outputs_are_asked_for_raw_each():
    server = answering()
    infer(server, Tensor.of("text", ["a"]), outputs=["embedding"], id="mine")
    assert server.sent["outputs"] == [{"name": "embedding", "parameters": {"binary_data": True}}]
    assert server.sent["id"] == "mine"
    assert "parameters" not in server.sent


@pytest.mark.parametrize("dialect", [MLSERVER, PLAIN])
def test_nothing_raw_where_it_does_not_work(dialect):
    server = answering()
    infer(server, Tensor.of("x", [0.5] * 500, datatype="FP32"), dialect=dialect, outputs=["embedding"])
    assert server.sent["outputs"] == [{"name": "embedding"}]
    assert server.sent["inputs"][0]["data"] == [0.5] * 500


@pytest.mark.parametrize(
    ("tensor", "raw"),
    [
        (Tensor.of("x", [1.5, -2.0], datatype="FP16"), b"\x00\x3e\x00\xc0"),
        (Tensor.of("x", [1.5], datatype="BF16"), b"\xc0\x3f"),
        (Tensor.of("x", [b"\xff\x00"]), b"\x02\x00\x00\x00\xff\x00"),
        (Tensor.of("x", [math.inf], datatype="FP32"), b"\x00\x00\x80\x7f"),
    ],
)
def test_what_json_cannot_hold_is_sent_raw(tensor, raw):
    server = answering()
    infer(server, Tensor.of("text", ["hi"]), tensor)
    first, second = server.sent["inputs"]
    assert first == {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}
    assert second["parameters"] == {"binary_data_size": len(raw)}
    assert "data" not in second
    assert server.behind == raw
    assert server.calls[-1].headers["content-type"] == "application/octet-stream"


def test_large_arrays_are_sent_raw_and_small_ones_are_not():
    numpy = pytest.importorskip("numpy")
    server = answering()
    infer(server, Tensor.of("x", numpy.arange(64, dtype="i8")), Tensor.of("y", numpy.arange(3, dtype="i8")))
    large, small = server.sent["inputs"]
    assert (large["parameters"], small["data"]) == ({"binary_data_size": 512}, [0, 1, 2])


def test_the_binary_request_of_the_wire_page():
    tensor = Tensor("text", "BYTES", (1,), None, [b"\xffi"])
    server = answering()
    infer(server, tensor, id="1")
    call = server.calls[-1]
    assert int(call.headers["inference-header-content-length"]) == len(call.body) - 6


def test_a_tensor_of_an_answer_can_be_sent_again():
    tensor = Tensor.of("x", [1], datatype="INT64", parameters={"binary_data_size": 8, "content_type": "np"})
    server = answering()
    infer(server, tensor)
    assert server.sent["inputs"][0]["parameters"] == {"content_type": "np"}


def test_a_tensor_that_has_no_form_there_is_refused_before_anything_is_sent():
    server = answering()
    for tensor in (Tensor.of("x", [b"\xff"]), Tensor.of("x", [math.nan], datatype="FP32")):
        with pytest.raises(ConfigurationError) as caught:
            infer(server, tensor, dialect="mlserver")
        assert "protocol='grpc'" in caught.value.hint
    for dialect in ("mlserver", "kserve", "openvino"):
        with pytest.raises(UnsupportedParameterError, match="BF16"):
            infer(server, Tensor.of("x", [1.0], datatype="BF16"), dialect=dialect)
    with pytest.raises(ConfigurationError, match="Two inputs"):
        infer(server, Tensor.of("x", [1]), Tensor.of("x", [2]))
    assert server.calls == []


def test_mlserver_takes_halves_as_numbers():
    server = answering()
    infer(server, Tensor.of("x", [1.5], datatype="FP16"), dialect="mlserver")
    assert server.sent["inputs"][0]["data"] == [1.5]


def test_parameters_are_checked_by_what_the_server_takes():
    server = answering()
    for value in ([1], {"a": 1}, None):
        with pytest.raises(UnsupportedParameterError, match="'p'"):
            infer(server, Tensor.of("x", [1]), parameters={"p": value})
    with pytest.raises(UnsupportedParameterError, match="nan"):
        infer(server, Tensor.of("x", [1]), parameters={"p": math.nan})
    infer(server, Tensor.of("x", [1]), dialect="mlserver", parameters={"p": [1]})
    assert server.sent["parameters"] == {"p": [1]}


def test_the_users_headers_do_not_replace_those_that_say_what_the_body_is():
    server = answering()
    infer(server, Tensor.of("x", [1]), headers={"X-Trace": "t", "Content-Type": "text/plain"})
    assert server.calls[-1].headers == {"x-trace": "t", "content-type": "application/json"}


# what comes back


@pytest.mark.parametrize("server", SERVERS)
def test_recorded_answers_say_the_same_as_json_and_raw(server):
    compared = 0
    for name, exchange in recorded(server, "http").items():
        kind, comma, _ = name.partition(",")
        if not kind.endswith(" JSON") or comma or exchange["response"]["status"] != 200:
            continue
        raw = f"{kind}, binary out"
        if raw not in recorded(server, "http") or recorded(server, "http")[raw]["response"]["status"] != 200:
            continue
        plain, packed = (read_infer(ASKED, answer(server, which)).outputs for which in (name, raw))
        for key, tensor in packed.items():
            if key == "params":  # the request's headers, which differ
                continue
            assert tensor.datatype == plain[key].datatype
            assert tensor.flat() == plain[key].flat()
            compared += 1
    assert compared >= 10


def test_the_binary_answer_of_the_wire_page():
    data = bytes.fromhex("0800000076373a68656c6c6f0d00000076373a77c3b6726c6420e29883")
    output = {"name": "text_output", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 29}}
    result = read_infer(ASKED, raw_answer({"model_name": "versioned", "model_version": "7", "outputs": [output]}, data))
    assert result.outputs["text_output"].texts() == ["v7:hello", "v7:wörld ☃"]
    assert (result.model, result.version) == ("versioned", "7")


def test_an_answer_may_mix_json_and_raw_outputs():
    outputs = [
        {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "b", "datatype": "FP32", "shape": [1], "data": [0.5]},
        {"name": "c", "datatype": "INT16", "shape": [1], "parameters": {"binary_data_size": 2}},
    ]
    found = read_infer(ASKED, raw_answer({"outputs": outputs}, b"\x01\xff", b"\x02\x00")).outputs
    assert {name: tensor.flat() for name, tensor in found.items()} == {"a": [1, -1], "b": [0.5], "c": [2]}


def test_triton_leaves_the_header_out_where_all_raw_tensors_are_empty():
    output = {"name": "e", "datatype": "FP32", "shape": [0, 384], "parameters": {"binary_data_size": 0}}
    assert read_infer(ASKED, json_answer({"outputs": [output]})).outputs["e"].shape == (0, 384)


def test_null_version_and_null_parameters_are_nothing():
    body = {"model_name": "m", "model_version": None, "id": None, "parameters": None, "outputs": []}
    result = read_infer(ASKED, json_answer(body))
    assert (result.version, result.id, result.parameters) == (None, None, {})


def test_tritons_json_is_read_even_where_it_is_none():
    text = b'{"outputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["a\xff"]},'
    number = b'{"name":"n","datatype":"FP32","shape":[3],"data":[NaN,-Infinity,1.0]}]}'
    found = read_infer(ASKED, Response(200, {}, text + number)).outputs
    assert found["t"].texts() == ["a�"]
    assert math.isnan(found["n"].flat()[0])
    assert found["n"].flat()[1:] == [-math.inf, 1.0]


INT8 = {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}}


@pytest.mark.parametrize(
    "response",
    [
        raw_answer({"outputs": [INT8]}, b"\x01\x02", length="999999"),
        raw_answer({"outputs": [INT8]}, b"\x01\x02", length="-1"),
        raw_answer({"outputs": [INT8]}, b"\x01\x02", length="0"),
        raw_answer({"outputs": [INT8]}, b"\x01\x02", length="²"),
        raw_answer({"outputs": [INT8]}, b"\x01\x02", length="9" * 5000),
        raw_answer({"outputs": [INT8]}, b"\x01"),
        raw_answer({"outputs": [INT8]}, b"\x01\x02\x03"),
        raw_answer({"outputs": [{**INT8, "shape": [3]}]}, b"\x01\x02"),
        raw_answer({"outputs": [{**INT8, "shape": [2**62, 2**62]}]}, b"\x01\x02"),
        raw_answer({"outputs": [{**INT8, "parameters": {"binary_data_size": -1}}]}, b"\x01\x02"),
        raw_answer({"outputs": [{**INT8, "parameters": {"binary_data_size": "2"}}]}, b"\x01\x02"),
        raw_answer({"outputs": [{**INT8, "parameters": {"binary_data_size": True}}]}, b"\x01"),
        raw_answer({"outputs": [{**INT8, "datatype": "BYTES", "shape": [1]}]}, b"\xff\xff"),
        json_answer({"outputs": [INT8]}),
        json_answer({"outputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1]}]}),
        json_answer({"outputs": [None]}),
        json_answer({"outputs": {"a": 1}}),
        json_answer([]),
        Response(200, {}, b""),
        Response(200, {}, b"[" * 100_000),
        Response(200, {}, b'{"outputs": [{"shape": [' + b"9" * 10_000 + b"]}]}"),
    ],
)
def test_a_hostile_answer_is_a_bounded_typed_error(response):
    with pytest.raises(BadResponseError) as caught:
        read_infer(ASKED, response)
    assert len(str(caught.value)) < 1000


def test_an_error_under_a_good_status_is_an_error():
    body = {"error": "generate expects model to produce exactly 1 response, use generate stream instead"}
    with pytest.raises(InvalidRequestError) as caught:
        infer(answering(json_answer(body)), Tensor.of("x", [1]))
    assert "pieces" in caught.value.hint
    with pytest.raises(ServerError, match="out of memory"):
        infer(answering(json_answer({"error": "out of memory"})), Tensor.of("x", [1]))


# what is learnt


def test_raw_tensors_that_are_refused_are_not_sent_again():
    numpy = pytest.importorskip("numpy")
    big = Tensor.of("x", numpy.zeros(100, "f4"))
    server = answering([answer("mlserver", "binary input"), json_answer(vectors([1.0]))])
    client = server.client("kserve")
    for _ in range(2):
        client.run(client.runtime.infer(client.runtime.request([big], model="m")))
    assert ["inference-header-content-length" in call.headers for call in server.calls] == [True, False, False]


HALVES = {"name": "out", "datatype": "FP16", "shape": [-1]}


def test_raw_outputs_are_asked_for_once_a_model_is_known_to_need_them():
    server = answering([answer("triton", "FP16 binary"), json_answer(vectors([1.0]))])
    client = server.client(PLAIN)
    server.route("GET /v2/models/m", json_answer({"name": "m", "outputs": [HALVES]}))
    client.run(client.runtime.describe_model("m"))
    server.calls.clear()
    for _ in range(2):
        client.run(client.runtime.infer(client.runtime.request([Tensor.of("x", ["a"])], model="m")))
    assert [b"binary_data" in call.body for call in server.calls] == [False, True, True]


def test_other_refusals_are_raised_at_once():
    server = answering(json_answer({"error": "bad input"}, 400))
    with pytest.raises(InvalidRequestError, match="bad input"):
        infer(server, Tensor.of("x", ["a"]))
    assert len(server.calls) == 1


def test_streams_are_there_where_the_server_has_them():
    server = Server()
    for dialect, hint in (("triton", "grpc"), ("openvino", "grpc"), ("kserve", "whole")):
        client = server.client(dialect)
        request = client.runtime.request([Tensor.of("x", ["a"])], model="m")
        with pytest.raises(UnsupportedParameterError) as caught:
            client.runtime.stream_results(request, lambda result: result)
        assert hint in caught.value.hint
    events = b'data: {"outputs":[{"name":"o","datatype":"INT8","shape":[1],"data":[%d]}]}\n\n'
    server.route("POST /v2/models/m/infer_stream", Response(200, {}, events % 1 + events % 2))
    client = server.client("mlserver")
    request = client.runtime.request([Tensor.of("x", ["a"])], model="m")
    pieces = client.stream(client.runtime.stream_results(request, lambda result: result.outputs["o"].flat()))
    assert list(pieces) == [[1], [2]]
    assert orjson.loads(server.calls[-1].body)["inputs"][0]["data"] == ["a"]


def test_openvino_gets_whole_numbers_of_more_than_32_bits_raw():
    """Its JSON form has 32 bits only, as its sources say."""
    server = answering(json_answer(vectors([1.0])))
    client = server.client("openvino")
    for value, datatype in ((2**40, "INT64"), (2**63, "UINT64"), (-(2**31) - 1, "INT64"), (7, "INT64")):
        tensor = Tensor.of("x", [value], datatype=datatype)
        client.run(client.runtime.infer(client.runtime.request([tensor], model="m")))
        assert ("inference-header-content-length" in server.calls[-1].headers) is (value != 7)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_openvino_gets_no_text_that_it_would_cut(protocol):
    client = Server().client("openvino", protocol)
    request = client.runtime.request([Tensor.of("x", ["all\0of it"])], model="m")
    with pytest.raises(ConfigurationError, match="NUL"):
        client.run(client.runtime.infer(request))


def test_no_headers_and_no_parameters_are_shown():
    request = OpenInferenceRuntime().request(
        [Tensor.of("x", ["secret"])], model="m", headers={"authorization": "secret"}, parameters={"a": "secret"}
    )
    assert "secret" not in repr(request)


def test_no_parameter_loses_its_value_in_json():
    client = Server().client("mlserver")
    for parameters in ({"a": math.nan}, {"a": [1.0, math.inf]}, {"a": {"b": math.nan}}):
        with pytest.raises(ConfigurationError, match="'a'"):
            client.run(client.runtime.infer(client.runtime.request([], model="m", parameters=parameters)))
        tensor = Tensor.of("x", [1], parameters=parameters)
        with pytest.raises(ConfigurationError, match="'a'"):
            client.run(client.runtime.infer(client.runtime.request([tensor], model="m")))
