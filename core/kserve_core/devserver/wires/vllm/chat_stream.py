"""The events of a chat request that streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kserve_core.devserver.wires.vllm.chat_job import Job, call_id
from kserve_core.devserver.wires.vllm.logprobs import chat_logprobs
from kserve_core.devserver.wires.vllm.output import Output, Piece
from kserve_core.devserver.wires.vllm.usage import without_nulls

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


@dataclass(slots=True)
class Step:
    """One generated token (or a few): what it adds, and the choice to show for it, if any."""

    tokens: int
    thinking: int
    choice: dict[str, Any] | None
    is_last: bool


async def events(job: Job) -> AsyncIterator[bytes]:
    """All events, from the role to the end marker; the choices take turns."""
    pace = job.context.settings.pace
    base = {"id": job.id, "object": "chat.completion.chunk", "created": job.created, "model": job.name}
    mark = {"system_fingerprint": job.context.fingerprint}
    made = thought = 0

    def wrap(choice: dict[str, Any], extra: dict[str, Any] | None = None) -> bytes:
        value = {**base, "choices": [choice]}
        if job.sampling.usage_everywhere:
            value["usage"] = job.running_usage(made, thought)
        return event({**value, **extra} if extra else value)

    for at in range(len(job.outputs)):
        opening = _bare(at, {"role": "assistant", "content": ""})
        yield wrap(opening, {"prompt_token_ids": job.prompt if job.wants_ids else None, "prompt_text": None})
    if job.echoed:
        yield wrap(_bare(0, {"content": job.echoed}))
    waiting = [_steps(job, at, output) for at, output in enumerate(job.outputs)]
    while waiting:
        if pace:
            await asyncio.sleep(pace)
        for source in list(waiting):
            step = next(source, None)
            if step is None:
                waiting.remove(source)
                continue
            made += step.tokens
            thought += step.thinking
            if step.choice is not None:
                yield wrap(step.choice, mark if step.is_last and not job.sampling.usage_event else None)
    if job.sampling.usage_event:
        yield event({**base, "choices": [], "usage": without_nulls(job.usage()), **mark})
    yield DONE


def _steps(job: Job, at: int, output: Output) -> Iterator[Step]:
    """What is shown for every piece of one choice; the last one carries the end."""
    named: set[int] = set()
    for piece in output.pieces:
        is_last = piece is output.pieces[-1]
        delta = _delta(job, output, piece, named)
        choice = None
        if is_last:
            choice = _choice(job, at, _closed(delta), piece)
            called = output.finish_reason == "stop" and bool(named)
            choice["finish_reason"] = job.finish_reason(output, called=called)
            choice["stop_reason"] = output.stop_reason
            choice["token_ids"] = choice.pop("token_ids")
        elif delta is not None:
            choice = _choice(job, at, delta, piece)
        yield Step(len(piece.ids), len(piece.ids) if piece.kind == "reasoning" else 0, choice, is_last)


def _closed(delta: dict[str, Any] | None) -> dict[str, Any]:
    """The delta of the last event; a call that only got its name is given empty arguments."""
    for call in (delta or {}).get("tool_calls", ()):
        call["function"].setdefault("arguments", "{}")
    return delta or {}


def _delta(job: Job, output: Output, piece: Piece, named: set[int]) -> dict[str, Any] | None:
    """The delta for a piece, or None when it shows nothing."""
    if piece.kind == "text":
        return {"content": piece.text} if piece.text else None
    if piece.kind == "reasoning":
        return job.reasoning(piece.text) if piece.text and job.shows_reasoning else None
    if piece.kind == "arguments":
        return {"content": None, "tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    if piece.kind == "hidden" and piece.call >= 0 and piece.call not in named and output.spelled(piece):
        named.add(piece.call)
        function = {"name": output.text("name", call=piece.call)}
        opening = {"id": call_id(), "type": "function", "index": piece.call, "function": function}
        return {"content": None, "tool_calls": [opening]}
    return None


def _bare(at: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": at, "delta": delta, "logprobs": None, "finish_reason": None}


def _choice(job: Job, at: int, delta: dict[str, Any], piece: Piece) -> dict[str, Any]:
    choice = _bare(at, delta)
    if job.sampling.logprobs is not None:
        choice["logprobs"] = {"content": chat_logprobs([piece], job.sampling)}
    choice["token_ids"] = piece.ids if job.wants_ids else None
    return choice
