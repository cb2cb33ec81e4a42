"""What is measured, and what of a request's content is recorded."""

from __future__ import annotations

import json

import pytest

from kserve_core import telemetry
from kserve_core.capabilities import ChatRequest
from kserve_core.devserver import DevServer
from tests.unit.core.observe.calls import CHAT, PROMPT, client
from tests.unit.core.tracing import Kept


def test_measurements(server: DevServer, kept: Kept) -> None:
    used = client(server)
    answer = used.answer(CHAT)
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "dev-model",
        "gen_ai.response.model": "dev-model",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    (duration,) = kept.points("gen_ai.client.operation.duration")
    assert (duration.count, dict(duration.attributes)) == (2, common)
    (first,) = kept.points("gen_ai.client.operation.time_to_first_chunk")
    assert (first.count, dict(first.attributes)) == (1, common)
    tokens = {point.attributes["gen_ai.token.type"]: point for point in kept.points("gen_ai.client.token.usage")}
    assert tokens["input"].sum == 2 * answer.usage.prompt_tokens
    assert tokens["output"].sum == 2 * answer.usage.completion_tokens


def test_content_is_left_out_unless_asked_for(server: DevServer, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    used = client(server, api_key="canary-token")
    said = used.answer(CHAT).choices[0].content
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    assert PROMPT not in kept.everything()
    assert said not in kept.everything()
    kept.exporter.clear()
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    kept.instrument()
    used.answer(CHAT)
    list(used.stream(used.runtime.stream_chat(CHAT), about=CHAT))
    assert len(kept.spans) == 2
    for span in kept.spans:
        given = json.loads(span.attributes["gen_ai.input.messages"])
        assert given == [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]
        (answered,) = json.loads(span.attributes["gen_ai.output.messages"])
        assert answered == {
            "role": "assistant",
            "parts": [{"type": "text", "content": said}],
            "finish_reason": "length",
        }
    kept.exporter.clear()
    kept.instrument(capture_content=False)  # goes before the environment
    used.answer(CHAT)
    assert PROMPT not in kept.everything()
    assert "canary-token" not in kept.everything()


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_content(server: DevServer, kept: Kept, streamed: bool) -> None:
    kept.instrument(capture_content=True)
    tool = {"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object"}}}
    request = ChatRequest(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "look_up", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "found"},
            {"role": "user", "content": "again"},
        ],
        model="dev-model",
        tools=[tool],
        tool_choice="required",
    )
    used = client(server)
    if streamed:
        list(used.stream(used.runtime.stream_chat(request), about=request))
    else:
        used.answer(request)
    found = kept.one().attributes
    assert json.loads(found["gen_ai.tool.definitions"])[0]["name"] == "look_up"
    system, user, assistant, tool_answer, _ = json.loads(found["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    assert user["parts"] == [{"type": "text", "content": "see"}, {"type": "image_url"}]
    assert assistant["parts"] == [{"type": "tool_call", "id": "c", "name": "look_up", "arguments": {}}]
    assert tool_answer["parts"] == [{"type": "tool_call_response", "id": "c", "response": "found"}]
    (answered,) = json.loads(found["gen_ai.output.messages"])
    (call,) = answered["parts"]
    assert (call["type"], call["name"], answered["finish_reason"]) == ("tool_call", "look_up", "tool_calls")
    assert isinstance(call["arguments"], dict)
    assert call["id"]


@pytest.mark.parametrize(
    "request_", [ChatRequest(messages=[5]), ChatRequest(messages=CHAT.messages, params={"max_tokens": float("nan")})]
)
def test_a_strange_request_fails_as_it_does_unwatched(server: DevServer, kept: Kept, request_: ChatRequest) -> None:
    kept.instrument(capture_content=True)
    with pytest.raises(Exception, match=r".") as watched:
        client(server, max_retries=0).answer(request_)
    telemetry.uninstrument()
    with pytest.raises(Exception, match=r".") as unwatched:
        client(server, max_retries=0).answer(request_)
    assert type(watched.value) is type(unwatched.value)
    assert kept.one().attributes["error.type"] == type(unwatched.value).__name__
