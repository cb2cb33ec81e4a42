"""V2 over gRPC, read by a plain gRPC client: messages and statuses as the wire facts have them."""

from __future__ import annotations

import struct

import grpc
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.v2_wire import MODELS, SERVICE, M, infer, strings

RUNTIMES = ("triton", "mlserver", "kserve", "openvino")
HELLO = "Hello! How can I help you today?"
FINAL = "triton_final_response"


@pytest.fixture(scope="module")
def servers():
    made = {runtime: DevServer(runtime=runtime, models=MODELS, v2_grpc=True).start() for runtime in RUNTIMES}
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def call(servers):
    """Calls a method; the answer of a stream is a list. A status other than OK comes back as code and details."""
    channels = {name: grpc.insecure_channel(made.v2_grpc_url.removeprefix("grpc://")) for name, made in servers.items()}

    def invoke(runtime, method, request, **options):
        channel = channels[runtime]
        try:
            if method == "ModelStreamInfer":
                answer = M.ModelInferResponse if runtime == "mlserver" else M.ModelStreamInferResponse
                requests = request if isinstance(request, list) else [request]
                made = channel.stream_stream(SERVICE + method, M.ModelInferRequest.SerializeToString, answer.FromString)
                return list(made(iter(requests), timeout=10, **options))
            answer = getattr(M, f"{method}Response")
            made = channel.unary_unary(SERVICE + method, type(request).SerializeToString, answer.FromString)
            return made(request, timeout=10, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    yield invoke
    for name, channel in channels.items():
        channel.close()
        servers[name].reset()


def floats(answer, at=0):
    """The elements of an output, raw or typed."""
    if answer.raw_output_contents:
        raw = answer.raw_output_contents[at]
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return list(answer.outputs[at].contents.fp32_contents)


def words(answer):
    if answer.raw_output_contents:
        return answer.raw_output_contents[0][4:].decode()
    return answer.outputs[0].contents.bytes_contents[0].decode()


@pytest.mark.parametrize(
    ("runtime", "name", "version"),
    [
        ("triton", "triton", "2.51.0"),
        ("mlserver", "mlserver", "1.7.1"),
        ("kserve", "kserve", "0.21.0"),
        ("openvino", "OpenVINO Model Server", "2026.2.0"),
    ],
)
def test_the_server(call, runtime, name, version):
    found = call(runtime, "ServerMetadata", M.ServerMetadataRequest())
    assert (found.name, found.version) == (name, version)
    assert call(runtime, "ServerLive", M.ServerLiveRequest()).live
    assert call(runtime, "ServerReady", M.ServerReadyRequest()).ready is (runtime != "mlserver")


@pytest.mark.parametrize(
    ("runtime", "unknown", "broken"),
    [
        ("triton", False, False),
        ("mlserver", "UNKNOWN", False),
        ("kserve", "NOT_FOUND", "NOT_FOUND"),
        ("openvino", "NOT_FOUND", False),
    ],
)
def test_model_ready(call, runtime, unknown, broken):
    assert call(runtime, "ModelReady", M.ModelReadyRequest(name="tiny-embedding")).ready
    for name, expected in (("nope", unknown), ("broken", broken)):
        found = call(runtime, "ModelReady", M.ModelReadyRequest(name=name))
        assert (found[0] if isinstance(found, tuple) else found.ready) == expected


def test_model_metadata(call):
    for runtime in RUNTIMES:
        found = call(runtime, "ModelMetadata", M.ModelMetadataRequest(name="tiny-embedding"))
        assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("text", "BYTES", [-1])]
        assert list(found.versions) == (["1"] if runtime in {"triton", "openvino"} else [])
        assert call(runtime, "ModelMetadata", M.ModelMetadataRequest(name="nope"))[0] == "NOT_FOUND"


