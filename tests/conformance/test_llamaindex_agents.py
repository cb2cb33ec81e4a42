"""Language models inside LlamaIndex's agents, and the tool calling under them."""

from __future__ import annotations

import pytest
from conformance.llamaindex_llms import Recorder, make
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCall,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.tools import FunctionTool

pytestmark = pytest.mark.needs("chat")

WEATHER = "Weather in Paris?"


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"21 degrees and sunny in {city}"


TOOL = FunctionTool.from_defaults(get_weather)
FORMS = ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools"]


async def ask(llm, form, user_msg=WEATHER, **arguments):
    result = getattr(llm, form)([TOOL], user_msg=user_msg, **arguments)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return [result]
    return [item async for item in result] if form.startswith("a") else list(result)


@pytest.mark.needs("tools", "scripted")
class TestToolCalls:
    @pytest.mark.parametrize("form", FORMS)
    async def test_a_call(self, target, form):
        llm = make(target)
        responses = await ask(llm, form)
        (call,) = llm.get_tool_calls_from_response(responses[-1])
        assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
        assert call.tool_id
        for response in responses:  # half-written calls are readable and never wrong
            for partial in llm.get_tool_calls_from_response(response, error_on_no_tool_call=False):
                assert partial.tool_name == "get_weather"
                assert "Paris".startswith(partial.tool_kwargs.get("city", ""))

    @pytest.mark.needs("parallel_tools")
    @pytest.mark.parametrize("form", FORMS)
    async def test_two_calls_or_one(self, target, form):
        llm = make(target, max_tokens=256)
        prompt = "Weather in Paris and London?"
        for allowed, cities in ((True, ["Paris", "London"]), (False, ["Paris"])):
            last = (await ask(llm, form, prompt, allow_parallel_tool_calls=allowed))[-1]
            calls = llm.get_tool_calls_from_response(last)
            assert [call.tool_kwargs["city"] for call in calls] == cities
            assert len({call.tool_id for call in calls}) == len(calls)

    @pytest.mark.parametrize("form", FORMS)
    async def test_text_and_a_call(self, target, form):
        llm = make(target, max_tokens=256)
        last = (await ask(llm, form, "Look it up, then tell me."))[-1]
        assert last.message.content.strip()
        assert len(llm.get_tool_calls_from_response(last)) == 1

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_answer_to_a_result(self, target, form):
        llm = make(target)
        first = (await ask(llm, form))[-1].message
        (block,) = [block for block in first.blocks if isinstance(block, ToolCallBlock)]
        result = ChatMessage(
            role="tool", content=get_weather("Paris"), additional_kwargs={"tool_call_id": block.tool_call_id}
        )
        history = [ChatMessage(WEATHER), first, result]
        last = (await ask(llm, form, None, chat_history=history))[-1]
        assert "21 degrees" in last.message.content

    @pytest.mark.needs("tool_choice")
    @pytest.mark.parametrize("form", FORMS)
    async def test_a_tool_may_be_required(self, target, form):
        llm = make(target, max_tokens=256)
        for choice in ({"tool_required": True}, {"tool_choice": "get_weather"}):
            last = (await ask(llm, form, "Say hello.", **choice))[-1]
            assert llm.get_tool_calls_from_response(last)[0].tool_name == "get_weather"

    @pytest.mark.needs("tool_choice")
    async def test_or_forbidden(self, target):
        llm = make(target)
        last = (await ask(llm, "chat_with_tools", WEATHER, tool_choice="none"))[-1]
        assert llm.get_tool_calls_from_response(last, error_on_no_tool_call=False) == []

    async def test_predict_and_call(self, target):
        llm = make(target)
        assert llm.predict_and_call([TOOL], user_msg=WEATHER).response == get_weather("Paris")
        assert (await llm.apredict_and_call([TOOL], user_msg=WEATHER)).response == get_weather("Paris")


@pytest.mark.needs("tools", "scripted")
class TestFunctionAgent:
    @pytest.mark.parametrize("streaming", [True, False])
    async def test_one_tool_and_its_events(self, target, streaming):
        agent = FunctionAgent(tools=[TOOL], llm=make(target), system_prompt="Be helpful.", streaming=streaming)
        with Recorder() as recorder:
            handler = agent.run(WEATHER)
            events = [event async for event in handler.stream_events()]
            output = await handler
        assert "21 degrees" in str(output)
        (call,) = [event for event in events if type(event) is ToolCall]
        assert call.tool_kwargs == {"city": "Paris"}
        (result,) = [event for event in events if isinstance(event, ToolCallResult)]
        assert result.tool_output.content == get_weather("Paris")
        assert recorder.names.count("LLMChatStartEvent") == recorder.names.count("LLMChatEndEvent") == 2
        pieces = [event for event in events if isinstance(event, AgentStream)]
        assert bool(pieces) is streaming
        if streaming:
            text = "".join(piece.delta for piece in pieces)
            assert str(output) in text

    @pytest.mark.needs("reasoning")
    async def test_thoughts_arrive_while_they_are_thought(self, target):
        agent = FunctionAgent(tools=[TOOL], llm=make(target, "reasoning", max_tokens=256))
        handler = agent.run("Think: what is two plus two?")
        thoughts = [event.thinking_delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        await handler
        assert "".join(filter(None, thoughts)).strip()

    @pytest.mark.needs("devserver")
    async def test_tools_are_chosen_by_what_the_llm_can_do(self, target):
        workflow = AgentWorkflow.from_tools_or_functions([get_weather], llm=make(target))
        assert type(next(iter(workflow.agents.values()))) is FunctionAgent
        workflow = AgentWorkflow.from_tools_or_functions(
            [get_weather], llm=make(target, is_function_calling_model=False)
        )
        assert type(next(iter(workflow.agents.values()))) is ReActAgent


@pytest.mark.needs("devserver")
class TestAgentsThatReason:
    """Agents that need a model with some sense."""

    @pytest.mark.parametrize("is_chat_model", [True, False])
    async def test_react(self, target, is_chat_model):
        fields = {"is_chat_model": is_chat_model, "max_tokens": 256, "stop": ["Observation:"]}
        if "tools" in target.features:
            fields["is_function_calling_model"] = False
        llm = make(target, "chat" if is_chat_model else "text", **fields)
        handler = ReActAgent(tools=[TOOL], llm=llm).run(WEATHER)
        events = [event async for event in handler.stream_events()]
        output = await handler
        (result,) = [event for event in events if isinstance(event, ToolCallResult)]
        assert result.tool_kwargs == {"city": "Paris"}
        assert "21 degrees" in str(output)

    @pytest.mark.needs("tools")
    async def test_a_handoff(self, target):
        llm = make(target, max_tokens=256)
        clerk = FunctionAgent(
            name="invoice_clerk",
            description="Answers questions about invoices.",
            tools=[],
            llm=llm,
            can_handoff_to=["weather_expert"],
        )
        expert = FunctionAgent(
            name="weather_expert", description="Knows the weather in every city.", tools=[TOOL], llm=llm
        )
        workflow = AgentWorkflow(agents=[clerk, expert], root_agent="invoice_clerk")
        handler = workflow.run("What is the weather in Paris?")
        outputs = [event async for event in handler.stream_events() if isinstance(event, AgentOutput)]
        final = await handler
        assert [outputs[0].current_agent_name, outputs[-1].current_agent_name] == ["invoice_clerk", "weather_expert"]
        assert "21 degrees" in str(final)
