"""Reranking, on servers that have a route for it and on those that only score pairs."""

from __future__ import annotations

import math
from typing import Any

from kserve_core._json import decode_object, unexpected, word
from kserve_core.calls import Response
from kserve_core.capabilities import RerankRequest
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.vllm.embeddings import truncation
from kserve_core.runtimes.vllm.usage import read_usage
from kserve_core.types import RankedDocument, Ranking

_WHAT = "a ranking"


def rerank_body(request: RerankRequest, *, model: str | None, path: str) -> dict[str, Any]:
    """The request's body for the route at `path`; a score route takes pairs and knows no `top_n`.

    Raises:
        ConfigurationError: If something in the request cannot be sent.
    """
    documents = list(request.documents)
    check_texts("query", [request.query])
    check_texts("document", documents)
    if request.top_n is not None and request.top_n < 1:
        msg = f"top_n must be at least 1, not {request.top_n}."
        raise ConfigurationError(msg)
    body: dict[str, Any]
    if scores_only(path):
        body = {"text_1": request.query, "text_2": documents}
    else:
        body = {"query": request.query, "documents": documents}
        if request.top_n is not None:
            body["top_n"] = request.top_n
    if model:
        body["model"] = model
    body.update(truncation(request.truncate))
    body.update(request.extra_body)
    return body


def scores_only(path: str) -> bool:
    """Whether the route scores pairs instead of ranking."""
    return path.endswith("/score")


def read_ranking(response: Response, *, count: int, top_n: int | None) -> Ranking:
    """Reads a ranking or a list of scores, best first.

    Args:
        response: The server's answer.
        count: How many documents were sent.
        top_n: How many were asked for.

    Raises:
        BadResponseError: If documents are missing or unknown, or a score is not a number.
    """
    raw = decode_object(response, _WHAT)
    entries, key = raw.get("results"), "relevance_score"
    if entries is None:
        entries, key = raw.get("data"), "score"
    if not isinstance(entries, list):
        raise unexpected(_WHAT, "it has no `results`", status=response.status)
    results = []
    for entry in entries:
        index, score = (entry.get("index"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if type(index) is not int or not 0 <= index < count:
            raise unexpected(_WHAT, "its indices do not match the documents", status=response.status)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise unexpected(_WHAT, f"the score of document {index} is not a number", status=response.status)
        results.append(RankedDocument(index, float(score)))
    wanted = count if top_n is None else min(top_n, count)
    if len({result.index for result in results}) != len(results) or len(results) < wanted:
        problem = f"{len(results)} documents came back where {wanted} were expected"
        raise unexpected(_WHAT, problem, status=response.status)
    results.sort(key=lambda result: (-result.score, result.index))
    return Ranking(results[:wanted], usage=read_usage(raw.get("usage")), model=word(raw.get("model")))
