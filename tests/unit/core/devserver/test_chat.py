"""Chat answers that do not stream."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.devserver.wire import WEATHER


def test_the_whole_answer_has_every_field_of_the_wire_and_no_other(chat):
    response = chat("Say hello.", headers={"x-request-id": "abc"})
    body = response.json()
    created, usage = body.pop("created"), body.pop("usage")
    assert created > 1_700_000_000
    assert body == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "model": "dev-model",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello! How can I help you today?",
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": body["system_fingerprint"],
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }
    assert body["system_fingerprint"].startswith("vllm-0.32.0-")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["server"] == "uvicorn"
    assert b'": ' not in response.content, "compact JSON"


def test_the_body_request_id_names_the_answer_and_the_header_wins(chat):
    assert chat("hi", request_id="body").json()["id"] == "chatcmpl-body"
    assert chat("hi", headers={"x-request-id": "head"}, request_id="body").json()["id"] == "chatcmpl-head"


@pytest.mark.parametrize("name", ["dev-model", "dev-alias", "dev-lora"])
def test_the_answer_names_the_model_as_the_request_did(chat, name):
    assert chat("hi", model=name).json()["model"] == name


def test_tool_calls_chosen_by_the_model(chat):
    choice = chat("Weather in Paris and London?", tools=[WEATHER]).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    assert all(call["id"].startswith("chatcmpl-tool-") and len(call["id"]) == 30 for call in calls)
    assert len({call["id"] for call in calls}) == 2


def test_text_before_a_call(chat):
    message = chat("Look it up, then tell me.", tools=[WEATHER]).json()["choices"][0]["message"]
    assert message["content"] == "Let me look that up.\n"
    assert len(message["tool_calls"]) == 1


def test_only_one_call_without_parallel_calls(chat):
    message = chat("Weather in Paris and London?", tools=[WEATHER], parallel_tool_calls=False).json()["choices"][0][
        "message"
    ]
    assert len(message["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("choice", "finish"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "get_weather"}}, "stop")],
)
def test_forced_calls_have_empty_content_and_their_own_finish_reason(chat, choice, finish):
    answer = chat("Hello", tools=[WEATHER], tool_choice=choice).json()["choices"][0]
    assert answer["finish_reason"] == finish
    assert answer["message"]["content"] == ""
    assert answer["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_no_call_when_tools_are_switched_off(chat):
    answer = chat("Weather in Paris?", tools=[WEATHER], tool_choice="none").json()["choices"][0]
    assert "tool_calls" not in answer["message"]
    assert answer["finish_reason"] == "stop"


def test_a_call_cut_off_by_max_tokens_is_plain_markup(chat):
    answer = chat("Weather in Paris?", tools=[WEATHER], max_tokens=12).json()["choices"][0]
    assert answer["finish_reason"] == "length"
    assert answer["message"]["content"].startswith("<tool_call>")
    assert "tool_calls" not in answer["message"]


def test_after_a_tool_result_the_answer_reports_it(chat):
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "21"},
    ]
    answer = chat(messages, tools=[WEATHER]).json()["choices"][0]
    assert answer["message"]["content"] == "It is 21 degrees in Paris."
    assert answer["finish_reason"] == "stop"


def test_reasoning_is_parted_from_the_answer(chat):
    body = chat("Think: what is two plus two?").json()
    message = body["choices"][0]["message"]
    assert message["reasoning"] == "\nTwo plus two makes four.\n"
    assert message["content"] == "\n\nThe answer is four."
    details = body["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] < body["usage"]["completion_tokens"]


def test_reasoning_can_be_left_out_or_switched_off(chat):
    hidden = chat("Say hello.", model="dev-reasoner", include_reasoning=False).json()["choices"][0]["message"]
    assert hidden["reasoning"] is None
    assert hidden["content"].strip() == "Hello! How can I help you today?"
    off = chat("Say hello.", model="dev-reasoner", chat_template_kwargs={"enable_thinking": False}).json()
    assert off["choices"][0]["message"]["content"] == "Hello! How can I help you today?"


def test_an_answer_cut_while_reasoning_has_no_content(chat):
    answer = chat("Think: what is two plus two?", max_tokens=6).json()["choices"][0]
    assert answer["finish_reason"] == "length"
    assert answer["message"]["content"] is None
    assert answer["message"]["reasoning"].strip()


def test_stop_texts_cut_the_answer(chat):
    answer = chat("Count to ten.", stop=["four", "three"]).json()["choices"][0]
    assert answer["message"]["content"] == "one two "
    assert (answer["finish_reason"], answer["stop_reason"]) == ("stop", "three")
    kept = chat("Count to ten.", stop="three", include_stop_str_in_output=True).json()["choices"][0]
    assert kept["message"]["content"] == "one two three"


def test_stop_tokens_report_their_id(chat, http):
    token = http.post("/tokenize", json={"prompt": "."}).json()["tokens"][0]
    answer = chat("Count to ten.", stop_token_ids=[token]).json()["choices"][0]
    assert answer["stop_reason"] == token
    assert answer["message"]["content"] == "one two three four five six seven eight nine ten"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_limits_are_exact(chat, field):
    body = chat("Count to ten.", **{field: 5}).json()
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"


def test_ignore_eos_fills_up_to_the_limit(chat):
    body = chat("Say hello.", ignore_eos=True, max_tokens=100).json()
    assert body["usage"]["completion_tokens"] == 100
    assert body["choices"][0]["finish_reason"] == "length"


def test_several_choices_differ_and_the_prompt_counts_once(chat):
    one = chat("Say hello.").json()
    body = chat("Say hello.", n=3, temperature=0.7).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert body["usage"]["completion_tokens"] > 3 * one["usage"]["completion_tokens"]


def test_logprobs(chat):
    content = chat("Say hello.", logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == "Hello! How can I help you today?<|im_end|>"
    first = content[0]
    assert first["logprob"] < 0
    assert bytes(first["bytes"]).decode() == first["token"]
    assert first["top_logprobs"][0]["token"] == first["token"]
    assert len(first["top_logprobs"]) == 2
    named = chat("Say hello.", logprobs=True, return_tokens_as_token_ids=True).json()["choices"][0]["logprobs"]
    assert named["content"][0]["token"].startswith("token_id:")
    assert named["content"][0]["top_logprobs"] == []


def test_token_ids_and_prompt_logprobs(chat, http):
    messages = [{"role": "user", "content": "Say hello."}]
    body = chat(messages, return_token_ids=True, prompt_logprobs=1).json()
    assert body["prompt_token_ids"] == http.post("/tokenize", json={"messages": messages}).json()["tokens"]
    said = http.post("/detokenize", json={"tokens": body["choices"][0]["token_ids"]}).json()["prompt"]
    assert said == "Hello! How can I help you today?<|im_end|>"
    assert len(body["choices"][0]["token_ids"]) == body["usage"]["completion_tokens"]
    assert body["prompt_logprobs"][0] is None
    assert len(body["prompt_logprobs"]) == len(body["prompt_token_ids"])
    (entry,) = body["prompt_logprobs"][1].values()
    assert set(entry) == {"logprob", "rank", "decoded_token"}


def test_a_repeated_prompt_is_cached_in_whole_blocks(chat):
    said = "Tell me about the weather in the mountains. " * 5
    first = chat(said).json()["usage"]
    second = chat(said).json()["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert cached % 16 == 0
    assert first["prompt_tokens"] - 16 <= cached < first["prompt_tokens"]


def test_continuing_the_final_message_and_echo(chat):
    messages = [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Well, "}]
    both = {"continue_final_message": True, "add_generation_prompt": True}
    assert chat(messages, **both).status_code == 400
    echoed = chat(messages, continue_final_message=True, add_generation_prompt=False, echo=True).json()
    assert echoed["choices"][0]["message"]["content"].startswith("Well, ")


def test_content_parts_images_names_and_unknown_fields_are_accepted(chat):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "What is this?"}, image]
    messages = [
        {"role": "system", "content": "a"},
        {"role": "system", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "name": "ann", "content": parts},
    ]
    answer = chat(messages, no_such_field={"x": 1})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("I see 1 image.")
    plain = chat([*messages[:2], {"role": "user", "content": "What is this?"}]).json()
    assert answer.json()["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"] + 32


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "mood": {"enum": ["happy", "sad"]}},
    "required": ["name", "age", "mood"],
}


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA)}},
    ],
)
def test_schema_constraints_take_their_values_from_the_prompt(chat, fields):
    answer = chat("Anna is 31 years old and sad.", **fields).json()["choices"][0]["message"]["content"]
    assert json.loads(answer) == {"name": "Anna", "age": 31, "mood": "sad"}


def test_json_mode_uses_the_keys_the_prompt_names(chat):
    said = "Tell me a joke. Return a JSON with 'setup' and 'punchline' keys."
    answer = chat(said, response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert set(json.loads(answer)) == {"setup", "punchline"}


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        ({"regex": r"[A-Z]{2}-\d{3}"}, "AA-111"),
        ({"choice": ["positive", "negative"]}, "negative"),
        ({"grammar": 'root ::= "yes " thing\nthing ::= "sir" | "madam"'}, "yes sir"),
    ],
)
def test_other_constraints(chat, constraint, text):
    answer = chat("This was a negative experience.", structured_outputs=constraint).json()
    assert answer["choices"][0]["message"]["content"] == text
