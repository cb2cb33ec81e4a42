"""Completions between the core's values and LangChain's: requests cut to size, results, chunks, usage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.utils._merge import merge_dicts

from kserve_core import types as core
from kserve_core.batching import add_usage
from kserve_core.calls import AnyCall, AnyStreamCall, Exchange, Flow, Parallel
from kserve_core.capabilities import TextRequest, TextRuntime
from kserve_core.errors import BadResponseError, KServeError, RequestTooLargeError

T = TypeVar("T")

_Step: TypeAlias = "AnyCall[Any] | AnyStreamCall[Any] | Parallel[Any]"


def generate_all(
    runtime: TextRuntime, request: TextRequest, *, batch_size: int | None = None, concurrency: int = 8
) -> Flow[core.TextResult]:
    """All prompts of a request, in as few requests as the server allows.

    Args:
        runtime: Completes the prompts.
        request: Holds all prompts.
        batch_size: Most prompts in one request; None for no limit.
        concurrency: Most requests in flight at once.

    Returns:
        One result over all prompts, in their order, with usage summed. A request the server calls too large is
        sent again as two halves, down to single prompts.

    Raises:
        KServeError: If any prompt failed.
    """
    prompts = request.prompts
    if not prompts:
        return core.TextResult(generations=[])
    size = min(batch_size or len(prompts), len(prompts))
    while True:
        # The first part goes alone: it settles what the others need to know, such as the model's name and the size.
        first = replace(request, prompts=prompts[:size])
        try:
            results = [_checked((yield from run(runtime.generate(first), concurrency)), first)]
            break
        except RequestTooLargeError:
            if size == 1:
                raise
            size = (size + 1) // 2
    parts = [replace(request, prompts=prompts[start : start + size]) for start in range(size, len(prompts), size)]
    outcomes = yield from _together([run(runtime.generate(part), concurrency) for part in parts], concurrency)
    for part, outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, RequestTooLargeError) and len(part.prompts) > 1:
            half = (len(part.prompts) + 1) // 2
            smaller = yield from generate_all(runtime, part, batch_size=half, concurrency=concurrency)
            results.append(smaller)
        elif isinstance(outcome, KServeError):
            raise outcome
        else:
            results.append(_checked(outcome, part))
    return _joined(results)


def _together(flows: Sequence[Flow[T]], limit: int) -> Flow[list[T | KServeError]]:
    """Runs flows side by side: the calls they wait for at the same time are in flight at the same time."""
    outcomes: list[Any] = [None] * len(flows)
    waiting: list[tuple[int, _Step]] = []

    def advance(at: int, move: Callable[[], _Step]) -> None:
        try:
            waiting.append((at, move()))
        except StopIteration as stop:
            outcomes[at] = stop.value
        except KServeError as error:
            outcomes[at] = error

    for at, flow in enumerate(flows):
        advance(at, partial(next, flow))
    while waiting:
        calls = [(at, step) for at, step in waiting if not isinstance(step, Parallel)]
        others = [(at, step) for at, step in waiting if isinstance(step, Parallel)]
        waiting.clear()
        answers: list[Any] = []
        if calls:
            answers = yield Parallel(calls=[call for _, call in calls], limit=limit)
        for (at, _), answer in zip(calls, answers, strict=True):
            move = flows[at].throw if isinstance(answer, KServeError) else flows[at].send
            advance(at, partial(move, answer))
        for at, step in others:
            advance(at, partial(flows[at].send, (yield step)))
    return outcomes


def _checked(result: core.TextResult, request: TextRequest) -> core.TextResult:
    if len(result.generations) != len(request.prompts):
        msg = f"The server answered {len(result.generations)} of {len(request.prompts)} prompts."
        raise BadResponseError(msg)
    return result


def run(exchange: Exchange[T], limit: int) -> Flow[T]:
    """Runs an exchange from within a flow, whichever kind it is, with at most so many of its requests at once."""
    if not isinstance(exchange, Generator):
        return (yield exchange)  # type: ignore[no-any-return]
    try:
        step = next(exchange)
        while True:
            try:
                answer = yield (replace(step, limit=limit) if isinstance(step, Parallel) else step)
            except KServeError as error:  # noqa: PERF203 - one turn per request
                step = exchange.throw(error)
            else:
                step = exchange.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _joined(results: Sequence[core.TextResult]) -> core.TextResult:
    if len(results) == 1:
        return results[0]
    return replace(
        results[0],
        generations=[generations for result in results for generations in result.generations],
        usage=add_usage(result.usage for result in results),
    )


def token_usage(usage: core.Usage | None) -> dict[str, Any]:
    """Token counts in the shape LangChain's cost and usage handlers read; empty when there are none."""
    if usage is None:
        return {}
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts


def to_llm_result(result: core.TextResult, model: str | None) -> LLMResult:
    """The whole answer; `model` is its name if the server wrote none."""
    output: dict[str, Any] = {"token_usage": token_usage(result.usage), "model_name": result.model or model}
    if result.id:
        output["id"] = result.id
    if result.system_fingerprint:
        output["system_fingerprint"] = result.system_fingerprint
    return LLMResult(
        generations=[[_to_generation(one) for one in choices] for choices in result.generations],
        llm_output=output,
    )


def _to_generation(one: core.Generation) -> Generation:
    info = _extra(one) | _info(one)
    if one.usage is not None:
        info["token_usage"] = token_usage(one.usage)
    return Generation(text=one.text, generation_info=info or None)


def to_chunk(piece: core.GenerationChunk) -> GenerationChunk:
    """One piece of a stream. What LangChain would add up or join when merging chunks is on one of them only."""
    info = _extra(piece) | _info(piece)
    if piece.model:
        info["model_name"] = piece.model
    if piece.id:
        info["id"] = piece.id
    if piece.usage is not None:
        info["token_usage"] = token_usage(piece.usage)
    return GenerationChunk(text=piece.text, generation_info=info or None)


def _info(one: core.Generation | core.GenerationChunk) -> dict[str, Any]:
    info: dict[str, Any] = {}
    if one.finish_reason is not None:
        info["finish_reason"] = one.finish_reason
    if one.stop_reason is not None:
        info["stop_reason"] = one.stop_reason
    if one.logprobs is not None:
        info["logprobs"] = one.logprobs
    if one.reasoning:
        info["reasoning"] = one.reasoning
    return info


def _extra(one: core.Generation | core.GenerationChunk) -> dict[str, Any]:
    """What the server said that has no name here."""
    return {name: value for name, value in (one.extra or {}).items() if value is not None}


def result_of_stream(chunks: Sequence[GenerationChunk], model: str | None) -> LLMResult:
    """The result a stream's chunks amount to, as if it had not been streamed."""
    info = merge_dicts({}, *(chunk.generation_info for chunk in chunks if chunk.generation_info))
    output: dict[str, Any] = {
        "token_usage": info.pop("token_usage", {}),
        "model_name": info.pop("model_name", None) or model,
    }
    if "id" in info:
        output["id"] = info.pop("id")
    text = "".join(chunk.text for chunk in chunks)
    return LLMResult(generations=[[Generation(text=text, generation_info=info or None)]], llm_output=output)
