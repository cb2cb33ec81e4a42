"""What `VLLM` sends."""

from __future__ import annotations

import json

import pytest
from langchain_core import exceptions as lc
from unit.langchain.llms.seen import bodies

from kserve_core import errors as core
from kserve_core.devserver import DevServer
from langchain_kserve import VLLM


def test_nothing_is_sent_that_was_not_set(server, llm):
    llm.invoke("Say hello.")
    list(llm.stream("Say hello."))
    whole, streamed = bodies(server)
    assert whole.keys() == {"model", "prompt"}
    assert streamed.keys() == {"model", "prompt", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("max_tokens", 5),
        ("min_tokens", 0),
        ("top_p", 0.5),
        ("top_k", 3),
        ("min_p", 0.1),
        ("stop", ["\n"]),
        ("seed", 0),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 0.5),
        ("repetition_penalty", 1.1),
        ("length_penalty", 1.1),
        ("stop_token_ids", [7]),
        ("include_stop_str_in_output", True),
        ("ignore_eos", False),
        ("logit_bias", {"7": 1.0}),
        ("allowed_token_ids", [1, 2, 3]),
        ("bad_words", ["foo"]),
        ("prompt_logprobs", 1),
        ("truncate_prompt_tokens", 9),
        ("add_special_tokens", False),
        ("skip_special_tokens", False),
        ("spaces_between_special_tokens", False),
        ("echo", False),
        ("priority", 1),
        ("user", "me"),
    ],
)
def test_a_field_that_is_set_is_sent_under_its_name(server, make, name, value):
    make(**{name: value})._generate(["Say hello."])
    make()._generate(["Say hello."], **{name: value})
    for body in bodies(server):
        assert body.keys() == {"model", "prompt", name}
        assert body[name] == value


@pytest.mark.parametrize(("given", "sent"), [(True, None), (2, 2), (0, 0)])
def test_logprobs_can_be_a_number(server, make, given, sent):
    result = make(logprobs=given).generate(["Say hello."])
    (body,) = bodies(server)
    assert isinstance(body["logprobs"], int)
    assert sent is None or body["logprobs"] == sent
    logprobs = result.generations[0][0].generation_info["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) > 0


def test_a_call_goes_before_the_fields_and_none_takes_one_back(server, make):
    llm = make(temperature=0.5, max_tokens=9, stop=["a"])
    llm.invoke("Say hello.", temperature=0.1, max_tokens=None, stop=["b"])
    (body,) = bodies(server)
    assert (body["temperature"], body["stop"]) == (0.1, ["b"])
    assert "max_tokens" not in body


def test_stop_of_the_fields_is_sent_and_an_empty_one_is_not(server, make):
    make(stop="\n").invoke("Say hello.")
    make(stop=[]).invoke("Say hello.")
    make(stop=["x"]).invoke("Say hello.", stop=[])
    one, empty, overridden = bodies(server)
    assert one["stop"] == ["\n"]
    assert "stop" not in empty
    assert "stop" not in overridden


def test_extra_body_and_headers_travel_as_they_are(server, make):
    llm = make(extra_body={"cache_salt": "a", "foo": 1}, default_headers={"x-team": "red"})
    llm.invoke("Say hello.", extra_body={"foo": 2}, extra_headers={"x-request-id": "abc"})
    (record,) = server.requests.to("/completions")
    assert (record.json["cache_salt"], record.json["foo"]) == ("a", 2)
    assert (record.headers["x-team"], record.headers["x-request-id"]) == ("red", "abc")


@pytest.mark.parametrize(
    ("arguments", "form", "value"),
    [
        ({"guided_choice": ["yes", "no"]}, "choice", ["yes", "no"]),
        ({"guided_regex": "[0-9]{3}"}, "regex", "[0-9]{3}"),
        ({"guided_json": {"type": "object", "properties": {"a": {"type": "integer"}}}}, "json", None),
        ({"response_format": {"type": "json_object"}}, None, None),
    ],
)
def test_constraints_of_a_call(server, llm, arguments, form, value):
    text = llm.invoke("Answer.", **arguments)
    (body,) = bodies(server)
    if form is not None:
        assert value is None or body["structured_outputs"][form] == value
    assert not arguments.keys() & body.keys() - {"response_format"}
    if form == "choice":
        assert text in value
    elif form is None or form == "json":
        assert isinstance(json.loads(text), dict)


def test_a_constraint_can_be_bound(server, llm):
    assert llm.bind(guided_choice=["yes", "no"]).invoke("Is the sky blue?") in {"yes", "no"}


def test_model_of_a_call(server, llm):
    result = llm.generate(["Say hello."], model="other-model")
    assert bodies(server)[0]["model"] == "other-model"
    assert result.llm_output["model_name"] == "other-model"


def test_the_model_may_be_left_out_where_one_is_served():
    with DevServer(models=["the-only-one"]) as server:
        llm = VLLM(base_url=server.url)
        result = llm.generate(["Say hello."])
        llm.invoke("Say hello.")
        assert result.llm_output["model_name"] == "the-only-one"
        assert len(server.requests.to("/models")) == 1


def test_model_kwargs_are_parameters_without_a_field(server, make):
    make(model_kwargs={"return_tokens_as_token_ids": True}).invoke("Say hello.")
    assert bodies(server)[0]["return_tokens_as_token_ids"] is True
    with pytest.raises(core.UnsupportedParameterError, match="no_such"):
        make(model_kwargs={"no_such": 1}).invoke("Say hello.")


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_new_tokens"])
def test_other_packages_names_are_taken(server, make, name):
    make(**{name: 3}).invoke("Say hello.")
    make().invoke("Say hello.", **{name: 3})
    assert [body["max_tokens"] for body in bodies(server)] == [3, 3]


def test_unknown_arguments_are_refused(server, make):
    with pytest.raises(core.ConfigurationError, match="temprature"):
        make(temprature=1)
    with pytest.raises(lc.ModelInvalidRequestError, match="temprature"):
        make().invoke("Say hello.", temprature=1)
    assert bodies(server) == []
