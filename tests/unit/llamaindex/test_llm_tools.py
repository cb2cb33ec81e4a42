from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.tools import FunctionTool
from unit.llamaindex.llm_fakes import make, streamed

from kserve_core.types import ChatChoice, ToolCall, ToolCallDelta
from llamaindex_kserve import BadResponseError, InvalidOutputError


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def get_time(zone: str = "UTC") -> str:
    """The time in a zone."""
    return f"noon in {zone}"


TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]


def calling(*calls: tuple[str, str], finish="tool_calls", complete=True, content=""):
    """An answer that calls tools."""
    tool_calls = [ToolCall(f"c{place}", name, text) for place, (name, text) in enumerate(calls)]
    tool_calls[-1].complete = complete
    return ChatChoice(content=content, tool_calls=tool_calls, finish_reason=finish)


PARIS = ("get_weather", '{"city": "Paris"}')
OSLO = ("get_weather", '{"city": "Oslo"}')


class TestRequest:
    def test_tools_go_out_in_full(self):
        llm, runtime = make(calling(PARIS))
        llm.chat_with_tools(TOOLS, user_msg="Weather?")
        sent = runtime.requests[0].tools
        assert [tool["function"]["name"] for tool in sent] == ["get_weather", "get_time"]
        assert sent[0]["function"]["parameters"]["required"] == ["city"]

    def test_a_long_description_is_no_error(self):
        tool = FunctionTool.from_defaults(get_time, description="x" * 5000)
        llm, _ = make(calling(("get_time", "{}")))
        llm.chat_with_tools([tool], user_msg="?")

    @pytest.mark.parametrize(
        ("arguments", "choice", "parallel"),
        [
            ({}, None, False),
            ({"allow_parallel_tool_calls": True}, None, None),
            ({"tool_required": True}, "required", False),
            ({"tool_required": True, "tool_choice": "auto"}, "auto", False),
            ({"tool_choice": "get_time"}, {"type": "function", "function": {"name": "get_time"}}, False),
        ],
    )
    def test_choice_and_parallel_calls(self, arguments, choice, parallel):
        llm, runtime = make(calling(PARIS))
        llm.chat_with_tools(TOOLS, user_msg="Weather?", **arguments)
        assert runtime.requests[0].tool_choice == choice
        assert runtime.requests[0].parallel_tool_calls is parallel

    @pytest.mark.parametrize(
        ("field", "argument", "strict"),
        [(False, {}, None), (True, {}, True), (False, {"strict": True}, True), (True, {"strict": False}, None)],
    )
    def test_strict_tools(self, field, argument, strict):
        llm, runtime = make(calling(PARIS), strict=field)
        llm.chat_with_tools(TOOLS, user_msg="Weather?", **argument)
        assert [tool["function"].get("strict") for tool in runtime.requests[0].tools] == [strict, strict]

    @pytest.mark.parametrize("form", ["chat_with_tools", "stream_chat_with_tools"])
    def test_no_tools_no_choice(self, form):
        llm, runtime = make("just text")
        result = getattr(llm, form)([], user_msg="hi", tool_required=True)
        if not isinstance(result, ChatResponse):
            list(result)
        assert runtime.requests[0].tool_choice is None
        assert runtime.requests[0].tools == ()

    async def test_the_callers_history_is_left_alone(self):
        llm, runtime = make(lambda: streamed("x"), "x")
        history = [ChatMessage(role="system", content="Be brief.")]
        list(llm.stream_chat_with_tools(TOOLS, user_msg="Weather?", chat_history=history))
        await llm.achat_with_tools(TOOLS, user_msg=ChatMessage("Weather?"), chat_history=history)
        assert history == [ChatMessage(role="system", content="Be brief.")]
        for request in runtime.requests:
            assert [message["content"] for message in request.messages] == ["Be brief.", "Weather?"]


class TestParallel:
    def test_two_calls_are_kept_when_allowed_and_one_when_not(self):
        llm, _ = make(calling(PARIS, OSLO))
        both = llm.chat_with_tools(TOOLS, user_msg="?", allow_parallel_tool_calls=True)
        assert [call.tool_kwargs["city"] for call in llm.get_tool_calls_from_response(both)] == ["Paris", "Oslo"]
        one = llm.chat_with_tools(TOOLS, user_msg="?")
        assert [call.tool_kwargs["city"] for call in llm.get_tool_calls_from_response(one)] == ["Paris"]
        assert len(one.message.additional_kwargs["tool_calls"]) == 1

    async def test_while_streaming_too(self):
        # Both calls come in one piece: a server may put them into one event.
        pieces = [[ToolCallDelta(0, "c0", *PARIS), ToolCallDelta(1, "c1", *OSLO)]]
        llm, _ = make(lambda: streamed("", tools=pieces, finish="tool_calls"))

        async def cities(**arguments):
            stream = await llm.astream_chat_with_tools(TOOLS, user_msg="?", **arguments)
            seen = []
            async for response in stream:
                calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
                seen.append([call.tool_kwargs["city"] for call in calls])
            return seen

        assert await cities(allow_parallel_tool_calls=True) == [["Paris", "Oslo"]] * 2
        assert await cities() == [["Paris"]] * 2


