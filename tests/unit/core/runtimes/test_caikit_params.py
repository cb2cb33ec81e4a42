"""Caikit's generation parameters: names, ranges, and greedy or sampling."""

from __future__ import annotations

import pytest

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.caikit.params import merged, truncation, wire_params

ECHO_OFF = {"preserve_input_text": False}


def test_every_name_has_its_own_on_the_wire():
    params = {
        "max_tokens": 6,
        "min_tokens": 2,
        "truncate_prompt_tokens": 100,
        "temperature": 0.9,
        "top_k": 5,
        "top_p": 0.9,
        "typical_p": 0.8,
        "seed": 42,
        "repetition_penalty": 1.1,
        "time_limit": 5.0,
        "length_penalty": (2, 1.5),
        "stop": ["zzz"],
        "include_stop_str_in_output": True,
    }
    assert wire_params(params) == {
        "max_new_tokens": 6,
        "min_new_tokens": 2,
        "truncate_input_tokens": 100,
        "decoding_method": "SAMPLING",
        "temperature": 0.9,
        "top_k": 5,
        "top_p": 0.9,
        "typical_p": 0.8,
        "seed": 42,
        "repetition_penalty": 1.1,
        "max_time": 5.0,
        "exponential_decay_length_penalty": {"start_index": 2, "decay_factor": 1.5},
        "stop_sequences": ["zzz"],
        "include_stop_sequence": True,
        **ECHO_OFF,
    }


def test_caikits_own_names_are_understood():
    own = {"max_new_tokens": 3, "stop_sequences": ["a"], "max_time": 2, "truncate_input_tokens": 9}
    assert wire_params(own) == {**own, **ECHO_OFF}


def test_the_prompt_is_never_asked_back_and_nothing_unset_is_sent():
    assert wire_params({"temperature": None, "stop": [], "max_tokens": None}) == ECHO_OFF


@pytest.mark.parametrize("param", [{"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.5}, {"typical_p": 0.5}, {"seed": 1}])
def test_what_leaves_something_to_chance_turns_sampling_on(param):
    assert wire_params(param) == {"decoding_method": "SAMPLING", **param, **ECHO_OFF}


def test_temperature_zero_is_greedy_and_not_sent_itself():
    assert wire_params({"temperature": 0}) == {"decoding_method": "GREEDY", **ECHO_OFF}
    assert wire_params({"temperature": 0.0, "decoding_method": "greedy"}) == {"decoding_method": "GREEDY", **ECHO_OFF}


@pytest.mark.parametrize("neutral", [{"top_k": 0}, {"top_k": -1}, {"top_p": 1.0}, {"typical_p": 1}])
def test_a_value_that_switches_a_parameter_off_does_not_turn_sampling_on(neutral):
    assert wire_params(neutral) == ECHO_OFF
    assert wire_params({**neutral, "temperature": 0})["decoding_method"] == "GREEDY"


def test_sampling_at_temperature_zero_is_possible_when_asked_for():
    assert wire_params({"decoding_method": "SAMPLING", "temperature": 0, "seed": 3}) == {
        "decoding_method": "SAMPLING",
        "temperature": 0,
        "seed": 3,
        **ECHO_OFF,
    }


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"temperature": 0, "seed": 1}, "seed"),
        ({"temperature": 0, "top_k": 5, "top_p": 0.5}, "top_k and top_p"),
        ({"decoding_method": "GREEDY", "temperature": 0.5}, "temperature"),
        ({"decoding_method": "GREEDY", "typical_p": 0.5}, "typical_p"),
    ],
)
def test_greedy_with_sampling_options_is_refused(params, named):
    with pytest.raises(ConfigurationError, match=f"so {named} cannot be set") as caught:
        wire_params(params)
    assert named in caught.value.hint


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": -1},
        {"max_tokens": 2.5},
        {"max_tokens": True},
        {"max_tokens": 2, "min_tokens": 5},
        {"min_tokens": 21},
        {"truncate_prompt_tokens": -1},
        {"temperature": -1},
        {"temperature": 0.01},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"typical_p": 1.1},
        {"top_k": -2},
        {"seed": -1},
        {"seed": 2**64},
        {"repetition_penalty": 0},
        {"time_limit": 0},
        {"decoding_method": "BEAM"},
        {"length_penalty": 1.2},
        {"length_penalty": (2, 11)},
        {"length_penalty": {"start": 1, "decay_factor": 2}},
        {"stop": [""]},
        {"stop": [1]},
        {"logprobs": 3},
        {"prompt_logprobs": 2},
        {"token_logprobs": True},
        {"max_tokens": 3, "max_new_tokens": 3},
        {"n": 0},
    ],
)
def test_what_the_server_would_refuse_is_refused_before(params):
    with pytest.raises(ConfigurationError):
        wire_params(params)


def test_min_tokens_is_compared_with_the_servers_default():
    with pytest.raises(ConfigurationError, match="above 20") as caught:
        wire_params({"min_tokens": 30})
    assert "max_tokens to at least 30" in caught.value.hint
    assert wire_params({"min_tokens": 30, "max_tokens": 0})["min_new_tokens"] == 30  # 0: the backend's own limit


def test_logprobs_ask_for_what_belongs_together():
    details = {"generated_tokens": True, "token_logprobs": True, "token_ranks": True}
    assert wire_params({"logprobs": True}) == {**details, **ECHO_OFF}
    assert wire_params({"logprobs": False}) == ECHO_OFF
    assert wire_params({"prompt_logprobs": True}) == {
        "input_tokens": True,
        "token_logprobs": True,
        "token_ranks": True,
        **ECHO_OFF,
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_token", "max_tokens"),
        ("temprature", "temperature"),
        ("frequency_penalty", "repetition_penalty"),
        ("guided_json", "prompt"),
        ("top_logprobs", "logprobs=True"),
        ("preserve_input_text", "never repeat the prompt"),
        ("something_new", "extra_body"),
    ],
)
def test_a_parameter_it_does_not_have_is_named_with_what_to_do(name, hint):
    with pytest.raises(UnsupportedParameterError, match=f"Caikit has no parameter '{name}'") as caught:
        wire_params({name: 1})
    assert hint in caught.value.hint


def test_one_answer_only():
    assert wire_params({"n": 1}) == ECHO_OFF
    with pytest.raises(UnsupportedParameterError, match="one answer"):
        wire_params({"n": 2})


def test_extra_body_goes_over_the_parameters_and_holds_no_null():
    assert merged({"a": 1, "b": 2}, {"b": 3, "a": None, "c": 4}) == {"b": 3, "c": 4}
    with pytest.raises(ConfigurationError, match="model_id"):
        merged({}, {"model_id": "other"})


def test_truncation():
    assert truncation(None) == {}
    assert truncation(-1) == {"truncate_input_tokens": -1}
    assert truncation(7) == {"truncate_input_tokens": 7}
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(ConfigurationError):
            truncation(wrong)
