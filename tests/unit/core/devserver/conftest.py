"""One development server for the whole folder, clean at the start of every test."""

from __future__ import annotations

import httpx
import pytest

from kserve_core.devserver import DevServer, Model

MODELS = (
    Model(name="dev-model", aliases=("dev-alias",)),
    "dev-reasoner",
    "dev-matryoshka",
    Model(name="dev-small", max_model_len=64),
    Model(name="dev-lora", parent="dev-model"),
)


@pytest.fixture(scope="session")
def running():
    with DevServer(models=MODELS) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture
def chat(http):
    """Posts one user message (or a list of messages) and returns the response."""

    def post(said, headers=None, **fields):
        messages = said if isinstance(said, list) else [{"role": "user", "content": said}]
        return http.post("/v1/chat/completions", json={"messages": messages, **fields}, headers=headers)

    return post


@pytest.fixture
def complete(http):
    def post(prompt, **fields):
        return http.post("/v1/completions", json={"prompt": prompt, **fields})

    return post
