"""Which runtime answers at a URL. The servers are the development server's wires and answers of the wire facts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kserve_core import Endpoint
from kserve_core.devserver import DevServer
from kserve_core.discovery import Detected, adetect_runtime, detect_runtime
from kserve_core.discovery.detect import detection
from kserve_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
)
from kserve_core.protos import messages
from tests.unit.core.discovery.kube import Kube, status_object
from tests.unit.core.grpc_scripted import GrpcServer, abort

TOKEN = "canary-token"


def detect(url: str, **options: Any) -> Detected:
    """Blocking and async give the same."""
    found = detect_runtime(url, **options)
    assert asyncio.run(adetect_runtime(url, **options)) == found
    return found


@pytest.mark.parametrize(
    ("runtime", "key", "variant"),
    [
        ("vllm", "vllm", "vllm"),
        ("caikit", "caikit", ""),
        ("triton", "triton", ""),
        ("mlserver", "mlserver", ""),
        ("openvino", "openvino", ""),
        ("kserve", "kserve", ""),
    ],
)
def test_runtimes_over_http(runtime: str, key: str, variant: str) -> None:
    with DevServer(runtime=runtime, models=["tiny"]) as server:
        found = detect(server.origin)
        assert (found.runtime, found.variant, found.protocol) == (key, variant, "rest")
        assert found.base_url == server.origin
        assert "tiny" in found.models or runtime == "kserve"
        assert found.evidence


@pytest.mark.parametrize(
    ("given", "path"),
    [("", ""), ("/v1", "/v1"), ("/team/model", "/team/model"), ("/team/model/v1", "/team/model/v1")],
)
def test_the_path_given_is_kept(given: str, path: str) -> None:
    with DevServer(base_path=given.removesuffix("/v1")) as server:
        found = detect(f"{server.origin}{given}")
        assert (found.runtime, found.base_path) == ("vllm", path)


@pytest.mark.parametrize("given", ["", "/api/v1"])
def test_caikit_under_the_prefix_of_its_tasks(given: str) -> None:
    with DevServer(runtime="caikit") as server:
        found = detect(f"{server.origin}{given}")
        assert (found.runtime, found.base_url) == ("caikit", server.origin)


def listed(*owners: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": f"m{number}", "owned_by": owner} for number, owner in enumerate(owners)]}


@pytest.mark.parametrize(
    ("documents", "given", "key", "variant", "path"),
    [
        pytest.param(
            {"/openai/v1/models": listed("")}, "", "vllm", "huggingfaceserver", "/openai/v1", id="huggingface"
        ),
        pytest.param(
            {"/openai/v1/models": listed("vllm")},
            "/openai/v1",
            "vllm",
            "huggingfaceserver",
            "/openai/v1",
            id="its path",
        ),
        pytest.param(
            {"/v2": {"name": "kserve", "version": "0.21"}, "/openai/v1/models": listed("")},
            "",
            "vllm",
            "huggingfaceserver",
            "/openai/v1",
            id="kserve with OpenAI's API",
        ),
        pytest.param({"/v1/models": listed("somebody")}, "", "vllm", "openai-compatible", "", id="openai"),
        pytest.param({"/v3/models": listed("OVMS")}, "", "openvino", "", "", id="openvino v3"),
        pytest.param({"/v3/models": listed("OVMS")}, "/v3", "openvino", "", "", id="openvino, its path"),
        pytest.param(
            {"/v1/config": {"m": {"model_version_status": [{"state": "AVAILABLE"}]}}},
            "",
            "openvino",
            "",
            "",
            id="config",
        ),
        pytest.param(
            {"/v2": {"name": "OpenVINO Model Server"}, "/v1/models": listed("x")}, "", "openvino", "", "", id="V2 first"
        ),
        pytest.param({"/info/models": {"models": [{"name": "m0"}]}}, "", "caikit", "", "", id="caikit, older"),
        pytest.param({"/openapi.json": {"paths": {"/api/v1/task/embedding": {}}}}, "", "caikit", "", "", id="openapi"),
        pytest.param({"/v2": {"name": "something new"}}, "", None, "something new", "", id="unknown V2"),
    ],
)
def test_servers_by_what_they_answer(documents: Any, given: str, key: str | None, variant: str, path: str) -> None:
    with Kube(documents) as server:
        found = detect(f"{server.url}{given}")
        assert (found.runtime, found.variant, found.base_path) == (key, variant, path)


def test_the_cheapest_question_is_asked_alone() -> None:
    with Kube({"/v1/models": listed("vllm")}) as server:
        assert detect_runtime(server.url, api_key=TOKEN).models == ("m0",)
        assert server.paths() == ["/v1/models"]


def test_nothing_that_is_known() -> None:
    with Kube({"/v1/models": [1], "/v2": {"x": 1}, "/info/version": "x", "/openapi.json": {"paths": []}}) as server:
        with pytest.raises(NotFoundError, match="like a runtime that is known") as caught:
            detect_runtime(server.url)
        assert "GET /v1/models" in caught.value.hint
        assert "GET /openai/v1/models" in caught.value.hint


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
def test_a_protected_server_is_not_asked_twice(status: int, kind: type[KServeError]) -> None:
    class Closed(Kube):
        def answer(self, seen: Any) -> Any:
            return status, status_object(status, "x", "closed")

    with Closed() as server:
        with pytest.raises(kind) as caught:
            detect_runtime(server.url, api_key=TOKEN)
        assert TOKEN not in str(caught.value)
        assert server.paths() == ["/v1/models"]


def test_with_the_right_token() -> None:
    with DevServer(api_key=TOKEN, protect_all=True) as server:
        assert detect(server.origin, api_key=TOKEN).runtime == "vllm"
        with pytest.raises(AuthenticationError):
            detect_runtime(server.origin)


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_is_not_there_yet_is_not_asked_on(status: int) -> None:
    class Busy(Kube):
        def answer(self, seen: Any) -> Any:
            return status, b"Application is not available"

    with Busy() as server:
        with pytest.raises(KServeError) as caught:
            detect_runtime(server.url, max_retries=0)
        assert caught.value.retryable
        assert isinstance(caught.value, NotReadyError) == (status == 503)
        assert len(server.seen) == 1


def test_a_model_that_is_being_started_is_waited_for() -> None:
    class Cold(Kube):
        def answer(self, seen: Any) -> Any:
            return super().answer(seen) if len(self.seen) > 2 else (503, b"Application is not available")

    waits: list[float] = []
    with Cold({"/v1/models": listed("vllm")}) as server:
        assert detect_runtime(server.url, on_wait=lambda event: waits.append(event.seconds)).runtime == "vllm"
        assert server.paths() == ["/v1/models"] * 3
    assert len(waits) == 2


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_one_time_budget_holds_for_all_questions(scheme: str) -> None:
    asked = detection(Endpoint.create(f"{scheme}://127.0.0.1:9", timeout=1000))
    first: Any = next(asked)
    second: Any = asked.throw(NotFoundError("not this one"))
    assert second.deadline is first.deadline
    assert 0 < first.deadline.left() <= 1000
    first.deadline.at = 0.0
    with pytest.raises(EndpointTimeoutError, match="within the time budget") as caught:
        asked.throw(NotFoundError("nor this one"))
    assert "timeout=" in caught.value.hint


async def test_nobody_there() -> None:
    with Kube() as gone:
        url = gone.url
    with pytest.raises(EndpointConnectionError):
        detect_runtime(url)
    with pytest.raises(EndpointConnectionError):
        await adetect_runtime(url)


def test_an_endpoint_and_its_settings() -> None:
    with Kube({"/v1/models": listed("vllm")}) as server:
        endpoint = Endpoint.create(server.url, default_headers={"x-team": "a"})
        assert detect_runtime(endpoint).runtime == "vllm"
        assert server.seen[0].headers["x-team"] == "a"
        with pytest.raises(ConfigurationError):
            detect_runtime(endpoint, api_key=TOKEN)


# --- gRPC -------------------------------------------------------------------------------------------------------


def test_tgis_over_grpc() -> None:
    with DevServer(tgis=True) as server:
        found = detect(server.tgis_url)
        assert (found.runtime, found.protocol, found.base_url) == ("tgis", "grpc", server.tgis_url)
        assert Endpoint.create(found.base_url).is_grpc


def test_caikit_over_grpc() -> None:
    with DevServer(runtime="caikit", caikit_grpc=True, models=["tiny"]) as server:
        found = detect(server.caikit_grpc_url)
        assert (found.runtime, found.models) == ("caikit", ("tiny",))


@pytest.mark.parametrize(("runtime", "key"), [("triton", "triton"), ("mlserver", "mlserver"), ("kserve", "kserve")])
def test_v2_over_grpc(runtime: str, key: str) -> None:
    with DevServer(runtime=runtime, v2_grpc=True) as server:
        found = detect(server.v2_grpc_url)
        assert (found.runtime, found.protocol) == (key, "grpc")
        assert "ServerMetadata" in found.evidence


def test_a_tgis_that_wants_a_model_named_is_one_all_the_same() -> None:
    with GrpcServer(abort("NOT_FOUND", "model '' not found")) as server:
        assert detect_runtime(server.url).runtime == "tgis"


def test_grpc_servers_of_another_kind() -> None:
    with GrpcServer(abort("UNIMPLEMENTED", "unknown service")) as server:
        with pytest.raises(NotFoundError, match="like a runtime that is known") as caught:
            detect_runtime(server.url)
        assert not isinstance(caught.value, InvalidRequestError)
        assert len(server.calls) == 3
    with GrpcServer(abort("UNAUTHENTICATED", "who are you")) as server:
        with pytest.raises(AuthenticationError, match="who are you"):
            detect_runtime(server.url)
        assert len(server.calls) == 1


def test_a_grpc_server_that_is_asked_over_http() -> None:
    with GrpcServer(abort("UNIMPLEMENTED", "unknown service")) as server, pytest.raises(KServeError) as caught:
        detect_runtime(server.url.replace("grpc://", "http://"))
    assert "grpc" in caught.value.hint


def test_an_unknown_name_over_grpc() -> None:
    def answer(_: bytes, context: Any, number: int) -> bytes:
        if number == 1:
            abort("UNIMPLEMENTED")(b"", context, 1)
        return messages.get("inference.ServerMetadataResponse")(name="new", version="1").SerializeToString()

    with GrpcServer(answer) as server:
        found = detect_runtime(server.url)
        assert (found.runtime, found.variant, found.version) == (None, "new", "1")
