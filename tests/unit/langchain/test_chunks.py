"""Pieces of a stream as LangChain's chunks, and what they add up to."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGenerationChunk
from unit.langchain.chat_fakes import USAGE, chat, deltas, joined

from kserve_core.types import ChatDelta, ToolCallDelta
from langchain_kserve._blocks import PROVIDER
from langchain_kserve._chunks import ChunkMaker, text_chunk, unfinished


def ordinary(text: str) -> ChatGenerationChunk:
    message = AIMessageChunk(content=text, response_metadata={"model_provider": PROVIDER})
    return ChatGenerationChunk(message=message)


@pytest.mark.parametrize("text", ["x", " hello\n", "日本語"])
def test_a_copied_chunk_is_the_same_as_one_made_the_ordinary_way(text):
    quick, slow = text_chunk(text), ordinary(text)
    assert quick == slow
    assert repr(quick) == repr(slow)
    assert quick.model_dump() == slow.model_dump()
    assert quick.message.model_fields_set == slow.message.model_fields_set
    assert quick.message.model_dump_json() == slow.message.model_dump_json()
    assert pickle.loads(pickle.dumps(quick)) == slow
    assert copy.deepcopy(quick) == slow
    assert (quick.text, quick.message.text) == (text, text)
    assert quick + quick == slow + slow
    assert quick.message.model_copy(update={"id": "1"}).id == "1"


def test_copied_chunks_share_nothing():
    first, second = text_chunk("a"), text_chunk("b")
    first.message.response_metadata["x"] = 1
    first.message.additional_kwargs["x"] = 1
    first.message.tool_calls.append({"name": "f", "args": {}, "id": "1"})
    first.message.extra_thing = 1
    assert second == ordinary("b")
    assert text_chunk("c") == ordinary("c")


def test_a_stream_adds_up_to_the_whole_answer():
    model, _ = chat(deltas("Hel", "lo", "!", stop_reason=13))
    full = joined(model.stream("x"))
    assert full.content == "Hello!"
    assert full.response_metadata == {
        "model_provider": "kserve",
        "model_name": "m",
        "id": "chatcmpl-1",
        "finish_reason": "stop",
        "stop_reason": 13,
        "system_fingerprint": "fp",
    }
    assert full.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }
    assert full.chunk_position == "last"


def test_usage_and_metadata_are_on_one_chunk_each():
    model, _ = chat(deltas("Hel", "lo", "!"))
    chunks = list(model.stream("x"))
    assert [chunk.usage_metadata is not None for chunk in chunks].count(True) == 1
    for name in ("model_name", "finish_reason", "id", "system_fingerprint"):
        assert [name in chunk.response_metadata for chunk in chunks].count(True) == 1


def tool_deltas(*pieces, finish="tool_calls"):
    return [
        ChatDelta(role="assistant", model="m", id="1"),
        *[ChatDelta(tool_calls=[ToolCallDelta(index, call_id, name, text)]) for index, call_id, name, text in pieces],
        ChatDelta(finish_reason=finish),
    ]


TWO = (
    (0, "a", "f", ""),
    (0, None, None, '{"city": '),
    (1, "b", "g", ""),
    (0, None, None, '"Paris"}'),
    (1, None, None, '{"n": 2}'),
)


def test_tool_calls_are_joined_by_index():
    model, _ = chat(tool_deltas(*TWO))
    full = joined(model.stream("x"))
    assert [(call["id"], call["name"], call["args"]) for call in full.tool_calls] == [
        ("a", "f", {"city": "Paris"}),
        ("b", "g", {"n": 2}),
    ]
    assert full.invalid_tool_calls == []


def test_a_call_without_arguments_is_valid():
    model, _ = chat(tool_deltas((0, "a", "f", "")))
    assert joined(model.stream("x")).tool_calls == [{"name": "f", "args": {}, "id": "a", "type": "tool_call"}]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_text_and_calls_stay_apart_in_content_blocks(version):
    pieces = [
        ChatDelta(reasoning="I should "),
        ChatDelta(reasoning="look."),
        ChatDelta(content="Let me "),
        ChatDelta(content="look."),
    ]
    model, _ = chat([*pieces, *tool_deltas(*TWO)], output_version=version)
    full = message_chunk_to_message(joined(model.stream("x")))
    blocks = [{name: value for name, value in block.items() if name != "index"} for block in full.content_blocks]
    assert blocks == [
        {"type": "reasoning", "reasoning": "I should look."},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_call", "id": "a", "name": "f", "args": {"city": "Paris"}},
        {"type": "tool_call", "id": "b", "name": "g", "args": {"n": 2}},
    ]


def test_a_piece_may_hold_reasoning_and_text_at_once():
    model, _ = chat([ChatDelta(reasoning="a", content="b"), ChatDelta(content="c"), ChatDelta(finish_reason="stop")])
    message = model.stream_events("x", version="v3").output
    assert [(block["type"], block.get("text", block.get("reasoning"))) for block in message.content_blocks] == [
        ("reasoning", "a"),
        ("text", "bc"),
    ]


CUTS = [
    '{"a": [[1',
    '{"a": [{"b": "c',
    "",
    "{",
    '{"city": "Par',
    '{"city": "Par\\',
    '{"city": "Paris"',
    "{}",
    '{"city": ["a"',
    '{"a": {"b": 1}}',
    '{"a": tr',
]


@pytest.mark.parametrize("arguments", CUTS)
def test_a_call_that_was_cut_is_never_taken_for_whole(arguments):
    model, _ = chat(tool_deltas((0, "a", "f", '{"ok": 1}'), (1, "b", "g", arguments), finish="length"))
    full = joined(model.stream("x"))
    assert [call["name"] for call in full.tool_calls] == ["f"]
    assert [call["name"] for call in full.invalid_tool_calls] == ["g"]
    assert full.invalid_tool_calls[0]["args"].startswith(arguments)
    assert "cut off" in full.invalid_tool_calls[0]["args"]


@pytest.mark.parametrize("arguments", CUTS)
def test_a_call_that_was_cut_is_invalid_in_events_too(arguments):
    model, _ = chat(tool_deltas((0, "b", "g", arguments), finish="length"))
    message = model.stream_events("x", version="v3").output
    assert message.tool_calls == []
    assert len(message.invalid_tool_calls) == 1


def test_the_cut_arrives_with_the_last_piece():
    made = ChunkMaker()(ChatDelta(tool_calls=[ToolCallDelta(0, "a", "f", '{"x": 1')], finish_reason="length"))
    (chunk,) = made.message.tool_call_chunks
    assert chunk["args"].startswith('{"x": 1')
    assert made.message.tool_calls == []


@pytest.mark.parametrize("arguments", CUTS)
def test_what_is_appended_to_a_cut_call_is_not_json(arguments):
    with pytest.raises(ValueError, match=r"."):
        json.loads(arguments + unfinished(arguments))


def test_logprobs_of_all_pieces_are_kept_in_order():
    def piece(text, number):
        logprobs = {"content": [{"token": text, "logprob": number, "bytes": None, "top_logprobs": []}]}
        return ChatDelta(content=text, logprobs=logprobs)

    model, _ = chat([piece("a", -0.1), piece("b", -0.2), ChatDelta(finish_reason="stop")])
    full = joined(model.stream("x"))
    entries = full.response_metadata["logprobs"]["content"]
    assert [(entry["token"], entry["logprob"]) for entry in entries] == [("a", -0.1), ("b", -0.2)]


def test_refusals_are_their_own_block():
    model, _ = chat([ChatDelta(refusal="I can"), ChatDelta(refusal="not."), ChatDelta(finish_reason="stop")])
    full = joined(model.stream("x"))
    assert full.additional_kwargs["refusal"] == "I cannot."
    (block,) = message_chunk_to_message(full).content_blocks
    assert "I cannot." in str(block)
    assert block["type"] in {"refusal", "non_standard"}


def test_usage_alone_makes_an_empty_chunk():
    made = ChunkMaker()(ChatDelta(usage=USAGE))
    assert made.message.content == ""
    assert made.message.usage_metadata["total_tokens"] == 12
