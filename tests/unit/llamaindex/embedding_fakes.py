"""Embedding models of an endpoint that is not there."""

from __future__ import annotations

from unit.llamaindex.fake_endpoint import BASE_URL, TOKEN, FakeEndpoint, connect

from llamaindex_kserve.embeddings import VLLMEmbedding


def embedding(endpoint: FakeEndpoint | None = None, **kwargs) -> VLLMEmbedding:
    kwargs = {"base_url": BASE_URL, "api_key": TOKEN, "model": "bge", **kwargs}
    made = VLLMEmbedding(**kwargs)
    return connect(made, endpoint) if endpoint is not None else made


def texts(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]
