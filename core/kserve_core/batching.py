"""Long lists of texts or documents, cut into requests a server takes.

The requests go out several at a time. A batch that the server finds too large is cut in half and tried again; what
that teaches is applied to the batches that have not gone out yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kserve_core.calls import AnyCall, Call, Exchange, Flow, GrpcCall, Parallel
from kserve_core.capabilities import (
    EmbeddingRequest,
    EmbeddingRuntime,
    LimitedEmbeddings,
    LimitedReranking,
    ProgressCallback,
    RerankRequest,
    RerankRuntime,
)
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    KServeError,
    RequestTooLargeError,
)
from kserve_core.types import EmbeddingResult, RankedDocument, Ranking, TextResult, Usage

T = TypeVar("T")

BATCH_SIZE = 64
"""How many texts one request holds unless told otherwise."""
RERANK_BATCH_SIZE = 128
"""How many documents one request holds unless told otherwise."""
CONCURRENCY = 8
"""How many requests are under way at once unless told otherwise."""

_NOTHING: Mapping[str, Any] = {}
_PER_ROUND = 8
"""How many requests follow one another in a round; a failure stops the rounds after its own."""


def embed_all(
    runtime: EmbeddingRuntime,
    texts: Iterable[str],
    *,
    model: str | None = None,
    dimensions: int | None = None,
    truncate: int | None = None,
    batch_size: int = BATCH_SIZE,
    concurrency: int = CONCURRENCY,
    on_progress: ProgressCallback | None = None,
    extra_body: Mapping[str, Any] = _NOTHING,
    headers: Mapping[str, str] = _NOTHING,
) -> Flow[EmbeddingResult]:
    """Vectors for any number of texts, in their order.

    Args:
        runtime: What makes the requests.
        texts: The texts; for none of them no request is sent.
        model: As in `EmbeddingRequest`, like `dimensions`, `truncate`, `extra_body` and `headers`.
        dimensions: The vectors' length, for models that can shorten them.
        truncate: Tokens to cut over-long texts to.
        batch_size: Most texts of one request.
        concurrency: Most requests under way at once.
        on_progress: Called with the number of texts of each request that was answered; may be called from
            several threads.
        extra_body: Sent as given.
        headers: Extra headers of every request.

    Returns:
        The vectors, the token counts of all requests together, and the model's name as the server wrote it.

    Raises:
        ContextOverflowError: If a text is too long for the model; the hint says in which part of the list it is.
        RequestTooLargeError: If a single text is too large for the server.
        BadResponseError: If vectors of different lengths come, as from two versions of a model behind one URL.
    """
    texts = list(texts)
    _check(batch_size, concurrency)
    if not texts:
        return EmbeddingResult([])
    name = yield from runtime.resolve_model(model)
    if isinstance(runtime, LimitedEmbeddings):
        batch_size = _least(batch_size, runtime.embedding_limit(name))

    def request(start: int, stop: int) -> Exchange[EmbeddingResult]:
        return runtime.embed(
            EmbeddingRequest(
                texts=texts[start:stop],
                model=name,
                dimensions=dimensions,
                truncate=truncate,
                extra_body=extra_body,
                headers=headers,
            )
        )

    batches = _cut(0, len(texts), batch_size)
    answers = yield from _run(request, batches, concurrency=concurrency, on_progress=on_progress, what="text")
    vectors: list[list[float]] = []
    for (start, stop), answer in answers:
        if len(answer.embeddings) != stop - start:
            msg = f"The server sent {len(answer.embeddings)} vectors for {stop - start} texts."
            raise BadResponseError(msg)
        vectors += answer.embeddings
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        msg = f"The server sent vectors of different lengths: {', '.join(map(str, sorted(lengths)))}."
        raise BadResponseError(
            msg,
            hint="Two models seem to answer at this URL (a canary, or a rollout under way); do not mix their vectors.",
        )
    return EmbeddingResult(
        vectors,
        usage=add_usage(answer.usage for _, answer in answers),
        model=next((answer.model for _, answer in answers if answer.model), None),
    )


def rerank_all(
    runtime: RerankRuntime,
    query: str,
    documents: Iterable[str],
    *,
    model: str | None = None,
    top_n: int | None = None,
    truncate: int | None = None,
    batch_size: int = RERANK_BATCH_SIZE,
    concurrency: int = CONCURRENCY,
    on_progress: ProgressCallback | None = None,
    extra_body: Mapping[str, Any] = _NOTHING,
    headers: Mapping[str, str] = _NOTHING,
) -> Flow[Ranking]:
    """Ranks any number of documents by their relevance to a query, best first.

    A document's score does not depend on the others in its request, so the batches' rankings are merged by score;
    equal scores keep the documents' order. For no documents no request is sent.

    Args:
        runtime: What makes the requests.
        query: The query.
        documents: The documents; results name them by their position here.
        model: As in `RerankRequest`, like `truncate`, `extra_body` and `headers`.
        top_n: How many results to return, of all documents together; None for all.
        truncate: Tokens to cut over-long documents to.
        batch_size: Most documents of one request.
        concurrency: Most requests under way at once.
        on_progress: Called with the number of documents of each request that was answered; may be called from
            several threads.
        extra_body: Sent as given.
        headers: Extra headers of every request.

    Raises:
        ContextOverflowError: If a document is too long for the model.
        RequestTooLargeError: If a single document is too large for the server.
    """
    documents = list(documents)
    _check(batch_size, concurrency)
    if top_n is not None and top_n < 1:
        msg = f"top_n must be at least 1, not {top_n}."
        raise ConfigurationError(msg)
    if not documents:
        return Ranking([])
    if isinstance(runtime, LimitedReranking):
        model = yield from runtime.resolve_model(model)
        batch_size = _least(batch_size, runtime.rerank_limit(model))

    def request(start: int, stop: int) -> Exchange[Ranking]:
        return runtime.rerank(
            RerankRequest(
                query=query,
                documents=documents[start:stop],
                model=model,
                top_n=None if top_n is None else min(top_n, stop - start),
                truncate=truncate,
                extra_body=extra_body,
                headers=headers,
            )
        )

    batches = _cut(0, len(documents), batch_size)
    answers = yield from _run(request, batches, concurrency=concurrency, on_progress=on_progress, what="document")
    merged = [
        RankedDocument(start + result.index, result.score)
        for (start, _), answer in answers
        for result in answer.results
    ]
    merged.sort(key=lambda result: (-result.score, result.index))
    return Ranking(
        merged if top_n is None else merged[:top_n],
        usage=add_usage(answer.usage for _, answer in answers),
        model=next((answer.model for _, answer in answers if answer.model), None),
    )


def joined(answers: Sequence[TextResult]) -> TextResult:
    """The answer to several prompts of which each was sent by itself; that of a single one is its own."""
    if len(answers) == 1:
        return answers[0]
    return TextResult(
        [answer.generations[0] for answer in answers],
        usage=add_usage(answer.usage for answer in answers),
        model=answers[0].model,
        raw={"responses": [answer.raw for answer in answers]},
    )


def add_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum of token counts; None if there are none. A detail that nobody told stays None."""
    total: Usage | None = None
    for usage in usages:
        if usage is None:
            continue
        if total is None:
            total = replace(usage)
            continue
        total.prompt_tokens += usage.prompt_tokens
        total.completion_tokens += usage.completion_tokens
        total.total_tokens += usage.total_tokens
        total.cached_tokens = _plus(total.cached_tokens, usage.cached_tokens)
        total.reasoning_tokens = _plus(total.reasoning_tokens, usage.reasoning_tokens)
        total.audio_tokens = _plus(total.audio_tokens, usage.audio_tokens)
    return total


