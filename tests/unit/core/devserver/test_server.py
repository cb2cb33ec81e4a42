"""The server itself: its life, its log, HTTP details, TLS and the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

import kserve_core
from kserve_core.devserver import DevServer

SAY = {"messages": [{"role": "user", "content": "Say hello."}]}


def raw(server, data, *, until=b"\r\n\r\n", reads=1):
    """Send bytes, read what comes until the connection rests."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(data)
        received = b""
        while received.count(until) < reads:
            part = sock.recv(65536)
            if not part:
                break
            received += part
        return received


def test_start_and_stop():
    server = DevServer()
    assert repr(server) == "DevServer(stopped)"
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url
    server.start()
    with pytest.raises(RuntimeError, match="already running"):
        server.start()
    url = server.url
    assert httpx.get(f"{url}/health").status_code == 200
    server.stop()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
    with server:
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_taken_port_is_told_to_the_caller():
    with DevServer() as server, pytest.raises(OSError, match="in use"):
        DevServer(port=server.port).start()


async def test_async_with():
    async with DevServer() as server, httpx.AsyncClient() as http:
        assert (await http.get(f"{server.url}/health")).status_code == 200


def test_stopping_breaks_open_streams():
    caught = []

    def stream(url):
        try:
            with httpx.stream("POST", f"{url}/v1/chat/completions", json={**SAY, "stream": True}) as response:
                response.read()
        except httpx.TransportError as error:
            caught.append(error)

    with DevServer(pace=1) as server:
        thread = threading.Thread(target=stream, args=(server.url,))
        thread.start()
        server.requests.wait(1)
    thread.join(5)
    assert not thread.is_alive()
    assert len(caught) == 1


def test_the_log(server, http):
    http.post("/v1/chat/completions?x=1", json=SAY, headers={"X-Thing": "a"})
    record = server.requests.last
    assert (record.method, record.path, record.query) == ("POST", "/v1/chat/completions", "x=1")
    assert record.headers["x-thing"] == "a"
    assert record.json == SAY
    server.requests.wait(1, closed=True)
    assert record.started <= record.finished
    assert record.cancelled is None
    assert (record.status, record.is_open) == (200, False)
    assert server.requests.to("/chat/completions") == [record]
    index = record.index
    server.requests.clear()
    assert len(server.requests) == 0
    http.get("/health")
    assert server.requests[0].index == index + 1
    assert server.requests[0].json is None


def test_no_header_value_shows_in_the_representation(server, http):
    http.get("/health", headers={"authorization": "Bearer canary"})
    assert "canary" not in repr(server.requests.last) + repr(server.requests)


def test_waiting_for_requests_gives_up(server):
    with pytest.raises(TimeoutError, match="0 requests"):
        server.requests.wait(1, timeout=0.05)


def test_a_client_that_leaves_is_noticed():
    with DevServer(pace=0.02) as server:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**SAY, "stream": True}) as response:
            next(response.iter_raw())
        (record,) = server.requests.wait(1, closed=True)
        assert record.finished is None
        assert record.cancelled > record.started
        assert 0 < record.pieces < 14
        assert server.in_flight == 0


def test_connections_are_counted_and_reused(server):
    with httpx.Client(base_url=server.url) as http:
        before = server.open_connections
        http.get("/health")
        http.get("/health")
        assert server.open_connections == before + 1
    assert server.requests[0].connection == server.requests[1].connection


