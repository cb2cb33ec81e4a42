"""Generation parameters: where a model takes them, in which range, under which name.

The protocol has no parameters for text. A model takes one as an input of its own, as a member of the vLLM backend's
`sampling_parameters`, or as an argument of the Hugging Face pipeline; and, where the user says so by giving it a
value in `parameters` or `extra_inputs`, as a request parameter or an input that the metadata does not list. One that
has no place is refused, because servers drop what they do not know.

Stop texts, `include_stop_str_in_output` and `echo` work with every model: what the server does not do is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from kserve_core._json import encode
from kserve_core.capabilities import Params
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import nearest
from kserve_core.runtimes.checks import (
    OMIT,
    Check,
    boolean,
    integer,
    logit_bias,
    number,
    text,
    texts,
    token_ids,
)
from kserve_core.runtimes.open_inference.given import Value, input_value, value_of
from kserve_core.runtimes.open_inference.huggingface import argument, pipeline_arguments
from kserve_core.runtimes.open_inference.presets import EXCLUDE_PROMPT, PLACES, SAMPLING, STREAM, TextModel
from kserve_core.runtimes.open_inference.values import TensorSpec

_UINT64_MAX = 2**64 - 1


def _logprobs(name: str, value: Any) -> Any:
    return value if isinstance(value, bool) else integer(0)(name, value)


CHECKS: Mapping[str, Check] = {
    # sampling
    "temperature": number(0),
    "top_p": number(above=0, high=1),
    "top_k": integer(-1),
    "min_p": number(0, 1),
    "typical_p": number(above=0, high=1),
    "seed": integer(-(2**63), _UINT64_MAX),
    "n": integer(1),
    "frequency_penalty": number(),
    "presence_penalty": number(),
    "repetition_penalty": number(above=0),
    "length_penalty": number(),
    "logit_bias": logit_bias,
    "allowed_token_ids": token_ids,
    "bad_words": texts,
    # length and end
    "max_tokens": integer(1),
    "min_tokens": integer(0),
    "stop": texts,
    "stop_token_ids": token_ids,
    "include_stop_str_in_output": boolean,
    "ignore_eos": boolean,
    # the prompt
    "echo": boolean,
    "truncate_prompt_tokens": integer(-1),
    "lora_name": text,
    # what comes back
    "skip_special_tokens": boolean,
    "spaces_between_special_tokens": boolean,
    "logprobs": _logprobs,
    "top_logprobs": integer(0),
    "prompt_logprobs": integer(0),
}
"""The canonical parameters, and their checks. Any other name has to be an input that the model declares."""

_VLLM = frozenset(CHECKS) - {"typical_p", "length_penalty", "echo", "top_logprobs", "prompt_logprobs"}
"""What the vLLM backend's `sampling_parameters` may hold."""
_VLLM_OUTPUTS = {
    "return_finish_reason": "finish_reason",
    "return_num_input_tokens": "num_input_tokens",
    "return_num_output_tokens": "num_output_tokens",
}
"""Inputs that ask for more outputs, and those outputs; of the vLLM backend and newer TensorRT-LLM ones."""
_OWN = frozenset({STREAM, EXCLUDE_PROMPT, SAMPLING, *_VLLM_OUTPUTS, "return_logprobs"})
"""Inputs that are set here and are no parameters."""
_SCHEDULING = frozenset({"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"})
"""Request parameters that Triton itself reads."""

_OTHER_NAMES = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_sequences": "stop",
    "stop_words": "stop",
    "random_seed": "seed",
    "typical": "typical_p",
}


@dataclass(slots=True)
class Beside:
    """What goes with a prompt, and what is done here.

    Attributes:
        inputs: Further inputs by name.
        parameters: Request parameters.
        stops: Stop texts at which the answer is cut here.
        server_stops: Whether the server stops at them as well, so that nothing is generated in vain.
        keep_stop: Whether the stop text belongs to the answer.
        echo: Whether the answer shall begin with the prompt.
        logprobs: Whether log-probabilities were asked for.
        outputs: Further outputs wanted.
    """

    inputs: dict[str, Value] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict, repr=False)
    stops: tuple[str, ...] = field(default=(), repr=False)
    server_stops: bool = False
    keep_stop: bool = False
    echo: bool = False
    logprobs: bool = False
    outputs: list[str] = field(default_factory=list)


