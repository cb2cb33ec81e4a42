"""A development server, and models that talk to it."""

from __future__ import annotations

import pytest
from unit.langchain.llms.seen import KEY

from kserve_core.devserver import DevServer
from langchain_kserve import VLLM


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key=KEY, models=["dev-model", "other-model"]) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def make(server):
    def make(**fields):
        return VLLM(**{"base_url": server.url, "api_key": KEY, "model": "dev-model", "max_retries": 0, **fields})

    return make


@pytest.fixture
def llm(make):
    return make()