async def test_many_streams_at_once():
    count = 200
    body = json.dumps({**SAY, "stream": True, "ignore_eos": True, "max_tokens": 20}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"

    async def one(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head % len(body) + body)
        answer = await reader.read()
        writer.close()
        return answer

    async with DevServer(pace=0.005) as server:
        answers = await asyncio.gather(*(one(server.port) for _ in range(count)))
        assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
        assert server.max_in_flight > count // 2
        server.reset()
        assert server.max_in_flight == 0


class TestHttp:
    def test_pipelined_requests_are_answered_in_order(self, server):
        answer = raw(
            server,
            b"GET /version HTTP/1.1\r\nhost: x\r\n\r\nGET /load HTTP/1.1\r\nhost: x\r\n\r\n",
            until=b"}",
            reads=2,
        )
        assert answer.index(b'"version"') < answer.index(b'"server_load"')

    def test_chunked_bodies_and_expectations(self, server):
        body = json.dumps({"prompt": "hello"}).encode()
        request = (
            b"POST /tokenize HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
            b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
        )
        answer = raw(server, request, until=b"}")
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert b'"count":' in answer

    def test_old_clients_get_their_connection_closed(self, server):
        answer = raw(server, b"GET /version HTTP/1.0\r\n\r\n", until=b"never")
        assert b"connection: close" in answer
        assert answer.endswith(b'{"version":"0.32.0"}')

    def test_nonsense_is_answered_and_closed(self, server):
        answer = raw(server, b"NONSENSE\r\n\r\n", until=b"never")
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"Invalid HTTP request received.")

    def test_a_head_request_gets_no_body(self, server):
        answer = raw(server, b"HEAD /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", until=b"never")
        assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
        assert answer.endswith(b"\r\n\r\n")


class TestTls:
    def test_only_its_own_authority_is_trusted(self):
        with DevServer(tls=True) as server:
            assert server.url.startswith("https://127.0.0.1:")
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                httpx.get(f"{server.url}/health")
            context = ssl.create_default_context(cafile=server.ca_cert)
            assert httpx.get(f"{server.url}/health", verify=context).status_code == 200
            named = server.url.replace("127.0.0.1", "localhost")
            assert httpx.get(f"{named}/v1/models/", verify=context).headers["location"].startswith("http")
            ca_file = server.ca_cert
        assert not ca_file.exists()

    def test_plain_http_gets_no_answer(self):
        with DevServer(tls=True) as server, pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{server.port}/health")

    def test_a_client_certificate_can_be_required(self):
        with DevServer(mutual_tls=True) as server:
            context = ssl.create_default_context(cafile=server.ca_cert)
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{server.url}/health", verify=context)
            context = ssl.create_default_context(cafile=server.ca_cert)
            context.load_cert_chain(*server.client_cert)
            assert httpx.get(f"{server.url}/health", verify=context).status_code == 200

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cryptography", None)
        with pytest.raises(ImportError, match=r"kserve-integrations\[devserver\]"):
            DevServer(tls=True).start()
        with DevServer() as server:
            assert httpx.get(f"{server.url}/health").status_code == 200


class TestCommandLine:
    @pytest.fixture
    def run(self):
        started = []

        def start(*arguments):
            path = os.pathsep.join([str(Path(kserve_core.__file__).parents[1]), *filter(None, sys.path)])
            process = subprocess.Popen(
                [sys.executable, "-m", "kserve_core.devserver", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()

    def test_it_says_where_it_is_and_stops_when_told(self, run, tmp_path):
        ca_file = tmp_path / "ca.pem"
        process = run(
            "--json", "--tls", "--ca-out", str(ca_file), "--api-key", "k", "--model", "a", "--model", "b",
            "--lora", "c", "--base-path", "/openai", "--pace", "1", "--runtime-version", "0.9.2",
        )  # fmt: skip
        friendly, ready = process.stdout.readline(), json.loads(process.stdout.readline())
        assert ready == {"url": ready["url"], "models": ["a", "b", "c"], "ca_cert": str(ca_file)}
        assert ready["url"] in friendly
        context = ssl.create_default_context(cafile=ca_file)
        with httpx.Client(base_url=ready["url"], verify=context, headers={"authorization": "Bearer k"}) as http:
            entries = http.get("/v1/models").json()["data"]
            assert http.get("/version").json() == {"version": "0.9.2"}
        assert [(entry["id"], entry["parent"]) for entry in entries] == [("a", None), ("b", None), ("c", "a")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""

    def test_a_taken_port_is_a_plain_message(self, run, server):
        process = run("--port", str(server.port))
        assert process.wait(20) == 1
        error = process.stderr.read()
        assert "in use" in error
        assert "Traceback" not in error