class TestSelections:
    def test_ids_names_and_arguments(self):
        llm, _ = make(calling(PARIS))
        (call,) = llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, user_msg="?"))
        assert (call.tool_id, call.tool_name, call.tool_kwargs) == ("c0", "get_weather", {"city": "Paris"})

    def test_no_call_is_an_error_only_when_asked_for(self):
        llm, _ = make("I would rather not.")
        response = llm.chat_with_tools(TOOLS, user_msg="?")
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match="called no tool"):
            llm.get_tool_calls_from_response(response)

    def test_arguments_are_read_as_far_as_they_have_come(self):
        text = '{"city": "Paris"}'
        pieces = [[ToolCallDelta(0, "c0", "get_weather", "")], *[[ToolCallDelta(0, arguments=c)] for c in text]]
        llm, _ = make(lambda: streamed("", tools=pieces, finish="tool_calls"))
        seen = []
        for response in llm.stream_chat_with_tools(TOOLS, user_msg="?"):
            (call,) = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            seen.append(call.tool_kwargs)
        assert seen[0] == {}
        assert {"city": "Par"} in seen
        assert seen[-1] == {"city": "Paris"}

    @pytest.mark.parametrize("text", ['{"city": "Par', "not json", '["Paris"]', '"Paris"', "null"])
    def test_a_finished_call_that_does_not_parse_is_never_handed_out(self, text):
        llm, _ = make(calling(("get_weather", text)))
        response = llm.chat_with_tools(TOOLS, user_msg="?")
        with pytest.raises(InvalidOutputError, match="get_weather") as caught:
            llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
        assert caught.value.partial_text == text
        assert isinstance(caught.value, BadResponseError | ValueError)

    @pytest.mark.parametrize("text", ['{"city": "Par', "{}"])
    def test_a_call_cut_off_says_what_to_do(self, text):
        llm, _ = make(calling(("get_weather", text), finish="length", complete=False))
        response = llm.chat_with_tools(TOOLS, user_msg="?")
        with pytest.raises(InvalidOutputError, match="max_tokens"):
            llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)

    def test_no_arguments_are_an_empty_object(self):
        llm, _ = make(calling(("get_time", "")))
        (call,) = llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, user_msg="?"))
        assert call.tool_kwargs == {}

    def test_of_a_message_from_elsewhere(self):
        llm, _ = make("x")
        block = ToolCallBlock(tool_name="get_time", tool_kwargs='{"zone": "CET"}')
        (call,) = llm.get_tool_calls_from_response(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
        assert (call.tool_id, call.tool_kwargs) == ("get_time", {"zone": "CET"})


class TestRoundTrip:
    async def test_predict_and_call(self):
        llm, _ = make(calling(PARIS))
        assert llm.predict_and_call(TOOLS, user_msg="?").response == "sunny in Paris"
        assert (await llm.apredict_and_call(TOOLS, user_msg="?")).response == "sunny in Paris"

    def test_an_answer_goes_back_as_it_came(self):
        llm, runtime = make(calling(PARIS, content="Let me look."), "It is sunny.")
        first = llm.chat_with_tools(TOOLS, user_msg="Weather?")
        result = ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": "c0"})
        llm.chat_with_tools(TOOLS, chat_history=[ChatMessage("Weather?"), first.message, result])
        assistant, tool = runtime.requests[1].messages[1:]
        assert assistant["content"] == "Let me look."
        assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
        assert tool["tool_call_id"] == assistant["tool_calls"][0]["id"] == "c0"

    def test_reasoning_goes_back_when_asked_for(self):
        thinking = ChatChoice(content="4", reasoning="two and two", finish_reason="stop")
        for sends in (False, True):
            llm, runtime = make(thinking, "x", send_reasoning=sends)
            first = llm.chat([ChatMessage("2+2?")])
            llm.chat([ChatMessage("2+2?"), first.message, ChatMessage("sure?")])
            assert runtime.requests[1].messages[1].get("reasoning") == ("two and two" if sends else None)
