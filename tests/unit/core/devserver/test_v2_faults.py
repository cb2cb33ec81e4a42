"""Tokens, scripted faults, paces and TLS on the V2 wires."""

from __future__ import annotations

import json
import ssl
import time

import grpc
import httpx
import pytest

from kserve_core.devserver import DevServer
from kserve_core.devserver.__main__ import parser
from tests.unit.core.devserver.v2_wire import MODELS, SERVICE, M, events, infer, text

CAT = {"id": "1", "inputs": [text("text", "a cat")]}
EMBED = "/v2/models/tiny-embedding/infer"
STREAM = "/v2/models/tiny/generate_stream"
HELLO = {"text_input": "Say hello.", "stream": True}
TALK = {"id": "1", "inputs": [text("text_input", "Say hello.")]}
KEY = "triton-grpc-protocol-authorization"


@pytest.fixture(scope="module")
def running():
    made = {
        runtime: DevServer(runtime=runtime, models=MODELS, v2_grpc=True).start() for runtime in ("triton", "mlserver")
    }
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def servers(running):
    for server in running.values():
        server.reset()
    yield running
    for server in running.values():
        server.reset()


def post(server, path, body, **options):
    return httpx.post(server.url + path, json=body, timeout=10, **options)


def grpc_call(server, method, request, metadata=()):
    """The answer (a list for a stream), or the code and details of the status."""
    stream = method == "ModelStreamInfer"
    bare = "mlserver" in server.runtime
    answer = getattr(M, f"{method}Response") if not (stream and bare) else M.ModelInferResponse
    with grpc.insecure_channel(server.url) as channel:
        try:
            if stream:
                made = channel.stream_stream(SERVICE + method, M.ModelInferRequest.SerializeToString, answer.FromString)
                return list(made(iter([request]), timeout=10, metadata=metadata))
            made = channel.unary_unary(SERVICE + method, type(request).SerializeToString, answer.FromString)
            return made(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details()


class Where:
    """A gRPC address and whose it is."""

    def __init__(self, server, runtime):
        self.url = server.v2_grpc_url.removeprefix("grpc://")
        self.runtime = runtime


# --- tokens


def test_triton_guards_its_own_routes():
    with DevServer(runtime="triton", models=MODELS, api_key="key", v2_grpc=True) as server:
        said = {"error": "This API is restricted, expecting header 'authorization'"}
        for headers in ({}, {"authorization": "Bearer other"}):
            found = post(server, EMBED, CAT, headers=headers)
            assert (found.status_code, found.json()) == (403, said)
        assert post(server, EMBED, CAT, headers={"authorization": "Bearer key"}).status_code == 200
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        assert httpx.get(f"{server.url}/v2/models/tiny-embedding").status_code == 403
        where = Where(server, "triton")
        request = infer("tiny-embedding", text=["x"])
        code, details = grpc_call(where, "ModelInfer", request, metadata=(("authorization", "Bearer key"),))
        assert (code, details) == ("UNAVAILABLE", f"This protocol is restricted, expecting header '{KEY}'")
        assert grpc_call(where, "ModelInfer", request, metadata=((KEY, "Bearer key"),)).outputs
        assert grpc_call(where, "ModelReady", M.ModelReadyRequest(name="tiny-embedding")).ready


@pytest.mark.parametrize(
    "options", [{"runtime": "mlserver"}, {"runtime": "kserve"}, {"runtime": "triton", "protect_all": True}]
)
def test_a_proxy_guards_every_path(options):
    with DevServer(models=MODELS, api_key="key", v2_grpc=True, **options) as server:
        for path in ("/v2/health/live", "/v2/models/tiny-embedding"):
            found = httpx.get(server.url + path)
            assert (found.status_code, found.text) == (401, "Unauthorized\n")
        assert post(server, EMBED, CAT, headers={"authorization": "Bearer key"}).status_code == 200
        where = Where(server, options["runtime"])
        assert grpc_call(where, "ServerLive", M.ServerLiveRequest())[0] == "UNAUTHENTICATED"
        found = grpc_call(where, "ServerLive", M.ServerLiveRequest(), metadata=(("authorization", "Bearer key"),))
        assert found.live


# --- faults


def test_a_failure_has_the_servers_shape(servers):
    for server in servers.values():
        server.fault(status=503)
        found = post(server, EMBED, CAT)
        assert (found.status_code, found.json()) == (503, {"error": "Scripted fault 503."})
        assert post(server, EMBED, CAT).status_code == 200


def test_pages_stand_for_what_is_in_front(servers):
    server = servers["triton"]
    for page, status in (("router-page", 503), ("model-unavailable", 404), ("restricted", 403), ("not-ready", 400)):
        server.fault(body=page)
        assert post(server, EMBED, CAT).status_code == status


def test_a_cut_stream(servers):
    servers["triton"].fault(path="*/generate_stream", cut_after=2)
    with pytest.raises(httpx.TransportError):
        post(servers["triton"], STREAM, HELLO)
    servers["triton"].fault(path="*/generate_stream", cut_after=2, cut="clean")
    assert len(events(post(servers["triton"], STREAM, HELLO))) == 2


def test_an_error_in_the_middle_of_tritons_stream(servers):
    servers["triton"].fault(path="*/generate_stream", error_after=2, error={"message": "out of memory"})
    found = events(post(servers["triton"], STREAM, HELLO))
    assert found[2:] == [{"error": "out of memory"}]


def test_an_error_in_the_middle_of_mlservers_stream_breaks_it_off(servers):
    servers["mlserver"].fault(path="*/infer_stream", error_after=2)
    with (
        httpx.stream("POST", servers["mlserver"].url + "/v2/models/tiny/infer_stream", json=TALK) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        response.read()
    assert servers["mlserver"].requests[-1].pieces == 2


def test_a_malformed_event(servers):
    servers["triton"].fault(path="*/generate_stream", malformed_after=1)
    lines = post(servers["triton"], STREAM, HELLO).text.split("\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[1].removeprefix("data: "))


def test_cut_binary_answers(servers):
    servers["triton"].fault(cut_after=100)
    with pytest.raises(httpx.TransportError):
        post(servers["triton"], EMBED, {**CAT, "parameters": {"binary_data_output": True}})


def test_a_model_that_is_not_ready_yet(servers):
    server = servers["mlserver"]
    server.fault(path="*/ready", status=400, body="", times=2)
    url = f"{server.url}/v2/models/tiny/ready"
    assert [httpx.get(url).status_code for _ in range(3)] == [400, 400, 200]


def streamed(servers, runtime, **fault):
    server = servers[runtime]
    server.fault(path=f"{SERVICE}ModelStreamInfer", **fault)
    request = infer("tiny", text_input=["Say hello."])
    if runtime == "triton":
        request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    return grpc_call(Where(server, runtime), "ModelStreamInfer", request)


def test_errors_in_tritons_messages(servers):
    found = streamed(servers, "triton", error_after=2, error={"message": "out of memory"})
    assert [message.error_message for message in found] == ["", "", "out of memory"]


@pytest.mark.parametrize("runtime", ["triton", "mlserver"])
def test_a_stream_that_breaks_off(servers, runtime):
    assert streamed(servers, runtime, cut_after=2)[0] == "UNAVAILABLE"
    assert streamed(servers, runtime, cut_after=2, code="INTERNAL", details="gone") == ("INTERNAL", "gone")
    assert len(streamed(servers, runtime, cut_after=2, cut="clean")) == 2


def test_an_error_in_mlservers_stream_is_a_status(servers):
    assert streamed(servers, "mlserver", error_after=1, error={"message": "gone"}) == ("UNKNOWN", "gone")


def test_a_status_for_one_call(servers):
    where = Where(servers["triton"], "triton")
    servers["triton"].fault(code="UNAVAILABLE", details="starting", method="GRPC")
    request = infer("tiny-embedding", text=["x"])
    assert grpc_call(where, "ModelInfer", request) == ("UNAVAILABLE", "starting")
    assert grpc_call(where, "ModelInfer", request).outputs


def test_a_client_that_leaves_stops_the_stream(servers):
    server = servers["triton"]
    server.fault(path="*/generate_stream", idle_after=1)
    with httpx.stream("POST", server.url + STREAM, json=HELLO) as response:
        next(response.iter_bytes())
    assert server.requests.wait(1, closed=True)[0].cancelled is not None


# --- pace, TLS, command line


def test_text_takes_its_time():
    with DevServer(runtime="triton", pace=0.01) as server:
        began = time.monotonic()
        found = post(server, "/v2/models/dev-model/generate_stream", HELLO)
        assert time.monotonic() - began >= 0.01 * len(events(found))


def test_tls_over_both_protocols():
    with DevServer(runtime="triton", tls=True, v2_grpc=True) as server:
        trust = server.ca_cert.read_bytes()
        assert (
            httpx.get(f"{server.url}/v2", verify=ssl.create_default_context(cafile=server.ca_cert)).json()["name"]
            == "triton"
        )
        assert server.v2_grpc_url.startswith("grpcs://")
        credentials = grpc.ssl_channel_credentials(trust)
        with grpc.secure_channel(server.v2_grpc_url.removeprefix("grpcs://"), credentials) as channel:
            method = channel.unary_unary(
                f"{SERVICE}ServerLive", M.ServerLiveRequest.SerializeToString, M.ServerLiveResponse.FromString
            )
            assert method(M.ServerLiveRequest(), timeout=10).live


def test_a_base_path():
    with DevServer(runtime="triton", base_path="/serving") as server:
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        assert httpx.get(f"{server.origin}/v2/health/live").status_code == 404


def test_the_grpc_port_is_for_those_who_speak_it():
    with pytest.raises(ValueError, match="does not speak the Open Inference Protocol"):
        DevServer(runtime="caikit", v2_grpc=True)
    with DevServer(runtime="triton") as server, pytest.raises(RuntimeError, match="without v2"):
        _ = server.v2_grpc_url


def test_the_command_line_knows_the_runtimes():
    options = parser().parse_args(["--runtime", "triton", "--v2-grpc", "8001"])
    assert (options.runtime, options.v2_grpc) == ("triton", 8001)
    assert parser().parse_args(["--runtime", "openvino", "--v2-grpc"]).v2_grpc == 0
