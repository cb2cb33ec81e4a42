"""Score and rerank routes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.features import cosine, embed, relevance, sigmoid
from kserve_core.devserver.messages import Reply, Request, json_reply
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.vllm import fields
from kserve_core.devserver.wires.vllm.context import Context, answer_id
from kserve_core.devserver.wires.vllm.embeddings import truncated
from kserve_core.devserver.wires.vllm.errors import ApiError, missing, wrong_type
from kserve_core.devserver.wires.vllm.usage import usage

_COMMON = {"model": "str", "truncate_prompt_tokens": "int", "use_activation": "bool"}


class Ranking:
    """Scores of text pairs."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def score(self, request: Request) -> Reply:
        """POST /score."""
        body = fields.body_of(request)
        fields.check(body, _COMMON)
        pairs = (("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2"))
        found = next((pair for pair in pairs if pair[0] in body and pair[1] in body), None)
        if found is None:
            raise missing(("body", "queries"), body)
        model, name = self._context.model(body, param=None)
        left, right = (_texts(body[key], key) for key in found)
        if len(left) == 1:
            left = left * len(right)
        if len(left) != len(right):
            msg = "Input lengths must be either 1:1, 1:N or N:N"
            raise ApiError(msg)
        values = [self._value(one, two, body, model) for one, two in zip(left, right, strict=True)]
        answer = {
            "id": answer_id("score", request, body),
            "object": "list",
            "created": int(time.time()),
            "model": name,
            "data": [{"index": at, "object": "score", "score": value} for at, (value, _) in enumerate(values)],
            "usage": usage(sum(count for _, count in values), 0),
        }
        return json_reply(answer)

    async def rerank(self, request: Request) -> Reply:
        """POST /rerank in its three versions, which are the same."""
        body = fields.body_of(request)
        types = {**_COMMON, "query": "str", "documents": "list", "top_n": "int"}
        fields.check(body, types, required=("query", "documents"))
        model, name = self._context.model(body, param=None)
        documents = _texts(body["documents"], "documents")
        top = int(body.get("top_n") or 0)
        if top < 0:
            msg = f"top_n must be greater than or equal to 0, got {top}."
            raise ApiError(msg, param="top_n")
        values = [self._value(body["query"], text, body, model) for text in documents]
        order = sorted(range(len(documents)), key=lambda at: -values[at][0])
        count = sum(tokens_used for _, tokens_used in values)
        counted: dict[str, Any] = {"prompt_tokens": count, "total_tokens": count}
        if self._context.settings.release < (0, 15):
            del counted["prompt_tokens"]
        answer = {
            "id": answer_id("score", request, body),
            "model": name,
            "usage": counted,
            "results": [
                {
                    "index": at,
                    "document": {"text": documents[at], "multi_modal": None},
                    "relevance_score": values[at][0],
                }
                for at in order[: top or None]
            ],
        }
        return json_reply(answer)

    def _value(self, one: str, two: str, body: Mapping[str, Any], model: Model) -> tuple[float, int]:
        query = tokens.encode(one)
        text = truncated(tokens.encode(two), body, model, beside=len(query))
        count = len(query) + len(text)
        two = tokens.decode(text)
        if "score" not in self._context.settings.tasks:
            return cosine(embed(one, model.dimensions), embed(two, model.dimensions)), count
        value = relevance(one, two)
        return (value if body.get("use_activation") is False else sigmoid(value)), count


def _texts(given: Any, field: str) -> list[str]:
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise wrong_type(("body", field), "string", given)
    if not values:
        msg = f"At least one text must be given in {field}."
        raise ApiError(msg)
    return values
