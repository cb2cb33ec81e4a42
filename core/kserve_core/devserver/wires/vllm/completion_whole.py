"""The answer to a completion request that does not stream."""

from __future__ import annotations

from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.wires.vllm.completion_job import Job
from kserve_core.devserver.wires.vllm.logprobs import completion_logprobs, prompt_logprobs
from kserve_core.devserver.wires.vllm.output import Output


def whole(job: Job) -> dict[str, Any]:
    """The response object."""
    return {
        "id": job.id,
        "object": "text_completion",
        "created": job.created,
        "model": job.name,
        "choices": [_choice(job, at, output) for at, output in enumerate(job.outputs)],
        "service_tier": None,
        "system_fingerprint": job.context.fingerprint,
        "usage": job.usage(),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _choice(job: Job, at: int, output: Output) -> dict[str, Any]:
    prompt = job.prompt_of(at)
    logprobs = None
    if job.sampling.logprobs is not None:
        shown = prompt + output.ids if job.echo else output.ids
        logprobs = completion_logprobs(shown, job.sampling, offset=0, first_null=job.echo)
    wanted = job.body.get("prompt_logprobs", job.sampling.logprobs if job.echo else None)
    return {
        "index": at,
        "text": (tokens.decode(prompt) if job.echo else "") + output.raw,
        "logprobs": logprobs,
        "finish_reason": output.finish_reason,
        "stop_reason": output.stop_reason,
        "token_ids": output.ids if job.wants_ids else None,
        "prompt_logprobs": None if wanted is None else prompt_logprobs(prompt, wanted),
        "prompt_token_ids": prompt if job.wants_ids else None,
        "routed_experts": None,
    }
