"""Embeddings: 10,000 texts, 384 values each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from floors import Wire
from harness import Case, Contestant

from langchain_kserve import VLLMEmbeddings
from llamaindex_kserve import VLLMEmbedding

TEXTS = [f"text number {number}" for number in range(10_000)]
BATCH = 64
MODEL = "dim-384"


def counted(work: Any) -> Any:
    def run() -> int:
        vectors = work()
        assert len(vectors) == len(TEXTS)
        return len(TEXTS)

    return run


def cases(url: str) -> Iterator[Case]:
    """One table for both frameworks, sync and async."""
    wire = Wire(url)

    def floor() -> list[list[float]]:
        rows: list[list[float]] = []
        for start in range(0, len(TEXTS), BATCH):
            rows += wire.embed(TEXTS[start : start + BATCH], MODEL)
        return rows

    options = {"base_url": url, "api_key": "x", "model": MODEL}
    ours = VLLMEmbeddings(**options, batch_size=BATCH)
    theirs = VLLMEmbedding(**options)
    reference = "httpx, base64 to lists"
    contestants = [
        Contestant(reference, counted(floor)),
        Contestant("VLLMEmbeddings", counted(lambda: ours.embed_documents(TEXTS))),
        Contestant("VLLMEmbeddings, async", counted(lambda: asyncio.run(ours.aembed_documents(TEXTS)))),
        Contestant("VLLMEmbedding (LlamaIndex)", counted(lambda: theirs.get_text_embedding_batch(TEXTS))),
        Contestant(
            "VLLMEmbedding (LlamaIndex), async",
            counted(lambda: asyncio.run(theirs.aget_text_embedding_batch(TEXTS))),
        ),
    ]
    try:
        from langchain_openai import OpenAIEmbeddings

        peer = OpenAIEmbeddings(
            base_url=f"{url}/v1", api_key="x", model=MODEL, check_embedding_ctx_length=False, chunk_size=BATCH
        )
        contestants.append(Contestant("OpenAIEmbeddings", counted(lambda: peer.embed_documents(TEXTS))))
    except ImportError:
        pass
    try:
        from llama_index.embeddings.openai_like import OpenAILikeEmbedding

        other = OpenAILikeEmbedding(
            api_base=f"{url}/v1", api_key="x", model_name=MODEL, embed_batch_size=BATCH, reuse_client=True
        )
        contestants.append(Contestant("OpenAILikeEmbedding", counted(lambda: other.get_text_embedding_batch(TEXTS))))
    except ImportError:
        pass
    bar = ((reference,), 1.15)
    yield Case(
        "Embeddings: 10,000 texts of 384 values",
        "text",
        contestants,
        reference,
        5,
        {"VLLMEmbeddings": bar, "VLLMEmbeddings, async": bar},
    )
