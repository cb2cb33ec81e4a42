"""Whole answers to one or more prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kserve_core.errors import BadResponseError, ServerError
from kserve_core.protos import messages
from kserve_core.runtimes.tgis.details import FINISH_REASONS, logprobs_of, stop_reason_name, trimmed, usage_of
from kserve_core.types import Generation, TextResult, Usage

CANCELLED_HINT = "The server gave the request up, as it does when it is shut down or overloaded; its log tells."


def read_generations(
    response: messages.fmaas.BatchedGenerationResponse,
    *,
    prompts: int,
    stops: Sequence[str] = (),
    keep_stop: bool = False,
    model: str | None = None,
) -> TextResult:
    """Reads the answer to a batch.

    Args:
        response: The server's answer.
        prompts: How many prompts were sent.
        stops: The stop texts that were asked for.
        keep_stop: Whether the one that matched belongs to the text.
        model: The model's name; the server does not tell.

    Raises:
        BadResponseError: If completions are missing or not finished.
        ServerError: If the server failed at one of them.
    """
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    answers = list(response.responses)
    if len(answers) != prompts:
        msg = f"{len(answers)} completions came where {prompts} were expected."
        raise BadResponseError(msg, hint="The server, or something in front of it, does not take batches.")
    generations = [[_generation(answer, stops, keep_stop=keep_stop)] for answer in answers]
    total = Usage()
    for answer in answers:
        total.prompt_tokens += answer.input_token_count
        total.completion_tokens += answer.generated_token_count
    total.total_tokens = total.prompt_tokens + total.completion_tokens
    raw = MessageToDict(response, preserving_proto_field_name=True)
    return TextResult(generations=generations, usage=total, model=model, raw=raw)


def _generation(answer: messages.fmaas.GenerationResponse, stops: Sequence[str], *, keep_stop: bool) -> Generation:
    reason = stop_reason_name(answer.stop_reason)
    check_end(reason, answer.text)
    return Generation(
        text=trimmed(answer.text, reason, answer.stop_sequence, stops, keep=keep_stop),
        finish_reason=FINISH_REASONS.get(reason, reason.lower()),
        stop_reason=answer.stop_sequence or None if reason == "STOP_SEQUENCE" else None,
        logprobs=logprobs_of(answer.tokens),
        usage=usage_of(answer.input_token_count, answer.generated_token_count),
        extra=_extra(answer, reason),
    )


def check_end(reason: str, text: str) -> None:
    """Raises unless an answer ended in one of the ways that make it complete."""
    if reason == "NOT_FINISHED":
        msg = "The server returned an answer that is not finished."
        raise BadResponseError(msg, partial_text=text)
    if reason == "CANCELLED":
        msg = "The server cancelled the request before the answer was complete."
        raise ServerError(msg, hint=CANCELLED_HINT, partial_text=text)
    if reason == "ERROR":
        msg = "The server failed in the middle of the answer."
        raise ServerError(msg, hint="The reason is in the model server's log.", partial_text=text)


def _extra(answer: messages.fmaas.GenerationResponse, reason: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"server_finish_reason": reason}
    if answer.seed:
        extra["seed"] = answer.seed
    prompt = logprobs_of(answer.input_tokens, first_bare=True)
    if prompt is not None:
        extra["prompt_logprobs"] = prompt
    return extra
