"""Runs a task on a model, for both wires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.caikit import generation
from kserve_core.devserver.wires.caikit.embedding import Embedding
from kserve_core.devserver.wires.caikit.errors import CaikitError, missing
from kserve_core.devserver.wires.caikit.models import EMBEDDING, GENERATION, Models, has, streams
from kserve_core.devserver.wires.caikit.schema import SHAPES

STREAM = "server-streaming-text-generation"
GENERATE = "text-generation"

_RUNS = {
    "embedding": "run_embedding",
    "embedding-tasks": "run_embeddings",
    "sentence-similarity": "run_sentence_similarity",
    "sentence-similarity-tasks": "run_sentence_similarities",
    "rerank": "run_rerank_query",
    "rerank-tasks": "run_rerank_queries",
}


class Tasks:
    """What the models of one server can be asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.models = Models(settings)

    def run(
        self, name: str, model_name: str | None, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The answer to a task, as REST gives it.

        A task that the model does not have is not refused: what the model has is run instead.

        Raises:
            CaikitError: The request is refused.
        """
        model = self.models.find(model_name)
        if name == "tokenization":
            return _tokens(inputs, listed=not has(model, GENERATION))
        if name == GENERATE and not has(model, GENERATION):
            return Embedding(model, {}).embedding(inputs.get("text", ""))
        if name == GENERATE or not has(model, EMBEDDING):
            first = next((value for value in inputs.values() if isinstance(value, str)), "x")
            caller = "TextGenerationTGIS.run"
            job = generation.run(model, inputs.get("text", first), parameters, self._settings, caller=caller)
            return job.whole()
        return _embedding(Embedding(model, parameters), name, inputs)

    def stream(
        self, model_name: str | None, inputs: Mapping[str, Any], parameters: Mapping[str, Any], *, grpc: bool
    ) -> generation.Job:
        """The text to be streamed.

        Raises:
            CaikitError: The request is refused, or the model cannot stream.
        """
        model = self.models.find(model_name)
        if not streams(model):
            if grpc:
                said = "does not support ServerStreamingTextGenerationTaskPredict"
                raise CaikitError(400, f"Model class <class 'caikit_nlp.modules.{model.name}'> {said}")
            raise CaikitError(500, "'NoneType' object has no attribute 'method_name'")
        caller = "TextGenerationTGIS.run_stream_out"
        return generation.run(model, inputs.get("text"), parameters, self._settings, caller=caller)

    def require(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Over REST an empty input counts as a missing one (rerank has its own words for that).

        Raises:
            CaikitError: One is missing.
        """
        for needed in SHAPES[name].inputs:
            emptied = needed in inputs and not inputs[needed]
            own_words = emptied and (name.startswith("rerank") or needed == "sentences")
            if name in _RUNS and not inputs.get(needed) and not own_words:
                raise missing(name=needed, of=f"EmbeddingModule.{_RUNS[name]}")


def _embedding(run: Embedding, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if name == "embedding":
        return run.embedding(inputs.get("text", ""))
    if name == "embedding-tasks":
        return run.embeddings(inputs.get("texts", ()))
    if name == "sentence-similarity":
        return run.similarity(inputs.get("source_sentence", ""), inputs.get("sentences", ()))
    if name == "sentence-similarity-tasks":
        return run.similarities(inputs.get("source_sentences", ()), inputs.get("sentences", ()))
    documents = inputs.get("documents", ())
    if name == "rerank":
        return run.rerank(inputs.get("query", ""), documents)
    return run.reranks(inputs.get("queries", ()), documents)


def _tokens(inputs: Mapping[str, Any], *, listed: bool) -> dict[str, Any]:
    """Tokens; embedding models list them and count the two they put around a text."""
    text = inputs.get("text")
    if not text:
        raise missing(name="text", of="TextGenerationTGIS.run_tokenizer")
    ids = tokens.encode(text)
    if not listed:
        return {"results": None, "token_count": len(ids)}
    results: list[dict[str, Any]] = []
    at = 0
    for number in ids:
        piece = tokens.decode([number])
        results.append({"start": at, "end": at + len(piece), "text": piece})
        at += len(piece)
    return {"results": results, "token_count": len(ids) + 2}