def beside(
    model: TextModel,
    params: Params,
    *,
    extra_body: Mapping[str, Any],
    extra_inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    streaming: bool,
    include_usage: bool = True,
) -> Beside:
    """Puts every parameter in its place.

    Args:
        model: The model.
        params: The parameters that were set.
        extra_body: Inputs, pipeline arguments or request parameters of this request, sent over everything else.
        extra_inputs: Inputs the user sends with every request.
        parameters: Request parameters the user sends with every request.
        streaming: Whether the model is to send its answer in pieces.
        include_usage: Whether token counts are wanted.

    Raises:
        UnsupportedParameterError: For a parameter that the model has no place for.
        ConfigurationError: For a value that cannot be right.
    """
    sent = Beside(parameters=dict(parameters))
    for name, value in extra_inputs.items():
        sent.inputs[name] = input_value(name, value, model)
    given = _checked(params)
    _done_here(given, sent)
    _logprobs_of(model, given, sent)
    if model.kind == "vllm":
        _vllm(model, given, sent, extra_body)
    elif model.kind == "huggingface":
        _huggingface(model, given, sent, extra_body)
    else:
        _tensors(model, given, sent, extra_body)
    _ask(model, sent, streaming=streaming, include_usage=include_usage)
    return sent


def _checked(params: Params) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in params.items():
        if value is None:
            continue
        if name == "max_completion_tokens":
            if params.get("max_tokens") is not None:
                msg = "max_tokens and max_completion_tokens are the same thing; set one of them."
                raise ConfigurationError(msg)
            name = "max_tokens"  # noqa: PLW2901 - its other name
        check = CHECKS.get(name)
        checked = value if check is None else check(name, value)
        if checked is not OMIT:
            given[name] = checked
    if given.get("min_tokens", 0) > given.get("max_tokens", _UINT64_MAX):
        msg = f"min_tokens ({given['min_tokens']}) is above max_tokens ({given['max_tokens']})."
        raise ConfigurationError(msg)
    return given


def _done_here(given: dict[str, Any], sent: Beside) -> None:
    sent.stops = tuple(given.get("stop", ()))
    sent.keep_stop = bool(given.pop("include_stop_str_in_output", False))
    sent.echo = bool(given.pop("echo", False))


def _logprobs_of(model: TextModel, given: dict[str, Any], sent: Beside) -> None:
    wanted, top = given.pop("logprobs", False), given.pop("top_logprobs", None)
    if wanted is False:
        if top is not None:
            msg = "top_logprobs needs logprobs=True."
            raise ConfigurationError(msg)
        return
    count = top if top is not None else (0 if wanted is True else wanted)
    sent.logprobs = True
    if model.kind == "vllm" and model.metadata.input("return_logprobs") is not None:
        sent.inputs["return_logprobs"] = value_of("return_logprobs", True, _spec(model, "return_logprobs"))
        sent.outputs.append("logprobs")
        given["logprobs"] = count
        return
    place = model.place("logprobs") if model.kind == "tensors" else None
    if place is None:
        _no_place("logprobs", model)
    if count:
        msg = f"The model {model.metadata.name!r} tells the log-probability of the chosen tokens only."
        raise UnsupportedParameterError(msg, hint="Leave top_logprobs out, and set logprobs=True.")
    sent.inputs[place.name] = value_of("logprobs", True, place)
    sent.outputs += [name for name in ("cum_log_probs", "output_log_probs") if model.metadata.output(name) is not None]


def _vllm(model: TextModel, given: dict[str, Any], sent: Beside, extra: Mapping[str, Any]) -> None:
    """One JSON text. With it the backend does not look at request parameters, so those go into it as well."""
    sampling = {
        name: sent.parameters.pop(name)
        for name in list(sent.parameters)
        if name not in _SCHEDULING and not name.startswith("triton_")
    }
    for name, value in given.items():
        if name in _VLLM:
            sampling[name] = value
        elif name in sent.inputs or (name not in _OWN and model.place(name) is not None):
            _set_input(name, value, model, sent)
        else:
            _no_place(name, model)
    if sent.keep_stop:
        sampling["include_stop_str_in_output"] = True
    for name, value in extra.items():
        if name in sent.inputs or model.metadata.input(name) is not None:
            sent.inputs[name] = input_value(name, value, model)
        elif name in _SCHEDULING or name.startswith("triton_"):
            sent.parameters[name] = value
        else:
            sampling[name] = value
    sampling = {name: value for name, value in sampling.items() if value is not None}
    # The server stops at them itself and tells why it stopped.
    sent.server_stops, sent.stops = bool(sent.stops), ()
    if sampling and SAMPLING not in extra:
        sent.inputs[SAMPLING] = value_of(SAMPLING, encode(sampling).decode(), _spec(model, SAMPLING))


