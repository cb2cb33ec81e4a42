"""POST /v1/completions."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.answers import answer
from kserve_core.devserver.brain.dialogue import unflattened
from kserve_core.devserver.brain.script import SCRIPT
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.wires.vllm import fields
from kserve_core.devserver.wires.vllm.completion_job import Job
from kserve_core.devserver.wires.vllm.completion_stream import events
from kserve_core.devserver.wires.vllm.completion_whole import whole
from kserve_core.devserver.wires.vllm.constraints import constrained
from kserve_core.devserver.wires.vllm.context import Context, answer_id
from kserve_core.devserver.wires.vllm.errors import ApiError, problem, schema_error
from kserve_core.devserver.wires.vllm.generation import generate
from kserve_core.devserver.wires.vllm.output import Output, Piece, Segment
from kserve_core.devserver.wires.vllm.sampling import Sampling, check_logprobs, read, room

_DEFAULT_MAX_TOKENS = 16
_NO_PROMPT = "Either prompt or prompt_embeds must be provided and non-empty."


class Completions:
    """The text completion endpoint."""

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
        fields.check(body, fields.COMPLETION)
        model, name = context.model(body)
        if body.get("suffix"):
            msg = "suffix is only supported for models with FIM completion rendering"
            raise ApiError(msg, param="suffix", names_param=False)
        prompts = _prompts(body.get("prompt"))
        wanted = _DEFAULT_MAX_TOKENS if body.get("max_tokens") is None else int(body["max_tokens"])
        only_echo = bool(body.get("echo")) and wanted == 0
        check_logprobs(body.get("logprobs"), settings)
        sampling = read(body, settings, max_tokens=wanted, logprobs=body.get("logprobs"))
        outputs: list[Output] = []
        for ids in prompts:
            limit = room(len(ids), 1 if only_echo else wanted, model.max_model_len, settings)
            if only_echo:
                outputs += [Output([Piece("end", "", -1, [tokens.END])], "length") for _ in range(sampling.n)]
            else:
                outputs += self._outputs(body, tokens.decode(ids), sampling, limit)
        return Job(
            id=answer_id("cmpl", request, body),
            name=name,
            body=body,
            sampling=sampling,
            prompts=prompts,
            cached=sum(context.cache.use(model.name, ids)[0] for ids in prompts),
            outputs=outputs,
            created=int(time.time()),
            context=context,
        )

    def _outputs(self, body: dict[str, Any], prompt: str, sampling: Sampling, limit: int) -> list[Output]:
        text = constrained(body, prompt, self._context.settings)
        free = text is None
        if text is None:
            text = _free_text(prompt)
        runs = [Segment("text", text)]
        others = [Segment("text", f" (choice {at + 1})") for at in range(sampling.n)]
        return [generate([*runs, others[at]] if at and free else runs, sampling, limit) for at in range(sampling.n)]


def _free_text(prompt: str) -> str:
    """The answer to a prompt; here reasoning is plain text with tags."""
    found = answer(unflattened(prompt), may_call=False)
    if found.reasoning is not None and prompt.strip() in SCRIPT:
        return f"<think>\n{found.reasoning}\n</think>\n\n{found.text}"
    return found.text


def _prompts(prompt: Any) -> list[list[int]]:
    """Token ids of every prompt of the four forms a request may have.

    Raises:
        ApiError: No prompt, or a form that does not exist.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise ApiError(_NO_PROMPT, param="prompt")
        return [tokens.encode(prompt)]
    if not isinstance(prompt, list) or not prompt:
        if prompt == []:
            msg = "You must pass at least one prompt"
            raise ApiError(msg)
        raise ApiError(_NO_PROMPT, param="prompt")
    if all(isinstance(item, str) for item in prompt):
        return [ids for item in prompt for ids in _prompts(item)]
    lists = [prompt] if all(isinstance(item, int) for item in prompt) else prompt
    for ids in lists:
        if not isinstance(ids, list) or not ids or not all(isinstance(number, int) for number in ids):
            text = "Input should be a valid string, list of strings, or lists of token ids"
            raise schema_error(problem("list_type", ("body", "prompt"), text, prompt))
        if any(not 0 <= number < tokens.VOCABULARY_SIZE for number in ids):
            msg = f"Token id {max(ids)} is out of vocabulary"
            raise ApiError(msg)
    return [list(ids) for ids in lists]
