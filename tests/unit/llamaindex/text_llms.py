"""Shared by the tests of LlamaIndex's text-only classes: the eight endpoints under one call."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage

CHAT_FORMS = ["chat", "stream_chat", "achat", "astream_chat"]
COMPLETION_FORMS = ["complete", "stream_complete", "acomplete", "astream_complete"]
FORMS = CHAT_FORMS + COMPLETION_FORMS
COUNTED = "one two three four five six seven eight nine ten."


async def ask(llm: Any, form: str, prompt: Any = "Count to ten.", **kwargs: Any) -> list[Any]:
    """All responses of an endpoint."""
    content = [ChatMessage(prompt)] if "chat" in form and isinstance(prompt, str) else prompt
    result = getattr(llm, form)(content, **kwargs)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return [result]
    return [item async for item in result] if form.startswith("a") else list(result)


def text_of(response: Any) -> str:
    """A response's text, of a chat or of a completion."""
    return (response.message.content or "") if hasattr(response, "message") else response.text


async def collect(llm: Any, form: str, texts: list[str]) -> None:
    """Puts a stream's pieces into the list as they come."""
    content = [ChatMessage("Count to ten.")] if "chat" in form else "Count to ten."
    result = getattr(llm, form)(content)
    if form.startswith("a"):
        async for response in await result:
            texts.append(response.delta)
        return
    for response in result:
        texts.append(response.delta)
