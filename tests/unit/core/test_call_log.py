"""What the loggers say of requests, answers and streams, and what they never say."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from kserve_core.calls import Call
from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer, Fault
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.runtimes.vllm import VLLMRuntime

PROMPT, TOKEN, HEADER = "canary-prompt", "canary-token", "canary-header"
CHAT = ChatRequest(messages=[{"role": "user", "content": PROMPT}], model="dev-model", params={"max_tokens": 5})
TEXT = TextRequest(prompts=[PROMPT], params={"max_tokens": 5})
SECONDS = r"\d+\.\d{3} s"
CHAT_PATH = "POST /v1/chat/completions"


@pytest.fixture(scope="module")
def running():
    with DevServer(request_id_headers=True, tgis=True, api_key=TOKEN) as server:
        yield server


@pytest.fixture
def server(running, caplog: pytest.LogCaptureFixture) -> Iterator[DevServer]:
    running.reset()
    with caplog.at_level(logging.DEBUG):
        yield running
    running.reset()


def rest(server: DevServer, **headers: str) -> RuntimeClient[VLLMRuntime]:
    endpoint = Endpoint.create(f"{server.url}/v1", api_key=TOKEN, default_headers=headers)
    return RuntimeClient(endpoint, VLLMRuntime(base_path="/v1"))


def lines(caplog: pytest.LogCaptureFixture, name: str = "kserve_core.http") -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_a_request_and_its_answer(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    rest(server, **{"x-request-id": "r-1"}).answer(CHAT)
    (request,) = server.requests
    size = len(request.body)
    sent, answered = lines(caplog)
    assert sent == f"{CHAT_PATH}: sending {size} bytes, attempt 1, request id r-1"
    assert re.fullmatch(rf"{CHAT_PATH}: 200 with \d+ bytes after {SECONDS}, attempt 1, request id r-1", answered)


def test_a_stream(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    used = rest(server)
    count = len(list(used.stream(used.runtime.stream_chat(CHAT))))
    _, begun, ended = lines(caplog)
    assert re.fullmatch(rf"{CHAT_PATH}: 200 with a stream after {SECONDS}, attempt 1, request id [0-9a-f]+", begun)
    pieces = rf"{count} pieces \(the first after {SECONDS}\)"
    assert re.fullmatch(rf"{CHAT_PATH}: stream complete after {SECONDS}, {pieces}, \d+ bytes", ended)


async def test_a_stream_left_early(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults.add(Fault(idle_after=1))
    used = rest(server)
    pieces = used.astream(used.runtime.stream_chat(CHAT))
    await pieces.__anext__()
    await pieces.aclose()
    assert ": stream left after " in lines(caplog)[-1]
    await used.aclose()


@pytest.mark.parametrize("cut", ["abrupt", "clean"])
def test_a_broken_stream(server: DevServer, caplog: pytest.LogCaptureFixture, cut: Any) -> None:
    server.faults.add(Fault(cut_after=2, cut=cut))
    used = rest(server)
    with pytest.raises(KServeError):
        list(used.stream(used.runtime.stream_chat(CHAT)))
    assert ": stream broken after " in lines(caplog)[-1]


def test_retries_and_failures(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults.add(Fault(status=429, headers={"retry-after": "0.01"}))
    server.faults.add(Fault(status=500, body={"error": {"message": f"cannot do {PROMPT}"}}))
    with pytest.raises(KServeError):
        rest(server).answer(CHAT)
    http = lines(caplog)
    assert [line for line in http if "attempt 2" in line]
    assert re.fullmatch(rf"{CHAT_PATH}: ServerError, status 500, requests sent: 2(, request id \S+)?", http[-1])
    (record,) = [record for record in caplog.records if record.name == "kserve_core.retry"]
    assert record.levelno == logging.INFO
    assert "RateLimitError, status 429, attempt 1" in record.getMessage()


def test_a_query_is_left_out(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    call = Call(method="GET", path="/health?key=canary-query", read=lambda response: response.status)
    assert rest(server).run(call) == 200
    assert lines(caplog)[0] == "GET /health: sending 0 bytes, attempt 1"
    assert "canary-query" not in caplog.text


def test_over_grpc(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    used = RuntimeClient(Endpoint.create(server.tgis_url, api_key=TOKEN), TGISRuntime(model="dev-model"))
    used.run(used.runtime.generate(TEXT))
    method = "/fmaas.GenerationService/Generate"
    sent, answered = lines(caplog, "kserve_core.grpc")
    assert re.fullmatch(rf"{method}: sending \d+ bytes, attempt 1", sent)
    assert re.fullmatch(rf"{method}: OK with \d+ bytes after {SECONDS}, attempt 1", answered)
    caplog.clear()
    count = len(list(used.stream(used.runtime.stream_generate(TEXT))))
    ended = lines(caplog, "kserve_core.grpc")[-1]
    assert re.search(
        rf"Stream: stream complete after {SECONDS}, {count} pieces \(the first after .*\), \d+ bytes", ended
    )
    used.close()


def all_ways(server: DevServer) -> list[str]:
    """Runs calls of all kinds, also failing ones; returns what was said."""
    said: list[str] = []
    http = rest(server, **{"x-secret": HEADER})
    said.append(http.answer(CHAT).choices[0].content)
    with closing(http.stream(http.runtime.stream_chat(CHAT))) as pieces:
        said.append("".join(piece.content for piece in pieces))
    endpoint = Endpoint.create(server.tgis_url, api_key=TOKEN, default_headers={"x-secret": HEADER})
    grpc = RuntimeClient(endpoint, TGISRuntime(model="dev-model"))
    said.append(grpc.run(grpc.runtime.generate(TEXT)).generations[0][0].text)
    said.append("".join(piece.text for piece in grpc.stream(grpc.runtime.stream_generate(TEXT))))
    faults: list[Any] = [
        Fault(status=400, body={"error": {"message": f"{PROMPT} {TOKEN}"}}),
        Fault(cut_after=1),
        Fault(malformed_after=1),
    ]
    for fault in faults:
        server.faults.add(fault)
        with pytest.raises(KServeError):
            list(http.stream(http.runtime.stream_chat(CHAT)))
    server.faults.add(Fault(code="INVALID_ARGUMENT", details=f"{PROMPT} {TOKEN}", method="GRPC"))
    with pytest.raises(KServeError):
        grpc.run(grpc.runtime.generate(TEXT))
    grpc.close()
    return said


def test_no_content_token_or_header_in_any_logger(server: DevServer, caplog: pytest.LogCaptureFixture) -> None:
    said = all_ways(server)
    assert {record.name for record in caplog.records} >= {"kserve_core.http", "kserve_core.grpc"}
    shown = "\n".join(f"{record.getMessage()} {record.args} {vars(record)}" for record in caplog.records)
    for secret in (PROMPT, TOKEN, HEADER, *said):
        assert secret
        assert secret not in shown
