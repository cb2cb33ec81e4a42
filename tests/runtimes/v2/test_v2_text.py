"""Text by real servers, whole and in pieces, over REST and gRPC."""

from __future__ import annotations

import pytest
from runtimes.prompts import COUNT, HELLO, chatml
from runtimes.v2.clients import pairs
from runtimes.v2.sentences import FAILS_AT_ONCE, FAILS_MIDWAY

from kserve_core.capabilities import TextRequest
from kserve_core.errors import ContextOverflowError, KServeError, ModelNotFoundError, UnsupportedParameterError

BOTH = pairs("triton", "mlserver")
TRITON = pairs("triton")


def ask(*says, model=None, **params):
    return TextRequest(prompts=[chatml(one) for one in says], model=model, params=params)


def whole(client, request):
    return client.run(client.runtime.generate(request))


def text(client, request):
    return whole(client, request).generations[0][0].text


def pieces(client, request):
    return list(client.stream(client.runtime.stream_generate(request)))


@pytest.mark.parametrize("where", BOTH)
def test_an_answer_word_for_word(connect, where):
    client = connect(*where, model="tiny")
    assert text(client, ask("Say hello.")) == HELLO
    assert "".join(one.text for one in pieces(client, ask("Say hello."))) == HELLO


@pytest.mark.parametrize("where", BOTH)
def test_a_stream_has_a_piece_for_each_token(connect, where):
    found = pieces(connect(*where, model="tiny"), ask("Count to ten."))
    assert len([one for one in found if one.text]) > 5
    assert "".join(one.text for one in found) == COUNT


@pytest.mark.parametrize("where", BOTH)
async def test_by_asyncio(connect, where):
    client = connect(*where, model="tiny")
    result = await client.arun(client.runtime.generate(ask("Say hello.")))
    assert result.generations[0][0].text == HELLO
    found = [one.text async for one in client.astream(client.runtime.stream_generate(ask("Say hello.")))]
    assert "".join(found) == HELLO
    await client.aclose()


@pytest.mark.parametrize("where", BOTH)
def test_prompts_are_answered_in_order(connect, where):
    result = whole(connect(*where, model="tiny"), ask("Say hello.", "Count to ten.", "Say hello."))
    assert [one[0].text for one in result.generations] == [HELLO, COUNT, HELLO]


@pytest.mark.parametrize("where", BOTH)
def test_a_limit(connect, where):
    client = connect(*where, model="tiny")
    cut = text(client, ask("Count to ten.", max_tokens=3))
    assert cut
    assert COUNT.startswith(cut)
    assert cut != COUNT
    assert "".join(one.text for one in pieces(client, ask("Count to ten.", max_tokens=3))) == cut


@pytest.mark.parametrize("where", BOTH)
def test_a_parameter_of_the_request(connect, where):
    cut = text(connect(*where, model="tiny"), ask("Count to ten.", max_tokens=3))
    given = connect(*where, model="tiny", options={"parameters": {"max_tokens": 3}})
    assert text(given, ask("Count to ten.")) == cut


@pytest.mark.parametrize("where", BOTH)
def test_a_text_to_stop_at(connect, where):
    client = connect(*where, model="tiny")
    request = ask("Count to ten.", stop=["four"])
    assert text(client, request) == "one two three "
    assert "".join(one.text for one in pieces(client, request)) == "one two three "


@pytest.mark.parametrize("where", BOTH)
def test_another_model_of_the_server(connect, where):
    assert text(connect(*where, model="tiny"), ask("Say hello.", model="tiny-adapter")) == HELLO
    with pytest.raises(ModelNotFoundError):
        text(connect(*where, model="tiny"), ask("Say hello.", model="nobody"))


@pytest.mark.parametrize("where", BOTH)
def test_a_prompt_that_does_not_fit(connect, where):
    client = connect(*where, model="tiny")
    with pytest.raises(ContextOverflowError):
        text(client, ask("word " * 4000))


@pytest.mark.parametrize("where", BOTH)
def test_a_model_that_fails(connect, where):
    client = connect(*where, model="tiny")
    with pytest.raises(KServeError):
        text(client, ask(FAILS_AT_ONCE))
    with pytest.raises(KServeError) as at_once:
        pieces(client, ask(FAILS_AT_ONCE))
    assert at_once.value.partial_text == ""


@pytest.mark.parametrize("where", BOTH)
def test_a_model_that_fails_midway(connect, where):
    client, found = connect(*where, model="tiny"), []
    stream = client.stream(client.runtime.stream_generate(ask(FAILS_MIDWAY)))
    with pytest.raises(KServeError) as info:
        found.extend(piece.text for piece in stream)
    assert "".join(found) == info.value.partial_text != ""
    if where == ("mlserver", "rest"):  # which only breaks off
        assert "log" in info.value.hint
    else:
        assert "generation failed midway" in info.value.server_message


@pytest.mark.parametrize("where", TRITON)
@pytest.mark.parametrize("model", ["vllm", "tensorrt_llm", "generate", "generate_stream"])
def test_the_ways_of_other_models(connect, where, model):
    client = connect(*where, model=model)
    request = ask("Say hello.", max_tokens=40)
    assert text(client, request) == HELLO  # without the prompt that two of them repeat
    assert "".join(one.text for one in pieces(client, request)) == HELLO


@pytest.mark.parametrize("where", TRITON)
@pytest.mark.parametrize("model", ["vllm", "tensorrt_llm"])
def test_stops_of_other_models(connect, where, model):
    client = connect(*where, model=model)
    request = ask("Count to ten.", max_tokens=40, stop=["four"])
    assert text(client, request) == "one two three "
    assert "".join(one.text for one in pieces(client, request)) == "one two three "


@pytest.mark.parametrize("where", TRITON)
def test_why_a_model_stopped(connect, where):
    client = connect(*where, model="vllm")
    assert whole(client, ask("Say hello.", max_tokens=40)).generations[0][0].finish_reason == "stop"
    cut = ask("Count to ten.", max_tokens=3)
    assert whole(client, cut).generations[0][0].finish_reason == "length"
    assert [one.finish_reason for one in pieces(client, cut) if one.finish_reason] == ["length"]


@pytest.mark.parametrize("where", TRITON)
@pytest.mark.parametrize("model", ["vllm", "tensorrt_llm"])
def test_prompts_that_do_not_fit_other_models(connect, where, model):
    with pytest.raises(ContextOverflowError):
        text(connect(*where, model=model), ask("word " * 4000, max_tokens=5))


@pytest.mark.parametrize("where", TRITON)
def test_a_parameter_that_the_model_has_no_place_for(connect, where):
    with pytest.raises(UnsupportedParameterError, match="presence_penalty"):
        text(connect(*where, model="tiny"), ask("Say hello.", presence_penalty=0.5))


@pytest.mark.parametrize("where", pairs("mlserver"))
def test_hugging_face(connect, where):
    client = connect(*where, model="hf_text")
    assert text(client, ask("Say hello.")) == HELLO
    assert text(client, ask("Count to ten.", max_tokens=3)) != COUNT
    assert "".join(one.text for one in pieces(client, ask("Say hello."))) == HELLO
