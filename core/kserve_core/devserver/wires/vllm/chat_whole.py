"""The answer to a chat request that does not stream."""

from __future__ import annotations

from typing import Any

from kserve_core.devserver.wires.vllm.chat_job import Job, whole_calls
from kserve_core.devserver.wires.vllm.logprobs import chat_logprobs, prompt_logprobs
from kserve_core.devserver.wires.vllm.output import Output


def whole(job: Job) -> dict[str, Any]:
    """The response object."""
    wanted = job.body.get("prompt_logprobs", 0 if job.body.get("echo") else None)
    return {
        "id": job.id,
        "object": "chat.completion",
        "created": job.created,
        "model": job.name,
        "choices": [_choice(job, at, output) for at, output in enumerate(job.outputs)],
        "service_tier": None,
        "system_fingerprint": job.context.fingerprint,
        "usage": job.usage(),
        "prompt_logprobs": None if wanted is None else prompt_logprobs(job.prompt, wanted),
        "prompt_token_ids": job.prompt if job.wants_ids else None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _choice(job: Job, at: int, output: Output) -> dict[str, Any]:
    calls = whole_calls(output)
    logprobs = None
    if job.sampling.logprobs is not None:
        logprobs = {"content": chat_logprobs(output.pieces, job.sampling)}
    return {
        "index": at,
        "message": _message(job, output, calls),
        "logprobs": logprobs,
        "finish_reason": job.finish_reason(output, called=bool(calls)),
        "stop_reason": output.stop_reason,
        "token_ids": output.ids if job.wants_ids else None,
        "routed_experts": None,
    }


def _message(job: Job, output: Output, calls: list[dict[str, Any]]) -> dict[str, Any]:
    content: str | None = output.text("text")
    if any(piece.call >= 0 for piece in output.pieces) and not calls:
        content = output.text("text", "name", "arguments", "hidden")  # a call that was cut off stays markup
    reasoning = output.text("reasoning") or None
    if not content and calls:
        content = None if job.choice.mode == "auto" else ""
    elif not content and reasoning:
        content = None
    if job.echoed:
        content = job.echoed + (content or "")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if calls or job.context.settings.release <= (0, 20):
        message["tool_calls"] = calls
    return {**message, **job.reasoning(reasoning if job.shows_reasoning else None)}
