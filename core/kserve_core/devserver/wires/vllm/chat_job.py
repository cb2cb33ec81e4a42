"""A chat request that was checked and answered, waiting to be written."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import orjson

from kserve_core.devserver.brain.conversation import Conversation
from kserve_core.devserver.wires.vllm.chat_request import ToolChoice
from kserve_core.devserver.wires.vllm.context import Context
from kserve_core.devserver.wires.vllm.output import Output
from kserve_core.devserver.wires.vllm.sampling import Sampling
from kserve_core.devserver.wires.vllm.usage import running, usage


@dataclass(slots=True)
class Job:
    """One chat exchange.

    Attributes:
        id: The answer's id.
        name: The model name to answer with.
        body: The request as sent.
        talk: Its messages and tools.
        sampling: Its sampling fields.
        choice: How tools may be used.
        prompt: Token ids of the whole prompt.
        cached: How many of them were cached, and how many are from now on.
        outputs: The generated choices.
        reasons: Whether a reasoning parser is at work.
        created: Unix time.
        context: The server it belongs to.
    """

    id: str
    name: str
    body: dict[str, Any]
    talk: Conversation
    sampling: Sampling
    choice: ToolChoice
    prompt: list[int]
    cached: tuple[int, int]
    outputs: list[Output]
    reasons: bool
    created: int
    context: Context

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices."""
        return sum(output.token_count for output in self.outputs)

    @property
    def wants_ids(self) -> bool:
        """Whether token ids are asked for."""
        return bool(self.body.get("return_token_ids"))

    @property
    def echoed(self) -> str:
        """The text in front of the answer: the final message when it is continued and echoed."""
        if self.body.get("echo") and self.talk.last.role == "assistant":
            return self.talk.last.text
        return ""

    def usage(self) -> dict[str, Any]:
        """The `usage` object of the whole answer."""
        cached, created = self.cached if self.context.settings.cached_tokens else (None, None)
        thought = sum(output.reasoning_count for output in self.outputs)
        return usage(
            len(self.prompt),
            self.completion_tokens,
            cached=cached,
            created=created,
            reasoning=thought if self.reasons else None,
        )

    def running_usage(self, completion: int, thought: int) -> dict[str, Any]:
        """The `usage` object in the middle of a stream."""
        details = {"reasoning_tokens": thought} if self.reasons else None
        return {**running(len(self.prompt), completion), "completion_tokens_details": details}

    def reasoning(self, text: str | None) -> dict[str, Any]:
        """The reasoning field, under the name the version has for it."""
        release = self.context.settings.release
        if release < (0, 12):
            return {"reasoning_content": text}
        if release < (0, 17):
            return {"reasoning": text, "reasoning_content": text}
        return {"reasoning": text}

    @property
    def shows_reasoning(self) -> bool:
        """Whether the caller wants to see reasoning."""
        return self.body.get("include_reasoning") is not False

    def finish_reason(self, output: Output, *, called: bool) -> str:
        """`tool_calls` for calls the model chose itself or had to choose; a named call ends with `stop`."""
        if called and self.choice.mode in {"auto", "required"}:
            return "tool_calls"
        return output.finish_reason


def whole_calls(output: Output) -> list[dict[str, Any]]:
    """The calls whose arguments were generated completely."""
    made: list[dict[str, Any]] = []
    for at in sorted({piece.call for piece in output.pieces if piece.call >= 0}):
        text = output.text("arguments", call=at)
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        function = {"name": output.text("name", call=at), "arguments": text}
        made.append({"id": call_id(), "type": "function", "function": function})
    return made


def call_id() -> str:
    """A tool call's id."""
    return f"chatcmpl-tool-{secrets.token_hex(8)}"
