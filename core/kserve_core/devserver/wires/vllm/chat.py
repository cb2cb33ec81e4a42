"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from kserve_core.devserver.brain.answers import answer
from kserve_core.devserver.brain.conversation import Answer, Conversation
from kserve_core.devserver.brain.tools import best_tool, forced_call
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.vllm import fields
from kserve_core.devserver.wires.vllm.chat_job import Job
from kserve_core.devserver.wires.vllm.chat_request import ToolChoice, conversation, prompt_ids, tool_choice
from kserve_core.devserver.wires.vllm.chat_stream import events
from kserve_core.devserver.wires.vllm.chat_whole import whole
from kserve_core.devserver.wires.vllm.constraints import constrained
from kserve_core.devserver.wires.vllm.context import Context, answer_id
from kserve_core.devserver.wires.vllm.errors import ApiError
from kserve_core.devserver.wires.vllm.generation import generate
from kserve_core.devserver.wires.vllm.output import Segment, call_segments, segments
from kserve_core.devserver.wires.vllm.sampling import check_logprobs, read, room


class Chat:
    """The chat endpoint."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Reply | StreamReply:
        """Answer one request, whole or as a stream."""
        job = self._job(request)
        if job.sampling.stream:
            return StreamReply(events(job))
        if self._context.settings.pace:
            await asyncio.sleep(self._context.settings.pace * max(output.token_count for output in job.outputs))
        return json_reply(whole(job))

    def _job(self, request: Request) -> Job:
        context, settings = self._context, self._context.settings
        body = fields.body_of(request)
        fields.check(body, fields.CHAT, required=("messages",))
        model, name = context.model(body)
        talk = conversation(body)
        choice = tool_choice(body, talk.tools, settings)
        field = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
        wanted = None if body.get(field) is None else int(body[field])
        sampling = read(body, settings, max_tokens=wanted, logprobs=self._logprobs(body))
        prompt = prompt_ids(body, talk)
        limit = room(len(prompt), wanted, model.max_model_len, settings, field=field)
        text = constrained(body, _said(talk), settings) if choice.mode in {"none", "auto"} else None
        found = self._answer(body, model, talk, choice, text)
        runs = segments(found)
        if choice.mode in {"required", "named"}:
            runs = [run for at, call in enumerate(found.calls) for run in call_segments(at, call)]
        return Job(
            id=answer_id("chatcmpl", request, body),
            name=name,
            body=body,
            talk=talk,
            sampling=sampling,
            choice=choice,
            prompt=prompt,
            cached=context.cache.use(model.name, prompt),
            outputs=[generate(_varied(runs, at, text), sampling, limit) for at in range(sampling.n)],
            reasons=model.reasoning or found.reasoning is not None,
            created=int(time.time()),
            context=context,
        )

    def _logprobs(self, body: dict[str, Any]) -> int | None:
        top = body.get("top_logprobs")
        if top is not None and not body.get("logprobs"):
            msg = "when using `top_logprobs`, `logprobs` must be set to true."
            raise ApiError(msg, param="top_logprobs")
        check_logprobs(top, self._context.settings)
        return int(top or 0) if body.get("logprobs") else None

    def _answer(
        self, body: dict[str, Any], model: Model, talk: Conversation, choice: ToolChoice, text: str | None
    ) -> Answer:
        one = body.get("parallel_tool_calls") is False
        if choice.mode in {"required", "named"}:
            return _forced(talk, choice, one=one)
        thinks = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        if choice.mode == "none" or text is not None:
            talk = replace(talk, tools=())
        found = answer(talk, reasoning=model.reasoning and thinks, may_call=choice.mode == "auto")
        if text is not None:
            found = Answer(text, found.reasoning if model.reasoning else None)
        if not thinks:
            found = replace(found, reasoning=None)
        return replace(found, calls=found.calls[:1]) if one else found


def _forced(talk: Conversation, choice: ToolChoice, *, one: bool) -> Answer:
    """The answer when a call has to be made."""
    if choice.mode == "named":
        tool = next(tool for tool in talk.tools if tool.name == choice.name)
        return Answer(calls=(forced_call(talk, tool),))
    if talk.last.role == "user":
        found = answer(talk)
        if found.calls:
            return Answer(calls=found.calls[:1] if one else found.calls)
    called = {call.name for message in talk.messages for call in message.calls}
    fresh = tuple(tool for tool in talk.tools if tool.name not in called) or talk.tools
    return Answer(calls=(forced_call(talk, best_tool(fresh, talk.user) or fresh[0]),))


def _varied(runs: list[Segment], at: int, constrained_text: str | None) -> list[Segment]:
    """Later choices of `n` say so, so that they can be told apart."""
    if at == 0 or constrained_text is not None or any(run.call >= 0 for run in runs):
        return runs
    return [*runs, Segment("text", f" (choice {at + 1})")]


def _said(talk: Conversation) -> str:
    """What schema values are taken from: the newest user message, and the tool results behind it."""
    texts = [talk.user]
    for message in reversed(talk.messages):
        if message.role != "tool":
            break
        texts.insert(1, message.text)
    return "\n".join(texts)
