"""Embeddings with models on KServe."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

from langchain_core.embeddings import Embeddings
from pydantic import Field
from typing_extensions import override

from kserve_core.batching import BATCH_SIZE, CONCURRENCY, embed_all
from kserve_core.calls import Exchange, Flow
from kserve_core.capabilities import EmbeddingRequest, ProgressCallback, SimilarityRequest
from kserve_core.errors import ConfigurationError
from kserve_core.types import EmbeddingResult
from langchain_kserve import _runtimes
from langchain_kserve._caikit_fields import CaikitConnection
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import translated
from langchain_kserve._openvino_fields import OpenVINOApi
from langchain_kserve._runtimes import Declaration
from langchain_kserve._v2_fields import VECTOR_OPTIONS, KServeServerField, TensorClass, VectorFields


class RuntimeEmbeddings(KServeConnection, Embeddings):
    """Drives any runtime that embeds text; a subclass names the runtime.

    A long list is cut into batches, several of which are in flight at once, in blocking and async code alike. Vectors
    come back in the order of the texts. A batch the server calls too large is halved. Texts are sent as they are:
    nothing is tokenized, downloaded or stripped of its newlines here.
    """

    model: str | None = None
    """The model's name on the server. May be left out when the endpoint serves one model."""

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
            return self._run(self._exchange(texts, self.document_prefix, on_progress), self._about(texts)).embeddings

    @override
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents; see `embed_documents`."""
        with self._progress(texts) as on_progress:
            result = await self._arun(self._exchange(texts, self.document_prefix, on_progress), self._about(texts))
            return result.embeddings

    @override
    def embed_query(self, text: str) -> list[float]:
        """Embeds a query."""
        return self._run(self._exchange([text], self.query_prefix), self._about([text])).embeddings[0]

    @override
    async def aembed_query(self, text: str) -> list[float]:
        """Embeds a query; see `embed_query`."""
        result = await self._arun(self._exchange([text], self.query_prefix), self._about([text]))
        return result.embeddings[0]

    def _exchange(
        self, texts: Sequence[str], prefix: str, on_progress: ProgressCallback | None = None
    ) -> Flow[EmbeddingResult]:
        if isinstance(texts, str):
            msg = "embed_documents takes a list of texts, and got one text."
            with translated:
                raise ConfigurationError(msg, hint="Wrap it in a list, or use embed_query.")
        return embed_all(
            self._get_client().runtime,
            [prefix + text for text in texts] if prefix else list(texts),
            model=self.model,
            dimensions=self.__dict__.get("dimensions"),
            truncate=self._truncation(),
            batch_size=self.batch_size,
            concurrency=self.max_concurrency,
            on_progress=on_progress,
            extra_body=self.extra_body,
        )

    def _about(self, texts: Sequence[str]) -> EmbeddingRequest:
        return EmbeddingRequest(texts=texts, model=self.model, dimensions=self.__dict__.get("dimensions"))

    def _truncation(self) -> int | None:
        """`truncate` as runtimes take it: a number of tokens, -1 for the model's limit."""
        if self.truncate is None or self.truncate is False:
            return None
        return -1 if self.truncate is True else self.truncate

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

    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors, for models that can shorten them. Sent only when set."""

    _declaration = _runtimes.VLLM


class CaikitEmbeddings(RuntimeEmbeddings, CaikitConnection):
    """An embedding model served by Caikit, over REST or gRPC.

    ???+ example

        ```python
        from langchain_kserve import CaikitEmbeddings

        embeddings = CaikitEmbeddings(base_url="https://minilm-demo.apps.example.com", api_key="...")
        vectors = embeddings.embed_documents(["first text", "second text"])
        embeddings.similarity("a cat", ["a kitten", "a car"])  # [0.77, 0.35], without fetching any vector
        ```
    """

    _declaration = _runtimes.CAIKIT
    _codec_options = ("route_prefix",)

    def similarity(self, source: str, sentences: Sequence[str]) -> list[float]:
        """Compares sentences with another one on the server, which sends back the scores only.

        Args:
            source: The sentence to compare with.
            sentences: The sentences to compare; none means no request.

        Returns:
            How similar each sentence is, in their order: the cosine, so 1 is the same meaning.
        """
        return self.similarities([source], sentences)[0]

    async def asimilarity(self, source: str, sentences: Sequence[str]) -> list[float]:
        """Compares sentences with another one; see `similarity`."""
        return (await self.asimilarities([source], sentences))[0]

    def similarities(self, sources: Sequence[str], sentences: Sequence[str]) -> list[list[float]]:
        """Compares sentences with each of several others, by one request; see `similarity`.

        Returns:
            One list of scores for each source.
        """
        return self._run(*self._similarities(sources, sentences))

    async def asimilarities(self, sources: Sequence[str], sentences: Sequence[str]) -> list[list[float]]:
        """Compares sentences with each of several others; see `similarities`."""
        return await self._arun(*self._similarities(sources, sentences))

    def _similarities(
        self, sources: Sequence[str], sentences: Sequence[str]
    ) -> tuple[Exchange[list[list[float]]], SimilarityRequest]:
        if isinstance(sources, str) or isinstance(sentences, str):
            msg = "The sentences to compare are a list, and one text was given."
            with translated:
                raise ConfigurationError(msg, hint="Wrap it in a list.")
        request = SimilarityRequest(
            sources=sources,
            sentences=sentences,
            model=self.model,
            truncate=self._truncation(),
            extra_body=self.extra_body,
        )
        with translated:
            exchange: Exchange[list[list[float]]] = self._get_client().runtime.similarities(request)
            return exchange, request


class TritonEmbeddings(TensorClass, RuntimeEmbeddings, VectorFields):
    """An embedding model served by Triton, over REST or gRPC; tensors travel as raw bytes.

    A model that takes text needs nothing more. One that takes token ids needs `tokenizer`; the states it answers are
    pooled here if it has not done so itself.

    ???+ example

        ```python
        from langchain_kserve import TritonEmbeddings

        embeddings = TritonEmbeddings(base_url="https://e5-demo.apps.example.com", api_key="...", model="e5")
        vectors = embeddings.embed_documents(["first text", "second text"])

        onnx = TritonEmbeddings(
            base_url="grpcs://minilm-demo.apps.example.com:443",
            model="minilm-onnx",
            tokenizer="models/minilm/tokenizer.json",
            normalize=True,
        )
        ```
    """

    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors, for models that have an input of that name."""

    _declaration = _runtimes.TRITON
    _codec_options = VECTOR_OPTIONS


