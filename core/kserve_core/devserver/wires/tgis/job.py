"""One prompt's answer, checked and generated, ready to be written whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.answers import answer
from kserve_core.devserver.brain.dialogue import unflattened
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.tgis.checks import crash, room
from kserve_core.devserver.wires.vllm.constraints import constrained
from kserve_core.devserver.wires.vllm.errors import ApiError
from kserve_core.devserver.wires.vllm.generation import generate
from kserve_core.devserver.wires.vllm.logprobs import alternatives, logprob
from kserve_core.devserver.wires.vllm.output import Output, Segment
from kserve_core.devserver.wires.vllm.sampling import Sampling
from kserve_core.protos import messages

END_OF_TEXT = "<|im_end|>"
_GUIDED = {"json_schema": "json", "regex": "regex", "grammar": "grammar"}


@dataclass(slots=True)
class Job:
    """A prompt with its answer.

    Attributes:
        prompt: The prompt's text.
        ids: Its tokens, those cut off left out.
        output: What was generated.
        params: The request's parameters.
        own_limit: Whether the limit on tokens was the server's.
    """

    prompt: str
    ids: list[int]
    output: Output
    params: messages.fmaas.Parameters
    own_limit: bool

    @property
    def seed(self) -> int:
        """The seed as it is reported: only one that was given and used."""
        sampled = self.params.method == messages.fmaas.DecodingMethod.SAMPLE
        return self.params.sampling.seed if sampled and self.params.sampling.HasField("seed") else 0

    @property
    def end(self) -> dict[str, Any]:
        """The fields that tell why the answer ended."""
        reasons = messages.fmaas.StopReason
        if self.output.finish_reason == "length":
            return {"stop_reason": reasons.TOKEN_LIMIT if self.own_limit else reasons.MAX_TOKENS}
        if self.output.stop_reason is not None:
            return {"stop_reason": reasons.STOP_SEQUENCE, "stop_sequence": str(self.output.stop_reason)}
        return {"stop_reason": reasons.EOS_TOKEN, "stop_sequence": END_OF_TEXT}

    def tokens(self, ids: Iterable[int]) -> list[messages.fmaas.TokenInfo]:
        """Details of generated tokens, if they are asked for."""
        wanted = self.params.response
        return [_token(number, wanted) for number in ids] if wanted.generated_tokens else []

    def input_tokens(self) -> list[messages.fmaas.TokenInfo]:
        """Details of the prompt's tokens, if they are asked for; the first one has no probability."""
        wanted = self.params.response
        if not wanted.input_tokens:
            return []
        first = messages.fmaas.TokenInfo(text=tokens.raw_piece(self.ids[0]))
        return [first, *(_token(number, wanted) for number in self.ids[1:])]


def make(prompt: str, params: messages.fmaas.Parameters, settings: Settings) -> Job:
    """Generates the answer to a prompt.

    Raises:
        GrpcStatus: The prompt, or the form asked for, is refused.
    """
    if not prompt:
        crash("The decoder prompt cannot be empty")
    ids = tokens.encode(prompt)
    if params.truncate_input_tokens:
        ids = ids[-params.truncate_input_tokens :]
    limit, own_limit = room(len(ids), params, settings.models[0].max_model_len)
    text = _guided(params.decoding, prompt, settings)
    if text is None:
        text = answer(unflattened(tokens.decode(ids)), may_call=False).text
    stopping = params.stopping
    keep = not stopping.HasField("include_stop_sequence") or stopping.include_stop_sequence
    sampling = Sampling(
        stop=tuple(stopping.stop_sequences),
        include_stop=keep,
        min_tokens=stopping.min_new_tokens,
    )
    output = generate([Segment("text", text)], sampling, limit)
    return Job(prompt, ids, output, params, own_limit)


def _guided(decoding: messages.fmaas.DecodingParameters, prompt: str, settings: Settings) -> str | None:
    """The text for a guided request, or None when it is free."""
    kind = decoding.WhichOneof("guided")
    if kind is None:
        return None
    value: Any
    if kind == "format":
        if decoding.format != messages.fmaas.DecodingParameters.ResponseFormat.JSON:
            crash("unsupported response format: TEXT")
        name, value = "json_object", True
    elif kind == "choice":
        if len(decoding.choice.choices) < 2:
            crash("Must provide at least two choices")
        name, value = kind, list(decoding.choice.choices)
    else:
        name, value = _GUIDED[kind], getattr(decoding, kind)
    body = {"structured_outputs": {name: value}} if settings.release >= (0, 11) else {f"guided_{name}": value}
    try:
        return constrained(body, prompt, settings)
    except ApiError as error:
        crash(error.message)


def _token(number: int, wanted: messages.fmaas.ResponseOptions) -> messages.fmaas.TokenInfo:
    info = messages.fmaas.TokenInfo(text=tokens.raw_piece(number))
    if wanted.token_logprobs:
        info.logprob = logprob(number)
    if wanted.token_ranks:
        info.rank = 1
    if wanted.top_n_tokens:
        for rank, other in enumerate(alternatives(number, wanted.top_n_tokens)):
            top = info.top_tokens.add(text=tokens.raw_piece(other))
            if wanted.token_logprobs:
                top.logprob = logprob(number, rank)
    return info
