"""TLS in both directions against a real Caikit server, which speaks TLS to the TGIS server behind it as well."""

from __future__ import annotations

import pytest
from runtimes.prompts import HELLO, ask

from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import EndpointConnectionError, TLSError

PROTOCOLS = ["rest", "grpc"]


@pytest.fixture
def options(servers):
    backend = servers["backend"]
    return {"ca_cert": backend["ca_cert"], "client_cert": tuple(backend["client_cert"]), "timeout": 20}


def refused(client, kind):
    with pytest.raises(kind) as info:
        client.run(client.runtime.embed(EmbeddingRequest(texts=["a"])))
    with pytest.raises(kind):
        list(client.stream(client.runtime.stream_generate(ask("Say hello.", model="tiny"))))
    return info.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_everything_works(connect, servers, options, protocol, host):
    client = connect(servers["secure"][protocol].replace("127.0.0.1", host), **options)
    assert client.run(client.runtime.generate(ask("Say hello."))).generations[0][0].text == HELLO
    assert "".join(one.text for one in client.stream(client.runtime.stream_generate(ask("Say hello.")))) == HELLO
    vectors = client.run(client.runtime.embed(EmbeddingRequest(texts=["a", "b"], model="minilm"))).embeddings
    assert [len(vector) for vector in vectors] == [384, 384]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_by_asyncio(connect, servers, options, protocol):
    client = connect(servers["secure"][protocol], **options)
    pieces = [one async for one in client.astream(client.runtime.stream_generate(ask("Say hello.")))]
    assert "".join(one.text for one in pieces) == HELLO
    await client.aclose()


@pytest.mark.filterwarnings("ignore::kserve_core.trust.InsecureConnectionWarning")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_that_is_not_checked(connect, servers, options, protocol):
    client = connect(servers["secure"][protocol], **{**options, "ca_cert": None}, verify=False)
    result = client.run(client.runtime.embed(EmbeddingRequest(texts=["a"], model="minilm")))
    assert len(result.embeddings) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shown", ["none", "a stranger's"])
def test_client_certificates_that_do_not_do(connect, servers, options, protocol, shown):
    stranger = tuple(servers["backend"]["stranger_cert"])
    changes = {"client_cert": None if shown == "none" else stranger}
    client = connect(servers["secure"][protocol], model="minilm", **{**options, **changes})
    error = refused(client, EndpointConnectionError)
    if shown == "none" or protocol == "grpc":
        assert "certificate" in str(error)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_not_trusted(connect, servers, options, protocol):
    client = connect(servers["secure"][protocol], model="minilm", **{**options, "ca_cert": None})
    error = refused(client, TLSError)
    assert "ca_cert" in error.hint
    assert not error.retryable


@pytest.mark.parametrize(("protocol", "scheme"), [("rest", ("https", "http")), ("grpc", ("grpcs", "grpc"))])
def test_plaintext_to_a_port_with_tls(connect, servers, protocol, scheme):
    client = connect(servers["secure"][protocol].replace(*scheme), model="minilm", timeout=20)
    refused(client, EndpointConnectionError)


@pytest.mark.parametrize(("protocol", "scheme"), [("rest", ("http", "https")), ("grpc", ("grpc", "grpcs"))])
def test_tls_to_a_port_without(connect, servers, options, protocol, scheme):
    client = connect(servers["plain"][protocol].replace(*scheme), model="minilm", **options)
    refused(client, TLSError)
