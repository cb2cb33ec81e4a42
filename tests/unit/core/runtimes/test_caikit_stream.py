"""Streamed texts from Caikit, over both protocols, from recorded bytes."""

from __future__ import annotations

import json

import pytest
from unit.core.runtimes.caikit_wire import TASK, Server, recorded

from kserve_core.capabilities import TextRequest
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    ServerError,
    StreamInterrupted,
)
from kserve_core.runtimes.caikit import tasks
from kserve_core.types import Usage

PATH = f"{TASK}server-streaming-text-generation"
METHOD = tasks.STREAM.method
RUNTIME = "The runtime"


def chunks(name):
    return recorded("streams")[name]


def stream(found, *, protocol="rest", **fields):
    server = Server().route(PATH, found).route(METHOD, found)
    client = server.client(model="tinytgis", protocol=protocol)
    return client.stream(client.runtime.stream_generate(TextRequest(prompts=[RUNTIME], **fields)))


def event(text, word="NOT_FINISHED", made=0, **fields):
    details = {"finish_reason": word, "generated_tokens": made, "seed": 0, "input_token_count": 0}
    value = {"generated_text": text, "tokens": [], "details": details, "producer_id": None, "input_tokens": []}
    return f"event: message\r\ndata: {json.dumps({**value, **fields})}\r\n\r\n"


def test_an_answer_in_pieces():
    pieces = list(stream(chunks("stream tgis to eos")))
    assert "".join(piece.text for piece in pieces) == " answers a request with generated text."
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert pieces[-1].usage == Usage(2, 8, 10)
    assert [piece.usage for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].extra == {"server_finish_reason": "EOS_TOKEN"}
    assert [piece.model for piece in pieces] == ["tinytgis"] + [None] * (len(pieces) - 1)
    assert pieces[0].text == " answers"  # the event that only counts the prompt is no piece


def test_the_same_however_the_bytes_are_cut():
    whole = list(stream(chunks("stream tgis to eos")))
    text = "".join(chunks("stream tgis to eos"))
    assert list(stream(list(text))) == whole
    assert list(stream([text])) == whole


def test_over_grpc():
    pieces = list(stream("stream tinytgis", protocol="grpc"))
    assert [piece.text for piece in pieces] == [" answers", " a", " request"]
    assert (pieces[-1].finish_reason, pieces[-1].usage) == ("length", Usage(2, 3, 5))
    assert pieces[-1].raw["details"]["finish_reason"] == "MAX_TOKENS"


def test_usage_can_be_left_out():
    assert [piece.usage for piece in stream(chunks("stream tgis ok"), include_usage=False)] == [None] * 4


def test_token_details():
    asked = {"logprobs": True, "prompt_logprobs": True, "max_tokens": 2}
    first, *pieces = stream(chunks("stream tgis token details"), params=asked)
    assert [token["text"] for token in first.extra["input_tokens"]] == ["The", "Ġruntime"]
    assert pieces[0].logprobs == {
        "tokens": ["Ġanswers"],
        "token_logprobs": [-0.007557964883744717],
        "top_logprobs": [None],
    }
    assert pieces[-1].extra["tokens"] == [{"text": "Ġa", "logprob": -0.00485977903008461, "rank": 1}]


def test_comments_while_the_model_thinks():
    ping = ": ping - 2026-11-22 11:01:20.208577+00:00\r\n\r\n"
    events = [part for chunk in chunks("stream tgis to eos") for part in (ping, chunk, ping)]
    assert list(stream(events)) == list(stream(chunks("stream tgis to eos")))


def test_older_servers_name_no_events():
    plain = [chunk.replace("event: message\r\n", "").replace("\r\n", "\n") for chunk in chunks("stream tgis to eos")]
    assert list(stream(plain)) == list(stream(chunks("stream tgis to eos")))


def test_an_older_servers_error():
    broken = chunks("stream error mid-stream INVALID_ARGUMENT")
    plain = [chunk.replace("event: message\r\n", "").replace("event: error\r\n", "") for chunk in broken]
    with pytest.raises(InvalidRequestError, match="injected failure mid-stream") as caught:
        list(stream(plain))
    assert caught.value.partial_text == " answers a"


@pytest.mark.parametrize(
    ("name", "kind", "status", "words"),
    [
        ("stream error before first token", ServerError, 500, "injected failure before the first token"),
        ("stream error mid-stream INVALID_ARGUMENT", InvalidRequestError, 400, "injected failure mid-stream"),
        ("stream error mid-stream UNAVAILABLE", ServerError, 500, "injected failure mid-stream"),
        ("stream too long", ContextOverflowError, 400, "plus max_new_tokens"),
        ("stream bad decoding_method", InvalidRequestError, 400, r"value check failed: Decoding method \[BEAM\]"),
        ("stream unknown model", ModelNotFoundError, 404, "a model named 'nope'"),
        ("stream wrong-task model", NotFoundError, 500, "'tinytgis' cannot stream"),
    ],
)
def test_errors_that_come_under_status_200(name, kind, status, words):
    with pytest.raises(kind, match=words) as caught:
        list(stream(chunks(name)))
    assert caught.value.status == status
    sent = json.loads(chunks(name)[-1].partition("data: ")[2])
    assert caught.value.request_id == sent["id"]
    assert "ValueError(" not in str(caught.value)


