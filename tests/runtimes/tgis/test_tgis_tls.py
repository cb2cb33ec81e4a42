"""TLS in both directions against a real TGIS endpoint.

To gRPC's library all that goes wrong here is one status, UNAVAILABLE; what it was is in the words only.
"""

from __future__ import annotations

import pytest
from runtimes.prompts import COUNT, HELLO, ask

from kserve_core.errors import EndpointConnectionError, KServeError, TLSError


def refused(client, kind):
    with pytest.raises(kind) as info:
        client.run(client.runtime.generate(ask("Say hello.")))
    with pytest.raises(kind):
        list(client.stream(client.runtime.stream_generate(ask("Say hello."))))
    assert info.value.hint
    return info.value


@pytest.fixture
def options(servers):
    return {"ca_cert": servers["ca_cert"], "client_cert": tuple(servers["client_cert"]), "timeout": 20}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_by_address_and_by_name(connect, servers, options, host):
    client = connect(servers["secure"]["base_url"].replace("127.0.0.1", host), **options)
    result = client.run(client.runtime.generate(ask("Say hello.", "Count to ten.")))
    assert [generation.text for (generation,) in result.generations] == [HELLO, COUNT]
    assert "".join(one.text for one in client.stream(client.runtime.stream_generate(ask("Say hello.")))) == HELLO


async def test_by_asyncio(connect, servers, options):
    client = connect(servers["secure"]["base_url"], **options)
    pieces = [one async for one in client.astream(client.runtime.stream_generate(ask("Say hello.")))]
    assert "".join(one.text for one in pieces) == HELLO
    await client.aclose()


def test_with_a_token_beside_the_certificate(connect, servers, options):
    """The endpoint itself looks at no token; a proxy before it does."""
    client = connect(servers["secure"]["base_url"], **options, api_key="sha256~token")
    assert client.run(client.runtime.generate(ask("Say hello."))).generations[0][0].text == HELLO


@pytest.mark.filterwarnings("ignore::kserve_core.trust.InsecureConnectionWarning")
def test_a_certificate_that_is_not_checked(connect, servers, options):
    client = connect(servers["secure"]["base_url"], **{**options, "ca_cert": None}, verify=False)
    assert client.run(client.runtime.generate(ask("Say hello."))).generations[0][0].text == HELLO


def test_without_a_client_certificate(connect, servers, options):
    client = connect(servers["secure"]["base_url"], **{**options, "client_cert": None})
    error = refused(client, EndpointConnectionError)
    assert "client_cert" in error.hint


def test_with_a_strangers_client_certificate(connect, servers, options):
    client = connect(servers["secure"]["base_url"], **{**options, "client_cert": tuple(servers["stranger_cert"])})
    error = refused(client, EndpointConnectionError)
    assert "certificate" in error.hint


def test_a_server_that_is_not_trusted(connect, servers, options):
    client = connect(servers["secure"]["base_url"], **{**options, "ca_cert": None})
    error = refused(client, TLSError)
    assert "ca_cert" in error.hint
    assert not error.retryable


def test_plaintext_to_a_port_with_tls(connect, servers):
    client = connect(servers["secure"]["base_url"].replace("grpcs://", "grpc://"), timeout=20)
    error = refused(client, EndpointConnectionError)
    assert "grpcs://" in error.hint


def test_tls_to_a_port_without(connect, servers, options):
    client = connect(servers["plain"]["base_url"].replace("grpc://", "grpcs://"), **options)
    error = refused(client, TLSError)
    assert isinstance(error, KServeError)
    assert "TLS" in error.message
