"""The tasks of an embedding model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.features import cosine, embed
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.caikit.errors import CaikitError, missing

PRODUCER = {"name": "EmbeddingModule", "version": "0.0.1"}


class Embedding:
    """Runs the tasks of one model with one request's parameters; every method answers as REST does.

    Args:
        model: The model.
        parameters: The request's parameters.
    """

    def __init__(self, model: Model, parameters: Mapping[str, Any]) -> None:
        self._model = model
        self._parameters = parameters
        self._count = 0

    def embedding(self, text: str) -> dict[str, Any]:
        """One vector; over gRPC an empty text is one as well."""
        return self._answer(result=_vector(self._embed([text], single=True)[0]))

    def embeddings(self, texts: Sequence[str]) -> dict[str, Any]:
        """Vectors."""
        if not texts:
            raise missing(name="texts", of="EmbeddingModule.run_embeddings")
        return self._answer(results={"vectors": [_vector(vector) for vector in self._embed(texts)]})

    def similarity(self, source: str, sentences: Sequence[str]) -> dict[str, Any]:
        """Scores of one sentence."""
        if not sentences:
            raise CaikitError(500, f"mat1 and mat2 shapes cannot be multiplied (1x{self._model.dimensions} and 0x1)")
        (one,) = self._embed([source], single=True)
        return self._answer(result={"scores": [cosine(one, other) for other in self._embed(sentences)]})

    def similarities(self, sources: Sequence[str], sentences: Sequence[str]) -> dict[str, Any]:
        """Scores of several sentences."""
        others = self._embed(sentences)
        scores = [[cosine(one, other) for other in others] for one in self._embed(sources)]
        return self._answer(results=[{"scores": row} for row in scores])

    def rerank(self, query: str, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A ranking for one query."""
        shown = self._parameters.get("return_query", True)
        return self._answer(result=self._rank([query], documents, shown=shown)[0])

    def reranks(self, queries: Sequence[str], documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rankings for several queries."""
        shown = self._parameters.get("return_queries", True)
        return self._answer(results=self._rank(queries, documents, shown=shown))

    def _rank(
        self, queries: Sequence[str], documents: Sequence[Mapping[str, Any]], *, shown: bool
    ) -> list[dict[str, Any]]:
        if not queries or not documents:
            why = "value check failed: Cannot rerank without a query and at least one document"
            raise CaikitError(400, why)
        texts = [document.get("text", document.get("_text", "")) for document in documents]
        wrong = next((text for text in texts if not isinstance(text, str)), None)
        if wrong is not None:
            kind = type(wrong).__name__
            raise CaikitError(400, f"type check failed: element of `sentences` has type `{kind}` not in `('str',)`")
        vectors = self._embed(texts)
        top = self._parameters.get("top_n", 0)
        answers = []
        for query, one in zip(queries, self._embed(queries), strict=True):
            scores = [cosine(one, vector) for vector in vectors]
            order = sorted(range(len(texts)), key=lambda at: -scores[at])
            entries = [
                {
                    "document": documents[at] if self._parameters.get("return_documents", True) else None,
                    "index": at,
                    "score": scores[at],
                    "text": texts[at] if self._parameters.get("return_text", True) else None,
                }
                for at in order[: top if top > 0 else None]
            ]
            answers.append({"query": query if shown else None, "scores": entries})
        return answers

    def _embed(self, texts: Sequence[str], *, single: bool = False) -> list[Sequence[float]]:
        limit = self._model.max_model_len
        wanted = self._parameters.get("truncate_input_tokens", 0)
        cut = limit - 2 if wanted < 0 else min(wanted, limit - 2) if 0 < wanted <= limit else None
        vectors: list[Sequence[float]] = []
        over: list[int] = []
        for at, text in enumerate(texts):
            ids = tokens.encode(text)
            if cut is not None:
                ids = ids[:cut]
            if len(ids) + 2 > limit:
                over.append(at)
            self._count += len(ids) + 2
            vectors.append(embed(tokens.decode(ids), self._model.dimensions))
        if over:
            places = f" for text at index{'es' if len(over) > 1 else ''}: {', '.join(map(str, over))}"
            raise CaikitError(
                400,
                "Token sequence length (+2 for start/end tokens) exceeds the maximum sequence length for this model "
                f"({limit}){'' if single else places}.",
            )
        return vectors

    def _answer(self, **result: Any) -> dict[str, Any]:
        return {**result, "producer_id": PRODUCER, "input_token_count": self._count}


def _vector(vector: Sequence[float]) -> dict[str, Any]:
    return {"data": {"values": list(vector)}}