def test_pieces_arrive_before_the_error():
    seen = []
    pieces = stream(chunks("stream error mid-stream UNAVAILABLE"))
    with pytest.raises(ServerError) as caught:
        seen.extend(piece.text for piece in pieces)
    assert seen == [" answers", " a"]
    assert caught.value.partial_text == " answers a"


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("stream unknown model", ModelNotFoundError, "a model named 'nope'"),
        ("stream fail mid INVALID", InvalidRequestError, "injected failure mid-stream"),
        ("stream fail mid UNAVAILABLE", ServerError, "injected failure mid-stream"),
        ("local stream tinylm", NotFoundError, "cannot stream"),
        ("stream bad method", InvalidRequestError, "Decoding method"),
        ("stream no metadata", InvalidRequestError, "model ID"),
    ],
)
def test_errors_over_grpc(case, kind, words):
    with pytest.raises(kind, match=words):
        list(stream(case, protocol="grpc"))


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_stream_without_a_finish_reason_is_cut(keep):
    with pytest.raises(StreamInterrupted) as caught:
        list(stream(chunks("stream tgis to eos")[:keep]))
    assert caught.value.partial_text == {0: "", 1: "", 3: " answers a"}[keep]


def test_an_event_cut_in_the_middle_is_a_cut_stream():
    events = chunks("stream tgis to eos")
    with pytest.raises(StreamInterrupted):
        list(stream([*events[:3], events[-1][:60]]))


def test_a_last_event_without_its_empty_line_counts():
    events = chunks("stream tgis to eos")
    assert list(stream([*events[:-1], events[-1].rstrip()])) == list(stream(events))


@pytest.mark.parametrize(("answers", "why"), [([], "no piece"), ([b""], "no finish reason")])
def test_over_grpc_an_ok_without_a_finish_reason_is_cut(answers, why):
    with pytest.raises(StreamInterrupted, match=why):
        list(stream(answers, protocol="grpc"))


def test_a_failed_generation_is_no_answer():
    with pytest.raises(ServerError, match="finish reason ERROR") as caught:
        list(stream([event(" half"), event(" of", "ERROR", 2)]))
    assert caught.value.partial_text == " half of"


@pytest.mark.parametrize("text", ["data: {\r\n\r\n", "data: [1]\r\n\r\n", 'data: {"results": []}\r\n\r\n'])
def test_what_is_no_piece_of_an_answer(text):
    with pytest.raises(BadResponseError) as caught:
        list(stream([event(" so far"), text]))
    assert caught.value.partial_text == " so far"


def test_local_prompt_tuned_models_send_a_list_and_are_told_from_an_answer():
    with pytest.raises(BadResponseError, match="no text"):
        list(stream(chunks("stream peft")))


@pytest.mark.parametrize(
    ("stops", "texts", "expected"),
    [
        (["END"], [" a", " E", "N", "D"], [" a", " ", "", ""]),
        (["END"], [" a", " EN", "D"], [" a", " ", ""]),
        (["END", "D"], ["xEND"], ["x"]),
        (["</s>"], ["a<", "b<", "/", "s>"], ["a", "<b", "", ""]),
    ],
)
def test_stop_text_is_held_back_until_it_is_clear_that_it_is_none(stops, texts, expected):
    events = [event(text) for text in texts[:-1]] + [event(texts[-1], "STOP_SEQUENCE", 4)]
    pieces = list(stream(events, params={"stop": stops}))
    assert "".join(piece.text for piece in pieces) == "".join(expected)
    assert [piece.text for piece in pieces if piece.text] == [text for text in expected if text]


def test_held_back_text_comes_out_when_the_answer_ends_otherwise():
    pieces = list(stream([event("so "), event("EN"), event("", "MAX_TOKENS", 2)], params={"stop": ["END"]}))
    assert "".join(piece.text for piece in pieces) == "so EN"


def test_stop_text_is_kept_when_asked_for():
    params = {"stop": ["END"], "include_stop_str_in_output": True}
    pieces = list(stream([event("so "), event("END", "STOP_SEQUENCE", 2)], params=params))
    assert "".join(piece.text for piece in pieces) == "so END"


def test_a_stream_takes_one_prompt():
    client = Server().client(model="m")
    with pytest.raises(ConfigurationError, match="one prompt, not 2"):
        client.runtime.stream_generate(TextRequest(prompts=["a", "b"]))


def test_the_request():
    server = Server().route(PATH, chunks("stream tgis ok"))
    client = server.client(model="tinytgis")
    list(client.stream(client.runtime.stream_generate(TextRequest(prompts=[RUNTIME], params={"max_tokens": 4}))))
    assert server.body == {
        "inputs": RUNTIME,
        "parameters": {"max_new_tokens": 4, "preserve_input_text": False},
        "model_id": "tinytgis",
    }
    assert server.calls[-1].headers["content-type"] == "application/json"
