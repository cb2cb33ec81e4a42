"""Chat answers in pieces: bytes in, deltas out."""

from __future__ import annotations

import re

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, feed, fixture

from kserve_core.capabilities import ChatRequest
from kserve_core.errors import BadResponseError, InvalidRequestError, ServerError, StreamInterrupted
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.runtimes.vllm.chat_stream import ChatDecoder
from kserve_core.types import Usage

STREAMS = [
    "chat.sse",
    "chat_n2.sse",
    "chat_stop_string.sse",
    "chat_continuous_usage.sse",
    "chat_logprobs.sse",
    "tools_0.32.sse",
    "tools_cut.sse",
    "reasoning_0.32.sse",
    "reasoning_0.9.sse",
    "reasoning_0.12.sse",
]


def read(name, **options):
    return feed(ChatDecoder(**options), fixture(name))


def text(pieces, index=0):
    return "".join(piece.content for piece in pieces if piece.index == index)


def test_text_role_end_and_usage():
    pieces = read("chat.sse")
    assert text(pieces) == "Hello, wörld 👋!"
    assert pieces[0].role == "assistant"
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["stop"]
    assert pieces[-1].usage == Usage(12, 6, 18, cached_tokens=8)
    assert [p.usage for p in pieces[:-1]] == [None] * (len(pieces) - 1)


def test_identity_comes_once():
    pieces = read("chat.sse")
    assert [p.model for p in pieces if p.model] == ["granite"]
    assert [p.id for p in pieces if p.id] == ["chatcmpl-9f2b61d0a1c34e7d"]
    assert [p.system_fingerprint for p in pieces if p.system_fingerprint] == ["vllm-0.32.0-3b1c0a52"]
    assert (pieces[0].model, pieces[0].role) == ("granite", "assistant")


def test_every_piece_carries_its_event():
    pieces = read("chat.sse")
    assert [p.raw["choices"][0]["delta"].get("content") for p in pieces[1:5]] == ["Hello", ", wörld", " 👋", "!"]
    assert pieces[-1].raw["usage"]["total_tokens"] == 18


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_pieces_wherever_the_bytes_are_cut(name):
    data = fixture(name)
    whole = feed(ChatDecoder(), data)
    for cut in range(1, len(data)):
        assert feed(ChatDecoder(), data, [cut]) == whole, cut
    assert feed(ChatDecoder(), data, range(1, len(data))) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_no_stream_that_was_cut_off_passes_for_complete(name):
    data = fixture(name)
    for cut in range(data.index(b"data: [DONE]")):
        with pytest.raises(StreamInterrupted):
            feed(ChatDecoder(), data[:cut])


def test_the_error_of_a_cut_stream_holds_the_text_so_far():
    data = fixture("chat.sse")
    cut = data.index("👋".encode()) + 2
    with pytest.raises(StreamInterrupted, match="no finish reason") as info:
        feed(ChatDecoder(), data[:cut])
    assert info.value.partial_text == "Hello, wörld"
    assert info.value.retryable


def test_done_without_its_empty_line_is_the_end():
    data = fixture("chat.sse")
    assert feed(ChatDecoder(), data.rstrip(b"\n")) == read("chat.sse")


def test_done_without_a_finish_reason_is_no_end():
    data = re.sub(rb"data: [^\n]*finish_reason\":\"stop\"[^\n]*\n\n", b"", fixture("chat.sse"))
    with pytest.raises(StreamInterrupted) as info:
        feed(ChatDecoder(), data)
    assert info.value.partial_text == "Hello, wörld 👋!"


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", b": ping\n\n"])
def test_a_stream_without_any_answer(body):
    with pytest.raises(StreamInterrupted):
        feed(ChatDecoder(), body)


def test_lenient_accepts_a_missing_end_marker_but_not_a_cut_answer():
    data = fixture("chat.sse").replace(b"data: [DONE]\n\n", b"")
    assert text(feed(ChatDecoder(strict=False), data)) == "Hello, wörld 👋!"
    assert feed(ChatDecoder(strict=False), data)[-1].usage.total_tokens == 18
    with pytest.raises(StreamInterrupted):
        feed(ChatDecoder(strict=False), data[: data.index(b'finish_reason":"stop')])


def test_lenient_takes_the_end_marker_at_its_word():
    data = fixture("chat.sse").replace(b'"finish_reason":"stop"', b'"finish_reason":null')
    assert text(feed(ChatDecoder(strict=False), data)) == "Hello, wörld 👋!"


def test_nothing_is_read_behind_the_end():
    decoder = ChatDecoder()
    pieces = decoder.feed(fixture("chat.sse") + b"data: {broken\n\n")
    assert decoder.finished
    assert text(pieces) == "Hello, wörld 👋!"
    assert decoder.close() == []


def test_choices_of_n_are_kept_apart():
    pieces = read("chat_n2.sse")
    assert (text(pieces, 0), text(pieces, 1)) == ("Aa", "Bb")
    assert [(p.index, p.finish_reason) for p in pieces if p.finish_reason] == [(0, "stop"), (1, "length")]
    assert [(p.index, p.role) for p in pieces if p.role] == [(0, "assistant"), (1, "assistant")]


