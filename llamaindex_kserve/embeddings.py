"""Embedding models, a class per runtime; how they work is in the base class."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, overload

from llama_index.core.base.embeddings.base import Embedding, SimilarityMode
from pydantic import Field

from kserve_core.calls import Exchange
from kserve_core.capabilities import SimilarityRequest
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.vllm import VLLMRuntime
from llamaindex_kserve._base_embedding import KServeEmbedding
from llamaindex_kserve._caikit import CaikitConnection
from llamaindex_kserve._tensors import API, SERVER, Pooling, TensorConnection

__all__ = [
    "CaikitEmbedding",
    "KServeEmbedding",
    "MLServerEmbedding",
    "OpenVINOEmbedding",
    "TritonEmbedding",
    "VLLMEmbedding",
]


class VLLMEmbedding(KServeEmbedding):
    """An embedding model served by vLLM.

    Example:
        ```python
        embedding = VLLMEmbedding(base_url="https://bge-m3.apps.example.com/v1", api_key=token)
        Settings.embed_model = embedding
        ```

    `dimensions` works for Matryoshka models only; vLLM refuses it for others, even their own length.
    An empty text has a vector like any other. Line breaks are sent as they are.
    """

    dimensions: int | None = Field(
        default=None, ge=1, description="Length of the vectors, for models that can shorten them."
    )

    _runtime_name: ClassVar[str] = "vLLM"

    def _make_runtime(self, endpoint: Endpoint) -> VLLMRuntime:
        return VLLMRuntime(base_path=endpoint.base_path, model=self.model)


class CaikitEmbedding(CaikitConnection, KServeEmbedding):
    """An embedding model served by Caikit.

    Example:
        ```python
        embedding = CaikitEmbedding(base_url="https://minilm.apps.example.com", model="minilm")
        Settings.embed_model = embedding
        embedding.similarity("a cat", ["a kitten", "a car"])  # [0.77, 0.35], compared by the server
        ```

    The server refuses a text longer than its model's limit; `truncate=-1` has it cut.
    """

    @overload
    def similarity(
        self, embedding1: Embedding, embedding2: Embedding, mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> float: ...

    @overload
    def similarity(self, embedding1: str, embedding2: str) -> float: ...  # type: ignore[overload-overlap]

    @overload
    def similarity(self, embedding1: str, embedding2: Sequence[str]) -> list[float]: ...

    def similarity(
        self, embedding1: Any, embedding2: Any, mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> float | list[float]:
        """How similar texts are by their meaning, as the server finds; their vectors are not sent back.

        With two vectors it is the framework's own method, and asks nobody. Instructions are not put in front.

        Args:
            embedding1: A text, or a vector.
            embedding2: A text or several to compare it with, or a vector.
            mode: How to compare vectors; texts are compared by their cosine.

        Returns:
            The similarity, 1 for the same meaning; for several texts a list in their order.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        if not isinstance(embedding1, str):
            return super().similarity(embedding1, embedding2, mode)
        exchange, about = self._comparison(embedding1, embedding2, mode)
        scores = self.client.run(exchange, about=about)
        return scores[0] if isinstance(embedding2, str) else scores

    @overload
    async def asimilarity(self, source: str, sentences: str) -> float: ...  # type: ignore[overload-overlap]

    @overload
    async def asimilarity(self, source: str, sentences: Sequence[str]) -> list[float]: ...

    async def asimilarity(self, source: str, sentences: str | Sequence[str]) -> float | list[float]:
        """Like `similarity` of texts, without blocking the event loop.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        exchange, about = self._comparison(source, sentences)
        scores = await self.client.arun(exchange, about=about)
        return scores[0] if isinstance(sentences, str) else scores

    def _comparison(
        self, source: str, sentences: str | Sequence[str], mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> "tuple[Exchange[list[float]], SimilarityRequest]":
        if mode is not SimilarityMode.DEFAULT:
            msg = "Caikit compares texts by their cosine only."
            raise ConfigurationError(msg, hint="Embed the texts to compare their vectors in another way.")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        exchange: Exchange[list[float]] = self.client.runtime.similarity(
            source, texts, model=self.model, truncate=self.truncate
        )
        return exchange, SimilarityRequest(sources=(source,), sentences=texts, model=self.model)


class TensorEmbedding(TensorConnection, KServeEmbedding):
    """Embeds texts by a model that takes and gives tensors; use the class of your runtime."""

    pooling: Pooling = Field(
        default=None,
        description=(
            "How the states of a text's tokens become its vector: `mean`, `cls` (the first's) or `last`; `none` if the "
            "model has pooled them. Left out, pooled outputs are taken as they are and states are averaged."
        ),
    )
    normalize: bool | None = Field(
        default=None, description="Scale vectors to length 1; left out, they stay as the model made them."
    )
    max_length: int | None = Field(
        default=None, description="Tokens a text may have at most; longer ones fail unless `truncate` is set."
    )

    _options: ClassVar[tuple[str, ...]] = (*TensorConnection._options, "pooling", "normalize", "max_length")
    _runtime_fields: ClassVar[tuple[str, ...]] = _options
    _vector_fields: ClassVar[tuple[str, ...]] = _options


class TritonEmbedding(TensorEmbedding):
    """An embedding model served by Triton; tensors travel as raw bytes.

    Example:
        ```python
        embedding = TritonEmbedding(base_url="https://e5.apps.example.com", model="e5")
        onnx = TritonEmbedding(
            base_url="grpcs://minilm-grpc.apps.example.com",
            model="minilm-onnx",
            tokenizer="models/minilm/tokenizer.json",
            normalize=True,
        )
        ```

    A model that takes text needs nothing more. One that takes token ids needs `tokenizer`; the states it answers are
    pooled here if it has not done so itself.
    """

    dimensions: int | None = Field(
        default=None, ge=1, description="Length of the vectors, for models that have an input of that name."
    )

    _runtime_name: ClassVar[str] = "Triton"
    _runtime_key: ClassVar[str] = "triton"


class MLServerEmbedding(TensorEmbedding):
    """An embedding model served by MLServer, or by a server made with KServe's SDK (`server="kserve"`).

    Example:
        ```python
        embedding = MLServerEmbedding(base_url="grpcs://e5-grpc.apps.example.com", model="e5")
        custom = MLServerEmbedding(base_url="https://mine.apps.example.com", model="mine", server="kserve")
        ```

    Over REST MLServer speaks JSON only; gRPC is several times faster. Its Hugging Face runtime's `feature-extraction`
    answers states, which are averaged here, one text a request.
    """

    dimensions: int | None = Field(
        default=None, ge=1, description="Length of the vectors, for models that have an input of that name."
    )
    server: Literal["mlserver", "kserve"] = Field(default="mlserver", exclude=True, description=SERVER)

    _runtime_name: ClassVar[str] = "MLServer"
    _runtime_key: ClassVar[str] = "mlserver"
    _runtime_fields: ClassVar[tuple[str, ...]] = (*TensorEmbedding._options, "server")


class OpenVINOEmbedding(TensorEmbedding):
    """An embedding model served by OpenVINO Model Server, in a graph (`/v3`) or as tensors (`/v2`, gRPC).

    Example:
        ```python
        embedding = OpenVINOEmbedding(base_url="https://bge.apps.example.com/v3", model="bge")
        plain = OpenVINOEmbedding(
            base_url="grpcs://bge-grpc.apps.example.com", model="bge-ir", tokenizer="models/bge/tokenizer.json"
        )
        ```

    A graph (`--task embeddings`) takes text, and refuses what is longer than its model allows: `truncate` is an error
    there.
    """

    api: Literal["v3", "v2"] | None = Field(default=None, exclude=True, description=API)

    _runtime_name: ClassVar[str] = "OpenVINO"
    _runtime_key: ClassVar[str] = "openvino"
    _runtime_fields: ClassVar[tuple[str, ...]] = (*TensorEmbedding._options, "api")
