"""MLServer's Hugging Face runtime."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.v2_text_wire import MLServer, Server, http, json_answer

from kserve_core.capabilities import TextRequest
from kserve_core.errors import BadResponseError, ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.huggingface import generated_text


def served(answer=None):
    """A server that writes the prompt in front of a recorded answer, as the runtime does."""

    def infer(call):
        prompt = orjson.loads(call.body)["inputs"][0]["data"][0]
        value = orjson.loads(http("mlserver", "hf_text").body)
        value["outputs"][0]["data"] = [orjson.dumps({"generated_text": f"{prompt} and on"}).decode()]
        return json_answer(value)

    return Server({"/v2/models/hf": http("mlserver", "metadata hf_text"), "/v2/models/hf/infer": answer or infer})


def completed(server, *prompts, params=None, **fields):
    client = server.client(MLServer, model="hf")
    return client.run(client.runtime.generate(TextRequest(prompts=prompts or ("Hi",), params=params or {}, **fields)))


def sent(server):
    return {each["name"]: orjson.loads(each["data"][0]) for each in server.body["inputs"][1:]}


def test_recorded_answer_is_read_without_the_prompt():
    answer = http("mlserver", "hf_text")
    text = orjson.loads(orjson.loads(answer.body)["outputs"][0]["data"][0])["generated_text"]
    prompt, rest = text[:5], text[5:]
    result = completed(served(answer), prompt)
    assert result.generations[0][0].text == rest
    assert result.generations[0][0].finish_reason is None


def test_every_prompt_is_sent_by_itself():
    server = served()
    result = completed(server, "One", "Two")
    assert [each[0].text for each in result.generations] == [" and on", " and on"]
    assert server.asked[1:] == ["/v2/models/hf/infer"] * 2


def test_parameters_become_arguments_of_the_pipeline():
    server = served()
    completed(server, params={"max_tokens": 5, "temperature": 0.5, "top_k": -1, "repetition_penalty": 1.1})
    assert sent(server) == {
        "max_new_tokens": 5,
        "temperature": 0.5,
        "top_k": 0,
        "repetition_penalty": 1.1,
        "do_sample": True,
    }
    assert {each["parameters"]["content_type"] for each in server.body["inputs"][1:]} == {"hg_json"}


def test_temperature_zero_is_greedy():
    server = served()
    completed(server, params={"temperature": 0})
    assert sent(server) == {"do_sample": False}
    with pytest.raises(ConfigurationError, match="top_p"):
        completed(served(), params={"temperature": 0, "top_p": 0.5})


def test_extra_body_has_arguments_without_a_name_here():
    server = served()
    completed(server, params={"max_tokens": 5}, extra_body={"num_beams": 2, "max_new_tokens": 7})
    assert sent(server) == {"num_beams": 2, "max_new_tokens": 7}


@pytest.mark.parametrize("params", [{"seed": 1}, {"n": 2}, {"logprobs": True}, {"min_place": 1}])
def test_what_no_pipeline_has_is_refused_before_anything_is_sent(params):
    server = served()
    with pytest.raises(UnsupportedParameterError):
        completed(server, params=params)
    assert server.asked == ["/v2/models/hf"]


def test_stop_texts_are_cut_here():
    result = completed(served(), params={"stop": ["on"]})
    assert (result.generations[0][0].text, result.generations[0][0].stop_reason) == (" and ", "on")


def test_stream_is_the_whole_answer_in_one_piece():
    server = served()
    client = server.client(MLServer, model="hf")
    (piece,) = client.stream(client.runtime.stream_generate(TextRequest(prompts=("Hi",))))
    assert piece.text == " and on"
    assert server.asked[-1] == "/v2/models/hf/infer"


@pytest.mark.parametrize("element", ["oops", "[[0.1, 0.2]]", '{"label": "x"}', "[]"])
def test_another_tasks_answer_says_so(element):
    with pytest.raises(BadResponseError, match="text generation pipeline"):
        generated_text(element)


def test_list_of_one_is_read_too():
    assert generated_text('[{"generated_text": "a"}]') == "a"
