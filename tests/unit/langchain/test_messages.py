"""What becomes of LangChain messages on the way to a server."""

from __future__ import annotations

import copy
import json

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_kserve import ConfigurationError
from langchain_kserve._messages import to_openai

CALL = {"name": "get_weather", "args": {"city": "Zürich"}, "id": "c1", "type": "tool_call"}


def one(message, **options):
    (wire,) = to_openai([message], **options)
    return wire


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (HumanMessage("hi"), {"role": "user", "content": "hi"}),
        (HumanMessage("hi", name="ann"), {"role": "user", "content": "hi", "name": "ann"}),
        (SystemMessage("be nice"), {"role": "system", "content": "be nice"}),
        (
            SystemMessage("be nice", additional_kwargs={"__openai_role__": "developer"}),
            {"role": "developer", "content": "be nice"},
        ),
        (ChatMessage("hi", role="narrator"), {"role": "narrator", "content": "hi"}),
        (FunctionMessage("21", name="f"), {"role": "function", "name": "f", "content": "21"}),
        (
            ToolMessage("21", tool_call_id="c1", name="get_weather", artifact={"big": 1}, status="error"),
            {"role": "tool", "tool_call_id": "c1", "content": "21"},
        ),
        (AIMessage(""), {"role": "assistant", "content": ""}),
        (AIMessageChunk("hi"), {"role": "assistant", "content": "hi"}),
    ],
)
def test_roles(message, wire):
    assert one(message) == wire


def test_nothing_but_the_message_is_sent():
    message = AIMessage(
        "hi",
        id="run-1",
        response_metadata={"model_name": "m", "logprobs": {"content": []}},
        usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
        additional_kwargs={"reasoning_content": "hmm", "refusal": None},
    )
    assert one(message) == {"role": "assistant", "content": "hi"}


def test_tool_calls_go_out_as_json_text_with_null_content():
    wire = one(AIMessage("", tool_calls=[CALL]))
    (call,) = wire["tool_calls"]
    assert wire["content"] is None
    assert (call["id"], call["type"], call["function"]["name"]) == ("c1", "function", "get_weather")
    assert call["function"]["arguments"] == '{"city": "Zürich"}'


def test_a_call_without_an_id_gets_one():
    wire = one(AIMessage("", tool_calls=[{**CALL, "id": None}]))
    assert wire["tool_calls"][0]["id"]


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[1, 2]", "", None])
def test_invalid_calls_go_out_with_arguments_every_server_can_parse(arguments):
    invalid = {"name": "f", "args": arguments, "id": "c9", "error": "bad", "type": "invalid_tool_call"}
    wire = one(AIMessage("", invalid_tool_calls=[invalid]))
    sent = json.loads(wire["tool_calls"][0]["function"]["arguments"])
    assert sent == ({"invalid_arguments": arguments} if arguments else {})


def test_reasoning_goes_back_only_when_asked():
    plain = AIMessage("four", additional_kwargs={"reasoning_content": "2+2"})
    blocks = AIMessage([{"type": "reasoning", "reasoning": "2+2"}, {"type": "text", "text": "four"}])
    for message in (plain, blocks):
        assert one(message) == {"role": "assistant", "content": "four"}
        wire = one(message, send_reasoning=True)
        assert wire == {"role": "assistant", "content": "four", "reasoning": "2+2"}


def test_assistant_blocks_of_any_origin_become_text():
    message = AIMessage(
        [
            {"type": "thinking", "thinking": "hmm", "signature": "x"},
            {"type": "reasoning", "reasoning": "hmm", "index": 0},
            {"type": "text", "text": "Let me ", "index": 1, "annotations": []},
            "look.",
            {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Zürich"}},
            {"type": "tool_call", "id": "c1", "name": "get_weather", "args": {"city": "Zürich"}},
        ],
        tool_calls=[CALL],
    )
    wire = one(message)
    assert wire["content"] == "Let me look."
    assert len(wire["tool_calls"]) == 1


def test_text_only_lists_become_one_string():
    assert one(HumanMessage(["a", {"type": "text", "text": "b", "cache_control": {}}]))["content"] == "a\nb"
    assert one(HumanMessage([{"type": "text", "text": "b"}]))["content"] == "b"
    assert one(HumanMessage([{"type": "text-plain", "text": "b", "mime_type": "text/plain"}]))["content"] == "b"
    assert one(ToolMessage([{"type": "text", "text": "b"}], tool_call_id="1"))["content"] == "b"
    assert one(HumanMessage([]))["content"] == ""


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}, "cache_control": {}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        ),
        ({"type": "image_url", "image_url": "https://x"}, {"type": "image_url", "image_url": {"url": "https://x"}}),
        ({"type": "image", "url": "https://x"}, {"type": "image_url", "image_url": {"url": "https://x"}}),
        (
            {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            {"type": "image", "source_type": "base64", "data": "AAAA", "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x"}},
            {"type": "image_url", "image_url": {"url": "https://x"}},
        ),
        (
            {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ),
        ({"type": "audio", "url": "https://x"}, {"type": "audio_url", "audio_url": {"url": "https://x"}}),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://x"}},
            {"type": "video_url", "video_url": {"url": "https://x"}},
        ),
        ({"type": "video", "url": "https://x"}, {"type": "video_url", "video_url": {"url": "https://x"}}),
        (
            {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"},
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        ),
        (
            {"type": "file", "base64": "AAAA", "mime_type": "application/pdf", "filename": "a.pdf"},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        ),
        (
            {"type": "file", "base64": "AAAA", "mime_type": "application/pdf"},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "file"}},
        ),
        ({"type": "file", "file": {"file_id": "f1"}}, {"type": "file", "file": {"file_id": "f1"}}),
        ({"type": "non_standard", "value": {"type": "custom", "x": 1}}, {"type": "custom", "x": 1}),
    ],
)
def test_media(block, part, recwarn):
    original = copy.deepcopy(block)
    wire = one(HumanMessage(["Look:", block]))
    assert wire["content"] == [{"type": "text", "text": "Look:"}, part]
    assert block == original
    assert not list(recwarn)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "url": "https://x/y.pdf"},
        {"type": "image", "file_id": "f1"},
        {"type": "image", "base64": "AAAA"},
        {"type": "video", "base64": "AAAA"},
        {"type": "audio", "file_id": "f1"},
    ],
)
def test_media_no_server_can_take_is_refused_before_sending(block):
    with pytest.raises(ConfigurationError, match=block["type"]):
        one(HumanMessage([block]))


def test_a_message_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="RemoveMessage"):
        one(RemoveMessage(id="1"))
