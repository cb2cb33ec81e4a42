"""Embeddings with models on KServe."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.embeddings import Embeddings
from pydantic import Field
from typing_extensions import override

from kserve_core.batching import BATCH_SIZE, CONCURRENCY, embed_all
from kserve_core.calls import Flow
from kserve_core.capabilities import ProgressCallback
from kserve_core.errors import ConfigurationError
from kserve_core.types import EmbeddingResult
from langchain_kserve import _runtimes
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import translated
from langchain_kserve._runtimes import Declaration


class RuntimeEmbeddings(KServeConnection, Embeddings):
    """Drives any runtime that embeds text; a subclass names the runtime.

    A long list is cut into batches, several of which are in flight at once, in blocking and async code alike. Vectors
    come back in the order of the texts. A batch the server calls too large is halved. Texts are sent as they are:
    nothing is tokenized, downloaded or stripped of its newlines here.
    """

    model: str | None = None
    """The model's name on the server. May be left out when the endpoint serves one model."""

    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors, for models that can shorten them. Sent only when set."""

    truncate: bool | int | None = None
    """What to do with a text longer than the model takes: None or False lets it fail, True cuts it to the model's
    limit, a number to this many tokens."""

    query_prefix: str = ""
    """Put before every query, for models that want an instruction there (`"query: "`)."""

    document_prefix: str = ""
    """Put before every document (`"passage: "`)."""

    batch_size: int = Field(default=BATCH_SIZE, ge=1)
    """Most texts in one request."""

    max_concurrency: int = Field(default=CONCURRENCY, ge=1)
    """Most requests in flight at once for one call; 1 sends them one after another."""

    show_progress_bar: bool = False
    """Whether `embed_documents` shows a progress bar; needs `tqdm`."""

    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """Fields sent as they are, over everything else; for what this package does not know."""

    _declaration: ClassVar[Declaration]

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents.

        Args:
            texts: The documents; none means no request.

        Returns:
            One vector per text, in their order.
        """
        with self._progress(texts) as on_progress:
            return self._run(self._exchange(texts, self.document_prefix, on_progress)).embeddings

    @override
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents; see `embed_documents`."""
        with self._progress(texts) as on_progress:
            result = await self._arun(self._exchange(texts, self.document_prefix, on_progress))
            return result.embeddings

    @override
    def embed_query(self, text: str) -> list[float]:
        """Embeds a query."""
        return self._run(self._exchange([text], self.query_prefix)).embeddings[0]

    @override
    async def aembed_query(self, text: str) -> list[float]:
        """Embeds a query; see `embed_query`."""
        result = await self._arun(self._exchange([text], self.query_prefix))
        return result.embeddings[0]

    def _exchange(
        self, texts: Sequence[str], prefix: str, on_progress: ProgressCallback | None = None
    ) -> Flow[EmbeddingResult]:
        if isinstance(texts, str):
            msg = "embed_documents takes a list of texts, and got one text."
            with translated:
                raise ConfigurationError(msg, hint="Wrap it in a list, or use embed_query.")
        truncate = -1 if self.truncate is True else self.truncate
        return embed_all(
            self._get_client().runtime,
            [prefix + text for text in texts] if prefix else list(texts),
            model=self.model,
            dimensions=self.dimensions,
            truncate=None if truncate is False else truncate,
            batch_size=self.batch_size,
            concurrency=self.max_concurrency,
            on_progress=on_progress,
            extra_body=self.extra_body,
        )

    @contextlib.contextmanager
    def _progress(self, texts: Sequence[str]) -> Iterator[ProgressCallback | None]:
        if not self.show_progress_bar or not texts:
            yield None
            return
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped]
        except ImportError:
            msg = "show_progress_bar needs the package tqdm."
            with translated:
                raise ConfigurationError(msg, hint="pip install tqdm") from None
        with tqdm(total=len(texts), unit="text", desc="Embedding") as bar:
            lock = threading.Lock()

            def update(count: int) -> None:
                with lock:
                    bar.update(count)

            yield update


class VLLMEmbeddings(RuntimeEmbeddings):
    """An embedding model served by vLLM.

    ???+ example

        ```python
        from langchain_kserve import VLLMEmbeddings

        embeddings = VLLMEmbeddings(base_url="https://e5-demo.apps.example.com/v1", api_key="...")
        vectors = embeddings.embed_documents(["first text", "second text"])
        vector = await embeddings.aembed_query("a question")
        ```
    """

    _declaration = _runtimes.VLLM
