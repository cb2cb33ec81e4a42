"""Token counts, exact because the server makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, get_buffer_string

from kserve_core import errors as core
from kserve_core.calls import Exchange
from kserve_core.capabilities import TokenizerRuntime
from kserve_core.types import Tokenization
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import UnsupportedParameterError, to_langchain, translated
from langchain_kserve._tools import to_openai_tools

_HINT = (
    "Set custom_get_token_ids to the encode function of the model's tokenizer, or estimate with "
    "langchain_core.messages.utils.count_tokens_approximately."
)


def tokenize(model: KServeConnection, text: str, *, special: bool = False) -> Tokenization:
    """The tokens of a text, with or without the special tokens a prompt begins with."""
    runtime = tokenizer(model, model._get_client().runtime)
    with translated:
        exchange = runtime.tokenize(text, model=getattr(model, "model", None), add_special_tokens=special)
    return run(model, exchange)


def ids(model: KServeConnection, tokens: Tokenization) -> list[int]:
    """The tokens' ids.

    Raises:
        UnsupportedParameterError: If the runtime tells their number only.
    """
    if tokens.count and not tokens.token_ids:
        msg = f"{model._declaration.label} counts tokens, but does not tell their ids."
        raise UnsupportedParameterError(msg, hint=_HINT)
    return tokens.token_ids


def count_locally(
    messages: Sequence[BaseMessage], tools: Sequence[Any] | None, encode: Callable[[str], list[int]]
) -> int:
    """The tokens of messages and tools written out as text."""
    count = sum(len(encode(get_buffer_string([message]))) for message in messages)
    if tools:
        count += sum(len(encode(json.dumps(tool, ensure_ascii=False))) for tool in to_openai_tools(tools))
    return count


def tokenizer(model: KServeConnection, counting: Any) -> Any:
    """What counts a model's tokens.

    Args:
        model: The model.
        counting: What answers its conversations or completes its prompts.

    Raises:
        UnsupportedParameterError: If its runtime does not count.
    """
    if not isinstance(model._get_client().runtime, TokenizerRuntime):
        msg = f"{model._declaration.label} does not count tokens."
        raise UnsupportedParameterError(msg, hint=_HINT)
    return counting


def run(model: KServeConnection, exchange: Exchange[Tokenization]) -> Tokenization:
    """Counts; an endpoint that does not offer to is an error that says what to do."""
    try:
        return model._run(exchange)
    except core.ModelNotFoundError:
        raise
    except core.NotFoundError as error:
        details = {**error.details(), "hint": _HINT}
        msg = f"This endpoint does not offer to count tokens. {error.message}"
        raise to_langchain(core.NotFoundError(msg, **details)) from error
