"""Reranking with models on KServe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, field_validator
from typing_extensions import override

from kserve_core.batching import CONCURRENCY, RERANK_BATCH_SIZE, rerank_all
from kserve_core.calls import Flow
from kserve_core.capabilities import RerankRequest
from kserve_core.errors import ConfigurationError
from kserve_core.types import Ranking
from langchain_kserve import _runtimes
from langchain_kserve._caikit_fields import CaikitConnection
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import translated
from langchain_kserve._openvino_fields import OpenVINOApi
from langchain_kserve._runtimes import Declaration
from langchain_kserve._v2_fields import SCORE_OPTIONS, KServeServerField, ScoreFields, TensorClass


class RerankResult(TypedDict):
    """A document's place in a ranking."""

    index: int
    """Its position in the list that was given."""

    relevance_score: float
    """How relevant it is; larger is better. The range is the model's own."""


class RuntimeRerank(KServeConnection, BaseDocumentCompressor):
    """Drives any runtime that ranks documents by their relevance to a query; a subclass names the runtime.

    A long list is cut into batches, several of which are in flight at once, and ranked as one. The given documents
    are never changed: `compress_documents` returns copies with `metadata["relevance_score"]`.
    """

    model: str | None = None
    """The model's name on the server. May be left out when the endpoint serves one model."""

    top_n: int | None = Field(default=None, ge=1)
    """How many documents to return, the best first; None for all."""

    truncate: bool | int | None = None
    """What to do with a pair of query and document longer than the model takes: None or False lets it fail, True cuts
    it to the model's limit, a number to this many tokens."""

    query_template: str | None = None
    """Written around the query, which stands where `{query}` is; for models trained with an instruction."""

    document_template: str | None = None
    """Written around each document, which stands where `{document}` is."""

    batch_size: int = Field(default=RERANK_BATCH_SIZE, ge=1)
    """Most documents in one request."""

    max_concurrency: int = Field(default=CONCURRENCY, ge=1)
    """Most requests in flight at once for one call."""

    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """Fields sent as they are, over everything else; for what this package does not know."""

    _declaration: ClassVar[Declaration]

    @field_validator("query_template")
    @classmethod
    def _has_query(cls, value: str | None) -> str | None:
        return _with_place(value, "{query}")

    @field_validator("document_template")
    @classmethod
    def _has_document(cls, value: str | None) -> str | None:
        return _with_place(value, "{document}")

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Orders documents by their relevance to a query.

        Args:
            documents: The documents; none means no request.
            query: The query.
            callbacks: Taken because the interface has it. LangChain knows no events for rerankers.

        Returns:
            Copies of the best `top_n` documents, best first, with `metadata["relevance_score"]`.
        """
        return _scored(documents, self._run(*self._exchange(documents, query, None)))

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Orders documents by their relevance to a query; see `compress_documents`."""
        return _scored(documents, await self._arun(*self._exchange(documents, query, None)))

    def rerank(
        self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, top_n: int | None = None
    ) -> list[RerankResult]:
        """Ranks documents by their relevance to a query.

        Args:
            documents: Texts, documents, or mappings with a `text` or `page_content`; none means no request.
            query: The query.
            top_n: How many to return; None for the field's value.

        Returns:
            Index and score of each, best first.
        """
        return _results(self._run(*self._exchange(documents, query, top_n)))

    async def arerank(
        self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, top_n: int | None = None
    ) -> list[RerankResult]:
        """Ranks documents by their relevance to a query; see `rerank`."""
        return _results(await self._arun(*self._exchange(documents, query, top_n)))

    def _exchange(self, documents: Sequence[Any], query: str, top_n: int | None) -> tuple[Flow[Ranking], RerankRequest]:
        with translated:
            if top_n is not None and top_n < 1:
                msg = f"top_n is at least 1, not {top_n}."
                raise ConfigurationError(msg, hint="Leave it out to get all documents.")
            texts = _texts(documents)
        if self.document_template:
            texts = [self.document_template.replace("{document}", text) for text in texts]
        truncate = -1 if self.truncate is True else self.truncate
        top_n = self.top_n if top_n is None else top_n
        flow = rerank_all(
            self._get_client().runtime,
            self.query_template.replace("{query}", query) if self.query_template else query,
            texts,
            model=self.model,
            top_n=top_n,
            truncate=None if truncate is False else truncate,
            batch_size=self.batch_size,
            concurrency=self.max_concurrency,
            extra_body=self.extra_body,
        )
        return flow, RerankRequest(query=query, documents=texts, model=self.model, top_n=top_n)


def _with_place(template: str | None, place: str) -> str | None:
    if template is not None and place not in template:
        msg = f"the template has no {place}"
        raise ValueError(msg)
    return template


