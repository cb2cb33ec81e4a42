"""What is special about KServe's SDK server: its models' errors, no versions, HTTPS."""

from __future__ import annotations

import pytest
from runtimes.v2.clients import PROTOCOLS, servers_of

from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import InvalidRequestError, KServeError, ServerError
from kserve_core.runtimes.open_inference.values import InferRequest
from kserve_core.tensors import Tensor


def caught(client, kind, tensor, model, **more):
    with pytest.raises(kind) as info:
        client.run(client.runtime.infer(InferRequest(inputs=[tensor], model=model, **more)))
    return info.value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_model_answers(connect, protocol):
    client = connect("kserve", protocol)
    for code, kind in (("INVALID", InvalidRequestError), ("RAISE", ServerError), ("INFERENCE", KServeError)):
        error = caught(client, kind, Tensor.of("code", [code]), "fails")
        if code == "INVALID":
            assert error.server_message == "bad input"


def test_it_has_no_versions(connect):
    caught(connect("kserve"), InvalidRequestError, Tensor.of("text", ["a"]), "embed", version="1")


def test_https(connect):
    client = connect("kserve", server="secure", model="minilm", ca_cert=servers_of("kserve")["ca_cert"])
    client.run(client.runtime.resolve_model())
    (vector,) = client.run(client.runtime.embed(EmbeddingRequest(texts=["a"]))).embeddings
    assert len(vector) == 384
    stranger = connect("kserve", server="secure", model="minilm")
    with pytest.raises(KServeError):
        stranger.run(stranger.runtime.model_ready())
