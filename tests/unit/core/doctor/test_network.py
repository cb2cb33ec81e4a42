"""What is said when there is no name, no listener, or a proxy in between."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from kserve_core.devserver import DevServer
from kserve_core.doctor import Finding, examine
from kserve_core.doctor.judge_network import judge_attempts, judge_lookup
from kserve_core.doctor.network import Attempt, Lookup, Proxy, proxy_of
from kserve_core.endpoint import Endpoint
from tests.unit.core.doctor.conftest import CANARY, listening


def _failed(report: Any, step: str) -> Finding:
    finding = report.finding(step)
    assert finding is not None
    assert finding.status == "failed", str(report)
    assert report.exit_code == 1
    later = report.findings[report.findings.index(finding) + 1 :]
    assert all(item.status == "skipped" for item in later)
    assert report.snippets == {}
    return finding


def test_a_name_that_nobody_knows() -> None:
    finding = _failed(examine("https://no-such-model.example.com", timeout=5), "dns")
    assert "no-such-model.example.com is unknown" in finding.title
    assert "spelling" in finding.fix


def test_a_name_that_exists_inside_the_cluster_only() -> None:
    finding = _failed(examine("https://m-predictor.demo.svc.cluster.local:8443", timeout=5), "dns")
    assert "only inside the cluster" in finding.fix


@pytest.mark.parametrize(("problem", "words"), [("temporary", "name servers"), ("timeout", "took too long")])
def test_name_servers_that_do_not_answer_are_no_unknown_name(problem: Any, words: str) -> None:
    finding = judge_lookup(Endpoint.create("https://m.example.com"), Lookup(problem=problem))
    assert words in finding.title
    assert "VPN" in finding.fix


def test_a_lookup_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        ended.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        finding = _failed(examine("https://slow.example.com", timeout=0.2), "dns")
    finally:
        ended.set()
    assert "took too long" in finding.title


def test_a_port_where_nothing_listens() -> None:
    with DevServer() as server:
        url = server.url
    finding = _failed(examine(url, timeout=5), "tcp")
    assert "Nothing listens" in finding.title
    assert finding.facts["attempts"] == [{"address": "127.0.0.1", "outcome": "refused"}]


def test_a_headless_service_needs_its_containers_port() -> None:
    endpoint = Endpoint.create("http://m-predictor.demo.svc.cluster.local")
    finding = judge_attempts(endpoint, [Attempt("10.0.0.1", "refused", "Connection refused")], seconds=5)
    assert "http://m-predictor.demo.svc.cluster.local:8080" in finding.fix


def test_packets_that_are_dropped() -> None:
    inside = Endpoint.create("http://m-predictor.demo.svc.cluster.local:8080")
    assert "NetworkPolicy" in judge_attempts(inside, [Attempt("10.0.0.1", "timeout")], seconds=5).fix
    outside = judge_attempts(Endpoint.create("https://m.example.com"), [Attempt("10.0.0.1", "timeout")], seconds=5)
    assert "firewall" in outside.fix.lower()
    assert "5 s" in outside.title


def test_one_address_of_two_that_does_not_answer_is_a_warning() -> None:
    attempts = [Attempt("fd00::1", "unreachable", "Network is unreachable"), Attempt("10.0.0.1", "connected")]
    finding = judge_attempts(Endpoint.create("https://m.example.com"), attempts, seconds=5)
    assert finding.status == "warning"
    assert "fd00::1" in finding.detail


def test_the_proxy_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def refuse(sock: socket.socket) -> None:
        data = sock.recv(65536)
        if data:
            asked.append(data)
            sock.sendall(b"HTTP/1.1 403 Not for you\r\n\r\n")

    with listening(refuse) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:proxy-password@127.0.0.1:{port}")
        report = examine("https://m.example.com", api_key=CANARY, timeout=5)
    finding = _failed(report, "tls")
    assert "403 Not for you" in finding.title
    assert "NO_PROXY" in finding.fix
    assert asked[0].startswith(b"CONNECT m.example.com:443 HTTP/1.1\r\n")
    assert all(CANARY.encode() not in item for item in asked)
    assert "proxy-password" not in f"{report}{report.to_dict()}"


def test_a_proxy_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxy-password@proxy.example:3128")
    proxy = proxy_of(Endpoint.create("https://m.example.com"))
    assert isinstance(proxy, Proxy)
    assert (proxy.host, proxy.port) == ("proxy.example", 3128)
    assert "proxy-password" not in repr(proxy)