def test_one_choice_of_two_without_an_end_is_a_cut_stream():
    data = fixture("chat_n2.sse").replace(b'"finish_reason":"length"', b'"finish_reason":null')
    with pytest.raises(StreamInterrupted):
        feed(ChatDecoder(), data)


def test_running_totals_count_once():
    usages = [p.usage for p in read("chat_continuous_usage.sse") if p.usage]
    assert usages == [Usage(7, 3, 10)]


def test_a_matched_stop_string_is_told():
    assert [p.stop_reason for p in read("chat_stop_string.sse") if p.finish_reason] == ["three"]


def test_log_probabilities_go_with_their_piece():
    tokens = [entry["token"] for p in read("chat_logprobs.sse") if p.logprobs for entry in p.logprobs["content"]]
    assert tokens == ["Hi", "!"]


@pytest.mark.parametrize(
    ("name", "reasoning", "content"),
    [
        ("reasoning_0.32.sse", "\nTwo plus two.", "\n\nFour."),
        ("reasoning_0.12.sse", "Two plus two.", "Four."),
        ("reasoning_0.9.sse", "Two plus two.", "Four."),
    ],
)
def test_reasoning_under_either_name_and_never_twice(name, reasoning, content):
    pieces = read(name)
    assert "".join(p.reasoning for p in pieces) == reasoning
    assert text(pieces) == content


def test_reasoning_tokens():
    assert read("reasoning_0.32.sse")[-1].usage.reasoning_tokens == 5


# --- errors inside the stream


def test_a_failure_in_the_middle_raises_although_done_follows():
    with pytest.raises(ServerError, match="EngineCore") as info:
        read("engine_dies.sse")
    assert info.value.partial_text == "One two"
    assert info.value.status == 500
    assert "pod" in info.value.hint


def test_a_failure_in_the_flat_shape_of_old_versions():
    with pytest.raises(InvalidRequestError, match="aborted") as info:
        read("error_0.9.sse")
    assert (info.value.partial_text, info.value.status) == ("One", 400)


@pytest.mark.parametrize(
    "event",
    [b'data: {"error":"upstream went away"}\n\n', b'event: error\ndata: {"message":"upstream went away"}\n\n'],
)
def test_failures_as_gateways_word_them(event):
    with pytest.raises(ServerError, match="upstream went away"):
        feed(ChatDecoder(), event)


def test_an_event_that_is_not_json_is_a_bounded_error():
    with pytest.raises(BadResponseError) as info:
        feed(ChatDecoder(), b"data: {" + b"x" * 100_000 + b"\n\n")
    assert len(str(info.value)) + len(info.value.server_message) < 1000


@pytest.mark.parametrize("event", [b"data: 17\n\n", b'data: "x"\n\n', b"data: [1]\n\n"])
def test_an_event_that_is_no_object(event):
    with pytest.raises(BadResponseError):
        feed(ChatDecoder(), event)


def test_comments_blank_data_and_foreign_events_are_passed_over():
    data = b': keep-alive\n\ndata:\n\nevent: ping\ndata: {"type":"ping"}\n\n' + fixture("chat.sse")
    assert feed(ChatDecoder(), data) == read("chat.sse")


def test_a_repeated_finish_reason_is_told_once():
    line = next(line for line in fixture("chat.sse").split(b"\n\n") if b'"finish_reason":"stop"' in line)
    data = fixture("chat.sse").replace(line, line + b"\n\n" + line)
    assert [p.finish_reason for p in feed(ChatDecoder(), data) if p.finish_reason] == ["stop"]


# --- through the runtime


def stream(server, **fields):
    client = server.client(model="granite")
    request = ChatRequest(messages=[{"role": "user", "content": "Hello"}], **fields)
    return list(client.stream(client.runtime.stream_chat(request)))


def test_the_request_asks_for_usage_unless_told_not_to():
    server = Server().route("/v1/chat/completions", (200, fixture("chat.sse")))
    assert text(stream(server)) == "Hello, wörld 👋!"
    assert server.body["stream"] is True
    assert server.body["stream_options"] == {"include_usage": True}
    assert server.calls[0].headers["accept"] == "text/event-stream"
    stream(server, include_usage=False)
    assert "stream_options" not in server.body


def test_every_run_of_a_stream_call_has_its_own_decoder():
    server = Server().route("/v1/chat/completions", (200, fixture("chat.sse")))
    client = server.client(model="granite")
    flow = client.runtime.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}]))
    with pytest.raises(StopIteration) as stop:
        next(flow)
    call = stop.value.value
    assert text(client.stream(call)) == text(client.stream(call)) == "Hello, wörld 👋!"


def test_a_refusal_before_the_stream_is_the_plain_error():
    body = orjson.dumps({"error": {"message": "top_p must be in (0, 1]", "type": "BadRequestError", "code": 400}})
    server = Server().route("/v1/chat/completions", (400, body))
    with pytest.raises(InvalidRequestError, match="top_p"):
        stream(server)


def test_the_option_reaches_the_decoder():
    data = fixture("chat.sse").replace(b"data: [DONE]\n\n", b"")
    server = Server().route("/v1/chat/completions", (200, data))
    client = server.client(model="granite", strict_stream=False)
    request = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
    assert text(client.stream(client.runtime.stream_chat(request))) == "Hello, wörld 👋!"
    assert isinstance(client.runtime, VLLMRuntime)
