"""Sampling parameters: which ones vLLM takes, in which range, under which name.

Only what the server refuses in every case is refused here, before anything is sent; limits that changed between
versions (how many stop strings, how many top log probabilities) are left to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from kserve_core.capabilities import Params
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import PARAMETER, did_you_mean
from kserve_core.runtimes.checks import (
    INT64_MAX,
    OMIT,
    Check,
    boolean,
    integer,
    logit_bias,
    mapping,
    mappings,
    number,
    one_of,
    refuse,
    text,
    texts,
    token_ids,
)

Task = Literal["chat", "completion"]

_COMMON: dict[str, Check] = {
    # sampling
    "temperature": number(0, 2),
    "top_p": number(above=0, high=1),
    "top_k": integer(-1),
    "min_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "repetition_penalty": number(above=0),
    "length_penalty": number(),
    "logit_bias": logit_bias,
    "allowed_token_ids": token_ids,
    "bad_words": texts,
    "seed": integer(-INT64_MAX - 1),
    "n": integer(1),
    "use_beam_search": boolean,
    # length and end
    "min_tokens": integer(0),
    "stop": texts,
    "stop_token_ids": token_ids,
    "include_stop_str_in_output": boolean,
    "ignore_eos": boolean,
    "repetition_detection": mapping,
    # the prompt
    "echo": boolean,
    "add_special_tokens": boolean,
    "truncate_prompt_tokens": integer(-1),
    "truncation_side": one_of("left", "right"),
    # the answer
    "skip_special_tokens": boolean,
    "spaces_between_special_tokens": boolean,
    "prompt_logprobs": integer(-1),
    "logprob_token_ids": token_ids,
    "return_token_ids": boolean,
    "return_tokens_as_token_ids": boolean,
    "return_token_offsets": boolean,
    "stream_interval": integer(1),
    "thinking_token_budget": integer(-1),
    # forms of the answer, in the server's own words
    "response_format": mapping,
    "structured_outputs": mapping,
    # scheduling
    "priority": integer(-INT64_MAX - 1),
    "request_id": text,
    "session_id": text,
    "cache_salt": text,
    "user": text,
    "kv_transfer_params": mapping,
    "ec_transfer_params": mapping,
    "vllm_xargs": mapping,
}

_CHAT: dict[str, Check] = {
    **_COMMON,
    "max_tokens": integer(1),
    "max_completion_tokens": integer(1),
    "logprobs": boolean,
    "top_logprobs": integer(-1),
    "add_generation_prompt": boolean,
    "continue_final_message": boolean,
    "chat_template": text,
    "chat_template_kwargs": mapping,
    "documents": mappings,
    "mm_processor_kwargs": mapping,
    "media_io_kwargs": mapping,
    "include_reasoning": boolean,
    "reasoning_effort": text,
    "return_prompt_text": boolean,
}

_COMPLETION: dict[str, Check] = {
    **_COMMON,
    "max_tokens": integer(0),
    "logprobs": integer(-1),
    "top_logprobs": integer(-1),
    "suffix": text,
}

TABLES: Mapping[Task, Mapping[str, Check]] = {"chat": _CHAT, "completion": _COMPLETION}

CONSTRAINTS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar")
"""The names constraints had up to 0.11; see `kserve_core.runtimes.vllm.constraints`."""

# Known elsewhere, but without effect here: sending them would be dropping them silently.
_WITHOUT_EFFECT: dict[str, str] = {
    "best_of": "use n, or n with use_beam_search=True",
    "logits_processors": "current versions take them only at the server's start; see vllm_xargs",
    "typical_p": "use top_p or min_p",
    "typical": "use top_p or min_p",
    "decoding_method": "set temperature=0 for greedy decoding",
    "max_new_tokens": "the name is max_tokens",
    "min_new_tokens": "the name is min_tokens",
    "stop_sequences": "the name is stop",
    "random_seed": "the name is seed",
    "service_tier": "use priority",
    "store": "the server keeps nothing",
    "metadata": "the server keeps nothing; use request_id or user to find a request again",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "n_predict": "the name is max_tokens",
    "num_predict": "the name is max_tokens",
    "repeat_penalty": "the name is repetition_penalty",
}

_REQUEST_FIELDS = frozenset(
    {"messages", "prompt", "model", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls"}
)


def wire_params(task: Task, params: Params) -> dict[str, Any]:
    """The parameters as they are sent; None values are parameters that were not set.

    Raises:
        UnsupportedParameterError: For one that vLLM does not have.
        ConfigurationError: For a value, or a combination, that it refuses.
    """
    table = TABLES[task]
    body: dict[str, Any] = {}
    for name, value in params.items():
        if value is None or name in CONSTRAINTS:
            continue
        check = table.get(name)
        if check is None:
            _unknown(task, name)
        if name == "logprobs":
            value = _logprobs(task, value, params)  # noqa: PLW2901
            if value is OMIT:
                continue
        elif name == "top_logprobs" and task == "completion":
            continue
        checked = check(name, value)
        if checked is not OMIT:
            body[name] = checked
    _check_together(task, body, params)
    return body


def _logprobs(task: Task, value: Any, params: Params) -> Any:
    """Chat wants a boolean and a number apart, text completions one number."""
    if task == "chat":
        if type(value) is int:
            refuse("logprobs", value, "True or False", hint=f"Set logprobs=True and top_logprobs={value}.")
        return value
    top = params.get("top_logprobs")
    if value is False:
        return OMIT
    if value is True:
        return top if top is not None else 0
    return value


def _check_together(task: Task, body: dict[str, Any], params: Params) -> None:
    if params.get("top_logprobs") is not None and not params.get("logprobs"):
        msg = "top_logprobs needs logprobs=True."
        raise ConfigurationError(msg)
    if "max_tokens" in body and "max_completion_tokens" in body:
        msg = "max_tokens and max_completion_tokens are the same thing; set one of them."
        raise ConfigurationError(msg)
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if limit is not None and body.get("min_tokens", 0) > limit:
        msg = f"min_tokens ({body['min_tokens']}) is above max_tokens ({limit})."
        raise ConfigurationError(msg)
    if limit == 0 and not body.get("echo"):
        msg = "max_tokens=0 is possible only with echo=True."
        raise ConfigurationError(msg)
    if body.get("n", 1) > 1 and body.get("temperature") == 0 and not body.get("use_beam_search"):
        msg = "n above 1 with temperature=0 would give the same answer n times; the server refuses it."
        raise ConfigurationError(msg, hint="Set a temperature above 0, or use_beam_search=True.")
    if task == "chat" and body.get("continue_final_message") and body.get("add_generation_prompt") is not False:
        msg = "continue_final_message=True needs add_generation_prompt=False."
        raise ConfigurationError(msg)


def _unknown(task: Task, name: str) -> NoReturn:
    if name in _WITHOUT_EFFECT:
        msg = f"vLLM has no parameter {name!r}."
        raise UnsupportedParameterError(msg, hint=f"{_WITHOUT_EFFECT[name].capitalize()}.")
    if name in _REQUEST_FIELDS:
        msg = f"{name!r} is part of the request itself, not a sampling parameter."
        raise UnsupportedParameterError(msg)
    other: Task = "completion" if task == "chat" else "chat"
    if name in TABLES[other]:
        kinds = {"chat": "chat", "completion": "text completions"}
        msg = f"vLLM takes {name!r} for {kinds[other]} only, not for {kinds[task]}."
        raise UnsupportedParameterError(msg)
    meant = did_you_mean(name, [*TABLES[task], *CONSTRAINTS], likeness=PARAMETER)
    msg = f"vLLM has no parameter {name!r}."
    raise UnsupportedParameterError(msg, hint=f"{meant}A field this package does not know goes into extra_body.")
