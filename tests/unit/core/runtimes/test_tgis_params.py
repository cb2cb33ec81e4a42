"""What a request looks like on the wire, and what is refused before it is sent."""

from __future__ import annotations

import pytest
from unit.core.runtimes.tgis_wire import M, Server, batch, done

from kserve_core.capabilities import OutputConstraint, TextRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError

FORMAT = M.DecodingParameters.ResponseFormat


def sent(constraint=None, extra_body=None, **params):
    server = Server(Generate=batch(done()))
    client = server.client()
    request = TextRequest(prompts=["a"], params=params, constraint=constraint, extra_body=extra_body or {})
    client.run(client.runtime.generate(request))
    return server.request.params


def test_nothing_is_sent_that_was_not_set():
    assert sent() == M.Parameters()
    assert sent(temperature=None, stop=None, max_tokens=None) == M.Parameters()


def test_lengths_and_ends():
    params = sent(max_tokens=7, min_tokens=2, time_limit=1.5, stop=["x", "yé"])
    assert params.stopping.max_new_tokens == 7
    assert params.stopping.min_new_tokens == 2
    assert params.stopping.time_limit_millis == 1500
    assert list(params.stopping.stop_sequences) == ["x", "yé"]
    assert params.stopping.HasField("include_stop_sequence")
    assert params.stopping.include_stop_sequence is False


def test_the_stop_text_is_kept_when_asked_for():
    assert sent(stop="x", include_stop_str_in_output=True).stopping.include_stop_sequence is True


def test_a_short_time_limit_is_not_rounded_to_none():
    assert sent(time_limit=0.0001).stopping.time_limit_millis == 1


def test_an_empty_list_of_stops_is_none():
    assert sent(stop=[]) == M.Parameters()


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 0.5), ("top_k", 10), ("top_p", 0.5), ("typical_p", 0.5), ("seed", 2**64 - 1)]
)
def test_a_sampling_parameter_makes_it_sample(name, value):
    params = sent(**{name: value})
    assert params.method == M.DecodingMethod.SAMPLE
    assert getattr(params.sampling, name) == value
    assert len(params.sampling.ListFields()) == 1


def test_temperature_zero_is_greedy_and_sends_no_temperature_at_all():
    # A 0.0 on the wire is greedy to one generation of servers and 1.0 to the other.
    assert sent(temperature=0, top_p=0.5, seed=3) == M.Parameters()


def test_the_method_can_be_named():
    assert sent(decoding_method="sample").method == M.DecodingMethod.SAMPLE
    assert sent(decoding_method="greedy", temperature=0) == M.Parameters()


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_off_is_not_sent(top_k):
    assert sent(top_k=top_k) == M.Parameters()
    assert sent(top_k=top_k, temperature=0.5).sampling.top_k == 0


def test_length_penalty_comes_with_a_neutral_repetition_penalty():
    # The classic server honors it only beside one.
    decoding = sent(length_penalty={"start_index": 3, "decay_factor": 2.0}).decoding
    assert (decoding.length_penalty.start_index, decoding.length_penalty.decay_factor) == (3, 2.0)
    assert decoding.repetition_penalty == 1.0
    assert sent(length_penalty=(3, 2), repetition_penalty=1.5).decoding.repetition_penalty == 1.5


def test_token_details():
    response = sent(logprobs=True, top_logprobs=4).response
    assert (response.generated_tokens, response.token_logprobs, response.top_n_tokens) == (True, True, 4)
    assert not response.input_tokens
    response = sent(prompt_logprobs=2, token_ranks=True).response
    assert (response.input_tokens, response.token_logprobs, response.token_ranks) == (True, True, True)
    assert (response.generated_tokens, response.top_n_tokens) == (False, 2)
    assert sent(logprobs=3).response.top_n_tokens == 3
    assert sent(token_ranks=True).response.generated_tokens
    assert sent(logprobs=False) == M.Parameters()


def test_the_prompt():
    params = sent(echo=True, truncate_prompt_tokens=5)
    assert params.response.input_text
    assert params.truncate_input_tokens == 5


def test_constraints():
    schema = {"type": "object"}
    assert sent(OutputConstraint("json_schema", schema)).decoding.json_schema == '{"type":"object"}'
    assert sent(guided_json='{"type":"object"}').decoding.json_schema == '{"type":"object"}'
    assert sent(OutputConstraint("json_object")).decoding.format == FORMAT.JSON
    assert sent(OutputConstraint("json_object")).decoding.WhichOneof("guided") == "format"
    assert sent(OutputConstraint("regex", "[0-9]+")).decoding.regex == "[0-9]+"
    assert list(sent(OutputConstraint("choice", ["a", "b"])).decoding.choice.choices) == ["a", "b"]
    assert sent(guided_grammar='root ::= "a"').decoding.grammar == 'root ::= "a"'


def test_fields_without_a_name_here_go_through_extra_body():
    params = sent(extra_body={"truncate_input_tokens": 9, "stopping": {"max_new_tokens": 3}}, max_tokens=5)
    assert params.truncate_input_tokens == 9
    assert params.stopping.max_new_tokens == 3


@pytest.mark.parametrize("extra", [{"nope": 1}, {"truncate_input_tokens": "many"}, {"stopping": 3}])
def test_extra_body_that_does_not_fit(extra):
    with pytest.raises(ConfigurationError, match="Parameters message") as caught:
        sent(extra_body=extra)
    assert "truncate_input_tokens" in caught.value.hint


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"typical_p": 1.5},
        {"seed": -1},
        {"seed": 2**64},
        {"repetition_penalty": 3},
        {"repetition_penalty": 0},
        {"length_penalty": 1.2},
        {"length_penalty": {"start_index": 1, "decay_factor": 0.5}},
        {"length_penalty": {"decay_factor": 2}},
        {"max_tokens": 0},
        {"max_tokens": 2**32},
        {"min_tokens": 5, "max_tokens": 4},
        {"time_limit": 0},
        {"stop": list("abcdefg")},
        {"stop": [""]},
        {"stop": ["é" * 121]},
        {"top_logprobs": 11, "logprobs": True},
        {"top_logprobs": 2},
        {"prompt_logprobs": -1},
        {"truncate_prompt_tokens": -1},
        {"decoding_method": "beam"},
        {"decoding_method": "greedy", "top_p": 0.5},
        {"decoding_method": "sample", "temperature": 0},
        {"max_tokens": 1, "max_completion_tokens": 1},
        {"echo": "yes"},
        {"guided_choice": ["one"]},
        {"guided_regex": ""},
        {"guided_json": "{nope"},
        {"guided_json": {}, "guided_regex": "a"},
    ],
)
def test_what_the_server_would_refuse_is_refused_here(params):
    with pytest.raises(ConfigurationError):
        sent(**params)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("max_new_tokens", "max_tokens"),
        ("stop_sequences", "stop"),
        ("random_seed", "seed"),
        ("frequency_penalty", "repetition_penalty"),
        ("temprature", "temperature"),
        ("best_of", "extra_body"),
    ],
)
def test_a_parameter_that_does_not_exist_names_the_one_that_does(name, word):
    with pytest.raises(UnsupportedParameterError, match="TGIS has no parameter") as caught:
        sent(**{name: 1})
    assert word in caught.value.hint


def test_several_completions_of_one_prompt_are_not_there():
    assert sent(n=1) == M.Parameters()
    with pytest.raises(UnsupportedParameterError, match="one completion of each prompt"):
        sent(n=2)