def _plus(left: int | None, right: int | None) -> int | None:
    return right if left is None else left if right is None else left + right


_Range = tuple[int, int]


def _run(
    request: Callable[[int, int], Exchange[T]],
    batches: list[_Range],
    *,
    concurrency: int,
    on_progress: ProgressCallback | None,
    what: str,
) -> Flow[list[tuple[_Range, T]]]:
    """Runs the batches and returns their answers in order.

    The first round is as wide as the concurrency allows, so that a wrong token or a batch that is too large costs a
    few requests and not one for each batch.
    """
    answers: list[tuple[_Range, T]] = []
    waiting = batches
    limit = batches[0][1] - batches[0][0]
    width = concurrency
    first: Exchange[T] | None = _made(request, *waiting[0], what)
    if len(waiting) == 1 or not isinstance(first, (Call, GrpcCall)):
        width = 1
    while waiting:
        now, waiting = waiting[:width], waiting[width:]
        exchanges = [_made(request, start, stop, what) for start, stop in (now if first is None else now[1:])]
        if first is not None:
            exchanges, first = [first, *exchanges], None
        outcomes = yield from _round(exchanges, now, concurrency, on_progress)
        again: list[_Range] = []
        for (start, stop), outcome in zip(now, outcomes, strict=True):
            if not isinstance(outcome, KServeError):
                answers.append(((start, stop), outcome))
            elif isinstance(outcome, RequestTooLargeError) and stop - start > 1:
                half = (stop - start + 1) // 2
                limit = min(limit, half)
                again += _cut(start, stop, half)
            else:
                raise _placed(outcome, start, stop, what)
        waiting = again + _recut(waiting, limit)
        width = concurrency * (1 if again else _PER_ROUND)
    answers.sort(key=lambda answer: answer[0])
    return answers


