"""The tasks a Caikit runtime serves, under their REST and their gRPC names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kserve_core.runtimes.caikit import plain

PACKAGE = "caikit.runtime.Nlp"
SERVICE = f"/{PACKAGE}.NlpService"
MODEL_KEY = "mm-model-id"
"""The gRPC metadata that names the model."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        name: Its name in REST paths.
        title: Its name in sentences.
        inputs: What it requires. A single input is sent bare over REST, several as an object.
        stem: Its name in gRPC: the method is `<stem>Predict`, the request `<stem>Request`.
        response: The full name of the gRPC answer's message.
        plain: Turns that message into what REST would have answered.
        kind: The kind of model that has it, as in `ModelInfo.kind`.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    stem: str
    response: str
    plain: Callable[[Any], dict[str, Any]]
    kind: str

    @property
    def method(self) -> str:
        """The gRPC method's full name."""
        return f"{SERVICE}/{self.stem}Predict"

    @property
    def request(self) -> str:
        """The full name of the gRPC request's message."""
        return f"{PACKAGE}.{self.stem}Request"


GENERATION = Task(
    "text-generation",
    "text generation",
    ("text",),
    "TextGenerationTask",
    "caikit_data_model.nlp.GeneratedTextResult",
    plain.generated,
    "generate",
)
STREAM = Task(
    "server-streaming-text-generation",
    "streaming text generation",
    ("text",),
    "ServerStreamingTextGenerationTask",
    "caikit_data_model.nlp.GeneratedTextStreamResult",
    plain.generated_piece,
    "generate",
)
EMBEDDING = Task(
    "embedding",
    "embeddings",
    ("text",),
    "EmbeddingTask",
    "caikit_data_model.caikit_nlp.EmbeddingResult",
    plain.embedding,
    "embed",
)
EMBEDDINGS = Task(
    "embedding-tasks",
    "embeddings",
    ("texts",),
    "EmbeddingTasks",
    "caikit_data_model.caikit_nlp.EmbeddingResults",
    plain.embeddings,
    "embed",
)
SIMILARITY = Task(
    "sentence-similarity",
    "sentence similarity",
    ("source_sentence", "sentences"),
    "SentenceSimilarityTask",
    "caikit_data_model.caikit_nlp.SentenceSimilarityResult",
    plain.similarity,
    "embed",
)
SIMILARITIES = Task(
    "sentence-similarity-tasks",
    "sentence similarity",
    ("source_sentences", "sentences"),
    "SentenceSimilarityTasks",
    "caikit_data_model.caikit_nlp.SentenceSimilarityResults",
    plain.similarities,
    "embed",
)
RERANK = Task(
    "rerank",
    "reranking",
    ("query", "documents"),
    "RerankTask",
    "caikit_data_model.caikit_nlp.RerankResult",
    plain.ranking,
    "embed",
)
RERANKS = Task(
    "rerank-tasks",
    "reranking",
    ("queries", "documents"),
    "RerankTasks",
    "caikit_data_model.caikit_nlp.RerankResults",
    plain.rankings,
    "embed",
)
TOKENIZATION = Task(
    "tokenization",
    "tokenization",
    ("text",),
    "TokenizationTask",
    "caikit_data_model.nlp.TokenizationResults",
    plain.tokens,
    "",
)
