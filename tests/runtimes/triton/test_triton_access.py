"""Triton's own guards: TLS over gRPC, APIs for holders of a token, models that are loaded on request."""

from __future__ import annotations

import numpy as np
import pytest
from runtimes.v2.clients import PROTOCOLS, servers_of

from kserve_core.capabilities import EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    EndpointConnectionError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotReadyError,
    PermissionDeniedError,
    TLSError,
)
from kserve_core.runtimes.triton import TritonRuntime

pytestmark = pytest.mark.runtime("triton")

TEXT = {"text": ["a"]}


@pytest.fixture
def servers():
    return servers_of("triton")


def test_a_certificate_of_our_own_authority(tensors, servers):
    client = tensors("triton", "grpc", server="secure", ca_cert=servers["ca_cert"])
    assert client.infer(TEXT, model="null_embed")["embedding"].shape == (1, 384)


def test_a_certificate_nobody_vouches_for(tensors):
    with pytest.raises(TLSError):
        tensors("triton", "grpc", server="secure").infer(TEXT, model="null_embed")


@pytest.mark.filterwarnings("ignore::kserve_core.trust.InsecureConnectionWarning")
def test_a_certificate_that_is_not_checked(tensors):
    client = tensors("triton", "grpc", server="secure", verify=False)
    assert client.is_model_ready("null_embed")


def test_a_client_certificate(tensors, servers):
    shown = tuple(servers["client_cert"])
    client = tensors("triton", "grpc", server="mutual", ca_cert=servers["ca_cert"], client_cert=shown)
    assert client.infer(TEXT, model="versioned").texts("text_output") == ["v7:a"]


@pytest.mark.parametrize("shown", ["none", "a stranger's"])
def test_client_certificates_that_do_not_do(tensors, servers, shown):
    given = {} if shown == "none" else {"client_cert": tuple(servers["stranger_cert"])}
    client = tensors("triton", "grpc", server="mutual", ca_cert=servers["ca_cert"], timeout=20, **given)
    with pytest.raises(EndpointConnectionError):
        client.infer(TEXT, model="versioned")


def test_plain_grpc_to_a_server_with_tls(servers):
    endpoint = Endpoint.create(servers["secure"]["grpc"].replace("grpcs", "grpc"), max_retries=0, timeout=20)
    client = RuntimeClient(endpoint, TritonRuntime(protocol="grpc"))
    with pytest.raises(KServeError):
        client.run(client.runtime.server_metadata())
    client.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_opens_the_restricted_apis(tensors, servers, protocol):
    key = {"api_key": servers["token"], "allow_insecure_token": True}
    client = tensors("triton", protocol, server="restricted", **key)
    assert client.infer({"text": np.array([b"a"], dtype=object)}, model="null_embed")["embedding"].shape == (1, 384)
    assert client.model_metadata("versioned").versions == ("1", "2", "7")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_token_they_are_closed(connect, protocol, token):
    options = {"input_name": "text_input"}  # the metadata is closed as well
    client = connect("triton", protocol, server="restricted", options=options, api_key=token, allow_insecure_token=True)
    for exchange in (client.runtime.server_metadata(), client.runtime.repository_index()):
        with pytest.raises(PermissionDeniedError) as info:
            client.run(exchange)
        assert not info.value.retryable
    request = TextRequest(prompts=["a"], model="generate_stream")
    with pytest.raises(PermissionDeniedError):
        client.run(client.runtime.generate(request))
    assert client.run(client.runtime.server_ready()) is True  # which is not among them


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_inputs_that_are_not_told_without_the_token(connect, protocol, token):
    client = connect("triton", protocol, server="restricted", api_key=token, allow_insecure_token=True)
    for model in ("generate_stream", "null_embed", "versioned"):
        with pytest.raises(PermissionDeniedError, match="restricted") as info:
            client.run(_first_answer(client.runtime, model))
        assert "api_key" in info.value.hint
        assert "input_name" in info.value.hint


def _first_answer(runtime, model):
    if model == "generate_stream":
        return (yield from runtime.generate(TextRequest(prompts=["a"], model=model)))
    if model == "null_embed":
        yield from runtime.resolve_model(model)
        return (yield runtime.embed(EmbeddingRequest(texts=["a"], model=model)))
    return (yield from runtime.rerank(RerankRequest(query="a", documents=["b"], model=model)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_that_are_loaded_on_request(tensors, servers, protocol):
    client = tensors("triton", protocol, server="secure", ca_cert=servers["ca_cert"])
    client.unload_model("versioned")
    assert not client.is_model_ready("versioned")
    with pytest.raises((NotReadyError, ModelNotFoundError)):
        client.infer(TEXT, model="versioned")
    client.load_model("versioned")
    assert client.infer(TEXT, model="versioned").texts("text_output") == ["v7:a"]
    with pytest.raises(ModelNotFoundError):
        client.load_model("nobody")
    with pytest.raises(KServeError, match="never loads"):
        client.load_model("broken")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_loading_where_it_is_not_allowed(tensors, protocol):
    with pytest.raises(InvalidRequestError, match="not allowed"):
        tensors("triton", protocol).load_model("versioned")
