"""Answers in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.runtimes.tgis_wire import EXAMPLE, REASON, M, Server, done, piece

from kserve_core.capabilities import TextRequest
from kserve_core.errors import ConfigurationError, ServerError, StreamInterrupted
from kserve_core.types import Usage


def stream(messages, *, include_usage=True, model=None, prompts=("a",), **params):
    server = Server(GenerateStream=list(messages))
    client = server.client(model=model)
    request = TextRequest(prompts=list(prompts), params=params, include_usage=include_usage)
    return client.stream(client.runtime.stream_generate(request))


def text(chunks):
    return "".join(chunk.text for chunk in chunks)


def test_the_example_of_the_wire_facts():
    chunks = list(stream(EXAMPLE, model="m"))
    assert [chunk.text for chunk in chunks] == ["ike", "[", "<think>"]
    assert [chunk.usage for chunk in chunks] == [None, None, Usage(2, 3, 5)]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "length"]
    assert [chunk.model for chunk in chunks] == ["m", None, None]
    assert chunks[-1].extra == {"server_finish_reason": "MAX_TOKENS"}


def test_without_usage():
    assert all(chunk.usage is None for chunk in stream(EXAMPLE, include_usage=False))


def test_counts_and_seed_may_be_on_any_message():
    # Several messages for a prompt processed in parts; counts and seed on the last one, as the classic server may.
    prompt = [piece(input_token_count=400), piece(input_token_count=900)]
    end = piece("!", 2, stop_reason=REASON.EOS_TOKEN, stop_sequence="</s>", seed=7)
    chunks = list(stream([*prompt, piece("Hi", 1), end]))
    assert [chunk.text for chunk in chunks] == ["Hi", "!"]
    assert chunks[-1].usage == Usage(900, 2, 902)
    assert chunks[-1].extra["seed"] == 7
    late = piece("!", 2, stop_reason=REASON.EOS_TOKEN, input_token_count=3)
    assert list(stream([piece("Hi", 1), late]))[-1].usage == Usage(3, 2, 5)


def test_an_end_without_text_and_a_message_of_two_tokens():
    end = piece("", 4, stop_reason=REASON.STOP_SEQUENCE, stop_sequence="\n")
    chunks = list(stream([piece(input_token_count=2), piece("a b", 2), end], stop=["\n"]))
    assert text(chunks) == "a b"
    assert (chunks[-1].finish_reason, chunks[-1].stop_reason) == ("stop", "\n")


def test_a_stream_without_an_end_raises_with_what_had_arrived():
    chunks = stream(EXAMPLE[:3])
    got = []
    with pytest.raises(StreamInterrupted, match="before the server said why") as caught:
        got.extend(chunks)
    assert caught.value.partial_text == "ike["
    with pytest.raises(StreamInterrupted):
        list(stream([]))


def test_the_server_gives_up_or_fails():
    with pytest.raises(StreamInterrupted, match="cancelled") as caught:
        list(stream([piece("Hel", 1), piece("lo", 2, stop_reason=REASON.CANCELLED)]))
    assert caught.value.partial_text == "Hello"
    with pytest.raises(ServerError) as caught:
        list(stream([piece("Hel", 1), piece("", 2, stop_reason=REASON.ERROR)]))
    assert caught.value.partial_text == "Hel"


def test_what_comes_after_the_end_is_not_read():
    assert text(stream([*EXAMPLE, piece("more", 4)])) == "ike[<think>"


def test_token_details():
    first = M.TokenInfo(text="The")
    tokens = [M.TokenInfo(text="\u0120a", logprob=-0.5)]
    shape = [
        piece(input_token_count=1, input_tokens=[first]),
        piece(" a", 1, tokens=tokens),
        piece("", 2, tokens=[M.TokenInfo(text="</s>", logprob=-0.25)], stop_reason=REASON.EOS_TOKEN),
    ]
    chunks = list(stream(shape, logprobs=True, prompt_logprobs=0))
    assert chunks[0].extra["prompt_logprobs"]["tokens"] == ["The"]
    assert [chunk.logprobs and chunk.logprobs["token_logprobs"] for chunk in chunks] == [None, [-0.5], [-0.25]]


def test_echo_sends_the_prompt_first():
    shape = [piece("The prompt", input_token_count=2), *EXAMPLE[1:]]
    assert text(stream(shape, echo=True)) == "The promptike[<think>"


def test_end_of_text_is_never_part_of_an_answer():
    end = piece("</s>", 2, stop_reason=REASON.EOS_TOKEN, stop_sequence="</s>")
    assert text(stream([piece("Yes.", 1), end])) == "Yes."


def test_one_prompt_only():
    with pytest.raises(ConfigurationError, match="A stream takes one prompt, not 2"):
        stream([], prompts=["a", "b"])


@given(st.lists(st.text("ab\n", max_size=3), max_size=8), st.booleans())
def test_a_server_that_keeps_the_stop_text_gives_the_same_as_one_that_does_not(pieces, named):
    """Whatever the pieces are cut like, the text is what comes before the first stop text."""
    stops = ["\n\n", "aba"]
    whole = "".join(pieces)
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    if ends:
        whole = whole[: min(ends)]
    hit = next((stop for stop in sorted(stops, key=len) if whole.endswith(stop)), "") if ends else ""
    wanted = whole.removesuffix(hit)
    sent, cut = [], wanted if named else whole
    for one in pieces:
        sent.append(cut[: len(one)])
        cut = cut[len(one) :]
    messages = [piece(one, number) for number, one in enumerate(sent, 1)]
    reason = REASON.STOP_SEQUENCE if hit else REASON.EOS_TOKEN
    messages.append(piece("", len(sent) + 1, stop_reason=reason, stop_sequence=hit if named else ""))
    assert text(stream(messages, stop=stops)) == wanted


def test_what_cannot_be_a_stop_text_is_not_held_back():
    shape = [piece("one <", 1), piece("b> two", 2), piece("", 3, stop_reason=REASON.EOS_TOKEN)]
    chunks = list(stream(shape, stop=["<|end|>"]))
    assert [chunk.text for chunk in chunks] == ["one ", "<b> two", ""]


def test_the_same_answer_whole_and_in_pieces():
    server = Server(Generate=M.BatchedGenerationResponse(responses=[done("ike[<think>", "MAX_TOKENS")]))
    client = server.client()
    whole = client.run(client.runtime.generate(TextRequest(prompts=["a"]))).generations[0][0]
    chunks = list(stream(EXAMPLE))
    assert text(chunks) == whole.text
    assert chunks[-1].finish_reason == whole.finish_reason
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].extra == whole.extra
