"""Streamed tool calls in the shapes that servers and versions send them."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.vllm_wire import feed, fixture

from kserve_core.runtimes.vllm.chat_stream import ChatDecoder
from kserve_core.runtimes.vllm.tool_deltas import ToolCallAssembler

PARIS = '{"city": "Paris"}'
LONDON = '{"city": "London"}'


def piece(name=None, arguments=None, **fields):
    function = {}
    if name is not None:
        function["name"] = name
    if arguments is not None:
        function["arguments"] = arguments
    return {**fields, "function": function}


def joined(events, *, cut=False, one_call=False):
    """The calls after all pieces were put together, as an adapter does: by index, keeping what is set."""
    assembler = ToolCallAssembler(one_call=one_call)
    deltas = [delta for event in events for delta in assembler.feed(event)]
    deltas += assembler.finish(cut=cut)
    calls = {}
    for delta in deltas:
        call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
        call["id"] += delta.id or ""
        call["name"] += delta.name or ""
        call["arguments"] += delta.arguments
    assert list(calls) == list(range(len(calls)))
    return [(call["id"], call["name"], call["arguments"]) for call in calls.values()]


def test_the_current_version():
    pieces = feed(ChatDecoder(), fixture("tools_0.32.sse"))
    deltas = [delta for p in pieces for delta in p.tool_calls]
    assert [(d.index, d.id, d.name) for d in deltas if d.id] == [
        (0, "chatcmpl-tool-4e1a9c07b3d25f68", "get_weather"),
        (1, "chatcmpl-tool-0c7d3b91e5a2f864", "get_weather"),
    ]
    assert "".join(d.arguments for d in deltas if d.index == 0) == PARIS
    assert "".join(d.arguments for d in deltas if d.index == 1) == LONDON
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["tool_calls"]


def test_a_call_cut_off_by_the_length_limit():
    pieces = feed(ChatDecoder(), fixture("tools_cut.sse"))
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["length"]


def test_one_call_only():
    pieces = feed(ChatDecoder(one_call=True), fixture("tools_0.32.sse"))
    assert {d.index for p in pieces for d in p.tool_calls} == {0}


SPLIT = ['{"city"', ': "Par', 'is"}']

SHAPES = {
    "id, name and index on the first piece": [
        [piece("get_weather", "", id="a", index=0)],
        *[[piece(None, part, index=0)] for part in SPLIT],
    ],
    "id and name repeated on every piece": [[piece("get_weather", part, id="a", index=0)] for part in SPLIT],
    "empty id and name after the first piece": [
        [piece("get_weather", SPLIT[0], id="a", index=0)],
        *[[piece("", part, id="", index=0)] for part in SPLIT[1:]],
    ],
    "nulls after the first piece": [
        [piece("get_weather", None, id="a", index=0, type="function")],
        *[[{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": part}}] for part in SPLIT],
    ],
    "no index at all": [
        [piece("get_weather", SPLIT[0], id="a")],
        *[[piece(None, part)] for part in SPLIT[1:]],
    ],
    "null index, id on every piece": [[piece("get_weather", part, id="a", index=None)] for part in SPLIT],
    "the whole call in one piece": [[piece("get_weather", PARIS, id="a", index=0)]],
    "the name after the id": [
        [piece(None, None, id="a", index=0)],
        [piece("get_weather", SPLIT[0], index=0)],
        *[[piece(None, part, index=0)] for part in SPLIT[1:]],
    ],
    "arguments before the name": [
        [piece(None, SPLIT[0], id="a", index=0)],
        [piece("get_weather", SPLIT[1], index=0)],
        [piece(None, SPLIT[2], index=0)],
    ],
    "an index that does not begin at zero": [
        [piece("get_weather", "", id="a", index=1)],
        *[[piece(None, part, index=1)] for part in SPLIT],
    ],
}


@pytest.mark.parametrize("events", SHAPES.values(), ids=SHAPES)
def test_one_call_in_every_shape(events):
    assert joined(events) == [("a", "get_weather", PARIS)]


def test_an_id_that_changes_with_every_piece_is_still_one_call():
    events = [[piece("get_weather", SPLIT[0], id="a", index=0)]]
    events += [[piece(None, part, id=f"other-{part}", index=0)] for part in SPLIT[1:]]
    assert joined(events) == [("a", "get_weather", PARIS)]


def test_an_id_is_made_up_once_when_none_comes():
    events = [[piece("get_weather", SPLIT[0], id="", index=0)], [piece(None, SPLIT[1] + SPLIT[2], index=0)]]
    [(call_id, name, arguments)] = joined(events)
    assert call_id.startswith("call_")
    assert len(call_id) == 29
    assert (name, arguments) == ("get_weather", PARIS)


def test_arguments_as_an_object():
    [(_, _, arguments)] = joined([[piece("get_weather", {"city": "Paris"}, id="a", index=0)]])
    assert orjson.loads(arguments) == {"city": "Paris"}


TWO = [("a", "get_weather", PARIS), ("b", "get_weather", LONDON)]

TWO_SHAPES = {
    "one after the other": [
        [piece("get_weather", PARIS, id="a", index=0)],
        [piece("get_weather", LONDON, id="b", index=1)],
    ],
    "both in one piece": [
        [piece("get_weather", PARIS, id="a", index=0), piece("get_weather", LONDON, id="b", index=1)]
    ],
    "both in one piece, no index": [[piece("get_weather", PARIS, id="a"), piece("get_weather", LONDON, id="b")]],
    "both under index 0": [
        [piece("get_weather", PARIS, id="a", index=0)],
        [piece("get_weather", LONDON, id="b", index=0)],
    ],
    "interleaved": [
        [piece("get_weather", PARIS[:5], id="a", index=0), piece("get_weather", LONDON[:5], id="b", index=1)],
        [piece(None, LONDON[5:], index=1), piece(None, PARIS[5:], index=0)],
    ],
    "no index, joined by id": [
        [piece("get_weather", PARIS[:5], id="a"), piece("get_weather", LONDON[:5], id="b")],
        [piece(None, PARIS[5:], id="a")],
        [piece(None, LONDON[5:], id="b")],
    ],
    "no index, the second without an announcement of the first's end": [
        [piece("get_weather", PARIS[:5], id="a")],
        [piece(None, PARIS[5:])],
        [piece("get_weather", LONDON[:5], id="b")],
        [piece(None, LONDON[5:])],
    ],
}


@pytest.mark.parametrize("events", TWO_SHAPES.values(), ids=TWO_SHAPES)
def test_two_calls_in_every_shape(events):
    assert joined(events) == TWO


def test_two_calls_without_ids_get_different_ones():
    first, second = joined([[piece("get_weather", PARIS, index=0), piece("get_time", "{}", index=1)]])
    assert first[0] != second[0]


def test_a_call_without_arguments_gets_an_empty_object():
    assert joined([[piece("get_time", "", id="a", index=0)]]) == [("a", "get_time", "{}")]
    assert joined([[piece("get_time", {}, id="a", index=0)]]) == [("a", "get_time", "{}")]


def test_a_call_cut_before_its_arguments_gets_none():
    assert joined([[piece("get_time", None, id="a", index=0)]], cut=True) == [("a", "get_time", "")]


def test_a_call_whose_name_never_comes_is_not_lost():
    assert joined([[piece(None, PARIS, id="a", index=0)]]) == [("a", "", PARIS)]


def test_pieces_that_are_nothing():
    assert joined([[None, {"index": 0, "function": None, "id": "a"}], [piece("f", "{}", index=0)]]) == [
        ("a", "f", "{}")
    ]


def event(calls, finish=None):
    choice = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


def test_a_call_in_the_event_that_also_ends_the_choice():
    data = event([piece("get_weather", PARIS, id="a", index=0)], "tool_calls") + b"data: [DONE]\n\n"
    [only] = feed(ChatDecoder(), data)
    assert only.finish_reason == "tool_calls"
    assert [(d.id, d.name, d.arguments) for d in only.tool_calls] == [("a", "get_weather", PARIS)]