def _round(
    exchanges: Sequence[Exchange[T]],
    batches: Sequence[_Range],
    concurrency: int,
    on_progress: ProgressCallback | None,
) -> Flow[list[T | KServeError]]:
    """Runs some batches at once, or one after the other if they are more than single calls."""
    calls = [
        _counted(exchange, stop - start, on_progress)
        for exchange, (start, stop) in zip(exchanges, batches, strict=True)
        if isinstance(exchange, (Call, GrpcCall))
    ]
    if len(calls) == len(exchanges) > 1:
        outcomes: list[T | KServeError] = yield Parallel(calls=calls, limit=concurrency)
        return outcomes
    outcomes = []
    for exchange, (start, stop) in zip(exchanges, batches, strict=True):
        outcomes.append((yield from _one(exchange)))
        if on_progress is not None and not isinstance(outcomes[-1], KServeError):
            on_progress(stop - start)
    return outcomes


def _made(request: Callable[[int, int], Exchange[T]], start: int, stop: int, what: str) -> Exchange[T]:
    """A batch's exchange; a text that is found to be too long before anything is sent is placed as well."""
    try:
        return request(start, stop)
    except ContextOverflowError as error:
        raise _placed(error, start, stop, what) from None


def _one(exchange: Exchange[T]) -> Flow[T | KServeError]:
    try:
        if isinstance(exchange, (Call, GrpcCall)):
            answer: T = yield exchange
            return answer
        return (yield from exchange)
    except KServeError as error:
        return error


def _counted(call: AnyCall[T], size: int, on_progress: ProgressCallback | None) -> AnyCall[T]:
    """The call, telling of its answer as soon as it is read."""
    if on_progress is None:
        return call
    read_answer: Callable[[Any], T] = call.read

    def read(response: Any) -> T:
        answer = read_answer(response)
        on_progress(size)
        return answer

    return replace(call, read=read)


def _placed(error: KServeError, start: int, stop: int, what: str) -> KServeError:
    """The error, saying where in the list the batch was that it came from."""
    if isinstance(error, (ContextOverflowError, RequestTooLargeError)):
        where = (
            f"It is the {what} at position {start}."
            if stop - start == 1
            else (f"It is one of the {what}s at positions {start} to {stop - 1}.")
        )
        error.hint = f"{error.hint} {where}".strip()
    return error


def _least(size: int, limit: int | None) -> int:
    return size if limit is None or limit < 1 else min(size, limit)  # no server means that it takes nothing


def _cut(start: int, stop: int, size: int) -> list[_Range]:
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def _recut(batches: list[_Range], size: int) -> list[_Range]:
    """The batches that still wait, cut to a size that may have become smaller."""
    if not batches or all(stop - start <= size for start, stop in batches):
        return batches
    return _cut(batches[0][0], batches[-1][1], size)


def _check(batch_size: int, concurrency: int) -> None:
    for name, value in (("batch_size", batch_size), ("concurrency", concurrency)):
        if value < 1:
            msg = f"{name} must be at least 1, not {value}."
            raise ConfigurationError(msg)