def _huggingface(model: TextModel, given: dict[str, Any], sent: Beside, extra: Mapping[str, Any]) -> None:
    given.pop("stop", None)  # done here: the pipeline takes none
    arguments, left = pipeline_arguments(given)
    for name in left:
        if name in sent.inputs or name in sent.parameters:
            _set(name, given[name], model, sent)
        else:
            _no_place(name, model)
    arguments.update({name: value for name, value in extra.items() if value is not None})
    for name, value in arguments.items():
        spec, values, tensor_parameters = argument(name, value)
        sent.inputs[name] = Value(spec, values, tensor_parameters)


def _tensors(model: TextModel, given: dict[str, Any], sent: Beside, extra: Mapping[str, Any]) -> None:
    if given.get("n", 1) == 1:
        given.pop("n", None)
    for name, value in given.items():
        if name == "stop" and not _has_place(name, model, sent):
            continue  # done here
        if name not in CHECKS and name in _OWN:
            _no_place(name, model)
        _set(name, value, model, sent)
        sent.server_stops = sent.server_stops or name == "stop"
    for name, value in extra.items():
        if value is None:
            sent.inputs.pop(name, None)
            sent.parameters.pop(name, None)
        elif name in sent.inputs or model.metadata.input(name) is not None:
            sent.inputs[name] = input_value(name, value, model)
        else:
            sent.parameters[name] = value


def _has_place(name: str, model: TextModel, sent: Beside) -> bool:
    own = (name, *PLACES.get(name, ()))
    return any(each in sent.inputs or each in sent.parameters for each in own) or model.place(name) is not None


def _set(name: str, value: Any, model: TextModel, sent: Beside) -> None:
    """Sets a parameter where the user or the model has a place for it."""
    for own in (name, *PLACES.get(name, ())):
        if own in sent.parameters:
            sent.parameters[own] = value
            return
    _set_input(name, value, model, sent)


def _set_input(name: str, value: Any, model: TextModel, sent: Beside) -> None:
    for own in (name, *PLACES.get(name, ())):
        if own in sent.inputs:
            sent.inputs[own] = value_of(name, value, sent.inputs[own].spec)
            return
    spec = model.place(name)
    if spec is None:
        _no_place(name, model)
    sent.inputs[spec.name] = value_of(name, value, spec)


def _ask(model: TextModel, sent: Beside, *, streaming: bool, include_usage: bool) -> None:
    """What is asked of a backend that has inputs for it: pieces or not, no prompt in the answer, counts."""
    declared = model.metadata.input
    wishes: dict[str, bool] = {STREAM: streaming, EXCLUDE_PROMPT: True}
    for name, output in _VLLM_OUTPUTS.items():
        if not include_usage and output != "finish_reason":
            continue
        if declared(name) is not None:
            wishes[name] = True
        elif model.metadata.output(output) is None:
            continue
        sent.outputs.append(output)
    for name, value in wishes.items():
        spec = declared(name)
        if spec is not None and spec.datatype == "BOOL" and name not in sent.inputs:
            sent.inputs[name] = Value(spec, [value])


def _spec(model: TextModel, name: str) -> TensorSpec:
    spec = model.metadata.input(name)
    if spec is None:  # pragma: no cover - asked only about declared inputs
        raise KeyError(name)
    return spec


def _no_place(name: str, model: TextModel) -> NoReturn:
    called = model.metadata.name
    if name == "n":
        msg = f"The model {called!r} gives one answer to a prompt, so n must be 1."
        raise UnsupportedParameterError(msg, hint="Send the prompt several times, each with another seed.")
    msg = f"The model {called!r} has no place for the parameter {name!r}."
    known = _OTHER_NAMES.get(name) or nearest(name, CHECKS, likeness=0.75)
    meant = f"Did you mean {known!r}? " if known and known != name else ""
    hint = f"{meant}{model.declares()}"
    if model.kind == "tensors":
        hint += f" If it reads it from the request's parameters, say so: parameters={{{name!r}: ...}}."
    raise UnsupportedParameterError(msg, hint=hint)
