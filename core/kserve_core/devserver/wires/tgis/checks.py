"""What the service refuses, in its own words."""

from __future__ import annotations

from typing import NoReturn

from kserve_core.devserver.grpc_exchange import GrpcStatus
from kserve_core.devserver.settings import Settings
from kserve_core.protos import messages

MAX_NEW_TOKENS = 1024
_MAX_STOPS, _MAX_STOP_BYTES, _MAX_TOP = 6, 240, 10


def refuse(details: str) -> NoReturn:
    """A refusal the service thought of."""
    raise GrpcStatus(code="INVALID_ARGUMENT", details=details)


def crash(details: str, kind: str = "ValueError") -> NoReturn:
    """An exception it did not think of: what Python's gRPC server makes of one."""
    raise GrpcStatus(code="UNKNOWN", details=f"Unexpected <class '{kind}'>: {details}")


def check_parameters(params: messages.fmaas.Parameters) -> None:
    """Checks everything but the prompts.

    Raises:
        GrpcStatus: A value is out of range.
    """
    _check_stopping(params.stopping)
    _check_sampling(params.sampling)
    decoding, response = params.decoding, params.response
    if decoding.repetition_penalty and not 0 < decoding.repetition_penalty <= 2:
        refuse("repetition_penalty must be in the range (0.0, 2.0]")
    if decoding.HasField("length_penalty"):
        if not 1 <= decoding.length_penalty.decay_factor <= 10:
            refuse("length_penalty decay_factor must be in the range [1.0, 10.0]")
        crash("this engine has no logits processors per request")
    detailed = response.token_logprobs or response.token_ranks or response.top_n_tokens
    if detailed and not (response.input_tokens or response.generated_tokens):
        refuse("must request input and/or generated tokens to request extra token detail")
    if response.top_n_tokens > _MAX_TOP:
        refuse(f"top_n_tokens ({response.top_n_tokens}) must be <= {_MAX_TOP}")


def check_adapters(settings: Settings, request: messages.fmaas.BatchedGenerationRequest) -> None:
    """Checks the adapter a request names; the served adapters are the models that have a parent.

    Raises:
        GrpcStatus: There is no such adapter.
    """
    store = {model.name for model in settings.models if model.parent}
    for field in ("adapter_id", "prefix_id"):
        name = getattr(request, field)
        if not name:
            continue
        if not store:
            refuse(f"{field} supplied but no adapter store was configured")
        if name not in store:
            refuse(f"adapter {name} could not be found")


def room(prompt: int, params: messages.fmaas.Parameters, window: int) -> tuple[int, bool]:
    """How many tokens may be generated behind a prompt, and whether that is the server's own limit.

    Raises:
        GrpcStatus: The prompt does not fit.
    """
    stopping = params.stopping
    if prompt >= window:
        refuse(f"input tokens ({prompt}) plus prefix length (0) must be < {window}")
    if prompt + stopping.min_new_tokens > window:
        refuse(
            f"input tokens ({prompt}) plus prefix length (0) plus min_new_tokens ({stopping.min_new_tokens}) "
            f"must be <= {window}"
        )
    wanted, left = stopping.max_new_tokens, window - prompt
    if not wanted:
        return min(MAX_NEW_TOKENS, left), True
    return min(wanted, left), wanted > left


def _check_stopping(stopping: messages.fmaas.StoppingCriteria) -> None:
    if stopping.max_new_tokens > MAX_NEW_TOKENS:
        refuse(f"max_new_tokens must be <= {MAX_NEW_TOKENS}")
    if stopping.min_new_tokens > (stopping.max_new_tokens or MAX_NEW_TOKENS):
        refuse("min_new_tokens must be <= max_new_tokens")
    stops = list(stopping.stop_sequences)
    if len(stops) > _MAX_STOPS or any(not 0 < len(stop.encode()) <= _MAX_STOP_BYTES for stop in stops):
        refuse(
            f"can specify at most {_MAX_STOPS} non-empty stop sequences, "
            f"each not more than {_MAX_STOP_BYTES} UTF8 bytes"
        )


def _check_sampling(sampling: messages.fmaas.SamplingParameters) -> None:
    if sampling.temperature < 0:
        crash(f"temperature must be non-negative, got {sampling.temperature}.")
    if sampling.top_p and not 0 < sampling.top_p <= 1:
        refuse("top_p must be in the range (0.0, 1.0]")
    if sampling.typical_p:
        if not 0 < sampling.typical_p <= 1:
            refuse("typical_p must be in the range (0.0, 1.0]")
        if sampling.typical_p < 1:
            crash("this engine has no logits processors per request")
