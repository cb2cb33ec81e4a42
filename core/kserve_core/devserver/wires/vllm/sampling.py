"""Sampling parameters and the ranges the runtime accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.vllm.errors import ApiError, problem, schema_error, too_long, wrong_type

_RULES: tuple[tuple[str, Callable[[float], bool], str, bool], ...] = (
    ("temperature", lambda value: value >= 0, "non-negative", True),
    ("temperature", lambda value: value <= 2, "in [0, 2]", True),
    ("top_p", lambda value: 0 < value <= 1, "in (0, 1]", True),
    ("top_k", lambda value: value >= -1, "0 (disable), or at least 1", False),
    ("min_p", lambda value: 0 <= value <= 1, "in [0, 1]", False),
    ("presence_penalty", lambda value: -2 <= value <= 2, "in [-2, 2]", False),
    ("frequency_penalty", lambda value: -2 <= value <= 2, "in [-2, 2]", False),
    ("repetition_penalty", lambda value: value > 0, "greater than zero", False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The part of a request that shapes the output, checked."""

    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None
    token_id_names: bool = False
    stream: bool = False
    usage_event: bool = False
    usage_everywhere: bool = False


def read(body: Mapping[str, Any], settings: Settings, *, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """Check a request's sampling fields.

    Raises:
        ApiError: A value is out of range.
    """
    _ranges(body)
    _prompt_logprobs(body.get("prompt_logprobs"), settings, stream=bool(body.get("stream")))
    stop = body.get("stop") or []
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > 4 and settings.release >= (0, 32):
        text = f"List should have at most 4 items after validation, not {len(stops)}"
        raise schema_error(
            problem("string_type", ("body", "stop"), "Input should be a valid string", list(stops)),
            problem("too_long", ("body", "stop"), text, list(stops)),
        )
    if "" in stops:
        msg = "stop cannot contain an empty string."
        raise ApiError(msg)
    n = int(body.get("n") or 1) if body.get("n") != 0 else 0
    if n < 1:
        msg = f"n must be at least 1, got {n}."
        raise ApiError(msg)
    if n > 1 and body.get("temperature") == 0 and not body.get("use_beam_search"):
        msg = f"n must be 1 when using greedy sampling, got {n}."
        raise ApiError(msg)
    stream = bool(body.get("stream"))
    options = body.get("stream_options")
    if options is not None and not stream:
        msg = "Stream options can only be defined when `stream=True`."
        raise ApiError(msg, param="stream_options")
    options = options or {}
    usage_event = bool(options.get("include_usage"))
    least = int(body.get("min_tokens") or 0)
    if least < 0:
        msg = f"min_tokens must be greater than or equal to 0, got {least}."
        raise ApiError(msg)
    if max_tokens is not None and max_tokens > 0 and least > max_tokens:
        msg = f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {least}."
        raise ApiError(msg)
    return Sampling(
        n=n,
        max_tokens=max_tokens,
        min_tokens=least,
        stop=stops,
        stop_token_ids=tuple(body.get("stop_token_ids") or ()),
        include_stop=bool(body.get("include_stop_str_in_output")),
        ignore_eos=bool(body.get("ignore_eos")),
        logprobs=logprobs,
        token_id_names=bool(body.get("return_tokens_as_token_ids")),
        stream=stream,
        usage_event=usage_event or (stream and settings.force_usage),
        usage_everywhere=bool(usage_event and options.get("continuous_usage_stats"))
        or (stream and settings.force_usage),
    )


def check_logprobs(wanted: int | None, settings: Settings) -> None:
    """Check how many alternatives are asked for.

    Raises:
        ApiError: More than the server gives, or a negative number.
    """
    if wanted is not None and not 0 <= wanted <= settings.max_logprobs:
        msg = f"Requested sample logprobs of {wanted}, which is greater than max allowed: {settings.max_logprobs}"
        raise ApiError(msg, param="logprobs", value=wanted)


def _prompt_logprobs(wanted: Any, settings: Settings, *, stream: bool) -> None:
    if wanted is None:
        return
    if stream:
        msg = "`prompt_logprobs` are not available when `stream=True`."
        raise ApiError(msg, param="prompt_logprobs")
    if not isinstance(wanted, int) or not -1 <= wanted <= settings.max_logprobs:
        msg = f"Requested prompt logprobs of {wanted}, which is greater than max allowed: {settings.max_logprobs}"
        raise ApiError(msg, param="prompt_logprobs", value=wanted)


def _ranges(body: Mapping[str, Any]) -> None:
    for field, fits, rule, named in _RULES:
        value = body.get(field)
        if value is not None and not fits(value):
            shown = int(value) if field == "top_k" else float(value)
            msg = f"{field} must be {rule}, got {shown}."
            raise ApiError(msg, param=field if named else None, value=shown)
    _biases(body.get("logit_bias") or {})
    for at, number in enumerate(body.get("stop_token_ids") or ()):
        if not isinstance(number, int):
            raise wrong_type(("body", "stop_token_ids", at), "integer", number)


def _biases(given: Mapping[str, Any]) -> None:
    wrong = [key for key in given if not key.lstrip("-").isdigit()]
    if wrong:
        msg = f"logit_bias contains key(s) that cannot be converted to integer token IDs: {wrong}"
        raise ApiError(msg, param="logit_bias", value=wrong)
    outside = [int(key) for key in given if not 0 <= int(key) < tokens.VOCABULARY_SIZE]
    if outside:
        msg = (
            f"token_id(s) {outside} in logit_bias contain out-of-vocab token ids. "
            f"Vocabulary size: {tokens.VOCABULARY_SIZE}"
        )
        raise ApiError(msg, param="logit_bias", value=outside)


def room(prompt: int, wanted: int | None, limit: int, settings: Settings, *, field: str = "max_tokens") -> int:
    """Tokens that may be generated behind a prompt.

    Raises:
        ApiError: The prompt, or what was asked for, does not fit.
    """
    if wanted is not None and wanted < 1:
        msg = f"max_tokens must be at least 1, got {wanted}."
        raise ApiError(msg, param="max_tokens", value=wanted)
    if prompt >= limit:
        raise too_long(limit, prompt, requested=wanted or 0)
    if wanted is None:
        return limit - prompt
    if wanted > limit:
        msg = f"{field}={wanted} cannot be greater than max_model_len={limit}. Please request fewer output tokens."
        raise ApiError(msg, param=field, value=wanted)
    if prompt + wanted > limit and settings.release < (0, 32):
        raise too_long(limit, prompt, requested=wanted)
    return min(wanted, limit - prompt)