class MLServerEmbeddings(TensorClass, RuntimeEmbeddings, VectorFields, KServeServerField):
    """An embedding model served by MLServer, or by a server made with KServe's SDK, over REST or gRPC.

    Over REST MLServer speaks JSON only; gRPC is several times faster. Its Hugging Face runtime's `feature-extraction`
    answers states, which are averaged here, one text a request.

    ???+ example

        ```python
        from langchain_kserve import MLServerEmbeddings

        embeddings = MLServerEmbeddings(base_url="grpcs://e5-demo.apps.example.com:443", api_key="...", model="e5")
        vectors = embeddings.embed_documents(["first text", "second text"])
        custom = MLServerEmbeddings(base_url="https://mine-demo.apps.example.com", model="mine", server="kserve")
        ```
    """

    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors, for models that have an input of that name."""

    _declaration = _runtimes.MLSERVER
    _codec_options = (*VECTOR_OPTIONS, "server")


class OpenVINOEmbeddings(TensorClass, RuntimeEmbeddings, VectorFields, OpenVINOApi):
    """An embedding model served by OpenVINO Model Server, in a graph (`/v3`) or as tensors (`/v2`, gRPC).

    A graph (`--task embeddings`) takes text, and refuses what is longer than its model allows: `truncate` is an error.
    A model that takes tensors is used as by `TritonEmbeddings`.

    ???+ example

        ```python
        from langchain_kserve import OpenVINOEmbeddings

        embeddings = OpenVINOEmbeddings(base_url="https://bge-demo.apps.example.com/v3", api_key="...", model="bge")
        vectors = embeddings.embed_documents(["first text", "second text"])

        plain = OpenVINOEmbeddings(
            base_url="grpcs://bge-demo.apps.example.com:443",
            model="bge-ir",
            tokenizer="models/bge/tokenizer.json",
            pooling="cls",
        )
        ```
    """

    _declaration = _runtimes.OPENVINO
    _codec_options = (*VECTOR_OPTIONS, "api")


class _Callable(ModuleType):
    """Lets the module's name stand for the function of that name as well: `langchain_kserve.embeddings(...)`."""

    def __call__(self, *args: Any, **fields: Any) -> RuntimeEmbeddings:
        from langchain_kserve import factories

        return factories.embeddings(*args, **fields)


sys.modules[__name__].__class__ = _Callable
