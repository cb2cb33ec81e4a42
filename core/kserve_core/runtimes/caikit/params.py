"""Generation parameters: which ones Caikit takes, in which range, under which name.

The canonical names are the ones to use; Caikit's own names are understood as well. Only what is refused in every
case is refused here; what depends on the model behind the server (how many stop sequences, the longest answer) is
left to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, NoReturn

from kserve_core.capabilities import Params
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import PARAMETER, did_you_mean
from kserve_core.runtimes.checks import OMIT, Check, boolean, integer, number, refuse, texts

DEFAULT_MAX_TOKENS = 20
"""What a server generates at most when `max_tokens` is left out."""

_UINT64_MAX = 2**64 - 1


def _unless(neutral: float, check: Check) -> Check:
    """The check, leaving out the value that switches the parameter off."""

    def checked(name: str, value: Any) -> Any:
        result = check(name, value)
        return OMIT if result == neutral else result

    return checked


def _top_k(name: str, value: Any) -> Any:
    checked = integer(-1)(name, value)
    return checked if checked > 0 else OMIT


def _temperature(name: str, value: Any) -> Any:
    checked = number(0)(name, value)
    if 0 < checked < 0.05:
        refuse(name, value, "0 or at least 0.05")
    return checked


def _method(name: str, value: Any) -> str:
    if not isinstance(value, str) or value.upper() not in {"GREEDY", "SAMPLING"}:
        refuse(name, value, "'GREEDY' or 'SAMPLING'")
    return value.upper()


def _decay(name: str, value: Any) -> dict[str, Any]:
    """A start and a factor, as a dict or as a pair."""
    wanted = "{'start_index': tokens, 'decay_factor': 1 to 10}, or those two as a pair"
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = {"start_index": value[0], "decay_factor": value[1]}
    if not isinstance(value, Mapping) or set(value) != {"start_index", "decay_factor"}:
        refuse(name, value, wanted)
    return {
        "start_index": integer(0)(f"{name}.start_index", value["start_index"]),
        "decay_factor": float(number(1, 10)(f"{name}.decay_factor", value["decay_factor"])),
    }


def _logprobs(name: str, value: Any) -> bool:
    if type(value) is int:
        refuse(name, value, "True or False", hint="Caikit tells the log-probability of the tokens it chose only.")
    return boolean(name, value)


def _prompt_logprobs(name: str, value: Any) -> bool:
    if type(value) is int and value == 0:
        return True
    if type(value) is int:
        refuse(name, value, "True, False or 0", hint="Caikit tells the log-probability of the prompt's tokens only.")
    return boolean(name, value)


def _one(name: str, value: Any) -> Any:
    if integer(1)(name, value) > 1:
        msg = f"Caikit gives one answer to a prompt, so {name} cannot be {value}."
        raise UnsupportedParameterError(msg, hint="Give the prompt several times, with another seed each time.")
    return OMIT


# Canonical name: the name on the wire, and the check.
_PARAMETERS: dict[str, tuple[str, Check]] = {
    "max_tokens": ("max_new_tokens", integer(0)),
    "min_tokens": ("min_new_tokens", integer(0)),
    "truncate_prompt_tokens": ("truncate_input_tokens", _unless(0, integer(0))),
    "decoding_method": ("decoding_method", _method),
    "temperature": ("temperature", _temperature),
    "top_k": ("top_k", _top_k),
    "top_p": ("top_p", _unless(1, number(above=0, high=1))),
    "typical_p": ("typical_p", _unless(1, number(above=0, high=1))),
    "seed": ("seed", integer(0, _UINT64_MAX)),
    "repetition_penalty": ("repetition_penalty", number(above=0)),
    "time_limit": ("max_time", number(above=0)),
    "length_penalty": ("exponential_decay_length_penalty", _decay),
    "stop": ("stop_sequences", texts),
    "include_stop_str_in_output": ("include_stop_sequence", boolean),
    "generated_tokens": ("generated_tokens", boolean),
    "input_tokens": ("input_tokens", boolean),
    "token_logprobs": ("token_logprobs", boolean),
    "token_ranks": ("token_ranks", boolean),
}

# Canonical name: the check, and the parameters it stands for.
_GROUPS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "logprobs": (_logprobs, ("generated_tokens", "token_logprobs", "token_ranks")),
    "prompt_logprobs": (_prompt_logprobs, ("input_tokens", "token_logprobs", "token_ranks")),
}

_OWN_NAMES = {wire: name for name, (wire, _) in _PARAMETERS.items() if wire != name}
_SAMPLING = ("temperature", "top_k", "top_p", "typical_p", "seed")

# Known elsewhere. Sending them is a refusal of the whole request, leaving them out would be silent.
_ELSEWHERE: dict[str, str] = {
    "preserve_input_text": "answers never repeat the prompt here",
    "echo": "answers never repeat the prompt here",
    "top_logprobs": "it tells the log-probability of chosen tokens only; set logprobs=True",
    "min_p": "use top_p or typical_p",
    "frequency_penalty": "use repetition_penalty",
    "presence_penalty": "use repetition_penalty",
    "logit_bias": "the decoding cannot be steered by token",
    "bad_words": "the decoding cannot be steered by token",
    "stop_token_ids": "use stop, with the tokens' text",
    "ignore_eos": "use min_tokens",
    "max_completion_tokens": "the name is max_tokens",
    "random_seed": "the name is seed",
    "best_of": "there is one answer to a prompt",
    "use_beam_search": "decoding is greedy or by sampling",
    "response_format": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
    "structured_outputs": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
    "guided_json": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
    "guided_regex": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
    "guided_choice": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
    "guided_grammar": "the form of an answer cannot be enforced; ask for it in the prompt and check the answer",
}


def wire_params(params: Params) -> dict[str, Any]:
    """The parameters as they are sent; None values are parameters that were not set.

    Raises:
        UnsupportedParameterError: For one that Caikit does not have.
        ConfigurationError: For a value, or a combination, that it refuses.
    """
    wire: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in params.items():
        if value is None:
            continue
        if name == "n":
            _one(name, value)
            continue
        if name in _GROUPS:
            check, members = _GROUPS[name]
            if check(name, value):
                wire.update(dict.fromkeys(members, True))
            continue
        canonical = _OWN_NAMES.get(name, name)
        if canonical not in _PARAMETERS:
            _unknown(name)
        if canonical in given:
            msg = f"{given[canonical]} and {name} are the same thing; set one of them."
            raise ConfigurationError(msg)
        given[canonical] = name
        field, check = _PARAMETERS[canonical]
        checked = check(name, value)
        if checked is not OMIT:
            wire[field] = checked
    _decide_method(wire, given)
    _check_together(wire)
    wire["preserve_input_text"] = False
    return wire


def _decide_method(wire: dict[str, Any], given: Mapping[str, str]) -> None:
    """Greedy or sampling: as told, or by what was set. Without either the server's default (greedy) stands."""
    method = wire.get("decoding_method")
    temperature = wire.get("temperature")
    if method == "SAMPLING":
        return
    others = [name for name in _SAMPLING[1:] if name in wire]
    if method is None and temperature != 0:
        if temperature is not None or others:
            wire["decoding_method"] = "SAMPLING"
        return
    why = "decoding_method='GREEDY'" if method else "temperature=0"
    if temperature not in {None, 0, 1}:
        others.insert(0, "temperature")
    if others:
        names = " and ".join(given.get(name, name) for name in others)
        msg = f"{why} leaves nothing to chance, so {names} cannot be set with it."
        hint = f"Leave {names} out, or {'set a temperature above 0' if not method else 'drop decoding_method'}."
        raise ConfigurationError(msg, hint=hint)
    wire.pop("temperature", None)
    wire["decoding_method"] = "GREEDY"


