"""What the service tells about its model, and how it counts tokens."""

from __future__ import annotations

from kserve_core.errors import BadResponseError
from kserve_core.protos import messages
from kserve_core.types import ModelInfo, Tokenization


def read_model_info(response: messages.fmaas.ModelInfoResponse, *, model: str | None) -> ModelInfo:
    """Reads the answer to `ModelInfo`; the service serves one model and does not tell its name.

    `extra` has `max_new_tokens` (the most tokens one request may ask for) and `model_kind` (`decoder_only` or
    `encoder_decoder`).
    """
    kinds = messages.fmaas.ModelInfoResponse.ModelKind
    kind = kinds.Name(response.model_kind) if response.model_kind in kinds.values() else str(response.model_kind)
    return ModelInfo(
        id=model or "",
        max_model_len=response.max_sequence_length or None,
        kind="generate",
        extra={"model_kind": kind.lower(), "max_new_tokens": response.max_new_tokens or None},
    )


def tokenize_request(
    texts: list[str], *, model: str | None, adapter_id: str | None, prefix_id: str | None
) -> messages.fmaas.BatchedTokenizeRequest:
    """Asks for the tokens of texts."""
    request = messages.fmaas.BatchedTokenizeRequest(
        requests=[messages.fmaas.TokenizeRequest(text=text) for text in texts], return_tokens=True
    )
    if model:
        request.model_id = model
    if adapter_id:
        request.adapter_id = adapter_id
    if prefix_id:
        request.prefix_id = prefix_id
    return request


def read_tokens(response: messages.fmaas.BatchedTokenizeResponse, *, bare: bool) -> Tokenization:
    """Reads the tokens of the first text; the service has no token ids to give.

    Args:
        response: The answer to `Tokenize`.
        bare: Whether a second, empty text was sent. Its tokens are what the tokenizer puts around every text; they
            are left out of the result.

    Raises:
        BadResponseError: If texts are missing.
    """
    answers = list(response.responses)
    if len(answers) != 1 + bare:
        msg = f"The tokens of {len(answers)} texts came where {1 + bare} were sent."
        raise BadResponseError(msg)
    count, tokens = answers[0].token_count, list(answers[0].tokens)
    if bare and answers[1].token_count:
        around = list(answers[1].tokens)
        count = max(0, count - answers[1].token_count)
        tokens = _without(tokens, around)
    return Tokenization(count, tokens=tokens if len(tokens) == count else None)


def _without(tokens: list[str], around: list[str]) -> list[str]:
    """The tokens without those at the start and the end that an empty text has as well."""
    start = 0
    while start < len(around) and start < len(tokens) and tokens[start] == around[start]:
        start += 1
    end = len(around) - start
    if end and tokens[-end:] == around[start:]:
        return tokens[start:-end]
    return tokens[start:]
