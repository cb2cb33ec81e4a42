"""Generated texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kserve_core.capabilities import TextRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.caikit.errors import failed_answer, wrong_task
from kserve_core.runtimes.caikit.params import merged, wire_params
from kserve_core.runtimes.caikit.stops import trimmed
from kserve_core.runtimes.caikit.tasks import GENERATION
from kserve_core.runtimes.caikit.usage import counted
from kserve_core.runtimes.checks import check_texts
from kserve_core.types import Generation

NOT_FINISHED = "NOT_FINISHED"

FINISH_REASONS: Mapping[str, str] = {
    "EOS_TOKEN": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOKEN_LIMIT": "length",
    "TIME_LIMIT": "length",
    "CANCELLED": "abort",
    "ERROR": "error",
}
"""The server's words for why an answer ended, and OpenAI's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be known of a request to read its answer.

    Attributes:
        model: The model that was asked.
        stops: Stop sequences to take off the end of the text: servers leave them there unless told otherwise.
        logprobs: Whether log-probabilities were asked for; tokens come with zeros otherwise.
        usage: Whether a stream is to end with token counts.
    """

    model: str
    stops: tuple[str, ...] = ()
    logprobs: bool = False
    usage: bool = True

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, model: str, usage: bool = True) -> Reading:
        """How to read the answer to a request with these parameters."""
        stops = () if parameters.get("include_stop_sequence") else tuple(parameters.get("stop_sequences") or ())
        return cls(model, stops, bool(parameters.get("token_logprobs")), usage)


def generation_parameters(request: TextRequest, *, stream: bool) -> dict[str, Any]:
    """The parameters of a request.

    Raises:
        ConfigurationError: If the server would refuse the request.
    """
    prompts = list(request.prompts)
    check_texts("prompt", prompts)
    if stream and len(prompts) != 1:
        msg = f"A stream takes one prompt, not {len(prompts)}."
        raise ConfigurationError(msg)
    for position, prompt in enumerate(prompts):
        if not prompt:
            msg = "A prompt cannot be empty." if len(prompts) == 1 else f"The prompt at position {position} is empty."
            raise ConfigurationError(msg, hint="The server takes an empty text as a missing one.")
    if request.constraint is not None:
        msg = "Caikit cannot hold an answer to a form."
        raise UnsupportedParameterError(msg, hint="Ask for the form in the prompt, and check the answer.")
    return merged(wire_params(request.params), request.extra_body)


def read_generation(raw: dict[str, Any], *, reading: Reading) -> Generation:
    """Reads a whole answer.

    Raises:
        BadResponseError: If it is the answer to another task.
        ServerError: If the generation failed in the middle.
    """
    text = raw.get("generated_text")
    word = raw.get("finish_reason")
    if not isinstance(text, str):
        raise wrong_task(GENERATION, reading.model, "it has no `generated_text`")
    if word == "ERROR":
        raise failed_answer(reading.model, text)
    return Generation(
        text=trimmed(text, reading.stops) if word == "STOP_SEQUENCE" else text,
        finish_reason=finish_reason(word),
        logprobs=logprobs(raw.get("tokens")) if reading.logprobs else None,
        usage=counted(raw.get("input_token_count"), raw.get("generated_tokens")),
        extra=extra(raw, word, raw.get("seed")),
    )


def finish_reason(word: Any) -> str | None:
    """OpenAI's word for the server's; None while the answer goes on."""
    return None if word in {None, NOT_FINISHED} else FINISH_REASONS.get(word, str(word))


def logprobs(tokens: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """The tokens' log-probabilities in the form text completions have them elsewhere."""
    if not tokens:
        return None
    return {
        "tokens": [token.get("text") for token in tokens],
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [None] * len(tokens),
    }


def extra(raw: Mapping[str, Any], word: Any, seed: Any) -> dict[str, Any]:
    """What has no name elsewhere: the server's own finish reason, the seed, the tokens as the server sent them."""
    found: dict[str, Any] = {}
    if word not in {None, NOT_FINISHED}:
        found["server_finish_reason"] = word
        if seed:
            found["seed"] = seed
    for name in ("tokens", "input_tokens"):
        if raw.get(name):
            found[name] = raw[name]
    return found
