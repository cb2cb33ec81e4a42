"""Reranking.

Documents go out as their text alone and come back as their position: over REST not every value is allowed in a
document, and over gRPC whole numbers come back as fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kserve_core._json import unexpected
from kserve_core.capabilities import RerankRequest
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.caikit.embeddings import check_input
from kserve_core.runtimes.caikit.errors import wrong_task
from kserve_core.runtimes.caikit.params import merged, truncation
from kserve_core.runtimes.caikit.tasks import RERANK, RERANKS, Task
from kserve_core.runtimes.caikit.usage import counted
from kserve_core.runtimes.checks import check_texts
from kserve_core.types import RankedDocument, Ranking

_WHAT = "a ranking"


def rerank_task(request: RerankRequest) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """The task for one query, its inputs and parameters.

    Raises:
        ConfigurationError: If something in the request cannot be sent.
    """
    check_input("query", request.query)
    check_texts("document", request.documents)
    parameters = {**_parameters(request), "return_query": False}
    inputs = {"query": request.query, "documents": _documents(request.documents)}
    return RERANK, inputs, merged(parameters, request.extra_body)


def rerank_tasks(queries: Sequence[str], request: RerankRequest) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """The same for several queries; the request's own query is not looked at."""
    check_texts("query", queries)
    check_texts("document", request.documents)
    parameters = {**_parameters(request), "return_queries": False}
    inputs = {"queries": list(queries), "documents": _documents(request.documents)}
    return RERANKS, inputs, merged(parameters, request.extra_body)


def read_ranking(raw: dict[str, Any], *, count: int, top_n: int | None, model: str) -> Ranking:
    """Reads a ranking, best first.

    Args:
        raw: The server's answer.
        count: How many documents were sent.
        top_n: How many were asked for.
        model: The model that was asked.

    Raises:
        BadResponseError: If it is the answer to another task, documents are missing or unknown, or a score is not a
            number.
    """
    result = raw.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("scores"), list) or not result["scores"]:
        raise wrong_task(RERANK, model, "it has no `result` with scores")
    return Ranking(_ranked(result["scores"], count, top_n), usage=counted(raw.get("input_token_count")), model=model)


def read_rankings(raw: dict[str, Any], *, queries: int, count: int, top_n: int | None, model: str) -> list[Ranking]:
    """Reads one ranking for each query; the token counts, which are for all of them, are with the first."""
    results = raw.get("results")
    if not isinstance(results, list) or not all(
        isinstance(result, dict) and isinstance(result.get("scores"), list) for result in results
    ):
        raise wrong_task(RERANKS, model, "it has no `results` with scores")
    if len(results) != queries:
        raise unexpected(_WHAT, f"{len(results)} rankings came for {queries} queries")
    rankings = [Ranking(_ranked(result["scores"], count, top_n), model=model) for result in results]
    rankings[0].usage = counted(raw.get("input_token_count"))
    return rankings


def _parameters(request: RerankRequest) -> dict[str, Any]:
    if request.top_n is not None and request.top_n < 1:
        msg = f"top_n must be at least 1, not {request.top_n}."
        raise ConfigurationError(msg)
    parameters: dict[str, Any] = {} if request.top_n is None else {"top_n": request.top_n}
    return {**parameters, **truncation(request.truncate), "return_documents": False, "return_text": False}


def _documents(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def _ranked(entries: list[Any], count: int, top_n: int | None) -> list[RankedDocument]:
    results = []
    for entry in entries:
        index, score = (entry.get("index"), entry.get("score")) if isinstance(entry, dict) else (None, None)
        if type(index) is not int or not 0 <= index < count:
            raise unexpected(_WHAT, "its indices do not match the documents")
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise unexpected(_WHAT, f"the score of document {index} is not a number")
        results.append(RankedDocument(index, float(score)))
    wanted = count if top_n is None else min(top_n, count)
    if len({result.index for result in results}) != len(results) or len(results) < wanted:
        raise unexpected(_WHAT, f"{len(results)} documents came back where {wanted} were expected")
    results.sort(key=lambda result: (-result.score, result.index))
    return results[:wanted]
