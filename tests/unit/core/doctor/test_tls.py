"""What is said about a server's TLS, and that looking at it sends nothing."""

from __future__ import annotations

import socket
import ssl
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from kserve_core.devserver import DevServer
from kserve_core.doctor import Finding, examine
from kserve_core.doctor.certificates import read_certificate
from kserve_core.doctor.judge_tls import _name_fix
from kserve_core.endpoint import Endpoint
from tests.unit.core.doctor.conftest import CANARY, listening, server_context, tls_server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Test CA")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


def _tls(port: int, *, host: str = "127.0.0.1", **options: Any) -> Finding:
    report = examine(f"https://{host}:{port}", api_key=CANARY, timeout=10, **options)
    finding = report.finding("tls")
    assert finding is not None
    assert CANARY not in f"{report}{report.to_dict()}"
    return finding


def test_an_unknown_ca_is_named_with_the_chain_and_nothing_was_sent(authority: trustme.CA) -> None:
    got: list[bytes] = []
    with tls_server(server_context(authority.issue_cert("127.0.0.1")), got) as port:
        finding = _tls(port)
    assert finding.status == "failed"
    assert "Test CA" in finding.title
    assert "not trusted" in finding.title
    assert "--ca-cert" in finding.fix
    assert "for 127.0.0.1" in finding.detail
    assert finding.facts["chain"][0]["names"] == ["127.0.0.1"]
    assert got == []


def test_the_ca_that_is_missing_is_found_where_clusters_keep_it(authority: trustme.CA, tmp_path: Path) -> None:
    folder = tmp_path / "found" / "deep"
    folder.mkdir(parents=True)
    (folder / "bundle.crt").write_bytes(trustme.CA().cert_pem.bytes() + authority.cert_pem.bytes())
    with tls_server(server_context(authority.issue_cert("127.0.0.1"))) as port:
        finding = _tls(port)
        assert finding.facts["ca_found_in"] == str(folder / "bundle.crt")
        assert str(folder / "bundle.crt") in finding.fix
        assert _tls(port, ca_cert=str(folder / "bundle.crt")).status == "ok"


def test_the_ca_that_is_missing_is_found_by_another_tools_variable(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", ca_file)
    with tls_server(server_context(authority.issue_cert("127.0.0.1"))) as port:
        assert f"NODE_EXTRA_CA_CERTS ({ca_file})" in _tls(port).fix


def test_a_ca_of_the_same_name_with_another_key_is_not_taken_for_it(authority: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "old.crt").write_bytes(trustme.CA(organization_name="Test CA").cert_pem.bytes())
    with tls_server(server_context(authority.issue_cert("127.0.0.1"))) as port:
        finding = _tls(port)
    assert finding.facts["ca_found_in"] is None
    assert "1 other CA bundle" in finding.fix


def test_the_place_of_the_ca_that_is_trusted_is_told(authority: trustme.CA, ca_file: str) -> None:
    with tls_server(server_context(authority.issue_cert("127.0.0.1"))) as port:
        finding = _tls(port, ca_cert=ca_file)
    assert finding.status == "ok"
    assert finding.facts["trusted_by"] == ca_file


def test_an_expired_certificate(authority: trustme.CA, ca_file: str) -> None:
    ended = datetime.now(timezone.utc) - timedelta(days=3, hours=1)
    cert = authority.issue_cert("127.0.0.1", not_before=ended - timedelta(days=9), not_after=ended)
    with tls_server(server_context(cert)) as port:
        finding = _tls(port, ca_cert=ca_file)
    assert finding.status == "failed"
    assert "expired" in finding.title
    assert "3 days ago" in finding.title
    assert f"{ended:%Y-%m-%d}" in finding.detail
    assert "enew" in finding.fix


def test_a_certificate_that_is_about_to_end_is_a_warning(authority: trustme.CA, ca_file: str) -> None:
    ends = datetime.now(timezone.utc) + timedelta(days=2, hours=1)
    with tls_server(server_context(authority.issue_cert("127.0.0.1", not_after=ends))) as port:
        finding = _tls(port, ca_cert=ca_file)
    assert finding.status == "warning"
    assert "ends in 2 days" in finding.title


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (["localhost.other.example", "b.example"], "https://localhost.other.example"),
        (["only.example"], "https://only.example"),
        (["*.localhost"], "another"),
        (["a.example", "b.example"], "default certificate"),
    ],
)
def test_a_wrong_name_is_told_with_the_one_that_was_meant(
    authority: trustme.CA, ca_file: str, names: list[str], fix: str
) -> None:
    with tls_server(server_context(authority.issue_cert(*names))) as port:
        finding = _tls(port, host="localhost", ca_cert=ca_file)
    assert finding.status == "failed"
    assert "another name than localhost" in finding.title
    assert names[0] in finding.detail
    assert fix in finding.fix


def test_a_star_does_not_cover_two_labels() -> None:

    pem = trustme.CA().issue_cert("*.apps.example.com").cert_chain_pems[0].bytes().decode()
    leaf = read_certificate(ssl.PEM_cert_to_DER_cert(pem))
    assert "one label" in _name_fix(Endpoint.create("https://a.b.apps.example.com"), leaf)