def test_the_repository(call):
    found = call("triton", "RepositoryIndex", M.RepositoryIndexRequest())
    states = {(entry.name, entry.version): entry.state for entry in found.models}
    assert (states["versioned", "2"], states["broken", "1"]) == ("READY", "UNAVAILABLE")
    found = call("mlserver", "RepositoryIndex", M.RepositoryIndexRequest())
    assert {entry.state for entry in found.models} == {"State.READY", "State.UNKNOWN"}
    assert call("kserve", "RepositoryIndex", M.RepositoryIndexRequest())[0] == "UNIMPLEMENTED"
    call("triton", "RepositoryModelUnload", M.RepositoryModelUnloadRequest(model_name="tiny-rerank"))
    assert not call("triton", "ModelReady", M.ModelReadyRequest(name="tiny-rerank")).ready
    call("triton", "RepositoryModelLoad", M.RepositoryModelLoadRequest(model_name="tiny-rerank"))
    assert call("triton", "ModelReady", M.ModelReadyRequest(name="tiny-rerank")).ready


def test_triton_tells_batch_limits_and_decoupling(call):
    found = call("triton", "ModelConfig", M.ModelConfigRequest(name="tiny-embedding-batch")).config
    assert found.max_batch_size == 8
    found = call("triton", "ModelConfig", M.ModelConfigRequest(name="tiny")).config
    assert found.model_transaction_policy.decoupled
    assert [entry.name for entry in found.input if not entry.optional] == ["text_input"]
    assert call("mlserver", "ModelConfig", M.ModelConfigRequest(name="tiny"))[0] == "UNIMPLEMENTED"


# --- infer


@pytest.mark.parametrize("raw", [False, True])
def test_vectors_are_the_same_everywhere(call, raw):
    found = {
        name: call(name, "ModelInfer", infer("tiny-embedding", raw=raw, text=["a cat", "wörld"])) for name in RUNTIMES
    }
    assert len({tuple(floats(answer)) for answer in found.values()}) == 1
    assert all(list(answer.outputs[0].shape) == [2, 256] and answer.id == "1" for answer in found.values())
    forms = {name: bool(answer.raw_output_contents) for name, answer in found.items()}
    assert forms == {"triton": True, "mlserver": raw, "kserve": True, "openvino": True}
    assert found["mlserver"].outputs[0].HasField("contents")
    assert found["kserve"].outputs[0].parameters["binary_data_size"].int64_param == 2048


def test_text_of_mlserver_has_a_column(call):
    found = call("mlserver", "ModelInfer", infer("tiny", text_input=["Say hello."], parameters={"max_tokens": 50}))
    assert (list(found.outputs[0].shape), words(found)) == ([1, 1], HELLO)


@pytest.mark.parametrize(
    ("runtime", "model", "code"),
    [
        ("triton", "nope", "NOT_FOUND"),
        ("triton", "broken", "NOT_FOUND"),
        ("mlserver", "nope", "NOT_FOUND"),
        ("mlserver", "broken", "INVALID_ARGUMENT"),
        ("kserve", "nope", "NOT_FOUND"),
        ("kserve", "broken", "NOT_FOUND"),
        ("openvino", "nope", "NOT_FOUND"),
        ("triton", "tiny", "UNIMPLEMENTED"),  # a decoupled model
        ("triton", "tiny-rerank", "INVALID_ARGUMENT"),  # wrong inputs
        ("mlserver", "tiny-rerank", "INVALID_ARGUMENT"),
        ("openvino", "tiny-rerank", "INVALID_ARGUMENT"),
    ],
)
def test_infer_statuses(call, runtime, model, code):
    assert call(runtime, "ModelInfer", infer(model, text=["x"]))[0] == code


@pytest.mark.parametrize(("runtime", "code"), [("triton", "NOT_FOUND"), ("mlserver", "NOT_FOUND"), ("kserve", None)])
def test_an_unknown_version(call, runtime, code):
    request = infer("tiny-embedding", text=["x"])
    request.model_version = "9"
    found = call(runtime, "ModelInfer", request)
    assert (found[0] if code else floats(found)[:1]) == (code or floats(found)[:1])
    assert isinstance(found, tuple) is (code is not None)


