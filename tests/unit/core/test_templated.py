"""Chat made of text completion and a template, over any text runtime."""

from __future__ import annotations

import pickle

import orjson
import pytest
from unit.core.runtimes import tgis_wire as tgis
from unit.core.runtimes import vllm_wire as vllm

from kserve_core.calls import GrpcStreamCall, StreamCall
from kserve_core.capabilities import (
    ChatRequest,
    ChatRuntime,
    InfoRuntime,
    OutputConstraint,
    TextRequest,
    TextRuntime,
    TokenizerRuntime,
)
from kserve_core.chat_template import ChatTemplate
from kserve_core.errors import ConfigurationError, StreamInterrupted, UnsupportedParameterError
from kserve_core.runtimes.tgis import TGISRuntime
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.templated import TemplatedChat, chat_logprobs
from kserve_core.types import Usage

HI = [{"role": "user", "content": "Hi"}]
PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def request(**fields):
    return ChatRequest(**{"messages": HI, **fields})


def over(server, template="chatml", **options):
    """A client whose runtime chats over this server by a template."""
    client = server.client(**options)
    client.runtime = TemplatedChat(client.runtime, ChatTemplate.load(template))
    return client


def text_request(template="chatml", **fields):
    return TemplatedChat(TGISRuntime(), ChatTemplate.load(template)).text_request(request(**fields))


def test_it_can_do_what_the_text_runtime_can_and_chat():
    chat = TemplatedChat(TGISRuntime(model="m"), ChatTemplate.load("chatml"))
    for protocol in (ChatRuntime, TextRuntime, TokenizerRuntime, InfoRuntime):
        assert isinstance(chat, protocol)
    assert (chat.name, chat.model) == ("TGIS", "m")
    again = pickle.loads(pickle.dumps(chat))
    assert (again.template, again.model) == (chat.template, "m")


# --- what is asked for


def test_the_prompt_and_the_stop_texts():
    made = text_request(params={"temperature": 0.5, "stop": ["Obs:", "<|im_end|>"], "seed": None})
    assert made.prompts == (PROMPT,)
    assert made.params == {"temperature": 0.5, "stop": ["<|im_end|>", "Obs:"]}
    assert text_request(params={"stop": "Obs:"}).params["stop"] == ["<|im_end|>", "Obs:"]
    assert text_request(template="{{ messages[0].content }}").params == {}


def test_everything_else_is_passed_on():
    constraint = OutputConstraint("regex", "a")
    fields = {"model": "m", "headers": {"x-request-id": "1"}, "extra_body": {"a": 1}, "include_usage": False}
    made = text_request(constraint=constraint, **fields)
    assert made.constraint is constraint
    assert {name: getattr(made, name) for name in fields} == fields


def test_chat_parameters_become_those_of_text():
    params = {"max_completion_tokens": 5, "chat_template": "plain", "add_generation_prompt": False}
    made = text_request(params=params)
    assert made.prompts == ("User: Hi\n",)
    assert made.params == {"max_tokens": 5, "stop": ["\nUser:"]}
    template = "{{ messages[0].content }}{{ mood }}"
    assert text_request(template, params={"chat_template_kwargs": {"mood": "!"}}).prompts == ("Hi!",)
    turns = [*HI, {"role": "assistant", "content": "Once"}]
    made = text_request(messages=turns, params={"continue_final_message": True})
    assert made.prompts == (f"{PROMPT}Once",)
    with pytest.raises(ConfigurationError, match="the same thing"):
        text_request(params={"max_completion_tokens": 5, "max_tokens": 5})


@pytest.mark.parametrize("fields", [{"tools": [{"type": "function"}]}, {"tool_choice": "auto"}])
def test_tools_are_an_error(fields):
    with pytest.raises(UnsupportedParameterError, match="TGIS completes text and has no tools") as caught:
        text_request(**fields)
    assert "ReAct" in caught.value.hint
    assert text_request(tool_choice="none").prompts == (PROMPT,)


