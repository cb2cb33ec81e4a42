"""Text generation as a Caikit runtime with TGIS behind it does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.answers import answer
from kserve_core.devserver.brain.dialogue import unflattened
from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.caikit.errors import CaikitError, missing
from kserve_core.devserver.wires.vllm.generation import generate
from kserve_core.devserver.wires.vllm.logprobs import logprob
from kserve_core.devserver.wires.vllm.output import Output, Segment
from kserve_core.devserver.wires.vllm.sampling import Sampling

DEFAULT_MAX_TOKENS = 20
PRODUCER = {"name": "Text Generation", "version": "0.1.0"}

_METHODS = ["GREEDY", "SAMPLING"]
_CHECK = "value check failed:"
_STOPS = "can specify at most 6 non-empty stop sequences, each not more than 240 UTF8 bytes"
_DETAILS = "must request input and/or generated tokens to request extra token detail"
_GREEDY = "sampling parameters (temperature/top_k/top_p/typical_p/seed) aren't applicable in greedy decoding mode"


@dataclass(slots=True)
class Job:
    """A text that was generated, waiting to be written."""

    prompt: str
    prompt_ids: list[int]
    parameters: Mapping[str, Any]
    output: Output
    finish_reason: str

    def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        shown = self.prompt if self.parameters.get("preserve_input_text") else ""
        return {
            "generated_text": shown + self.output.raw,
            "generated_tokens": self.output.token_count,
            "finish_reason": self.finish_reason,
            "producer_id": PRODUCER,
            "input_token_count": len(self.prompt_ids),
            "seed": self.parameters.get("seed"),
            "tokens": self._generated(self.output.ids),
            "input_tokens": self._prompt_tokens(),
        }

    def pieces(self) -> Iterator[dict[str, Any]]:
        """The answer in pieces; the first has the prompt's part of it."""
        shown = self.prompt if self.parameters.get("preserve_input_text") else ""
        yield self._piece(shown, [], "NOT_FINISHED", 0, prompt=True)
        made = 0
        for at, piece in enumerate(self.output.pieces):
            made += len(piece.ids)
            last = at == len(self.output.pieces) - 1
            yield self._piece(piece.text, piece.ids, self.finish_reason if last else "NOT_FINISHED", made)

    def _piece(self, text: str, ids: list[int], finish: str, made: int, *, prompt: bool = False) -> dict[str, Any]:
        return {
            "generated_text": text,
            "tokens": self._generated(ids),
            "details": {
                "finish_reason": finish,
                "generated_tokens": made,
                "seed": self.parameters.get("seed", 0),
                "input_token_count": len(self.prompt_ids) if prompt else 0,
            },
            "producer_id": None,
            "input_tokens": self._prompt_tokens() if prompt else [],
        }

    def _generated(self, ids: list[int]) -> list[dict[str, Any]]:
        return self._tokens(ids) if self.parameters.get("generated_tokens") else []

    def _prompt_tokens(self) -> list[dict[str, Any]]:
        return self._tokens(self.prompt_ids) if self.parameters.get("input_tokens") else []

    def _tokens(self, ids: list[int]) -> list[dict[str, Any]]:
        probable, ranked = self.parameters.get("token_logprobs"), self.parameters.get("token_ranks")
        return [
            {
                "text": tokens.raw_piece(number),
                "logprob": logprob(number) if probable else 0.0,
                "rank": 1 if ranked else 0,
            }
            for number in ids
        ]


def run(model: Model, text: str | None, parameters: Mapping[str, Any], settings: Settings, *, caller: str) -> Job:
    """Generate.

    Raises:
        CaikitError: The request is refused.
    """
    if not text:
        raise missing(name="text", of=caller)
    _check(parameters)
    ids = tokens.encode(text)
    if parameters.get("truncate_input_tokens"):
        ids = ids[-parameters["truncate_input_tokens"] :]
    wanted = parameters.get("max_new_tokens") or DEFAULT_MAX_TOKENS
    if len(ids) + wanted > model.max_model_len:
        said = f"input tokens ({len(ids)}) plus prefix length (0) plus max_new_tokens ({wanted})"
        raise CaikitError(400, f"{said} must be <= {model.max_model_len}")
    limit = wanted
    if parameters.get("max_time") and settings.pace:
        limit = max(1, min(wanted, int(parameters["max_time"] / settings.pace)))
    sampling = Sampling(
        min_tokens=parameters.get("min_new_tokens", 0),
        stop=tuple(parameters.get("stop_sequences") or ()),
        include_stop=parameters.get("include_stop_sequence", True),
    )
    found = answer(unflattened(tokens.decode(ids)), may_call=False)
    output = generate([Segment("text", found.text)], sampling, limit)
    if output.finish_reason == "length":
        finish = "TIME_LIMIT" if limit < wanted else "MAX_TOKENS"
    else:
        finish = "EOS_TOKEN" if output.stop_reason is None else "STOP_SEQUENCE"
    return Job(text, ids, parameters, output, finish)


def _check(given: Mapping[str, Any]) -> None:
    """The runtime's own checks come first, those of TGIS after.

    Raises:
        CaikitError: A value, or a combination, is refused.
    """
    problem = next((text for fails, text in _rules(given) if fails), None)
    if problem is not None:
        raise CaikitError(400, problem)


def _rules(given: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    method = given.get("decoding_method", "GREEDY")
    least, most = given.get("min_new_tokens", 0), given.get("max_new_tokens", DEFAULT_MAX_TOKENS)
    yield method not in _METHODS, f"{_CHECK} Decoding method [{method}] not in valid decoding methods: [{_METHODS}]"
    said = f"Maximum new tokens [{most}] has to be greater than minimum new tokens         [{least}]"
    yield least > most, f"{_CHECK} {said}"
    for name in ("seed", "truncate_input_tokens"):
        yield given.get(name, 0) < 0, f"Value out of range: {given.get(name)}"
    neutral = {"temperature": 1, "top_p": 1, "typical_p": 1, "seed": None}
    drawn = any(given.get(name, value) != value for name, value in neutral.items()) or given.get("top_k", 0) > 0
    yield method == "GREEDY" and drawn, _GREEDY
    yield 0 < given.get("temperature", 0) < 0.05, f"{_CHECK} temperature must be >= 0.05"
    for name in ("top_p", "typical_p"):
        yield not 0 < given.get(name, 1) <= 1, f"{_CHECK} {name} must be > 0.0 and <= 1.0"
    penalty = given.get("repetition_penalty", 1)
    yield not 0 < penalty <= 2, f"{_CHECK} repetition_penalty must be > 0.0 and <= 2.0"
    decay = given.get("exponential_decay_length_penalty", {}).get("decay_factor", 1)
    yield not 1 <= decay <= 10, f"{_CHECK} length_penalty.decay_factor must be >= 1.0 and <= 10.0"
    stops = given.get("stop_sequences") or ()
    yield len(stops) > 6 or any(not stop or len(stop.encode()) > 240 for stop in stops), _STOPS
    details = given.get("token_logprobs") or given.get("token_ranks")
    yield bool(details) and not (given.get("generated_tokens") or given.get("input_tokens")), _DETAILS