def _check_together(wire: Mapping[str, Any]) -> None:
    least, most = wire.get("min_new_tokens", 0), wire.get("max_new_tokens", DEFAULT_MAX_TOKENS)
    if most and least > most:
        if "max_new_tokens" in wire:
            msg = f"min_tokens ({least}) is above max_tokens ({most})."
            raise ConfigurationError(msg)
        msg = f"min_tokens ({least}) is above {most}, which is what max_tokens is unless it is set."
        raise ConfigurationError(msg, hint=f"Set max_tokens to at least {least}.")
    if (wire.get("token_logprobs") or wire.get("token_ranks")) and not (
        wire.get("generated_tokens") or wire.get("input_tokens")
    ):
        msg = "token_logprobs and token_ranks need generated_tokens=True or input_tokens=True."
        raise ConfigurationError(msg, hint="logprobs=True sets what belongs together.")


def _unknown(name: str) -> NoReturn:
    msg = f"Caikit has no parameter {name!r}."
    if name in _ELSEWHERE:
        reason = _ELSEWHERE[name]
        raise UnsupportedParameterError(msg, hint=f"{reason[0].upper()}{reason[1:]}.")
    meant = did_you_mean(name, [*_PARAMETERS, *_GROUPS, *_OWN_NAMES], likeness=PARAMETER)
    raise UnsupportedParameterError(
        msg, hint=f"{meant}One that a newer server has and this package does not know goes into extra_body."
    )


def merged(parameters: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with `extra_body` over them; a null would be refused, so None means: leave it out.

    Raises:
        ConfigurationError: If it holds a part of the request that is no parameter.
    """
    for name in ("inputs", "model_id", "parameters", "stream"):
        if name in extra:
            msg = f"{name!r} cannot go into extra_body: what is in it is sent as Caikit's `parameters`."
            raise ConfigurationError(msg)
    return {name: value for name, value in {**parameters, **extra}.items() if value is not None}


def truncation(tokens: int | None) -> dict[str, int]:
    """The parameter that has an embedding model cut over-long texts.

    Raises:
        ConfigurationError: If it is neither a length nor -1.
    """
    if tokens is None:
        return {}
    if isinstance(tokens, bool) or not isinstance(tokens, Real) or tokens < -1 or tokens == 0 or tokens != int(tokens):
        refuse("truncate", tokens, "a number of tokens, or -1 for what the model takes")
    return {"truncate_input_tokens": int(tokens)}
