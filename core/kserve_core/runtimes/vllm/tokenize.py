"""Tokens of texts and of conversations, as the served model sees them."""

from __future__ import annotations

from typing import Any

from kserve_core._json import decode_object, unexpected
from kserve_core.calls import Response
from kserve_core.capabilities import ChatRequest
from kserve_core.runtimes.vllm.chat import wire_messages
from kserve_core.runtimes.vllm.params import wire_params
from kserve_core.types import Tokenization

_WHAT = "a list of tokens"
_TEXT = "a text"

_TEMPLATE_FIELDS = (
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "media_io_kwargs",
)


def messages_body(request: ChatRequest, *, model: str | None) -> dict[str, Any]:
    """The body that asks for a conversation's tokens: what the chat template sees of a chat request."""
    body: dict[str, Any] = {"messages": wire_messages(request.messages)}
    if model:
        body["model"] = model
    if request.tools:
        body["tools"] = list(request.tools)
    wanted = {name: value for name, value in request.params.items() if name in _TEMPLATE_FIELDS}
    body.update(wire_params("chat", wanted))
    body.update({name: value for name, value in request.extra_body.items() if name in _TEMPLATE_FIELDS})
    return body


def read_tokens(response: Response) -> Tokenization:
    """Reads the answer of `/tokenize`.

    Raises:
        BadResponseError: If it is something else.
    """
    raw = decode_object(response, _WHAT)
    count, ids = raw.get("count"), raw.get("tokens")
    if type(count) is not int or not isinstance(ids, list):
        raise unexpected(_WHAT, "it has no `count` or no `tokens`", status=response.status)
    return Tokenization(count, ids, tokens=raw.get("token_strs"), max_model_len=raw.get("max_model_len"))


def read_text(response: Response) -> str:
    """Reads the answer of `/detokenize`.

    Raises:
        BadResponseError: If it is something else.
    """
    text = decode_object(response, _TEXT).get("prompt")
    if not isinstance(text, str):
        raise unexpected(_TEXT, "it has no `prompt`", status=response.status)
    return text
