from __future__ import annotations

import pickle
import time

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from unit.llamaindex.llm_fakes import USAGE, streamed

from kserve_core.types import (
    ChatChoice,
    ChatDelta,
    ChatResult,
    Generation,
    GenerationChunk,
    TextResult,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llamaindex_kserve._responses import Answer


def collect(pieces, *, one_call=False, form="chat"):
    answer = Answer(one_call=one_call)
    shown = [getattr(answer, form)() for piece in pieces if answer.take(piece)]
    return [*shown, getattr(answer, form)()] if answer.unshown else shown


def whole(result, *, one_call=False):
    answer = Answer(one_call=one_call)
    answer.take_all(result)
    return answer


class TestStream:
    def test_one_response_per_piece_of_text_and_one_at_the_end(self):
        responses = collect(streamed("one two three"))
        assert [response.delta for response in responses] == ["one ", "two ", "three ", ""]
        assert [response.message.content for response in responses] == [
            "one ",
            "one two ",
            "one two three ",
            "one two three ",
        ]

    def test_the_last_one_has_the_counts_and_the_reason(self):
        *before, last = collect(streamed("one"))
        assert last.additional_kwargs == {
            "finish_reason": "stop",
            "prompt_tokens": 11,
            "completion_tokens": 20,
            "total_tokens": 31,
        }
        assert last.raw["usage"]["completion_tokens"] == 20
        assert all("usage" not in response.raw for response in before)

    def test_raw_is_the_servers_own_event(self):
        event = {"id": "x", "usage": {"prompt_tokens": 11, "vendor": 1}}
        assert collect([ChatDelta(content="a", raw=event)])[0].raw is event
        assert collect([ChatDelta(usage=USAGE, raw=event)])[0].raw is event

    def test_an_end_without_counts_is_shown(self):
        responses = collect([ChatDelta(content="a"), ChatDelta(finish_reason="stop")])
        assert [response.additional_kwargs for response in responses] == [{}, {"finish_reason": "stop"}]

    def test_an_empty_answer_is_one_response(self):
        (response,) = collect(streamed(""))
        assert response.message.content == ""

    def test_earlier_responses_do_not_change_under_the_reader(self):
        responses = collect(streamed("one two", reasoning=["hm", "!"]))
        dumps = []
        answer = Answer()
        for piece in streamed("one two", reasoning=["hm", "!"]):
            if answer.take(piece):
                dumps.append(answer.chat().model_dump_json())
        assert [response.model_dump_json() for response in responses[: len(dumps)]] == dumps

    def test_reasoning_is_a_block_and_a_delta(self):
        responses = collect(streamed("four", reasoning=["two ", "and two"]))
        thoughts = [response.additional_kwargs.get("thinking_delta") for response in responses]
        assert thoughts == ["two ", "and two", None, None]
        assert responses[0].delta == ""
        assert [type(block) for block in responses[-1].message.blocks] == [ThinkingBlock, TextBlock]
        assert responses[-1].message.blocks[0].content == "two and two"

    def test_reasoning_tokens_reach_the_block(self):
        pieces = [ChatDelta(reasoning="hm"), ChatDelta(usage=Usage(1, 5, 6, reasoning_tokens=3))]
        assert collect(pieces)[-1].message.blocks[0].num_tokens == 3

    def test_calls_grow_in_the_message(self):
        pieces = [
            [ToolCallDelta(0, "c1", "weather", "")],
            [ToolCallDelta(0, arguments='{"city": ')],
            [ToolCallDelta(0, arguments='"Paris"}')],
        ]
        responses = collect(streamed("", tools=pieces, finish="tool_calls"))
        blocks = [response.message.blocks[-1] for response in responses]
        assert [block.tool_kwargs for block in blocks] == ["", '{"city": ', '{"city": "Paris"}', {"city": "Paris"}]
        assert {block.tool_call_id for block in blocks} == {"c1"}
        kept = responses[-1].message.additional_kwargs["tool_calls"]
        assert kept == [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
        ]

    def test_two_calls_in_one_piece_are_two_calls(self):
        both = [
            ToolCallDelta(0, "c1", "weather", '{"city":"Paris"}'),
            ToolCallDelta(1, "c2", "weather", '{"city":"Oslo"}'),
        ]
        last = collect(streamed("", tools=[both], finish="tool_calls"))[-1]
        calls = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
        assert [(call.tool_call_id, call.tool_kwargs["city"]) for call in calls] == [("c1", "Paris"), ("c2", "Oslo")]

    def test_one_call_means_one_in_every_response(self):
        tools = [
            [ToolCallDelta(0, "c1", "f", "{}")],
            [ToolCallDelta(1, "c2", "f", "{")],
            [ToolCallDelta(1, arguments="}")],
        ]
        for response in collect(streamed("", tools=tools, finish="tool_calls"), one_call=True):
            assert [block.tool_call_id for block in response.message.blocks if isinstance(block, ToolCallBlock)] == [
                "c1"
            ]

    def test_a_call_cut_off_is_marked_however_whole_it_looks(self):
        last = collect(streamed("", tools=[[ToolCallDelta(0, "c1", "f", "{}")]], finish="length"))[-1]
        assert last.additional_kwargs["incomplete_tool_call"] is True

    def test_other_choices_are_not_mixed_in(self):
        pieces = [
            ChatDelta(content="a", index=0),
            ChatDelta(content="X", index=1),
            ChatDelta(finish_reason="stop", index=1),
            ChatDelta(content="b", index=0),
            ChatDelta(finish_reason="length", index=0),
            ChatDelta(usage=USAGE, index=1),
        ]
        last = collect(pieces)[-1]
        assert last.message.content == "ab"
        assert last.additional_kwargs["finish_reason"] == "length"

    def test_as_a_completion(self):
        responses = collect(streamed("one two", reasoning=["hm"]), form="completion")
        assert all(isinstance(response, CompletionResponse) for response in responses)
        assert [response.text for response in responses] == ["", "one ", "one two ", "one two "]
        assert responses[-1].additional_kwargs["reasoning"] == "hm"
        assert responses[-1].additional_kwargs["total_tokens"] == 31

    def test_of_a_completion_runtime(self):
        pieces = [
            GenerationChunk("one ", raw={}),
            GenerationChunk("two", finish_reason="stop", stop_reason="END", raw={}),
            GenerationChunk(usage=USAGE, raw={}),
        ]
        last = collect(pieces)[-1]
        assert last.message.content == "one two"
        assert last.additional_kwargs["stop_reason"] == "END"

    def test_responses_are_what_the_framework_would_have_made(self):
        built = collect([ChatDelta(content="hi", raw={"id": 1})])[0]
        made = ChatResponse(
            message=ChatMessage(role="assistant", content="hi"), raw={"id": 1}, delta="hi", additional_kwargs={}
        )
        assert built == made
        assert built.model_dump() == made.model_dump()
        assert ChatResponse.model_validate(built.model_dump()) == made
        assert pickle.loads(pickle.dumps(built)) == made
        assert built.model_copy(deep=True) == made
        built.message.content = "changed"
        assert built.message.content == "changed"

    def test_a_piece_of_text_costs_less_than_validating_its_response(self):
        text = "x" * 400

        def validated(_):
            return ChatResponse(
                message=ChatMessage(role="assistant", content=text), delta="x", raw={}, additional_kwargs={}
            )

        answer = Answer()
        piece = ChatDelta(content="x", raw={})

        def ours(_):
            answer.take(piece)
            return answer.chat()

        def cost(make, rounds=2000):
            best = None
            for _ in range(5):
                start = time.process_time()
                for index in range(rounds):
                    make(index)
                spent = time.process_time() - start
                best = spent if best is None else min(best, spent)
            return best

        assert cost(ours) < cost(validated)


class TestWhole:
    def test_a_chat_answer(self):
        result = ChatResult(
            [
                ChatChoice(
                    content="four",
                    reasoning="hm",
                    tool_calls=[ToolCall("c1", "f", '{"x": 1}'), ToolCall("c2", "g", "{}")],
                    finish_reason="tool_calls",
                )
            ],
            usage=USAGE,
            raw={"id": "1"},
        )
        response = whole(result).chat()
        assert [type(block) for block in response.message.blocks] == [
            ThinkingBlock,
            TextBlock,
            ToolCallBlock,
            ToolCallBlock,
        ]
        assert response.message.blocks[2].tool_kwargs == {"x": 1}
        assert response.delta is None
        assert response.raw == {
            "id": "1",
            "usage": {"prompt_tokens": 11, "completion_tokens": 20, "total_tokens": 31},
        }
        limited = whole(result, one_call=True).chat()
        assert [block.tool_name for block in limited.message.blocks if isinstance(block, ToolCallBlock)] == ["f"]

    def test_calls_alone_have_no_empty_text(self):
        result = ChatResult([ChatChoice(tool_calls=[ToolCall("c1", "f", "{}")], finish_reason="tool_calls")])
        assert [type(block) for block in whole(result).chat().message.blocks] == [ToolCallBlock]

    def test_arguments_that_do_not_parse_stay_text(self):
        result = ChatResult([ChatChoice(tool_calls=[ToolCall("c1", "f", '{"x":')], finish_reason="tool_calls")])
        assert whole(result).chat().message.blocks[0].tool_kwargs == '{"x":'

    def test_a_refusal_is_kept(self):
        result = ChatResult([ChatChoice(refusal="no", finish_reason="stop")])
        assert whole(result).chat().message.additional_kwargs == {"refusal": "no"}

    def test_more_choices_stay_in_raw(self):
        result = ChatResult([ChatChoice("a"), ChatChoice("b", index=1)], raw={"choices": ["a", "b"]})
        response = whole(result).chat()
        assert response.message.content == "a"
        assert response.raw["choices"] == ["a", "b"]

    def test_a_completion(self):
        result = TextResult([[Generation("hi", finish_reason="length")]], usage=USAGE)
        response = whole(result).completion()
        assert response.text == "hi"
        assert response.additional_kwargs["finish_reason"] == "length"
        assert response.raw["usage"]["total_tokens"] == 31


CHAT_LOGPROBS = {
    "content": [
        {
            "token": "Hi",
            "logprob": -0.1,
            "bytes": [72, 105],
            "top_logprobs": [
                {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]},
                {"token": "Yo", "logprob": -2.5, "bytes": [89, 111]},
            ],
        },
        {"token": "é", "logprob": -0.2, "bytes": None, "top_logprobs": []},
    ]
}


class TestLogprobs:
    def test_chat(self):
        rows = whole(ChatResult([ChatChoice("Hié", logprobs=CHAT_LOGPROBS)])).chat().logprobs
        assert [[entry.token for entry in row] for row in rows] == [["Hi", "Yo"], ["é"]]
        assert rows[0][1].logprob == -2.5
        assert rows[1][0].bytes == [195, 169]

    def test_completion(self):
        logprobs = {
            "tokens": ["a", "b"],
            "token_logprobs": [None, -0.5],
            "top_logprobs": [None, {"b": -0.5, "c": -1.5}],
            "text_offset": [0, 1],
        }
        rows = whole(TextResult([[Generation("ab", logprobs=logprobs)]])).completion().logprobs
        assert [[entry.token for entry in row] for row in rows] == [[], ["b", "c"]]

    def test_streamed_ones_are_those_of_the_piece(self):
        responses = collect([ChatDelta(content="Hi", logprobs=CHAT_LOGPROBS), ChatDelta(content="!")])
        assert len(responses[0].logprobs) == 2
        assert responses[1].logprobs is None

    def test_none(self):
        assert whole(ChatResult([ChatChoice("x")])).chat().logprobs is None