@pytest.mark.parametrize(
    ("runtime", "both", "cut"),
    [
        ("triton", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("kserve", "INVALID_ARGUMENT", "INTERNAL"),
        ("mlserver", None, "INTERNAL"),
    ],
)
def test_contents_that_do_not_fit(call, runtime, both, cut):
    request = infer("tiny-embedding", text=["x"])
    request.raw_input_contents.append(strings("x"))
    found = call(runtime, "ModelInfer", request)
    assert (found[0] if isinstance(found, tuple) else None) == both
    request = infer("tiny-embedding", raw=True, text=["hello"])
    request.raw_input_contents[0] = request.raw_input_contents[0][:6]
    assert call(runtime, "ModelInfer", request)[0] == cut


@pytest.mark.parametrize(("code", "status"), [("UNSUPPORTED", "UNIMPLEMENTED"), ("RAISE", "INTERNAL")])
def test_errors_of_a_model(call, code, status):
    assert call("triton", "ModelInfer", infer("fails", code=[code]))[0] == status


def test_fractions_as_parameters_arrive_on_triton_only(call):
    for runtime in ("triton", "mlserver", "kserve"):
        request = infer("echo", in_string=["x"], parameters={"temperature": 0.5, "note": "n"})
        found = call(runtime, "ModelInfer", request)
        last = (
            found.raw_output_contents[-1] if found.raw_output_contents else found.outputs[-1].contents.bytes_contents[0]
        )
        assert b"note" in last
        assert (b"temperature" in last) is (runtime == "triton")


# --- streams


def stream_request(said="Say hello.", *, id="1", final=True, sampling=b'{"max_tokens": 100}'):
    request = infer("tiny", id=id, text_input=[said])
    request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    parameters = request.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1])
    parameters.contents.bytes_contents.append(sampling)
    if final:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def test_tritons_stream_is_wrapped_and_may_end_with_an_empty_answer(call):
    found = call("triton", "ModelStreamInfer", stream_request())
    pieces = [message.infer_response for message in found]
    assert "".join(words(piece) for piece in pieces[:-1]) == HELLO
    assert [piece.parameters[FINAL].bool_param for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert not pieces[-1].outputs
    pieces = call("triton", "ModelStreamInfer", stream_request(final=False))
    assert not any(message.infer_response.parameters[FINAL].bool_param for message in pieces)


def test_a_model_that_does_not_stream_answers_once(call):
    (found,) = call("triton", "ModelStreamInfer", infer("tiny-embedding", text=["x"]))
    assert found.infer_response.parameters[FINAL].bool_param


def test_errors_are_messages_and_the_stream_goes_on(call):
    requests = [infer("nope", id="a", text=["x"]), stream_request(id="b", sampling=b"{"), stream_request(id="c")]
    found = call("triton", "ModelStreamInfer", requests)
    assert found[0].error_message == "Request for unknown model: 'nope' is not found"
    assert found[1].error_message.startswith("Error generating stream")
    assert [message.infer_response.id for message in found[:3]] == ["a", "b", "c"]


def test_mlservers_stream_is_bare(call):
    request = infer("tiny", id="a", text_input=["Say hello."], parameters={"max_tokens": 50})
    found = call("mlserver", "ModelStreamInfer", [request, infer("tiny", id="b", text_input=["Say hello."])])
    assert "".join(map(words, found)).startswith(HELLO)
    assert {message.id for message in found} == {"a"}
    assert call("mlserver", "ModelStreamInfer", infer("nope", text=["x"]))[0] == "NOT_FOUND"
    assert call("mlserver", "ModelStreamInfer", infer("tiny-embedding", other=["x"]))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("runtime", ["kserve", "openvino"])
def test_others_do_not_stream(call, runtime):
    assert call(runtime, "ModelStreamInfer", infer("tiny-embedding", text=["x"]))[0] == "UNIMPLEMENTED"


def test_the_log_has_the_first_message(call, servers):
    call("triton", "ModelStreamInfer", stream_request())
    record = servers["triton"].requests.wait(1, closed=True)[-1]
    assert (record.method, record.path) == ("GRPC", f"{SERVICE}ModelStreamInfer")
    assert M.ModelInferRequest.FromString(record.body).model_name == "tiny"
    assert record.pieces > 5
