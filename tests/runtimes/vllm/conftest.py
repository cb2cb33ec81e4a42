"""Clients of the real servers that `python -m runtimes vllm` has started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from targets import Target, get_target

from kserve_core.capabilities import ChatRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.runtimes.vllm import VLLMRuntime

Client = RuntimeClient[VLLMRuntime]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is vLLM's."""
    for item in items:
        if "runtimes/vllm" in item.path.as_posix():
            item.add_marker(pytest.mark.runtime("vllm"))


@pytest.fixture(scope="session")
def vllm() -> Target:
    """The servers."""
    return get_target("vllm")


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[..., Client]]:
    """Makes clients out of constructor arguments and closes them at the end."""
    made: list[Client] = []

    def connect(params: dict[str, Any], **changes: Any) -> Client:
        given = {**params, "max_retries": 0, **changes}
        model = given.pop("model")
        endpoint = Endpoint.create(given.pop("base_url"), **given)
        made.append(RuntimeClient(endpoint, VLLMRuntime(base_path=endpoint.base_path, model=model)))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def generator(vllm: Target, connect: Callable[..., Client]) -> Client:
    """The server that generates."""
    return connect(vllm.chat)


@pytest.fixture(scope="session")
def embedder(vllm: Target, connect: Callable[..., Client]) -> Client:
    """The server that embeds."""
    return connect(vllm.embedding)


@pytest.fixture(scope="session")
def reranker(vllm: Target, connect: Callable[..., Client]) -> Client:
    """The server that reranks."""
    return connect(vllm.rerank)


@pytest.fixture(scope="session")
def secure(vllm: Target, connect: Callable[..., Client]) -> Client:
    """The server behind TLS that parts reasoning from the answer."""
    return connect(vllm.reasoning)


@pytest.fixture(scope="session")
def ask() -> Callable[..., ChatRequest]:
    """Makes a chat request out of what the user says; greedy unless told otherwise."""

    def ask(says: str, *, tools: Any = (), **fields: Any) -> ChatRequest:
        params = {"temperature": 0, **fields.pop("params", {})}
        return ChatRequest(messages=[{"role": "user", "content": says}], tools=tools, params=params, **fields)

    return ask


@pytest.fixture(scope="session")
def weather() -> dict[str, Any]:
    """The tool the model was taught to call."""
    return WEATHER
