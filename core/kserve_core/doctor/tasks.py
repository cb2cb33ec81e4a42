"""One small request of each kind a runtime allows, and what its outcome means."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import ChatRequest, ChatRuntime, EmbeddingRuntime, RerankRuntime, TextRequest, TextRuntime
from kserve_core.client import RuntimeClient
from kserve_core.doctor.findings import Finding, duration
from kserve_core.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    UnsupportedParameterError,
)
from kserve_core.streamed import refuses_streams, streamed_exchange

Task = Literal["generate", "embed", "rerank"]
TASKS: tuple[Task, ...] = ("generate", "embed", "rerank")

PROMPT = "Say hello."
"""What a model is asked to go on from."""
MAX_TOKENS = 16
"""How much of an answer is asked for."""

_QUERY = "Which animal barks?"
_DOCUMENTS = ("A dog barks at the postman.", "The stock market fell on Monday.")
_DOES = {"generate": "generate text", "embed": "make embeddings", "rerank": "rank documents"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How a request went.

    Attributes:
        task: What was asked for.
        outcome: `works`; `refused` (the model or the server has no such task); `failed`; `untried`.
        model: The model that was asked; None for the only one.
        seconds: How long it took.
        first: Seconds to the first piece of a streamed answer; None if it was not streamed.
        size: Pieces of text, numbers of a vector, or documents ranked.
        chat: Whether text came by the chat operation.
        note: What is odd about a result, or `""`.
        error: What went wrong.
    """

    task: Task
    outcome: Literal["works", "refused", "failed", "untried"]
    model: str | None = None
    seconds: float = 0.0
    first: float | None = None
    size: int = 0
    chat: bool = False
    note: str = ""
    error: KServeError | None = None


def supports(runtime: object, task: Task) -> bool:
    """Whether a runtime's codec has a task at all."""
    if task == "generate":
        return isinstance(runtime, (ChatRuntime, TextRuntime))
    return isinstance(runtime, EmbeddingRuntime if task == "embed" else RerankRuntime)


def attempt(client: RuntimeClient[Any], task: Task, model: str | None) -> Tried:
    """Asks a model for something small.

    Args:
        client: The runtime at its endpoint.
        task: What to ask for.
        model: The model; None for the only one.
    """
    start = time.monotonic()
    try:
        tried = {"generate": _generate, "embed": _embed, "rerank": _rerank}[task](client, model)
    except KServeError as error:
        outcome: Literal["refused", "failed"] = "refused" if _is_refusal(error) else "failed"
        return Tried(task=task, outcome=outcome, model=model, seconds=time.monotonic() - start, error=error)
    return tried


def judge_tasks(tried: Sequence[Tried], *, runtime: str, tensors: bool, fix: dict[Task, str]) -> list[Finding]:
    """What the requests' outcomes mean together: models have one task as a rule, so one that works is enough.

    Args:
        tried: The outcomes, one per task.
        runtime: The runtime's name as people write it.
        tensors: Whether the server also serves models that only take tensors.
        fix: What to do about each task's error.
    """
    fine = tensors or any(item.outcome in {"works", "untried"} for item in tried if item.error is None)
    return [_judge(item, runtime=runtime, fine=fine, fix=fix.get(item.task, "")) for item in tried]


def _judge(tried: Tried, *, runtime: str, fine: bool, fix: str) -> Finding:
    facts: dict[str, object] = {
        "outcome": tried.outcome,
        "model": tried.model,
        "first_piece_seconds": None if tried.first is None else round(tried.first, 4),
        "size": tried.size,
    }
    on = f" ({tried.model})" if tried.model else ""
    if tried.outcome == "works":
        status: Literal["ok", "warning"] = "warning" if tried.note else "ok"
        facts["chat"] = tried.chat
        title = _works(tried) + on
        detail = tried.note
        return Finding(step=tried.task, status=status, title=title, detail=detail, seconds=tried.seconds, facts=facts)
    error = tried.error
    if tried.outcome == "untried" or error is None:
        title = tried.note or f"{runtime} cannot {_DOES[tried.task]}"
        return Finding(step=tried.task, status="skipped", title=title, facts=facts)
    facts["error"] = type(error).__name__
    if tried.outcome == "refused" and fine:
        title = f"not what this model is for{on}"
        return Finding(step=tried.task, status="skipped", title=title, seconds=tried.seconds, facts=facts)
    return Finding(
        step=tried.task, status="failed", title=f"{error.message}{on}", fix=fix, seconds=tried.seconds, facts=facts
    )


