"""Sampling parameters: names, ranges, combinations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.vllm.params import TABLES, wire_params

EXAMPLES = {
    "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "frequency_penalty": -2, "presence_penalty": 2,
    "repetition_penalty": 1.1, "length_penalty": 0.8, "logit_bias": {"7": -100}, "allowed_token_ids": [1, 2],
    "bad_words": ["no"], "seed": -1, "n": 2, "use_beam_search": True, "min_tokens": 1, "stop": ["x"],
    "stop_token_ids": [2], "include_stop_str_in_output": True, "ignore_eos": True, "repetition_detection": {"min_count": 2},
    "echo": True, "add_special_tokens": False, "truncate_prompt_tokens": -1, "truncation_side": "left",
    "skip_special_tokens": False, "spaces_between_special_tokens": False, "prompt_logprobs": 1,
    "logprob_token_ids": [5], "return_token_ids": True, "return_tokens_as_token_ids": True,
    "return_token_offsets": True, "stream_interval": 4, "thinking_token_budget": 100,
    "response_format": {"type": "text"}, "structured_outputs": {"regex": "a"}, "priority": -1, "request_id": "r",
    "session_id": "s", "cache_salt": "c", "user": "u", "kv_transfer_params": {"a": 1}, "ec_transfer_params": {"a": 1},
    "vllm_xargs": {"a": 1}, "max_tokens": 5, "max_completion_tokens": 5, "logprobs": True, "top_logprobs": 3,
    "add_generation_prompt": False, "continue_final_message": True, "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"enable_thinking": False}, "documents": [{"text": "d"}],
    "mm_processor_kwargs": {"num_crops": 4}, "media_io_kwargs": {"video": {"num_frames": 8}},
    "include_reasoning": False, "reasoning_effort": "low", "return_prompt_text": True, "suffix": "end",
}  # fmt: skip
COMPANIONS = {"top_logprobs": {"logprobs": True}, "continue_final_message": {"add_generation_prompt": False}}


@pytest.mark.parametrize("name", TABLES["chat"])
def test_every_chat_parameter_goes_out_under_its_name(name):
    companions = COMPANIONS.get(name, {})
    assert wire_params("chat", {name: EXAMPLES[name], **companions}) == {name: EXAMPLES[name], **companions}


@pytest.mark.parametrize("name", sorted(set(TABLES["completion"]) - {"logprobs", "top_logprobs"}))
def test_every_completion_parameter_goes_out_under_its_name(name):
    assert wire_params("completion", {name: EXAMPLES[name]}) == {name: EXAMPLES[name]}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"logprobs": 5}, {"logprobs": 5}),
        ({"logprobs": 0}, {"logprobs": 0}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": False}, {}),
    ],
)
def test_log_probabilities_of_completions_are_one_number(given, sent):
    assert wire_params("completion", given) == sent


def test_none_means_not_set():
    assert wire_params("chat", {"temperature": None, "stop": None}) == {}


def test_what_says_nothing_is_left_out():
    assert wire_params("chat", {"stop": [], "bad_words": [], "stop_token_ids": [], "logit_bias": {}}) == {}


def test_values_take_the_form_of_the_wire():
    sent = wire_params("chat", {"stop": "x", "logit_bias": {7: 1}, "temperature": np.float32(0.5), "seed": np.int64(3)})
    assert sent == {"stop": ["x"], "logit_bias": {"7": 1}, "temperature": 0.5, "seed": 3}
    assert type(sent["seed"]) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", math.nan), ("temperature", "1"), ("temperature", True),
        ("top_p", 0), ("top_p", 1.01), ("min_p", -0.1), ("min_p", 1.1), ("top_k", -2), ("top_k", 1.5),
        ("repetition_penalty", 0), ("repetition_penalty", math.inf), ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1), ("n", 0), ("n", True), ("seed", 2**63), ("seed", 1.0), ("max_tokens", 0),
        ("max_tokens", -1), ("max_tokens", "10"), ("min_tokens", -1), ("stop", ["a", ""]), ("stop", [1]), ("stop", 5),
        ("stop_token_ids", ["1"]), ("stop_token_ids", [-1]), ("stop_token_ids", 3), ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}), ("logit_bias", [1]), ("ignore_eos", 1), ("logprobs", 5), ("chat_template", 1),
        ("chat_template_kwargs", []), ("documents", {"text": "x"}), ("truncation_side", "middle"),
        ("truncate_prompt_tokens", -2), ("skip_special_tokens", "false"),
    ],
)  # fmt: skip
def test_what_the_server_would_refuse_is_not_sent(name, value):
    with pytest.raises(ConfigurationError, match=name):
        wire_params("chat", {name: value})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"top_logprobs": 3}, "needs logprobs"),
        ({"top_logprobs": 3, "logprobs": False}, "needs logprobs"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "same thing"),
        ({"max_tokens": 3, "min_tokens": 4}, "above max_tokens"),
        ({"n": 2, "temperature": 0}, "temperature=0"),
        ({"continue_final_message": True}, "add_generation_prompt=False"),
    ],
)
def test_combinations_the_server_would_refuse(params, words):
    with pytest.raises(ConfigurationError, match=words):
        wire_params("chat", params)


def test_combinations_it_takes():
    wire_params("chat", {"n": 2, "temperature": 0, "use_beam_search": True})
    wire_params("completion", {"max_tokens": 0, "echo": True})
    with pytest.raises(ConfigurationError, match="echo"):
        wire_params("completion", {"max_tokens": 0})


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        ("chat", "temprature", "Did you mean 'temperature'"),
        ("chat", "frobnicate", "extra_body"),
        ("chat", "best_of", "n with use_beam_search"),
        ("chat", "max_new_tokens", "max_tokens"),
        ("chat", "typical_p", "top_p"),
        ("chat", "messages", "part of the request itself"),
        ("chat", "stream", "part of the request itself"),
        ("chat", "suffix", "text completions only"),
        ("completion", "chat_template", "chat only"),
    ],
)
def test_a_parameter_it_does_not_have_is_named_never_dropped(task, name, words):
    with pytest.raises(UnsupportedParameterError) as info:
        wire_params(task, {name: 1})
    assert name in str(info.value)
    assert words in str(info.value)
