"""Token counts, exact because the server makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, get_buffer_string

from kserve_core import errors as core
from kserve_core.calls import Exchange
from kserve_core.capabilities import ChatRequest, TokenizerRuntime
from kserve_core.types import Tokenization
from langchain_kserve._connection import KServeConnection
from langchain_kserve._errors import UnsupportedParameterError, to_langchain
from langchain_kserve._tools import to_openai_tools

_HINT = (
    "Set custom_get_token_ids to the encode function of the model's tokenizer, or estimate with "
    "langchain_core.messages.utils.count_tokens_approximately."
)


def tokenize(model: KServeConnection, text: str) -> Tokenization:
    """The tokens of a text alone, without the special tokens a prompt begins with."""
    runtime = _tokenizer(model)
    name = getattr(model, "model", None)
    return _run(model, runtime.tokenize(text, model=name, add_special_tokens=False))


def tokenize_messages(model: KServeConnection, request: ChatRequest) -> Tokenization:
    """The tokens of a conversation as the model would see it."""
    return _run(model, _tokenizer(model).tokenize_messages(request))


def count_locally(
    messages: Sequence[BaseMessage], tools: Sequence[Any] | None, encode: Callable[[str], list[int]]
) -> int:
    """The tokens of messages and tools written out as text."""
    count = sum(len(encode(get_buffer_string([message]))) for message in messages)
    if tools:
        count += sum(len(encode(json.dumps(tool, ensure_ascii=False))) for tool in to_openai_tools(tools))
    return count


def _tokenizer(model: KServeConnection) -> TokenizerRuntime:
    runtime = model._get_client().runtime
    if not isinstance(runtime, TokenizerRuntime):
        msg = f"{model._declaration.label} does not count tokens."
        raise UnsupportedParameterError(msg, hint=_HINT)
    return runtime


def _run(model: KServeConnection, exchange: Exchange[Tokenization]) -> Tokenization:
    try:
        return model._run(exchange)
    except core.ModelNotFoundError:
        raise
    except core.NotFoundError as error:
        details = {**error.details(), "hint": _HINT}
        msg = f"This endpoint does not offer to count tokens. {error.message}"
        raise to_langchain(core.NotFoundError(msg, **details)) from error
