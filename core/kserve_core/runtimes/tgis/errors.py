"""What the service's error statuses mean, beyond what any server's would.

They carry nothing machine-readable but the code and a sentence, so the sentences are what is told apart.
"""

from __future__ import annotations

import re

from kserve_core import hints
from kserve_core.calls import GrpcFailure
from kserve_core.error_bodies import tidy
from kserve_core.errors import (
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    RateLimitError,
    ServerError,
)

# What Python's gRPC server makes of an exception nobody caught.
_UNCAUGHT = re.compile(r"^Unexpected <class '([\w.<>]+)'>: ?(.*)", re.DOTALL)
_SERVER_AT_FAULT = re.compile(
    r"Engine|RuntimeError|OutOfMemory|MemoryError|Timeout|Connection|Cancelled|Assertion|OSError"
)
_OVERFLOW = re.compile(
    r"input tokens \(\d*\).*must be <|longer than the maximum model length|maximum context length|max_model_len",
    re.IGNORECASE | re.DOTALL,
)

_OVERFLOW_HINT = (
    "Send less, ask for fewer tokens, or set truncate_prompt_tokens; model_info() tells the context window."
)

_HINTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"max_new_tokens must be <=", "Set max_tokens lower; model_info() tells the server's limit."),
        (r"min_new_tokens must be <=", "Set min_tokens lower, or max_tokens higher."),
        (
            r"no adapter store",
            (
                "The server was started without adapters: leave adapter_id and prefix_id out, or have it started with "
                "an adapter directory."
            ),
        ),
        (r"adapter|prefix", "adapter_id and prefix_id name folders of the server's adapter directory."),
        (r"stop sequences", "Six stop sequences of 240 bytes each are the limit; a chat template's own count too."),
        (
            r"logits? ?processor",
            "This server's engine has neither typical_p nor length_penalty: use top_p and repetition_penalty.",
        ),
        (r"temperature", "Servers sample with temperatures from 0.05 to 2; temperature=0 is greedy."),
        (r"extra token detail", "Log-probabilities and ranks need logprobs=True or prompt_logprobs."),
        (r"prompt (is|cannot be|must not be) empty|empty prompt|cannot be empty", "Send a prompt that is not empty."),
        (r"schema|json", "The server's guided decoding does not take this JSON Schema; simplify it."),
        (r"regex|pattern|grammar", "The server's guided decoding does not take this pattern or grammar."),
        (r"missing request", "The request held no prompt."),
    )
)


def explain(failure: GrpcFailure) -> KServeError | None:
    """Reads a status; None leaves it to the general rules."""
    if failure.code == "RESOURCE_EXHAUSTED":
        return _exhausted(failure)
    if failure.code not in {"INVALID_ARGUMENT", "UNKNOWN", "OUT_OF_RANGE", "FAILED_PRECONDITION"}:
        return None
    said, kind = failure.details, ""
    if (match := _UNCAUGHT.match(said)) is not None:
        kind, said = match[1].rpartition(".")[2], match[2]
    elif failure.code == "UNKNOWN":
        return None
    said = tidy(said)
    message = f"{failure.code}: {said or kind or 'no explanation'}"
    if _OVERFLOW.search(said):
        return ContextOverflowError(
            message,
            hint=_OVERFLOW_HINT,
            layer="model",
            server_message=said,
        )
    if kind and _SERVER_AT_FAULT.search(kind):
        return ServerError(message, hint=hints.SERVER_FAILED, server_message=said)
    hint = next((hint for pattern, hint in _HINTS if pattern.search(said)), "")
    return InvalidRequestError(message, hint=hint, server_message=said)


def _exhausted(failure: GrpcFailure) -> KServeError | None:
    said = tidy(failure.details)
    if "overloaded" in said.lower():
        return RateLimitError(f"{failure.code}: {said}", hint=hints.RATE_LIMITED, server_message=said)
    if re.search(r"\bmemory\b", said, re.IGNORECASE):
        hint = "The model's device has no memory left for this request: send fewer or shorter prompts at once."
        return ServerError(f"{failure.code}: {said}", hint=hint, server_message=said)
    return None
