"""Sentence similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kserve_core._json import unexpected
from kserve_core.runtimes.caikit.embeddings import check_input
from kserve_core.runtimes.caikit.errors import wrong_task
from kserve_core.runtimes.caikit.tasks import SIMILARITIES, SIMILARITY
from kserve_core.runtimes.checks import check_texts

_WHAT = "a list of similarity scores"


def similarity_inputs(source: str, sentences: Sequence[str]) -> dict[str, Any]:
    """The inputs for one source sentence."""
    check_input("source sentence", source)
    check_texts("sentence", sentences)
    return {"source_sentence": source, "sentences": list(sentences)}


def similarities_inputs(sources: Sequence[str], sentences: Sequence[str]) -> dict[str, Any]:
    """The inputs for several source sentences."""
    check_texts("source sentence", sources)
    check_texts("sentence", sentences)
    return {"source_sentences": list(sources), "sentences": list(sentences)}


def read_similarity(raw: dict[str, Any], *, count: int, model: str) -> list[float]:
    """Reads the scores of one source sentence, in the order of the sentences.

    Raises:
        BadResponseError: If it is the answer to another task, or scores are missing.
    """
    result = raw.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("scores"), list) or not result["scores"]:
        raise wrong_task(SIMILARITY, model, "it has no `result` with scores")
    return _scores(result, count)


def read_similarities(raw: dict[str, Any], *, sources: int, count: int, model: str) -> list[list[float]]:
    """Reads one list of scores for each source sentence."""
    results = raw.get("results")
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise wrong_task(SIMILARITIES, model, "it has no `results` with scores")
    if len(results) != sources:
        raise unexpected(_WHAT, f"scores of {len(results)} sentences came where {sources} were expected")
    return [_scores(result, count) for result in results]


def _scores(result: dict[str, Any], count: int) -> list[float]:
    scores = result.get("scores")
    if not isinstance(scores, list) or len(scores) != count:
        problem = f"{len(scores) if isinstance(scores, list) else 'no'} scores came for {count} sentences"
        raise unexpected(_WHAT, problem)
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            problem = "a score is not a number"
            raise unexpected(_WHAT, problem)
    return [float(score) for score in scores]