def test_images_are_an_error():
    with pytest.raises(UnsupportedParameterError, match="image_url"):
        text_request(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


class TextOnly:
    """A text runtime with nothing else, and no guided decoding."""

    name = "Other"
    supports_constraints = frozenset()

    def generate(self, request): ...

    def stream_generate(self, request): ...


def test_a_constraint_the_runtime_cannot_decode_under_is_an_error():
    chat = TemplatedChat(TextOnly(), ChatTemplate.load("chatml"))
    with pytest.raises(UnsupportedParameterError, match="Other cannot constrain an answer to a json schema"):
        chat.text_request(request(constraint=OutputConstraint("json_schema", {})))
    assert chat.supports_constraints == frozenset()
    assert "json_schema" in TemplatedChat(VLLMRuntime(), ChatTemplate.load("chatml")).supports_constraints


def test_what_the_text_runtime_lacks():
    chat = TemplatedChat(TextOnly(), ChatTemplate.load("chatml"))
    for call in (lambda: chat.tokenize("a"), lambda: chat.tokenize_messages(request()), chat.models, chat.health):
        with pytest.raises(UnsupportedParameterError, match="Other does not"):
            call()


# --- over gRPC


def test_a_whole_answer_over_grpc():
    server = tgis.Server(Generate=tgis.batch(tgis.done("Yo", "STOP_SEQUENCE", stop_sequence="<|im_end|>")))
    client = over(server, model="m")
    result = client.run(client.runtime.chat(request(params={"max_tokens": 3})))
    choice = result.choices[0]
    # The template's end is an ordinary end of the answer, not a stop text somebody asked for.
    assert (choice.content, choice.finish_reason, choice.stop_reason) == ("Yo", "stop", None)
    assert (result.usage, result.model) == (Usage(2, 3, 5), "m")
    assert choice.extra["server_finish_reason"] == "STOP_SEQUENCE"
    assert server.request.requests[0].text == PROMPT
    assert list(server.request.params.stopping.stop_sequences) == ["<|im_end|>"]


def test_pieces_over_grpc():
    end = tgis.piece(" you<|im_end|>", 3, stop_reason=tgis.REASON.STOP_SEQUENCE, stop_sequence="<|im_end|>")
    server = tgis.Server(GenerateStream=[tgis.piece(input_token_count=2), tgis.piece("To", 1), end])
    client = over(server, model="m")
    call = client.runtime.stream_chat(request(params={"include_stop_str_in_output": True}))
    assert isinstance(call, GrpcStreamCall)
    deltas = list(client.stream(call))
    assert [delta.content for delta in deltas] == ["To", " you"]
    assert [delta.model for delta in deltas] == ["m", None]
    assert (deltas[-1].finish_reason, deltas[-1].stop_reason, deltas[-1].usage) == ("stop", None, Usage(2, 3, 5))
    assert [delta.content for delta in client.stream(call)] == ["To", " you"]


def test_a_stop_text_of_the_user_is_named():
    server = tgis.Server(Generate=tgis.batch(tgis.done("a", "STOP_SEQUENCE", stop_sequence="Obs:")))
    client = over(server)
    result = client.run(client.runtime.chat(request(params={"stop": ["Obs:"]})))
    assert result.choices[0].stop_reason == "Obs:"


def test_a_cut_stream_raises():
    client = over(tgis.Server(GenerateStream=[tgis.piece("To", 1)]))
    with pytest.raises(StreamInterrupted) as caught:
        list(client.stream(client.runtime.stream_chat(request())))
    assert caught.value.partial_text == "To"


def test_tokens_of_a_conversation():
    server = tgis.Server(Tokenize=tgis.M.BatchedTokenizeResponse(responses=[{"token_count": 9}]))
    client = over(server)
    assert client.run(client.runtime.tokenize_messages(request())).count == 9
    assert server.request.requests[0].text == PROMPT


def test_completions_go_past_the_template():
    server = tgis.Server(Generate=tgis.batch(tgis.done("b")))
    client = over(server)
    client.run(client.runtime.generate(TextRequest(prompts=["a"])))
    assert server.request.requests[0].text == "a"
    assert not server.request.params.stopping.stop_sequences


# --- over REST


def test_a_whole_answer_and_pieces_over_rest():
    answer = {
        "id": "cmpl-1",
        "model": "m",
        "choices": [{"index": 0, "text": "Yo", "finish_reason": "stop", "stop_reason": "<|im_end|>"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
    events = b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps(answer)
    server = vllm.Server().route(
        "/v1/completions", lambda body: (200, events if "stream" in body else orjson.dumps(answer))
    )
    client = over(server, model="m")
    result = client.run(client.runtime.chat(request()))
    assert server.body == {"model": "m", "prompt": PROMPT, "stop": ["<|im_end|>"]}
    assert (result.choices[0].content, result.choices[0].stop_reason, result.id) == ("Yo", None, "cmpl-1")
    flow = client.runtime.stream_chat(request())
    assert not isinstance(flow, StreamCall)
    deltas = list(client.stream(flow))
    assert "".join(delta.content for delta in deltas) == "Yo"
    assert deltas[-1].usage == Usage(2, 1, 3)


def test_log_probabilities_in_the_shape_of_chats():
    text = {"tokens": ["a", "b"], "token_logprobs": [None, -0.5], "top_logprobs": [None, {"b": -0.5, "c": -1.0}]}
    content = chat_logprobs(text)["content"]
    assert [entry["token"] for entry in content] == ["a", "b"]
    assert [entry["logprob"] for entry in content] == [None, -0.5]
    assert [top["token"] for top in content[1]["top_logprobs"]] == ["b", "c"]
    assert chat_logprobs(None) is None
    assert chat_logprobs({"content": []}) == {"content": []}
