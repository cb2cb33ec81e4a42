"""Building an index and asking it contacts the endpoint and nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import TokenTextSplitter

from kserve_core.devserver import DevServer
from llamaindex_kserve import VLLM, VLLMEmbedding, VLLMRerank

DOCUMENTS = ["The office opens at nine.", "Invoices are paid in March.", "The cat sleeps on the mat. " * 40]

_watched: list[list[tuple[str, object]]] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect" and _watched:
        _watched[-1].append((event, args[1]))
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"} and _watched:
        _watched[-1].append((event, args[0]))


sys.addaudithook(_watch)


@pytest.fixture
def contacts() -> Iterator[list[tuple[str, object]]]:
    """Every address connected to and every name looked up from here on."""
    _watched.append([])
    yield _watched[-1]
    _watched.pop()


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(api_key="the-key") as server:
        yield server


def build(server: DevServer):
    where = {"base_url": f"{server.url}/v1", "api_key": "the-key"}
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in DOCUMENTS],
        embed_model=VLLMEmbedding(**where),
        transformations=[TokenTextSplitter(chunk_size=64, chunk_overlap=0)],
    )
    return index.as_query_engine(
        llm=VLLM(**where), similarity_top_k=3, node_postprocessors=[VLLMRerank(**where, top_n=2)]
    )


def assert_only(server: DevServer, contacts: list[tuple[str, object]]) -> None:
    connected = {address for event, address in contacts if event == "socket.connect"}
    assert {address[:2] for address in connected if isinstance(address, tuple)} == {("127.0.0.1", server.port)}
    names = {host for event, host in contacts if event != "socket.connect"}
    assert names <= {"127.0.0.1", b"127.0.0.1", None}


def test_blocking(server, contacts):
    answer = build(server).query("When does the office open?")
    assert len(answer.source_nodes) == 2
    assert str(answer)
    assert_only(server, contacts)


async def test_async(server, contacts):
    answer = await build(server).aquery("When does the office open?")
    assert len(answer.source_nodes) == 2
    assert_only(server, contacts)


def test_other_vendors_settings_are_not_read(server, contacts, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "HF_TOKEN", "NVIDIA_API_KEY"):
        monkeypatch.setenv(name, "https://somebody-else.invalid/v1" if "BASE" in name else "somebody-elses-key")
    build(server).query("When does the office open?")
    assert_only(server, contacts)
    for record in server.requests:
        assert record.headers["authorization"] == "Bearer the-key"
        assert "somebody" not in str(dict(record.headers)) + record.body.decode()


def test_making_the_objects_contacts_nobody(contacts):
    where = {"base_url": "https://models.example.com/v1", "api_key": "the-key"}
    VLLM(**where)
    VLLMEmbedding(**where)
    VLLMRerank(**where)
    assert contacts == []