def _texts(documents: Sequence[Any]) -> list[str]:
    if isinstance(documents, str):
        msg = "Documents are a list, and one text was given."
        raise ConfigurationError(msg)
    return [_text(document) for document in documents]


def _text(document: Any) -> str:
    if isinstance(document, Document):
        return document.page_content
    if isinstance(document, Mapping):
        document = document.get("text", document.get("page_content"))
    if isinstance(document, str):
        return document
    msg = (
        f"A document is a text, a Document, or a mapping with `text` or `page_content`, not {type(document).__name__}."
    )
    raise ConfigurationError(msg)


def _scored(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    scored = []
    for result in ranking.results:
        document = documents[result.index]
        metadata = {**document.metadata, "relevance_score": result.score}
        scored.append(document.model_copy(update={"metadata": metadata}))
    return scored


def _results(ranking: Ranking) -> list[RerankResult]:
    return [{"index": result.index, "relevance_score": result.score} for result in ranking.results]


class VLLMRerank(RuntimeRerank):
    """A cross-encoder, or an embedding model used as one, served by vLLM.

    ???+ example

        ```python
        from langchain_kserve import VLLMRerank

        reranker = VLLMRerank(base_url="https://bge-demo.apps.example.com", api_key="...", top_n=3)
        best = reranker.compress_documents(documents, "How do I rotate a token?")
        best[0].metadata["relevance_score"]
        ```

    After a retriever, in a chain:

    ???+ example

        ```python
        from langchain_core.runnables import RunnableLambda

        async def rerank(row: dict) -> list[Document]:
            return await reranker.acompress_documents(row["documents"], row["question"])

        chain = {"documents": retriever, "question": RunnablePassthrough()} | RunnableLambda(rerank)
        ```
    """

    _declaration = _runtimes.VLLM


class CaikitRerank(RuntimeRerank, CaikitConnection):
    """An embedding model (scores are cosines) or a cross-encoder served by Caikit, over REST or gRPC.

    ???+ example

        ```python
        from langchain_kserve import CaikitRerank

        reranker = CaikitRerank(base_url="https://minilm-demo.apps.example.com", api_key="...", top_n=3)
        best = reranker.compress_documents(documents, "How do I rotate a token?")
        best[0].metadata["relevance_score"]
        ```
    """

    _declaration = _runtimes.CAIKIT
    _codec_options = ("route_prefix",)


class TritonRerank(TensorClass, RuntimeRerank, ScoreFields):
    """A cross-encoder served by Triton, over REST or gRPC.

    It takes the query and the documents as text, or both together as token ids, made by `tokenizer`. Of two outputs
    for a pair the score is the second minus the first.

    ???+ example

        ```python
        from langchain_kserve import TritonRerank

        reranker = TritonRerank(
            base_url="https://bge-demo.apps.example.com",
            api_key="...",
            model="bge-reranker",
            tokenizer="models/bge-reranker/tokenizer.json",
            sigmoid=True,  # scores from 0 to 1
            top_n=3,
        )
        best = reranker.compress_documents(documents, "How do I rotate a token?")
        best[0].metadata["relevance_score"]
        ```
    """

    _declaration = _runtimes.TRITON
    _codec_options = SCORE_OPTIONS


class MLServerRerank(TensorClass, RuntimeRerank, ScoreFields, KServeServerField):
    """A cross-encoder served by MLServer, or by a server made with KServe's SDK, over REST or gRPC.

    ???+ example

        ```python
        from langchain_kserve import MLServerRerank

        reranker = MLServerRerank(base_url="https://bge-demo.apps.example.com", model="bge-reranker", top_n=3)
        best = reranker.compress_documents(documents, "How do I rotate a token?")
        best[0].metadata["relevance_score"]
        ```
    """

    _declaration = _runtimes.MLSERVER
    _codec_options = (*SCORE_OPTIONS, "server")


class OpenVINORerank(TensorClass, RuntimeRerank, ScoreFields, OpenVINOApi):
    """A reranker served by OpenVINO Model Server, in a graph (`/v3`, `--task rerank`) or as tensors (`/v2`, gRPC).

    A graph takes at most 100 documents at once, so more are sent in several requests.

    ???+ example

        ```python
        from langchain_kserve import OpenVINORerank

        reranker = OpenVINORerank(base_url="https://bge-demo.apps.example.com/v3", model="bge-reranker", top_n=3)
        best = reranker.compress_documents(documents, "How do I rotate a token?")
        best[0].metadata["relevance_score"]
        ```
    """

    _declaration = _runtimes.OPENVINO
    _codec_options = (*SCORE_OPTIONS, "api")