def test_a_self_signed_certificate_is_told_from_an_unknown_ca(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "self.pem"
    pem.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    context.load_cert_chain(pem)
    with tls_server(context) as port:
        finding = _tls(port)
    assert finding.status == "failed"
    assert "signed by itself" in finding.title
    assert finding.facts["chain"][0]["sha256"] in finding.fix


@pytest.mark.filterwarnings("ignore:The TLS certificate of")
def test_without_checks_what_is_wrong_is_a_warning(authority: trustme.CA) -> None:
    with tls_server(server_context(authority.issue_cert("127.0.0.1"))) as port:
        finding = _tls(port, verify=False)
    assert finding.status == "warning"
    assert "verify=False" in finding.title
    assert "not trusted" in finding.title


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED])
def test_the_whole_chain_is_shown(ca_file: str, authority: trustme.CA, version: Any) -> None:
    cert = authority.create_child_ca().issue_cert("127.0.0.1")
    with tls_server(server_context(cert, maximum_version=version)) as port:
        finding = _tls(port, ca_cert=ca_file)
    assert finding.status == "ok"
    assert len(finding.facts["chain"]) == 2


def test_a_server_of_tls_13_only_shows_at_least_its_own_certificate(authority: trustme.CA) -> None:
    cert = authority.create_child_ca().issue_cert("127.0.0.1")
    with tls_server(server_context(cert, minimum_version=ssl.TLSVersion.TLSv1_3)) as port:
        finding = _tls(port)
    assert "not trusted" in finding.title
    assert len(finding.facts["chain"]) == (2 if sys.version_info >= (3, 13) else 1)


def test_a_client_certificate_that_is_missing_or_not_liked(authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    with DevServer(mutual_tls=True) as server:
        assert server.client_cert is not None
        bare = examine(server.url, ca_cert=str(server.ca_cert), timeout=10)
        mine = tmp_path / "client.pem"
        mine.write_bytes(trustme.CA().issue_cert("client").private_key_and_cert_chain_pem.bytes())
        wrong = examine(server.url, ca_cert=str(server.ca_cert), client_cert=mine, timeout=10)
        right = examine(server.url, ca_cert=str(server.ca_cert), client_cert=server.client_cert, timeout=10)
    finding = bare.finding("tls")
    assert finding is not None
    assert finding.status == "failed"
    assert "wants a client certificate" in finding.title
    assert "--client-cert" in finding.fix
    refused = wrong.finding("tls")
    assert refused is not None
    assert refused.status == "failed"
    assert "does not accept the client certificate" in refused.title
    assert right.ok, str(right)
    assert "client_cert=(" in right.snippets["langchain"]


def test_a_client_certificate_that_is_missing_shows_late_with_tls_13_only(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(
        authority.issue_cert("127.0.0.1"), minimum_version=ssl.TLSVersion.TLSv1_3, verify_mode=ssl.CERT_REQUIRED
    )
    authority.configure_trust(context)
    with tls_server(context) as port:
        report = examine(f"https://127.0.0.1:{port}", ca_cert=ca_file, timeout=10)
    assert report.exit_code == 1
    text = str(report)  # the connection's end may overtake the alert that says why
    assert "--client-cert" in text or "may want a client certificate" in " ".join(text.split())


def test_plain_text_where_tls_is_expected() -> None:
    with DevServer() as server:
        finding = _tls(int(server.url.rpartition(":")[2]))
    assert finding.status == "failed"
    assert "does not speak TLS" in finding.title
    assert "http://" in finding.fix


def test_tls_where_plain_text_is_expected_and_the_token_was_not_sent() -> None:
    with DevServer(tls=True) as server:
        report = examine(server.url.replace("https", "http"), api_key=CANARY, timeout=10)
        assert len(server.requests) == 0
    finding = report.finding("tls")
    assert finding is not None
    assert finding.status == "failed"
    assert "https://127.0.0.1" in finding.fix
    auth = report.finding("auth")
    assert auth is not None
    assert auth.status == "skipped"


def test_a_server_that_does_not_answer_the_handshake_costs_no_more_than_the_time_given() -> None:
    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with listening(silent) as port:
        report = examine(f"https://127.0.0.1:{port}", timeout=2)
    finding = report.finding("tls")
    assert finding is not None
    assert finding.status == "failed"
    assert "does not answer the TLS handshake" in finding.title


def test_a_server_that_hangs_up() -> None:
    with listening(lambda sock: None) as port:
        report = examine(f"https://127.0.0.1:{port}", timeout=5)
    finding = report.finding("tls")
    assert finding is not None
    assert finding.status == "failed"
    assert "hung up" in finding.title


def test_grpc_needs_http2_and_rest_does_not(authority: trustme.CA) -> None:
    with DevServer(tls=True, tgis=True) as server:
        ca = str(server.ca_cert)
        without = examine(server.url, protocol="grpc", ca_cert=ca, timeout=10).finding("http2")
        with_it = examine(server.tgis_url, ca_cert=ca, timeout=10).finding("http2")
        rest = examine(server.url, ca_cert=ca, timeout=10).finding("http2")
    assert without is not None
    assert without.status == "failed"
    assert "HTTP/2" in without.fix
    assert with_it is not None
    assert (with_it.status, with_it.facts["alpn"]) == ("ok", "h2")
    assert rest is not None
    assert rest.status == "ok"


def test_a_server_that_refuses_a_handshake_without_its_protocol_still_has_its_certificate_judged(
    authority: trustme.CA, ca_file: str
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_alpn_protocols(["http/1.1"])
    with tls_server(context) as port:
        report = examine(f"grpcs://127.0.0.1:{port}", ca_cert=ca_file, timeout=10)
    tls, http2 = report.finding("tls"), report.finding("http2")
    assert tls is not None
    assert tls.status == "ok"
    assert http2 is not None
    assert http2.status == "failed"
