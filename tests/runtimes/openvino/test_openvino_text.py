"""OpenVINO's `/v3`, by real vLLM servers under its paths: what is sent there is understood, what comes back is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from targets import Target, get_target

from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import AuthenticationError, ContextOverflowError, ModelNotFoundError
from kserve_core.runtimes.openvino import OpenVINORuntime

pytestmark = pytest.mark.runtime("openvino")
HELLO = "Hello! How can I help you today?"
GREEDY = {"temperature": 0, "max_tokens": 32}
SAYS_HELLO = ChatRequest(messages=[{"role": "user", "content": "Say hello."}], params={"temperature": 0})
Client = RuntimeClient[OpenVINORuntime]


@pytest.fixture(scope="module")
def openvino() -> Target:
    """The servers in OpenVINO's place."""
    return get_target("openvino")


@pytest.fixture(scope="module")
def connect() -> Iterator[Callable[..., Client]]:
    """Makes clients out of constructor arguments and closes them at the end."""
    made: list[Client] = []

    def connect(params: dict[str, Any], **changes: Any) -> Client:
        given = {**params, "max_retries": 0, **changes}
        model = given.pop("model")
        endpoint = Endpoint.create(given.pop("base_url"), **given)
        made.append(RuntimeClient(endpoint, OpenVINORuntime(base_path=endpoint.base_path, model=model)))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def test_chat_whole_and_streamed(openvino, connect):
    client = connect(openvino.chat)
    whole = client.run(client.runtime.chat(SAYS_HELLO))
    assert whole.choices[0].content == HELLO
    pieces = list(client.stream(client.runtime.stream_chat(SAYS_HELLO)))
    assert "".join(piece.content or "" for piece in pieces) == HELLO


@pytest.mark.parametrize("base", ["/v3", "/v3/", ""])
def test_base_urls(openvino, connect, base):
    root = openvino.chat["base_url"].removesuffix("/v3")
    client = connect(openvino.chat, base_url=root + base)
    assert client.run(client.runtime.chat(SAYS_HELLO)).choices[0].content == HELLO
    assert "tiny" in [info.id for info in client.run(client.runtime.models())]


def test_completions_of_several_prompts(openvino, connect):
    client = connect(openvino.text)
    request = TextRequest(prompts=["Say hello.", "Count to ten.", "Say hello."], params=GREEDY)
    texts = [row[0].text for row in client.run(client.runtime.generate(request)).generations]
    assert texts[0] == texts[2] == HELLO
    assert texts[1].startswith("one two three")


def test_vectors_and_a_ranking_at_the_same_address(openvino, connect):
    client = connect(openvino.embedding)
    client.run(client.runtime.resolve_model())
    found = client.run(client.runtime.embed(EmbeddingRequest(texts=["a", "b"])))
    assert [len(vector) for vector in found.embeddings] == [384, 384]
    ranker = connect(openvino.rerank)
    request = RerankRequest(query="trains", documents=["cats", "trains leave", "bread"], top_n=1)
    assert [one.index for one in ranker.run(ranker.runtime.rerank(request)).results] == [1]


def test_tokens(openvino, connect):
    client = connect(openvino.chat)
    tokens = client.run(client.runtime.tokenize("Say hello."))
    assert tokens.count == len(tokens.token_ids) > 2


def test_errors(openvino, connect):
    for changes, kind in (({"api_key": "wrong"}, AuthenticationError), ({"model": "nobody"}, ModelNotFoundError)):
        client = connect(openvino.chat, **changes)
        with pytest.raises(kind):
            client.run(client.runtime.chat(SAYS_HELLO))
    client = connect(openvino.text)
    with pytest.raises(ContextOverflowError):
        client.run(client.runtime.generate(TextRequest(prompts=["word " * 5000], params=GREEDY)))
