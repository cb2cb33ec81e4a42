"""Sampling parameters: which ones TGIS takes, in which range, and how they become a `Parameters` message.

What every generation of the server refuses is refused here, before anything is sent. The server's own limits (the
most tokens, the smallest temperature) are left to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from kserve_core.capabilities import OutputConstraint, Params
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import PARAMETER, did_you_mean
from kserve_core.protos import messages
from kserve_core.runtimes.checks import OMIT, Check, boolean, integer, number, one_of, refuse, text, texts
from kserve_core.runtimes.tgis.constraints import NAMES as CONSTRAINTS
from kserve_core.runtimes.tgis.constraints import set_constraint

UINT32_MAX = 2**32 - 1
UINT64_MAX = 2**64 - 1
MAX_STOPS = 6
MAX_STOP_BYTES = 240
MAX_TOP_TOKENS = 10

_SAMPLING = ("temperature", "top_k", "top_p", "typical_p", "seed")


def _stops(name: str, value: Any) -> Any:
    stops = texts(name, value)
    if stops is OMIT:
        return OMIT
    if len(stops) > MAX_STOPS:
        msg = f"TGIS takes at most {MAX_STOPS} stop sequences, and {len(stops)} were given."
        raise ConfigurationError(msg, hint="A chat template's end-of-turn text counts as well.")
    if any(len(stop.encode()) > MAX_STOP_BYTES for stop in stops):
        refuse(name, value, f"a list of strings of at most {MAX_STOP_BYTES} bytes each")
    return stops


def _length_penalty(name: str, value: Any) -> tuple[int, float]:
    wanted = "{'start_index': ..., 'decay_factor': ...}"
    if isinstance(value, Mapping):
        if set(value) != {"start_index", "decay_factor"}:
            refuse(name, value, wanted)
        start, factor = value["start_index"], value["decay_factor"]
    elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        start, factor = value
    else:
        hint = "From token start_index on, the end becomes likelier by decay_factor (1 to 10) with every token."
        refuse(name, value, wanted, hint=hint)
    return integer(0, UINT32_MAX)(f"{name} start_index", start), number(1, 10)(f"{name} decay_factor", factor)


def _logprobs(name: str, value: Any) -> bool | int:
    return value if isinstance(value, bool) else integer(0, MAX_TOP_TOKENS)(name, value)


TABLE: Mapping[str, Check] = {
    # sampling
    "temperature": number(0),
    "top_k": integer(-1, UINT32_MAX),
    "top_p": number(above=0, high=1),
    "typical_p": number(above=0, high=1),
    "seed": integer(0, UINT64_MAX),
    "decoding_method": one_of("greedy", "sample"),
    "n": integer(1),
    # length and end
    "max_tokens": integer(1, UINT32_MAX),
    "max_completion_tokens": integer(1, UINT32_MAX),
    "min_tokens": integer(0, UINT32_MAX),
    "time_limit": number(above=0, high=UINT32_MAX / 1000),
    "stop": _stops,
    "include_stop_str_in_output": boolean,
    # what the answer shall be like
    "repetition_penalty": number(above=0, high=2),
    "length_penalty": _length_penalty,
    # the prompt
    "truncate_prompt_tokens": integer(1, UINT32_MAX),
    "adapter_id": text,
    "prefix_id": text,
    # what is returned besides the text
    "echo": boolean,
    "logprobs": _logprobs,
    "top_logprobs": integer(0, MAX_TOP_TOKENS),
    "prompt_logprobs": integer(0, MAX_TOP_TOKENS),
    "generated_tokens": boolean,
    "input_tokens": boolean,
    "token_ranks": boolean,
}
"""The parameters by name. `time_limit` is in seconds; the last three ask for token details without probabilities."""

# The server's own names, and what other runtimes have in their place.
_OTHER_NAMES = {
    "max_new_tokens": "the name is max_tokens",
    "min_new_tokens": "the name is min_tokens",
    "stop_sequences": "the name is stop",
    "include_stop_sequence": "the name is include_stop_str_in_output",
    "truncate_input_tokens": "the name is truncate_prompt_tokens",
    "time_limit_millis": "the name is time_limit, in seconds",
    "random_seed": "the name is seed",
    "typical": "the name is typical_p",
    "top_n_tokens": "the name is top_logprobs, with logprobs=True",
    "token_logprobs": "the name is logprobs",
    "input_text": "the name is echo",
    "method": "the name is decoding_method; temperature=0 is greedy as well",
    "do_sample": "the name is decoding_method='sample'; a temperature above 0 samples as well",
    "frequency_penalty": "use repetition_penalty",
    "presence_penalty": "use repetition_penalty",
    "min_p": "use top_p or typical_p",
}


def checked(params: Params) -> dict[str, Any]:
    """The parameters that were set, each checked; those of `kserve_core.runtimes.tgis.constraints` are left out.

    Raises:
        UnsupportedParameterError: For one that TGIS does not have.
        ConfigurationError: For a value, or a combination, that it refuses.
    """
    given: dict[str, Any] = {}
    for name, value in params.items():
        if value is None or name in CONSTRAINTS:
            continue
        check = TABLE.get(name)
        if check is None:
            _unknown(name)
        result = check(name, value)
        if result is not OMIT:
            given[name] = result
    _check_together(given)
    return given


def to_message(
    given: Mapping[str, Any], constraint: OutputConstraint | None, extra: Mapping[str, Any]
) -> messages.fmaas.Parameters:
    """The `Parameters` message, holding only what was set.

    Args:
        given: What `checked` returned.
        constraint: The form the answer must take.
        extra: Fields of the message by their names, set over everything else.

    Raises:
        ConfigurationError: If a field of `extra` does not exist or fit.
    """
    params = messages.fmaas.Parameters()
    _set_sampling(params, given)
    _set_stopping(params.stopping, given)
    _set_response(params.response, given)
    if "repetition_penalty" in given:
        params.decoding.repetition_penalty = given["repetition_penalty"]
    if "length_penalty" in given:
        penalty = params.decoding.length_penalty
        penalty.start_index, penalty.decay_factor = given["length_penalty"]
        # The classic server honors it only beside a repetition penalty; 1 is one that changes nothing.
        params.decoding.repetition_penalty = params.decoding.repetition_penalty or 1.0
    if "truncate_prompt_tokens" in given:
        params.truncate_input_tokens = given["truncate_prompt_tokens"]
    if constraint is not None:
        set_constraint(params.decoding, constraint)
    if extra:
        _merge(params, extra)
    return params


def _set_sampling(params: messages.fmaas.Parameters, given: Mapping[str, Any]) -> None:
    """Sets the method and what belongs to it; greedy is the server's default.

    With temperature 0 nothing else about sampling has an effect, so none of it is sent: a 0.0 on the wire means
    greedy to one generation of servers and 1.0 to the other.
    """
    if given.get("decoding_method") == "greedy" or given.get("temperature") == 0:
        return
    names = [name for name in _SAMPLING if name in given and not (name == "top_k" and given[name] <= 0)]
    if not names and given.get("decoding_method") != "sample":
        return
    params.method = messages.fmaas.DecodingMethod.SAMPLE
    for name in names:
        setattr(params.sampling, name, given[name])


def _set_stopping(stopping: messages.fmaas.StoppingCriteria, given: Mapping[str, Any]) -> None:
    longest = given.get("max_tokens", given.get("max_completion_tokens"))
    if longest is not None:
        stopping.max_new_tokens = longest
    if given.get("min_tokens"):
        stopping.min_new_tokens = given["min_tokens"]
    if "time_limit" in given:
        stopping.time_limit_millis = max(1, round(given["time_limit"] * 1000))
    if "stop" in given:
        stopping.stop_sequences.extend(given["stop"])
    # Most servers keep the stop text in the answer unless they are told not to.
    if "stop" in given or "include_stop_str_in_output" in given:
        stopping.include_stop_sequence = given.get("include_stop_str_in_output", False)


def _set_response(response: messages.fmaas.ResponseOptions, given: Mapping[str, Any]) -> None:
    logprobs, prompt = given.get("logprobs", False), given.get("prompt_logprobs")
    wanted = logprobs is not False
    of_prompt = prompt is not None or bool(given.get("input_tokens"))
    ranks = bool(given.get("token_ranks"))
    if wanted or given.get("generated_tokens") or (ranks and not of_prompt):
        response.generated_tokens = True
    if of_prompt:
        response.input_tokens = True
    if wanted or prompt is not None:
        response.token_logprobs = True
    if ranks:
        response.token_ranks = True
    counted = logprobs if type(logprobs) is int else 0
    top = max(given.get("top_logprobs", 0), counted, prompt or 0)
    if top:
        response.top_n_tokens = top
    if given.get("echo"):
        response.input_text = True


def _check_together(given: Mapping[str, Any]) -> None:
    if given.get("n", 1) > 1:
        msg = "TGIS gives one completion of each prompt, so n must be 1."
        raise UnsupportedParameterError(msg, hint="Send the prompt several times, each with another seed.")
    if "max_tokens" in given and "max_completion_tokens" in given:
        msg = "max_tokens and max_completion_tokens are the same thing; set one of them."
        raise ConfigurationError(msg)
    longest = given.get("max_tokens", given.get("max_completion_tokens"))
    if longest is not None and given.get("min_tokens", 0) > longest:
        msg = f"min_tokens ({given['min_tokens']}) is above max_tokens ({longest})."
        raise ConfigurationError(msg)
    if given.get("top_logprobs") and given.get("logprobs", False) is False:
        msg = "top_logprobs needs logprobs=True."
        raise ConfigurationError(msg)
    method = given.get("decoding_method")
    if method == "greedy":
        ignored = [name for name in _SAMPLING if name in given and not (name == "temperature" and given[name] == 0)]
        if ignored:
            msg = f"decoding_method='greedy' would ignore {', '.join(ignored)}."
            raise ConfigurationError(msg, hint="Leave one or the other out.")
    elif method == "sample" and given.get("temperature") == 0:
        msg = "decoding_method='sample' and temperature=0 contradict each other."
        raise ConfigurationError(msg, hint="Set a temperature above 0, or leave decoding_method out.")


def _merge(params: messages.fmaas.Parameters, extra: Mapping[str, Any]) -> None:
    from google.protobuf.json_format import ParseDict, ParseError  # type: ignore[import-untyped]

    try:
        ParseDict(dict(extra), params)
    except (ParseError, TypeError, ValueError) as error:
        known = ", ".join(field.name for field in params.DESCRIPTOR.fields)
        msg = f"extra_body is not a part of TGIS's Parameters message: {str(error)[:200]}"
        raise ConfigurationError(msg, hint=f"Its fields are {known}.") from None


def _unknown(name: str) -> NoReturn:
    msg = f"TGIS has no parameter {name!r}."
    if name in _OTHER_NAMES:
        said = _OTHER_NAMES[name]
        raise UnsupportedParameterError(msg, hint=f"{said[0].upper()}{said[1:]}.")
    meant = did_you_mean(name, [*TABLE, *CONSTRAINTS], likeness=PARAMETER)
    raise UnsupportedParameterError(msg, hint=f"{meant}A field of its Parameters message goes into extra_body.")
