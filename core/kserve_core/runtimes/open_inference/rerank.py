"""Reranking by models that take a query and documents, or both together as token ids, and put out scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kserve_core._json import unexpected
from kserve_core.batching import rerank_all
from kserve_core.calls import Call, Exchange, Flow, GrpcCall
from kserve_core.capabilities import RerankRequest
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.open_inference.extras import truncation
from kserve_core.runtimes.open_inference.inputs import PairColumns, PairInputs, TokenInputs, pair_inputs
from kserve_core.runtimes.open_inference.layouts import least, server_limit
from kserve_core.runtimes.open_inference.outputs import SCORE_NAMES, output_of, scores_output
from kserve_core.runtimes.open_inference.tasks import TensorTasks
from kserve_core.runtimes.open_inference.values import InferResult, ModelMetadata, TensorSpec
from kserve_core.tensors import Tensor
from kserve_core.types import RankedDocument, Ranking

_WHAT = "a ranking"


class TensorReranking(TensorTasks):
    """Orders documents by any cross-encoder whose metadata tells what it takes, or whose user does."""

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch of documents; a plain call once the model is known, and how it takes raw tensors.

        More documents than `rerank_limit` are sent by several requests. `extra_body` goes into the request's
        parameters.

        Raises:
            ConfigurationError: If it is not clear which inputs and outputs of the model are meant, the model is no
                reranker, or something is not a text.
            ContextOverflowError: If a pair has more tokens than the model takes and is not to be cut; only for models
                that take token ids.
            UnsupportedParameterError: If documents are to be cut and the model does not know how.
        """
        documents = list(request.documents)
        if request.top_n is not None and request.top_n < 1:
            msg = f"top_n must be at least 1, not {request.top_n}."
            raise ConfigurationError(msg)
        if not documents:
            return _empty()
        check_texts("query", [request.query])
        check_texts("document", documents)
        if self.known_model(request.model) is None:
            return self._resolved(request)
        metadata = self._metadata_of(request.model)
        inputs = self._pair_inputs(metadata)
        limit = self._rerank_limit(metadata, inputs)
        if limit is not None and len(documents) > limit:
            return rerank_all(
                self,
                request.query,
                documents,
                model=metadata.name,
                top_n=request.top_n,
                truncate=request.truncate,
                extra_body=request.extra_body,
                headers=request.headers,
            )
        return self._rerank(request, documents, metadata, inputs)

    def rerank_limit(self, model: str | None = None) -> int | None:
        """Most documents of one request to a model that was resolved; None if there is no limit or it is not known.

        Raises:
            ConfigurationError: As `rerank`.
        """
        metadata = self._metadata_of(model)
        return self._rerank_limit(metadata, self._pair_inputs(metadata))

    def _pair_inputs(self, metadata: ModelMetadata) -> PairInputs | PairColumns | TokenInputs:
        with self.choosing(metadata):
            return pair_inputs(metadata, self.options, self.dialect)

    def _resolved(self, request: RerankRequest) -> Flow[Ranking]:
        name = yield from self.resolve_model(request.model)
        self._metadata_of(name)
        exchange = self.rerank(replace(request, model=name))
        if isinstance(exchange, (Call, GrpcCall)):
            return (yield from self.send(exchange, name))
        return (yield from exchange)

    def _rerank(
        self,
        request: RerankRequest,
        documents: Sequence[str],
        metadata: ModelMetadata,
        inputs: PairInputs | PairColumns | TokenInputs,
    ) -> Exchange[Ranking]:
        output = scores_output(metadata, self.options.output_name)
        count = len(documents)
        extra_inputs: dict[str, Any] = {}
        parameters = dict(request.extra_body)
        if isinstance(inputs, TokenInputs):
            queries = [request.query] * count
            tokens = self._tokens(inputs, queries, pairs=documents, truncate=request.truncate, what="document")
            tensors = inputs.tensors(tokens)
            rows = inputs.rows or count
        else:
            self._check_lengths([request.query, *documents], what="text")
            known = {**self.options.parameters, **parameters}
            extra_inputs, wanted = truncation(request.truncate, metadata, known)
            parameters.update(wanted)
            tensors = inputs.tensors(request.query, documents)
            layout = inputs.layout if isinstance(inputs, PairColumns) else inputs.documents.layout
            rows = layout.padded(count)
        reading = Reading(
            count=count,
            rows=rows,
            top_n=request.top_n,
            output=output,
            output_name=self.options.output_name,
            sigmoid=bool(self.options.sigmoid),
            model=metadata.name,
        )
        infer = self._request(
            tensors,
            metadata,
            rows=rows,
            output=output.name if output is not None else self.options.output_name,
            extra_inputs=extra_inputs,
            parameters=parameters,
            headers=request.headers,
        )
        return self.infer_exchange(infer, partial(read_ranking, reading=reading))

    def _rerank_limit(self, metadata: ModelMetadata, inputs: PairInputs | PairColumns | TokenInputs) -> int | None:
        if isinstance(inputs, TokenInputs):
            limit = inputs.limit(self._tokenizer_for(inputs))
            return least(server_limit(metadata, self.options.batch_size), limit)
        if isinstance(inputs, PairInputs) and inputs.documents.layout.columns is None:
            return self.options.batch_size  # all documents lie in one row, and the server counts rows
        return least(server_limit(metadata, self.options.batch_size), inputs.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an answer is to be read.

    Attributes:
        count: How many documents there are.
        rows: How many were sent, copies that only fill a fixed batch included.
        top_n: How many are wanted.
        model: The model that was asked.
        output: The output chosen by metadata.
        output_name: The one the user named.
        sigmoid: Whether scores go through a sigmoid.
    """

    count: int
    rows: int
    model: str
    top_n: int | None = None
    output: TensorSpec | None = None
    output_name: str | None = None
    sigmoid: bool = False


def read_ranking(result: InferResult, *, reading: Reading) -> Ranking:
    """Reads the scores and orders the documents by them, best first; equal ones keep their order.

    Raises:
        BadResponseError: If the output is not there, has not one score (or two columns) for each document, or a score
            is not a number.
    """
    tensor = output_of(result, reading.output, reading.output_name, SCORE_NAMES, _WHAT)
    scores = read_scores(tensor, rows=reading.rows, sigmoid=reading.sigmoid)[: reading.count]
    ranked = [RankedDocument(index, score) for index, score in enumerate(scores)]
    ranked.sort(key=lambda document: (-document.score, document.index))
    return Ranking(ranked[: reading.top_n], model=result.model or reading.model)


def read_scores(tensor: Tensor, *, rows: int, sigmoid: bool = False) -> list[float]:
    """One score a row.

    Of two columns (the classes "not relevant" and "relevant") the score is the second minus the first, and its sigmoid
    is the softmax of the second.

    Args:
        tensor: `[rows]`, `[rows, 1]`, `[1, rows]` or `[rows, 2]`.
        rows: How many pairs were sent.
        sigmoid: Whether scores go through a sigmoid.

    Raises:
        BadResponseError: If it has another shape, or holds what is no number.
    """
    if tensor.datatype in {"BYTES", "BOOL"}:
        raise unexpected(_WHAT, f"the output {tensor.name!r} is {tensor.datatype}, not numbers")
    flat = [value for row in tensor.rows() for value in row]
    if len(flat) == 2 * rows and (tensor.shape[-1] == 2 or rows == 1):
        flat = [second - first for first, second in zip(flat[::2], flat[1::2], strict=True)]
    elif len(flat) != rows:
        hint = "A reranker has one output for each pair, or two; name another output as output_name."
        shape = list(tensor.shape)
        raise unexpected(_WHAT, f"the output {tensor.name!r} has the shape {shape} for {rows} pairs", hint=hint)
    for index, score in enumerate(flat):
        if not math.isfinite(score):
            raise unexpected(_WHAT, f"the score of document {index} is not a number")
    return [_sigmoid(score) for score in flat] if sigmoid else flat


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    power = math.exp(value)  # this way round it cannot overflow
    return power / (1 + power)


def _empty() -> Flow[Ranking]:
    """A flow that asks nothing."""
    return Ranking([])
    yield
