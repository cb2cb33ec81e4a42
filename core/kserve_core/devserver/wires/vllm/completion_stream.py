"""The events of a completion request that streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.wires.vllm.chat_stream import DONE, event
from kserve_core.devserver.wires.vllm.completion_job import Job
from kserve_core.devserver.wires.vllm.logprobs import completion_logprobs
from kserve_core.devserver.wires.vllm.output import Output
from kserve_core.devserver.wires.vllm.usage import without_nulls


async def events(job: Job) -> AsyncIterator[bytes]:
    """All events up to the end marker; the choices take turns."""
    pace = job.context.settings.pace
    base = {"id": job.id, "object": "text_completion", "created": job.created, "model": job.name}
    mark = {"system_fingerprint": job.context.fingerprint}
    made = 0
    waiting = [_steps(job, at, output) for at, output in enumerate(job.outputs)]
    while waiting:
        if pace:
            await asyncio.sleep(pace)
        for source in list(waiting):
            step = next(source, None)
            if step is None:
                waiting.remove(source)
                continue
            made += step[0]
            value: dict[str, Any] = {**base, "choices": [step[1]]}
            if job.sampling.usage_everywhere:
                value["usage"] = job.running_usage(made)
            if step[1]["finish_reason"] is not None and not job.sampling.usage_event:
                value.update(mark)
            yield event(value)
    if job.sampling.usage_event:
        yield event({**base, "choices": [], "usage": without_nulls(job.usage()), **mark})
    yield DONE


def _steps(job: Job, at: int, output: Output) -> Iterator[tuple[int, dict[str, Any]]]:
    """Token counts and choice objects of one choice; an echoed prompt comes with the first token."""
    offset = 0
    prompt = job.prompt_of(at)
    for piece in output.pieces:
        text, ids = piece.text, piece.ids
        opens, is_last = piece is output.pieces[0], piece is output.pieces[-1]
        if opens and job.echo:
            text, ids = tokens.decode(prompt) + text, prompt + ids
        choice: dict[str, Any] = {
            "index": at,
            "text": text,
            "logprobs": None,
            "finish_reason": output.finish_reason if is_last else None,
            "stop_reason": output.stop_reason if is_last else None,
            "prompt_token_ids": prompt if opens and (job.wants_ids or job.echo) else None,
            "token_ids": piece.ids if job.wants_ids else None,
        }
        if job.sampling.logprobs is not None:
            first_null = opens and job.echo
            choice["logprobs"] = completion_logprobs(ids, job.sampling, offset=offset, first_null=first_null)
        yield len(piece.ids), choice
        offset += len(text)
