"""Which servers are believed, and who we are to them: over real TLS on loopback."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

from kserve_core import trust as trust_module
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, EndpointConnectionError, TLSError
from kserve_core.http_transport import HttpTransport
from kserve_core.trust import InsecureConnectionWarning, Trust
from tests.unit.core.scripted import ServerSide, answer, get, streaming, whole_stream

OK = answer(body={"ok": 1})


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def other_ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "KSERVE_CA_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trust_module, "SERVICE_CA", str(tmp_path / "no-service-ca.crt"))
    monkeypatch.setattr(trust_module, "_warned", set())


def server_context(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    return context


@pytest.fixture
def server(ca: trustme.CA) -> Iterator[ServerSide]:
    with ServerSide(OK, tls=server_context(ca)) as running:
        yield running


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(path)
    return path


def call(mode: str, url: str, **options: Any) -> Any:
    options.setdefault("max_retries", 0)
    transport = HttpTransport(Endpoint.create(url, **options))
    if mode == "sync":
        try:
            return transport.run(get())
        finally:
            transport.close()
    return asyncio.run(transport.arun(get()))


def pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def test_unknown_ca_is_refused_and_the_hint_names_the_argument(mode: str, server: ServerSide) -> None:
    with pytest.raises(TLSError, match="not accepted") as caught:
        call(mode, server.url, max_retries=2)
    assert "ca_cert=" in caught.value.hint
    assert caught.value.attempts == 1
    assert not caught.value.retryable


def test_ca_in_every_form(mode: str, server: ServerSide, ca: trustme.CA, other_ca: trustme.CA, ca_file: Path) -> None:
    directory = ca_file.parent / "certs"
    directory.mkdir()
    shutil.copy(ca_file, directory / "mine.pem")
    (directory / "README").write_text("not a certificate")
    for ca_cert in (
        ca_file,
        str(ca_file),
        pem(ca),
        [pem(other_ca), ca_file],
        directory,
        pem(other_ca) + "\n" + pem(ca),
    ):
        assert call(mode, server.url, ca_cert=ca_cert) == {"ok": 1}


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "KSERVE_CA_CERT"])
def test_ca_from_the_environment(
    mode: str, variable: str, server: ServerSide, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(ca_file))
    assert call(mode, server.url) == {"ok": 1}


def test_service_ca_of_a_pod(mode: str, server: ServerSide, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_module, "SERVICE_CA", str(ca_file))
    assert call(mode, server.url) == {"ok": 1}


def test_trust_is_additive(
    ca: trustme.CA, other_ca: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_file = ca_file.parent / "other.crt"
    other_ca.cert_pem.write_to_path(other_file)
    monkeypatch.setenv("SSL_CERT_FILE", str(other_file))
    with ServerSide(OK, tls=server_context(ca)) as one, ServerSide(OK, tls=server_context(other_ca)) as two:
        for server in (one, two):
            assert call("sync", server.url, ca_cert=ca_file) == {"ok": 1}
    context = Trust.create(ca_file).ssl_context()
    assert context.cert_store_stats()["x509_ca"] >= Path(certifi.where()).read_text().count("BEGIN CERTIFICATE")
    roots = Trust.create(ca_file).roots_pem().decode()
    assert roots.count("BEGIN CERTIFICATE") == roots.count("END CERTIFICATE") > 100
    for certificate in (pem(ca), pem(other_ca)):
        assert certificate.split("\n")[1] in roots


def test_host_name_is_checked_with_a_ca_of_ones_own(mode: str, ca: trustme.CA, ca_file: Path) -> None:
    with ServerSide(OK, tls=server_context(ca, "other.example.com")) as server:
        with pytest.raises(TLSError) as caught:
            call(mode, server.url, ca_cert=ca_file)
    assert "host name" in caught.value.hint


def test_server_certificate_itself_can_be_trusted(mode: str, ca: trustme.CA) -> None:
    """What people export with `openssl s_client` is the server's own certificate, not its CA's."""
    issued = ca.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with ServerSide(OK, tls=context) as server:
        assert call(mode, server.url, ca_cert=issued.cert_chain_pems[0].bytes().decode()) == {"ok": 1}


def test_old_tls_is_refused(mode: str, ca: trustme.CA, ca_file: Path) -> None:
    context = server_context(ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with ServerSide(OK, tls=context) as server:
        with pytest.raises((TLSError, EndpointConnectionError)):
            call(mode, server.url, ca_cert=ca_file)
    assert server.requests == []


def test_verify_false_warns_once_per_host(mode: str, server: ServerSide) -> None:
    with pytest.warns(InsecureConnectionWarning, match=r"127\.0\.0\.1"):
        assert call(mode, server.url, verify=False) == {"ok": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(mode, server.url, verify=False) == {"ok": 1}


def test_verify_false_over_http_does_not_warn() -> None:
    with ServerSide(OK) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call("sync", server.url, verify=False) == {"ok": 1}


def test_mutual_tls(mode: str, ca: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    context = server_context(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    client = ca.issue_cert("client@example.com")
    both = tmp_path / "both.pem"
    client.private_key_and_cert_chain_pem.write_to_path(both)
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    client.cert_chain_pems[0].write_to_path(cert)
    client.private_key_pem.write_to_path(key)
    encrypted = tmp_path / "encrypted.key"
    _encrypt(key, encrypted, b"canary-password")
    with ServerSide(OK, tls=context) as server:
        for client_cert in (both, (cert, key), (cert, encrypted, "canary-password")):
            assert call(mode, server.url, ca_cert=ca_file, client_cert=client_cert) == {"ok": 1}
        with pytest.raises(EndpointConnectionError) as caught:
            call(mode, server.url, ca_cert=ca_file)
        assert "client_cert" in caught.value.hint
        for client_cert in ((cert, encrypted), (cert, encrypted, "wrong"), (cert, tmp_path / "absent"), cert):
            with pytest.raises(ConfigurationError) as refused:
                call(mode, server.url, ca_cert=ca_file, client_cert=client_cert)
            assert "client_cert=" in refused.value.hint
            assert "canary" not in str(refused.value)
    material = Trust.create(client_cert=(cert, key)).client_pem()
    assert material is not None
    assert b"CERTIFICATE" in material[0]
    assert b"PRIVATE KEY" in material[1]


def test_plain_server_behind_https(mode: str) -> None:
    with ServerSide(OK) as server:
        with pytest.raises((TLSError, EndpointConnectionError)) as caught:
            call(mode, server.url.replace("http://", "https://"))
    assert caught.value.hint


def test_tls_server_behind_http(mode: str, server: ServerSide) -> None:
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        call(mode, server.url.replace("https://", "http://"))
    assert "https://" in caught.value.hint  # type: ignore[attr-defined]


def test_stream_and_reuse_over_tls(mode: str, ca: trustme.CA, ca_file: Path) -> None:
    with ServerSide(whole_stream("a", "b"), OK, tls=server_context(ca)) as server:
        transport = HttpTransport(Endpoint.create(server.url, ca_cert=ca_file, api_key="t"))
        if mode == "sync":
            assert list(transport.stream(streaming())) == ["a", "b"]
            assert transport.run(get()) == {"ok": 1}
            transport.close()
        else:

            async def main() -> None:
                assert [piece async for piece in transport.astream(streaming())] == ["a", "b"]
                assert await transport.arun(get()) == {"ok": 1}

            with warnings.catch_warnings():
                warnings.simplefilter("error")
                asyncio.run(main())
        assert server.wait_until_live(0)
    assert server.requests[0].headers["authorization"] == "Bearer t"


def test_context_is_shared_and_follows_changed_files(ca: trustme.CA, other_ca: trustme.CA, ca_file: Path) -> None:
    first = Trust.create(ca_file).ssl_context()
    assert Trust.create(str(ca_file)).ssl_context() is first
    assert Trust.create(pem(ca)).ssl_context() is not first
    ca_file.write_text(pem(other_ca) + pem(ca))
    assert Trust.create(ca_file).ssl_context() is not first


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_file_without_a_certificate(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"ca\.crt") as caught:
        Trust.create(path).ssl_context()
    assert caught.value.hint


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    trust = Trust.create(tmp_path / "absent.crt")
    with pytest.raises(ConfigurationError, match=r"absent\.crt"):
        trust.ssl_context()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.crt"))
    Trust.create().ssl_context()
    assert "SSL_CERT_FILE" in caplog.text
    monkeypatch.setenv("KSERVE_CA_CERT", str(tmp_path / "absent.crt"))
    with pytest.raises(ConfigurationError, match=r"absent\.crt"):
        Trust.create().ssl_context()


def test_bundle_with_comments_in_other_encodings(
    tmp_path: Path, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(b"# T\xfcrktrust\n" + pem(ca).encode())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with ServerSide(OK, tls=server_context(ca)) as server:
        assert call("sync", server.url) == {"ok": 1}
    monkeypatch.delenv("SSL_CERT_FILE")
    with ServerSide(OK, tls=server_context(ca)) as server:
        assert call("sync", server.url, ca_cert=bundle) == {"ok": 1}


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("m.ns.svc.cluster.local", "openshift-service-ca.crt"),
        ("m.apps.cluster.example.com", "odh-trusted-ca-bundle"),
        ("m.example.com", "ca_cert="),
    ],
)
def test_hint_names_the_ca_that_is_likely_missing(host: str, words: str) -> None:
    from kserve_core.http_failures import connection_error

    cause = ssl.SSLCertVerificationError("verify failed")
    cause.verify_message = "unable to get local issuer certificate"
    error = connection_error(cause, Endpoint.create(f"https://{host}"))
    assert isinstance(error, TLSError)
    assert words in error.hint
    assert "unable to get local issuer" in error.message


def test_trust_compares_pickles_and_shows_no_password(ca: trustme.CA) -> None:
    trust = Trust.create([pem(ca), "a.crt"], ("c.pem", "k.pem", "canary-password"))
    assert pickle.loads(pickle.dumps(trust)) == trust
    assert hash(trust) == hash(Trust.create([pem(ca), "a.crt"], ("c.pem", "k.pem", "canary-password")))
    assert "canary" not in repr(trust)
    assert "BEGIN" not in repr(trust)


def _encrypt(source: Path, target: Path, password: bytes) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(source.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
    )