def _works(tried: Tried) -> str:
    if tried.task == "embed":
        return f"a vector of {tried.size} numbers"
    if tried.task == "rerank":
        return f"{tried.size} documents ranked"
    kind = "chat" if tried.chat else "completion"
    if tried.first is None:
        return f"{kind} answers, not streamed"
    return f"{kind} streams, first piece after {duration(tried.first)}"


def _is_refusal(error: KServeError) -> bool:
    """Whether an error says that the model or the server is not for this."""
    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        return False
    if isinstance(error, (NotFoundError, InvalidRequestError, ConfigurationError)):
        return True
    return isinstance(error, ServerError) and error.status == 501


def _generate(client: RuntimeClient[Any], model: str | None) -> Tried:
    runtime = client.runtime
    requests: list[ChatRequest | TextRequest] = []
    if isinstance(runtime, ChatRuntime):
        messages = [{"role": "user", "content": PROMPT}]
        requests.append(ChatRequest(messages=messages, model=model, params={"max_tokens": MAX_TOKENS}))
    if isinstance(runtime, TextRuntime):
        requests.append(TextRequest(prompts=[PROMPT], model=model, params={"max_tokens": MAX_TOKENS}))
    first_error: KServeError | None = None
    for request in requests:
        try:
            return _answer(client, request)
        except KServeError as error:  # noqa: PERF203 - a model without a chat template completes text
            if not _is_refusal(error):
                raise
            first_error = first_error or error
    assert first_error is not None  # noqa: S101 - `supports` saw to it that there is a request
    raise first_error


def _answer(client: RuntimeClient[Any], request: ChatRequest | TextRequest) -> Tried:
    """An answer as a stream, whole where there are no streams, and without a limit where none is taken."""
    chat = isinstance(request, ChatRequest)
    start = time.monotonic()
    try:
        try:
            first, count = _stream(client, request, start)
        except UnsupportedParameterError:
            if not request.params:
                raise
            request = (
                ChatRequest(messages=request.messages, model=request.model)
                if isinstance(request, ChatRequest)
                else TextRequest(prompts=request.prompts, model=request.model)
            )
            first, count = _stream(client, request, start)
    except KServeError as error:
        if not refuses_streams(error) or isinstance(error, ModelNotFoundError):
            raise
        runtime = client.runtime
        client.run(runtime.chat(request) if chat else runtime.generate(request))
        seconds = time.monotonic() - start
        return Tried(task="generate", outcome="works", model=request.model, seconds=seconds, size=1, chat=chat)
    note = "" if count else "The stream ended properly, but had no text."
    return Tried(
        task="generate",
        outcome="works",
        model=request.model,
        seconds=time.monotonic() - start,
        first=first,
        size=count,
        chat=chat,
        note=note,
    )


def _stream(client: RuntimeClient[Any], request: ChatRequest | TextRequest, start: float) -> tuple[float, int]:
    first, count = 0.0, 0
    with closing(client.stream(streamed_exchange(client.runtime, request))) as pieces:
        for piece in pieces:
            if getattr(piece, "content", "") or getattr(piece, "text", "") or getattr(piece, "reasoning", ""):
                first = first or time.monotonic() - start
                count += 1
    return first, count


def _embed(client: RuntimeClient[Any], model: str | None) -> Tried:
    start = time.monotonic()
    result = client.run(embed_all(client.runtime, [_DOCUMENTS[0]], model=model))
    vector = result.embeddings[0]
    note = ""
    if not all(map(math.isfinite, vector)):
        note = "The vector holds numbers that are none (NaN or infinite)."
    elif not any(vector):
        note = "The vector holds nothing but zeros."
    seconds = time.monotonic() - start
    return Tried(task="embed", outcome="works", model=model, seconds=seconds, size=len(vector), note=note)


def _rerank(client: RuntimeClient[Any], model: str | None) -> Tried:
    start = time.monotonic()
    ranking = client.run(rerank_all(client.runtime, _QUERY, _DOCUMENTS, model=model))
    seconds = time.monotonic() - start
    return Tried(task="rerank", outcome="works", model=model, seconds=seconds, size=len(ranking.results))
