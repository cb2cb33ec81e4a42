"""Answers of a guardrails gateway: HTTP 200 with warnings and detections is a refusal.

The bodies are written after the gateway's API (OpenAI's shape with `warnings` and `detections` added), not recorded.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kserve_core.calls import Response
from kserve_core.runtimes.vllm.chat import read_chat
from kserve_core.runtimes.vllm.chat_stream import ChatDecoder
from kserve_core.runtimes.vllm.completions import CompletionDecoder, read_completion

DETECTIONS = {
    "input": [
        {
            "message_index": 0,
            "results": [
                {"start": 0, "end": 11, "text": "4111 secret", "detection": "CreditCard", "detection_type": "pii"}
            ],
        }
    ]
}
WARNING = {"type": "UNSUITABLE_INPUT", "message": "Unsuitable input detected."}
BLOCKED: dict[str, Any] = {
    "id": "g1",
    "object": "chat.completion",
    "model": "m",
    "choices": [],
    "warnings": [WARNING],
    "detections": DETECTIONS,
    "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9},
}
REFUSAL = "Unsuitable input detected. (detected: pii)"


def reply(value: Any) -> Response:
    return Response(200, {"content-type": "application/json"}, orjson.dumps(value))


def events(*values: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("choices", [[], None, [{"index": 0, "message": {"role": "assistant", "content": None}}]])
def test_a_blocked_prompt_is_a_refusal_and_no_empty_answer(choices: Any) -> None:
    result = read_chat(reply({**BLOCKED, "choices": choices}))
    (choice,) = result.choices
    assert (choice.content, choice.refusal, choice.finish_reason) == ("", REFUSAL, "content_filter")
    assert choice.extra["warnings"] == [WARNING]
    assert choice.extra["detections"] == DETECTIONS
    assert result.usage is not None
    assert "4111" not in (choice.refusal or "")


def test_the_gateways_own_words_are_kept_beside_the_refusal() -> None:
    message = {"role": "assistant", "content": "I cannot say that."}
    (choice,) = read_chat(
        reply({**BLOCKED, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    ).choices
    assert (choice.content, choice.refusal, choice.finish_reason) == ("I cannot say that.", REFUSAL, "content_filter")


def test_detections_without_a_warning_leave_an_answer_as_it_is() -> None:
    message = {"role": "assistant", "content": "Fine."}
    body = {
        **BLOCKED,
        "warnings": None,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    (choice,) = read_chat(reply(body)).choices
    assert (choice.content, choice.refusal, choice.finish_reason) == ("Fine.", None, "stop")
    assert "detections" in choice.extra


def test_empty_lists_mean_nothing() -> None:
    body = {
        **BLOCKED,
        "warnings": [],
        "detections": {"input": [], "output": []},
        "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
    }
    (choice,) = read_chat(reply(body)).choices
    assert (choice.refusal, choice.finish_reason) == (None, "stop")


def test_a_blocked_completion() -> None:
    result = read_completion(reply(BLOCKED), prompts=2, n=1)
    for (generation,) in result.generations:
        assert (generation.text, generation.finish_reason) == ("", "content_filter")
        assert generation.extra["refusal"] == REFUSAL


def test_a_blocked_prompt_in_a_stream() -> None:
    decoder = ChatDecoder()
    pieces = decoder.feed(events({**BLOCKED, "object": "chat.completion.chunk"}))
    assert decoder.finished
    (piece,) = [piece for piece in pieces if piece.finish_reason]
    assert (piece.refusal, piece.finish_reason, piece.id) == (REFUSAL, "content_filter", "g1")
    assert [piece.usage.prompt_tokens for piece in pieces if piece.usage] == [9]


def test_an_answer_flagged_in_the_middle_of_a_stream_ends_as_a_refusal() -> None:
    first = {"id": "g1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "So"}}]}
    second = {
        "id": "g1",
        "choices": [{"index": 0, "delta": {"content": " bad"}, "finish_reason": "stop"}],
        "warnings": [{"type": "UNSUITABLE_OUTPUT", "message": "Unsuitable output detected."}],
    }
    pieces = ChatDecoder().feed(events(first, second))
    assert "".join(piece.content for piece in pieces) == "So bad"
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["content_filter"]
    assert [piece.refusal for piece in pieces if piece.refusal] == ["Unsuitable output detected."]


def test_a_blocked_prompt_in_a_stream_of_text() -> None:
    pieces = CompletionDecoder().feed(events(BLOCKED))
    (piece,) = [piece for piece in pieces if piece.finish_reason]
    assert piece.finish_reason == "content_filter"
    assert piece.extra is not None
    assert piece.extra["refusal"] == REFUSAL
