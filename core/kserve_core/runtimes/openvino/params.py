"""Sampling parameters: which ones OpenVINO Model Server takes, in which range, under which name.

They are those of its documentation (2026). The server leaves aside what it does not know, so anything else is refused
here; a field of a newer server goes into `extra_body`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from kserve_core.capabilities import OutputConstraint, Params
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import PARAMETER, did_you_mean
from kserve_core.runtimes.checks import OMIT, Check, boolean, integer, mapping, number, refuse, texts
from kserve_core.runtimes.vllm.constraints import constraint_of, wire_constraint

Task = Literal["chat", "completion"]

MAX_STOPS = 4
UINT32_MAX = 2**32 - 1


def _stops(name: str, value: Any) -> Any:
    stops = texts(name, value)
    if stops is not OMIT and len(stops) > MAX_STOPS:
        msg = f"OpenVINO Model Server takes at most {MAX_STOPS} stop texts, and {len(stops)} were given."
        raise ConfigurationError(msg)
    return stops


_COMMON: dict[str, Check] = {
    # sampling
    "temperature": number(0, 2),
    "top_p": number(above=0, high=1),
    "top_k": integer(-1),
    "min_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "repetition_penalty": number(above=0),
    "seed": integer(0, UINT32_MAX),
    "n": integer(1),
    # beams
    "best_of": integer(1),
    "length_penalty": number(),
    # length and end
    "max_tokens": integer(1),
    "stop": _stops,
    "include_stop_str_in_output": boolean,
    "ignore_eos": boolean,
    # the answer
    "skip_special_tokens": boolean,
    # speculative decoding and prompt lookup
    "num_assistant_tokens": integer(1),
    "assistant_confidence_threshold": number(0, 1),
    "max_ngram_size": integer(1),
}
TABLES: Mapping[Task, Mapping[str, Check]] = {
    "chat": {
        **_COMMON,
        "max_completion_tokens": integer(1),
        "chat_template_kwargs": mapping,
        "response_format": mapping,
    },
    "completion": {**_COMMON, "echo": boolean},
}
"""The parameters by name, beside `logprobs`."""

_GUIDED = frozenset({"guided_json", "guided_regex", "guided_choice", "guided_grammar"})
_INSTEAD = {
    "use_beam_search": "set best_of, which is the number of beams",
    "reasoning_effort": "set chat_template_kwargs, for example {'enable_thinking': True}",
    "include_reasoning": "set chat_template_kwargs, for example {'enable_thinking': False}",
    "max_new_tokens": "the name is max_tokens",
    "stop_sequences": "the name is stop",
    "random_seed": "the name is seed",
    "chat_template": "the server uses the model's own; the completion class takes a prompt as it stands",
    "truncate_prompt_tokens": "cut the prompt before it is sent",
    "min_tokens": "set ignore_eos=True and max_tokens for a fixed length",
}


def wire_params(task: Task, params: Params, *, stream: bool) -> dict[str, Any]:
    """The parameters as they are sent; None values are parameters that were not set.

    Args:
        task: What is asked for.
        params: The parameters.
        stream: Whether the answer comes in pieces.

    Raises:
        UnsupportedParameterError: For one that the server does not have, or not in streams.
        ConfigurationError: For a value, or a combination, that it refuses.
    """
    table = TABLES[task]
    body: dict[str, Any] = {}
    for name, value in params.items():
        if value is None or name in _GUIDED or name in {"logprobs", "top_logprobs"}:
            continue
        check = table.get(name)
        if check is None:
            _unknown(task, name)
        checked = check(name, value)
        if checked is not OMIT:
            body[name] = checked
    body.update(_logprobs(task, params, stream=stream))
    if stream and body.get("include_stop_str_in_output") is False:
        del body["include_stop_str_in_output"]  # refused in streams; the stop text is taken off here
    _check_together(body)
    return body


def wire_form(
    task: Task, constraint: OutputConstraint | None, params: Params, extra_body: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields that hold an answer to a form: a JSON Schema in chat, and nothing else.

    Raises:
        UnsupportedParameterError: If another form is asked for.
        ConfigurationError: If it is not a valid one, or there are several.
    """
    wanted = constraint_of(constraint, params, extra_body)
    if wanted is None:
        return {}
    if task == "completion" or wanted.kind not in {"json_schema", "json_object"}:
        kind = wanted.kind.replace("_", " ")
        msg = (
            f"OpenVINO Model Server cannot hold {'a completion' if task == 'completion' else 'an answer'} to a {kind}."
        )
        hint = "It holds chat answers to a JSON Schema; else ask for the form in the prompt, and check the answer."
        raise UnsupportedParameterError(msg, hint=hint)
    if wanted.kind == "json_object":  # not among the documented forms, but a schema says the same
        wanted = OutputConstraint("json_schema", {"type": "object"}, name="object")
    return wire_constraint("chat", wanted, None)


def _logprobs(task: Task, params: Params, *, stream: bool) -> dict[str, Any]:
    wanted, top = params.get("logprobs"), params.get("top_logprobs")
    if not wanted:
        if top is not None:
            msg = "top_logprobs needs logprobs=True."
            raise ConfigurationError(msg)
        return {}
    count = top if top is not None else (0 if wanted is True else wanted)
    if type(count) is not int or count < 0:
        refuse("logprobs", count, "True, False or a whole number of at least 0")
    if count > (1 if task == "completion" else 0):
        msg = "OpenVINO Model Server tells the log-probability of the chosen tokens only."
        raise UnsupportedParameterError(msg, hint="Leave top_logprobs out, and set logprobs=True.")
    if stream:
        msg = "OpenVINO Model Server does not tell log-probabilities in streams."
        raise UnsupportedParameterError(msg, hint="Ask for the whole answer, or leave logprobs out.")
    return {"logprobs": True if task == "chat" else 1}


def _check_together(body: dict[str, Any]) -> None:
    if "max_tokens" in body and "max_completion_tokens" in body:
        msg = "max_tokens and max_completion_tokens are the same thing; set one of them."
        raise ConfigurationError(msg)
    if "best_of" in body and body.get("n", 1) > body["best_of"]:
        msg = f"n ({body['n']}) is above best_of ({body['best_of']}), the number of beams it is chosen from."
        raise ConfigurationError(msg)
    if "num_assistant_tokens" in body and "assistant_confidence_threshold" in body:
        msg = "num_assistant_tokens and assistant_confidence_threshold cannot be set together."
        raise ConfigurationError(msg)


def _unknown(task: Task, name: str) -> NoReturn:
    if name in _INSTEAD:
        msg = f"OpenVINO Model Server has no parameter {name!r}."
        raise UnsupportedParameterError(msg, hint=f"{_INSTEAD[name][0].upper()}{_INSTEAD[name][1:]}.")
    other: Task = "completion" if task == "chat" else "chat"
    if name in TABLES[other]:
        kinds = {"chat": "chat", "completion": "text completions"}
        msg = f"OpenVINO Model Server takes {name!r} for {kinds[other]} only, not for {kinds[task]}."
        raise UnsupportedParameterError(msg)
    meant = did_you_mean(name, TABLES[task], likeness=PARAMETER)
    msg = f"OpenVINO Model Server has no parameter {name!r}."
    raise UnsupportedParameterError(msg, hint=f"{meant}A field this package does not know goes into extra_body.")
