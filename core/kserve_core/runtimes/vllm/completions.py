"""Text completions, whole and in pieces."""

from __future__ import annotations

from typing import Any

from kserve_core._json import columns, decode_object, unexpected, word
from kserve_core.calls import Response
from kserve_core.capabilities import TextRequest
from kserve_core.error_bodies import read_error_body
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.vllm.chat import refuse_stream_field, text_of
from kserve_core.runtimes.vllm.constraints import constraint_of, wire_constraint
from kserve_core.runtimes.vllm.errors import Task
from kserve_core.runtimes.vllm.guardrails import BLOCKED, blocks, guarded, refusal_of
from kserve_core.runtimes.vllm.params import wire_params
from kserve_core.runtimes.vllm.stream import StreamDecoder
from kserve_core.runtimes.vllm.usage import read_usage
from kserve_core.types import Generation, GenerationChunk, TextResult, Usage

_WHAT = "a text completion"
_FIELDS = frozenset({"index", "text", "logprobs", "finish_reason", "stop_reason", "reasoning", "reasoning_content"})


def completion_body(
    request: TextRequest, *, model: str | None, version: tuple[int, int] | None, stream: bool
) -> dict[str, Any]:
    """The request's body, holding only what was set; see `chat_body` for the arguments.

    Raises:
        ConfigurationError: If the server would refuse it.
    """
    refuse_stream_field(request.extra_body)
    prompts = list(request.prompts)
    check_texts("prompt", prompts)
    if stream and len(prompts) != 1:
        msg = f"A stream takes one prompt, not {len(prompts)}."
        raise ConfigurationError(msg)
    body: dict[str, Any] = {"prompt": prompts[0] if len(prompts) == 1 else prompts}
    if model:
        body["model"] = model
    body.update(wire_params("completion", request.params))
    constraint = constraint_of(request.constraint, request.params, request.extra_body)
    if constraint is not None:
        body.update(wire_constraint("completion", constraint, version))
    if stream:
        body["stream"] = True
        if request.include_usage:
            body["stream_options"] = {"include_usage": True}
    body.update(request.extra_body)
    return body


def read_completion(response: Response, *, prompts: int, n: int) -> TextResult:
    """Reads a whole answer; the choice for prompt p and repetition k has the index p * n + k.

    Args:
        response: The server's answer.
        prompts: How many prompts were sent.
        n: How many completions of each were asked for.

    Raises:
        BadResponseError: If it is not a text completion, or completions are missing.
    """
    raw = decode_object(response, _WHAT)
    choices = raw.get("choices")
    guards = guarded(raw)
    if guards and not choices:
        choices = [{"index": index, "text": ""} for index in range(prompts * n)]
    if not isinstance(choices, list):
        said = read_error_body(response.body).message if "error" in raw else ""
        raise unexpected(_WHAT, said or "it has no choices", status=response.status)
    found: list[Generation | None] = [None] * (prompts * n)
    for position, choice in enumerate(choices):
        index = choice.get("index", position) if isinstance(choice, dict) else -1
        if type(index) is not int or not 0 <= index < len(found) or found[index] is not None:
            problem = f"{len(choices)} completions came whose indices do not fit {prompts} prompts with n={n}"
            raise unexpected(_WHAT, problem, status=response.status)
        found[index] = _generation(choice, guards)
    whole = [generation for generation in found if generation is not None]
    if len(whole) != len(found):
        problem = f"{len(whole)} completions came where {len(found)} were expected"
        raise unexpected(_WHAT, problem, status=response.status)
    return TextResult(
        generations=[whole[start : start + n] for start in range(0, len(whole), n)],
        usage=read_usage(raw.get("usage")),
        model=word(raw.get("model")),
        id=word(raw.get("id")),
        system_fingerprint=word(raw.get("system_fingerprint")),
        raw=raw,
    )


def _generation(choice: dict[str, Any], guards: dict[str, Any]) -> Generation:
    generation = Generation(
        text=text_of(choice.get("text")),
        finish_reason=word(choice.get("finish_reason")),
        stop_reason=choice.get("stop_reason"),
        logprobs=columns(choice.get("logprobs")),
        reasoning=text_of(choice.get("reasoning") or choice.get("reasoning_content")),
        extra={key: value for key, value in choice.items() if key not in _FIELDS and value is not None},
    )
    generation.extra |= guards
    if blocks(guards, generation.text):
        generation.extra["refusal"] = refusal_of(guards)
        generation.finish_reason = BLOCKED
    return generation


class CompletionDecoder(StreamDecoder[GenerationChunk]):
    """Reads streamed `text_completion` events."""

    task: Task = "completion"

    def _choice(self, choice: dict[str, Any], event: dict[str, Any], out: list[GenerationChunk]) -> None:
        index = choice.get("index") or 0
        piece = GenerationChunk(
            text_of(choice.get("text")),
            stop_reason=choice.get("stop_reason"),
            index=index,
            logprobs=columns(choice.get("logprobs")),
            raw=event,
        )
        if piece.text and index == 0:
            self._text.append(piece.text)
        first = index not in self._began
        if first:
            self._began.add(index)
            piece.model = word(event.get("model"))
            piece.id = word(event.get("id"))
        finish = word(choice.get("finish_reason"))
        if finish is not None and index not in self._ended:
            self._ended.add(index)
            piece.finish_reason = finish
        if piece.text or first or piece.finish_reason is not None or piece.logprobs or choice.get("token_ids"):
            out.append(piece)

    def _guarded(self, found: dict[str, Any], event: dict[str, Any], out: list[GenerationChunk]) -> None:
        extra = dict(found)
        blocked = blocks(found, self._text)
        if blocked:
            extra["refusal"] = refusal_of(found)
        piece = GenerationChunk(finish_reason=BLOCKED if blocked else None, raw=event, extra=extra)
        if 0 not in self._began:
            piece.model, piece.id = word(event.get("model")), word(event.get("id"))
        out.append(piece)

    def _usage_piece(self, usage: Usage, event: dict[str, Any]) -> GenerationChunk:
        return GenerationChunk(usage=usage, raw=event)
