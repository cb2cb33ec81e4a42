"""Evaluators that have the server compare."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.evaluation import EvaluationResult, SemanticSimilarityEvaluator

from kserve_core.errors import ConfigurationError
from llamaindex_kserve.embeddings import CaikitEmbedding


class CaikitSimilarityEvaluator(SemanticSimilarityEvaluator):
    """LlamaIndex's semantic-similarity evaluator, with Caikit comparing: one request and no vectors.

    Example:
        ```python
        evaluator = CaikitSimilarityEvaluator(embed_model=embedding, similarity_threshold=0.7)
        evaluator.evaluate(response="Paris.", reference="The capital of France is Paris.").passing
        ```

    Args:
        embed_model: The model that compares.
        similarity_threshold: The least similarity (cosine, up to 1) that passes.
    """

    def __init__(self, embed_model: CaikitEmbedding, similarity_threshold: float = 0.8) -> None:
        super().__init__(embed_model=embed_model, similarity_threshold=similarity_threshold)
        self._model = embed_model

    def evaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        reference: str | None = None,
        **kwargs: Any,  # noqa: ARG002 - part of the framework's signature
    ) -> EvaluationResult:
        """Compares a response with the reference.

        Args:
            query: What was asked; kept in the result.
            response: The answer to judge.
            contexts: What the answer was drawn from; kept in the result.
            reference: A right answer.
            **kwargs: Ignored; part of the framework's signature.

        Raises:
            ConfigurationError: If the response or the reference is missing.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        pair = _pair(response, reference)
        return self._judged(self._model.similarity(*pair), query=query, response=response, contexts=contexts)

    async def aevaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        reference: str | None = None,
        **kwargs: Any,  # noqa: ARG002 - part of the framework's signature
    ) -> EvaluationResult:
        """Like `evaluate`, without blocking the event loop.

        Raises:
            ConfigurationError: If the response or the reference is missing.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        pair = _pair(response, reference)
        score = await self._model.asimilarity(*pair)
        return self._judged(score, query=query, response=response, contexts=contexts)

    def _judged(self, score: float, **given: Any) -> EvaluationResult:
        passing = score >= self._similarity_threshold
        return EvaluationResult(score=score, passing=passing, feedback=f"Similarity score: {score}", **given)


def _pair(response: str | None, reference: str | None) -> tuple[str, str]:
    if response is None or reference is None:
        msg = "Comparing needs both a response and a reference."
        raise ConfigurationError(msg)
    return reference, response
