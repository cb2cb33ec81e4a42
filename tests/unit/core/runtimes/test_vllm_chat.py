"""Chat answers that come whole, and what is sent to get them."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, fixture, ok

from kserve_core.capabilities import ChatRequest, ChatRuntime
from kserve_core.errors import BadResponseError, ConfigurationError
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.types import ToolCall, Usage

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}


def ask(name: str = "chat.json", **fields: object) -> tuple[Server, object]:
    server = Server().route("/v1/chat/completions", ok(name))
    result = server.client(model="granite").run(
        VLLMRuntime(model="granite").chat(ChatRequest(messages=HELLO, **fields))
    )
    return server, result


def test_satisfies_the_protocol():
    assert isinstance(VLLMRuntime(), ChatRuntime)


def test_sends_nothing_that_was_not_set():
    server, _ = ask()
    assert server.body == {"messages": HELLO, "model": "granite"}
    assert server.asked == ["POST /v1/chat/completions"]


def test_reads_text_usage_and_identity():
    _, result = ask()
    choice = result.choices[0]
    assert (choice.content, choice.reasoning, choice.tool_calls) == ("Hello, wörld 👋!", "", [])
    assert (choice.finish_reason, choice.stop_reason) == ("stop", None)
    assert result.usage == Usage(12, 6, 18, cached_tokens=8)
    assert (result.model, result.id) == ("granite", "chatcmpl-9f2b61d0a1c34e7d")
    assert result.system_fingerprint == "vllm-0.32.0-3b1c0a52"
    assert result.raw == orjson.loads(fixture("chat.json"))


def test_choices_are_ordered_by_index():
    _, result = ask("chat_n2.json", params={"n": 2, "temperature": 1.0})
    assert [(c.index, c.content, c.finish_reason) for c in result.choices] == [(0, "Aa", "stop"), (1, "Bb", "length")]


@pytest.mark.parametrize(
    ("name", "content", "reasoning", "tokens"),
    [
        ("reasoning_0.32.json", "\n\nFour.", "Two plus two.", 5),
        ("reasoning_0.12.json", "Four.", "Two plus two.", None),
        ("reasoning_only.json", "", "I would say four.", None),
        ("chat_0.8.json", "Hello!", "", None),
    ],
)
def test_reasoning_under_either_name(name, content, reasoning, tokens):
    _, result = ask(name)
    assert (result.choices[0].content, result.choices[0].reasoning) == (content, reasoning)
    assert result.usage.reasoning_tokens == tokens


def test_parallel_tool_calls():
    _, result = ask("tools_0.32.json", tools=[WEATHER])
    assert result.choices[0].tool_calls == [
        ToolCall("chatcmpl-tool-4e1a9c07b3d25f68", "get_weather", '{"city": "Paris"}'),
        ToolCall("chatcmpl-tool-0c7d3b91e5a2f864", "get_weather", '{"city": "London"}'),
    ]
    assert result.choices[0].finish_reason == "tool_calls"
    assert result.choices[0].content == ""


def test_one_call_only_even_if_the_server_sends_two():
    server, result = ask("tools_0.32.json", tools=[WEATHER], parallel_tool_calls=False)
    assert server.body["parallel_tool_calls"] is False
    assert len(result.choices[0].tool_calls) == 1


def test_a_forced_call_keeps_the_servers_finish_reason():
    _, result = ask("tools_named.json", tools=[WEATHER])
    assert result.choices[0].finish_reason == "stop"
    assert result.choices[0].tool_calls[0].complete


def message(**fields):
    return (
        200,
        orjson.dumps(
            {"choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": fields.get("f")}]}
        ),
    )


def run(answer, **fields):
    server = Server().route("/v1/chat/completions", answer)
    return server.client(model="granite").run(VLLMRuntime(model="granite").chat(ChatRequest(messages=HELLO, **fields)))


def test_tool_calls_as_odd_servers_write_them():
    calls = [
        {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
        {"id": "", "type": "function", "function": {"name": "get_time", "arguments": None}},
    ]
    first, second = run(message(content=None, tool_calls=calls)).choices[0].tool_calls
    assert orjson.loads(first.arguments) == {"city": "Paris"}
    assert second.arguments == "{}"
    assert first.id
    assert second.id
    assert first.id != second.id


def test_a_call_cut_off_by_the_length_limit_is_not_complete():
    calls = [
        {"id": "a", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
        {"id": "b", "function": {"name": "get_weather", "arguments": "{}"}},
    ]
    first, second = run(message(content=None, tool_calls=calls, f="length")).choices[0].tool_calls
    assert first.complete
    assert not second.complete


def test_fields_without_a_name_here_are_kept():
    choice = run(message(content="x", annotations=[1])).choices[0]
    assert choice.extra == {"annotations": [1]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"choices":[]}', "no choices"),
        (b'{"choices":[{"index":0}]}', "no message"),
        (b'{"error":{"message":"boom"}}', "boom"),
        (b'["a"]', "list"),
        (b"", "empty"),
    ],
)
def test_an_answer_that_is_none(body, words):
    with pytest.raises(BadResponseError, match=words):
        run((200, body))


def test_a_value_that_is_not_json_is_a_typed_error_with_a_hint():
    with pytest.raises(BadResponseError, match="NaN"):
        run((200, b'{"choices":[{"logprobs":NaN}]}'))


# --- tools in the request


def test_tools_and_every_tool_choice():
    for choice in ("auto", "none", "required"):
        server, _ = ask(tools=[WEATHER], tool_choice=choice)
        assert server.body["tools"] == [WEATHER]
        assert server.body["tool_choice"] == choice
    named = {"type": "function", "function": {"name": "get_weather"}}
    server, _ = ask(tools=[WEATHER, TIME], tool_choice=named)
    assert server.body["tool_choice"] == named


def test_empty_tools_are_left_out():
    server, _ = ask(tools=[], tool_choice="none", parallel_tool_calls=True)
    assert server.body == {"messages": HELLO, "model": "granite"}


@pytest.mark.parametrize(
    ("tools", "choice", "words"),
    [
        ([], "auto", "needs tools"),
        ([], {"type": "function", "function": {"name": "get_weather"}}, "needs tools"),
        ([WEATHER], {"type": "function", "function": {"name": "get_wether"}}, "Did you mean 'get_weather'"),
        ([WEATHER], "get_weather", "To force one tool pass"),
        ([WEATHER], {"type": "function"}, "named function|names a function"),
        ([{"name": "get_weather"}], "auto", "Every tool needs the form"),
    ],
)
def test_a_tool_choice_the_server_would_refuse_is_not_sent(tools, choice, words):
    server = Server()
    with pytest.raises(ConfigurationError, match=words):
        server.client().run(
            VLLMRuntime(model="granite").chat(ChatRequest(messages=HELLO, tools=tools, tool_choice=choice))
        )
    assert server.calls == []


# --- messages


def test_reasoning_goes_back_under_both_names_and_arguments_as_text():
    history = [
        *HELLO,
        {
            "role": "assistant",
            "content": "Hm.",
            "reasoning": "Think.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
                {"id": "b", "type": "function", "function": {"name": "f", "arguments": '{"x": 2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    server = Server().route("/v1/chat/completions", ok("chat.json"))
    server.client().run(VLLMRuntime(model="granite").chat(ChatRequest(messages=history)))
    sent = server.body["messages"][1]
    assert sent["reasoning"] == sent["reasoning_content"] == "Think."
    assert [call["function"]["arguments"] for call in sent["tool_calls"]] == ['{"x":1}', '{"x": 2}']
    assert history[1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}


def test_an_empty_list_of_calls_is_not_sent_back():
    server = Server().route("/v1/chat/completions", ok("chat.json"))
    history = [*HELLO, {"role": "assistant", "content": "Hi", "tool_calls": [], "reasoning": None}, *HELLO]
    server.client().run(VLLMRuntime(model="granite").chat(ChatRequest(messages=history)))
    assert server.body["messages"][1] == {"role": "assistant", "content": "Hi"}


def test_content_parts_go_out_untouched():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://pictures.example.com/cat.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    ]
    server = Server().route("/v1/chat/completions", ok("chat.json"))
    server.client().run(VLLMRuntime(model="m").chat(ChatRequest(messages=[{"role": "user", "content": parts}])))
    assert server.body["messages"][0]["content"] == parts
    assert len(server.calls) == 1


def test_no_messages():
    with pytest.raises(ConfigurationError, match="at least one message"):
        Server().client().run(VLLMRuntime(model="m").chat(ChatRequest(messages=[])))


def test_extra_body_wins_and_headers_are_added():
    server, _ = ask(
        params={"temperature": 0.5}, extra_body={"temperature": 1, "x": None}, headers={"x-request-id": "r1"}
    )
    assert server.body["temperature"] == 1
    assert server.body["x"] is None
    assert server.calls[0].headers["x-request-id"] == "r1"
    assert server.calls[0].headers["content-type"] == "application/json"


def test_extra_body_cannot_turn_a_whole_answer_into_a_stream():
    with pytest.raises(ConfigurationError, match="stream"):
        ask(extra_body={"stream": True})


def test_what_has_no_json_form_is_a_typed_error():
    with pytest.raises(ConfigurationError, match="written as JSON"):
        ask(extra_body={"x": object()})
