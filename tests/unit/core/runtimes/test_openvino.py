"""OpenVINO Model Server's `/v3` endpoints, by bodies in the forms of its documentation."""

from __future__ import annotations

import pickle

import orjson
import pytest
from unit.core.runtimes.openvino_wire import OpenVINO, error, events, listed

from kserve_core.batching import embed_all, rerank_all
from kserve_core.capabilities import ChatRequest, OutputConstraint, RerankRequest, TextRequest
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    RequestTooLargeError,
    ServerError,
    StreamInterrupted,
    UnsupportedParameterError,
)
from kserve_core.runtimes.openvino import OpenVINORuntime

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def answer(text: str = "Hi.", **choice) -> tuple[int, bytes]:
    message = {"role": "assistant", "content": text, "tool_calls": []}
    body = {
        "choices": [{"finish_reason": "stop", "index": 0, "logprobs": None, "message": message, **choice}],
        "created": 1716825108,
        "model": "qwen",
        "object": "chat.completion",
        "usage": {"completion_tokens": 2, "prompt_tokens": 5, "total_tokens": 7},
    }
    return 200, orjson.dumps(body)


def pieces(*texts: str, finish: str = "stop") -> tuple[int, bytes]:
    """A chat in pieces; the first has a role and no content, the last may have text."""

    def event(delta, reason=None):
        choice = {"index": 0, "logprobs": None, "delta": delta, "finish_reason": reason}
        return {"choices": [choice], "created": 1, "model": "qwen", "object": "chat.completion.chunk"}

    first = event({"role": "assistant", "content": None})
    *middle, last = [event({"content": text}) for text in texts]
    last["choices"][0]["finish_reason"] = finish
    return events(first, *middle, last)


def completion(text: str, prompt_tokens: int = 3) -> tuple[int, bytes]:
    usage = {"completion_tokens": 1, "prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + 1}
    choice = {"finish_reason": "stop", "index": 0, "logprobs": None, "text": text}
    return 200, orjson.dumps({"choices": [choice], "model": "qwen", "object": "text_completion", "usage": usage})


@pytest.fixture
def server():
    return OpenVINO().route("/v3/chat/completions", answer())


def chat(server, **fields):
    return server.at(model="qwen"), ChatRequest(messages=HELLO, **fields)


class TestChat:
    def test_an_answer_without_an_id(self, server):
        client, request = chat(server)
        result = client.run(client.runtime.chat(request))
        assert result.choices[0].content == "Hi."
        assert result.id is None
        assert result.model == "qwen"
        assert result.usage.total_tokens == 7
        assert server.body == {"model": "qwen", "messages": HELLO}

    def test_the_model_is_always_named(self, server):
        client = server.at()
        client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
        assert server.asked == ["GET /v3/models", "POST /v3/chat/completions"]
        assert server.body["model"] == "qwen"
        assert client.runtime.model == "qwen"

    def test_several_models_have_to_be_told_apart(self, server):
        server.route("/v3/models", listed("qwen", "bge"))
        client = server.at()
        with pytest.raises(ConfigurationError) as caught:
            client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
        assert "'qwen', 'bge'" in caught.value.hint

    def test_a_server_without_a_list(self, server):
        del server.routes["/v3/models"]
        client = server.at()
        with pytest.raises(ConfigurationError, match="model"):
            client.run(client.runtime.chat(ChatRequest(messages=HELLO)))

    def test_tools_come_back(self, server):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        message = {"role": "assistant", "content": "", "tool_calls": [call, {**call, "id": "c2"}]}
        server.route("/v3/chat/completions", answer(message=message, finish_reason="tool_calls"))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        client, request = chat(server, tools=tools, tool_choice="required", parallel_tool_calls=False)
        calls = client.run(client.runtime.chat(request)).choices[0].tool_calls
        assert [(found.id, found.arguments) for found in calls] == [("c1", '{"a": 1}')]
        assert server.body["tools"] == tools
        assert server.body["tool_choice"] == "required"
        assert "parallel_tool_calls" not in server.body

    def test_a_schema(self, server):
        constraint = OutputConstraint("json_schema", SCHEMA, name="city")
        client, request = chat(server, constraint=constraint)
        client.run(client.runtime.chat(request))
        wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
        assert server.body["response_format"] == wanted

    def test_any_object_is_a_schema_too(self, server):
        client, request = chat(server, constraint=OutputConstraint("json_object"))
        client.run(client.runtime.chat(request))
        assert server.body["response_format"]["json_schema"]["schema"] == {"type": "object"}

    @pytest.mark.parametrize(("kind", "value"), [("regex", "[0-9]+"), ("choice", ["a"]), ("grammar", "root ::= 'a'")])
    def test_other_forms_are_refused(self, server, kind, value):
        client, request = chat(server, constraint=OutputConstraint(kind, value))
        with pytest.raises(UnsupportedParameterError, match=kind):
            client.run(client.runtime.chat(request))
        assert not server.bodies


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "sent"),
        [
            ({"temperature": 0, "top_k": -1, "seed": 3}, {"temperature": 0, "top_k": -1, "seed": 3}),
            ({"best_of": 3, "n": 2, "length_penalty": 0.5}, {"best_of": 3, "n": 2, "length_penalty": 0.5}),
            ({"logprobs": True}, {"logprobs": True}),
            (
                {"stop": ["a"], "include_stop_str_in_output": False},
                {"stop": ["a"], "include_stop_str_in_output": False},
            ),
            (
                {"chat_template_kwargs": {"enable_thinking": False}},
                {"chat_template_kwargs": {"enable_thinking": False}},
            ),
        ],
    )
    def test_known_ones_go_out(self, server, params, sent):
        client, request = chat(server, params=params)
        client.run(client.runtime.chat(request))
        assert server.body == {"model": "qwen", "messages": HELLO, **sent}

    @pytest.mark.parametrize(
        "params",
        [
            {"min_tokens": 3},
            {"use_beam_search": True},
            {"logit_bias": {"1": 2}},
            {"top_logprobs": 2, "logprobs": True},
            {"truncate_prompt_tokens": 3},
            {"echo": True},
            {"temprature": 1},
        ],
    )
    def test_unknown_ones_are_refused_by_name(self, server, params):
        client, request = chat(server, params=params)
        with pytest.raises(UnsupportedParameterError):
            client.run(client.runtime.chat(request))
        assert not server.bodies

    @pytest.mark.parametrize(
        "params",
        [
            {"stop": ["a", "b", "c", "d", "e"]},
            {"seed": 2**32},
            {"n": 3, "best_of": 2},
            {"max_tokens": 0},
            {"max_tokens": 1, "max_completion_tokens": 2},
            {"num_assistant_tokens": 3, "assistant_confidence_threshold": 0.5},
        ],
    )
    def test_bad_values_are_refused(self, server, params):
        client, request = chat(server, params=params)
        with pytest.raises(ConfigurationError):
            client.run(client.runtime.chat(request))
        assert not server.bodies

    def test_log_probabilities_do_not_come_in_streams(self, server):
        client, request = chat(server, params={"logprobs": True})
        with pytest.raises(UnsupportedParameterError, match="streams"):
            list(client.stream(client.runtime.stream_chat(request)))

    def test_extra_body_goes_over_everything(self, server):
        client, request = chat(server, params={"top_k": 3}, extra_body={"top_k": 5, "novel": 1})
        client.run(client.runtime.chat(request))
        assert (server.body["top_k"], server.body["novel"]) == (5, 1)


class TestStreams:
    def stream(self, server, **params):
        client, request = chat(server, params=params)
        return list(client.stream(client.runtime.stream_chat(request)))

    @pytest.mark.parametrize("chunk", [0, 1, 7])
    @pytest.mark.parametrize(
        "texts", [["one, two STOP"], ["one, tw", "o ST", "OP"], ["one, two ", "S", "T", "O", "P", ""]]
    )
    def test_the_stop_text_is_taken_off(self, server, texts, chunk):
        server.route("/v3/chat/completions", pieces(*texts))
        server.chunk = chunk
        found = self.stream(server, stop=["STOP"])
        assert "".join(piece.content for piece in found) == "one, two "
        assert found[-1].finish_reason == "stop"
        assert server.body["stop"] == ["STOP"]
        assert "include_stop_str_in_output" not in server.body

    def test_false_is_not_sent_in_streams_which_the_server_refuses(self, server):
        server.route("/v3/chat/completions", pieces("a STOP"))
        assert "".join(p.content for p in self.stream(server, stop=["STOP"], include_stop_str_in_output=False)) == "a "
        assert "include_stop_str_in_output" not in server.body

    def test_it_stays_if_wanted(self, server):
        server.route("/v3/chat/completions", pieces("a S", "TOP"))
        assert (
            "".join(p.content for p in self.stream(server, stop=["STOP"], include_stop_str_in_output=True)) == "a STOP"
        )
        assert server.body["include_stop_str_in_output"] is True

    def test_what_only_looks_like_a_stop_text_is_delivered(self, server):
        server.route("/v3/chat/completions", pieces("a STO", "RE", " ST", finish="length"))
        found = self.stream(server, stop=["STOP"])
        assert "".join(piece.content for piece in found) == "a STORE ST"
        assert found[-1].finish_reason == "length"

    def test_without_stop_texts_nothing_is_held_back(self, server):
        server.route("/v3/chat/completions", pieces("S", "T"))
        assert [piece.content for piece in self.stream(server) if piece.content] == ["S", "T"]

    def test_an_error_in_the_middle(self, server):
        _, body = pieces("Hello", " th", "ere")
        head = b"\n\n".join(body.split(b"\n\n")[:2])
        server.route("/v3/chat/completions", (200, head + b'\n\ndata: {"error": "the engine failed"}\n\n'))
        with pytest.raises(ServerError, match="the engine failed") as caught:
            self.stream(server)
        assert caught.value.partial_text == "Hello"

    def test_a_stream_that_breaks_off(self, server):
        _, body = pieces("Hello", " there")
        server.route("/v3/chat/completions", (200, body.removesuffix(b"data: [DONE]\n\n")))
        with pytest.raises(StreamInterrupted) as caught:
            self.stream(server, stop=["STOP"])
        assert caught.value.partial_text == "Hello there"

    def test_usage_is_asked_for(self, server):
        server.route("/v3/chat/completions", pieces("a"))
        self.stream(server)
        assert server.body["stream_options"] == {"include_usage": True}


class TestText:
    def test_each_prompt_is_a_request(self, server):
        server.route("/v3/completions", lambda body: completion(body["prompt"].upper()))
        client = server.at(model="qwen")
        result = client.run(client.runtime.generate(TextRequest(prompts=["a", "b"], params={"echo": True})))
        assert [found[0].text for found in result.generations] == ["A", "B"]
        assert result.usage.prompt_tokens == 6
        assert sorted(body["prompt"] for body in server.bodies) == ["a", "b"]
        assert all(body["echo"] for body in server.bodies)

    def test_one_of_several_fails(self, server):
        server.route("/v3/completions", lambda body: completion("x") if body["prompt"] == "a" else error(400, "no"))
        client = server.at(model="qwen")
        with pytest.raises(InvalidRequestError, match="no"):
            client.run(client.runtime.generate(TextRequest(prompts=["a", "b"])))

    def test_streams(self, server):
        choice = {"index": 0, "logprobs": None, "text": "one END", "finish_reason": "stop"}
        server.route(
            "/v3/completions", events({"choices": [choice], "model": "qwen", "object": "text_completion.chunk"})
        )
        client = server.at(model="qwen")
        request = TextRequest(prompts=["count"], params={"stop": ["END"]})
        assert [piece.text for piece in client.stream(client.runtime.stream_generate(request))] == ["one "]

    def test_log_probabilities_are_the_number_one(self, server):
        server.route("/v3/completions", completion("x"))
        client = server.at(model="qwen")
        client.run(client.runtime.generate(TextRequest(prompts=["a"], params={"logprobs": True})))
        assert server.body["logprobs"] == 1

    def test_forms_are_refused(self, server):
        client = server.at(model="qwen")
        request = TextRequest(prompts=["a"], constraint=OutputConstraint("json_schema", SCHEMA))
        with pytest.raises(UnsupportedParameterError, match="completion"):
            client.run(client.runtime.generate(request))


class TestVectors:
    def vectors(self, body):
        data = [{"object": "embedding", "embedding": [1.0, 2.0], "index": i} for i in range(len(body["input"]))]
        return 200, orjson.dumps({"object": "list", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    def test_more_texts_than_one_request_takes(self, server):
        server.route("/v3/embeddings", self.vectors)
        client = server.at(model="bge", api="v3")
        result = client.run(embed_all(client.runtime, ["x"] * 2500, batch_size=5000))
        assert len(result.embeddings) == 2500
        assert sorted(len(body["input"]) for body in server.bodies) == [452, 1024, 1024]
        assert server.body["encoding_format"] == "base64"

    @pytest.mark.parametrize("wish", [{"dimensions": 2}, {"truncate": -1}])
    def test_what_the_server_cannot_do(self, server, wish):
        client = server.at(model="bge", api="v3")
        with pytest.raises(UnsupportedParameterError):
            client.run(embed_all(client.runtime, ["x"], **wish))

    def test_a_batch_the_server_finds_too_large_is_halved(self, server):
        def limited(body):
            if len(body["input"]) > 2:
                return error(400, "The number of input documents exceeds max_batch_size")
            return self.vectors(body)

        server.route("/v3/embeddings", limited)
        client = server.at(model="bge", api="v3")
        assert len(client.run(embed_all(client.runtime, ["x"] * 8)).embeddings) == 8

    def ranking(self, body):
        scores = [{"index": i, "relevance_score": 1 / (1 + int(text))} for i, text in enumerate(body["documents"])]
        return 200, orjson.dumps({"results": scores[: body.get("top_n")]})

    def test_more_documents_than_one_request_takes(self, server):
        server.route("/v3/rerank", self.ranking)
        client = server.at(model="bge", api="v3")
        found = client.run(rerank_all(client.runtime, "q", [str(i) for i in range(250)], batch_size=500, top_n=3))
        assert [place.index for place in found.results] == [0, 1, 2]
        assert sorted(len(body["documents"]) for body in server.bodies) == [50, 100, 100]
        request = RerankRequest(query="q", documents=["1"] * 101, model="bge")
        assert len(client.run(client.runtime.rerank(request)).results) == 101

    def test_documents_are_not_cut(self, server):
        client = server.at(model="bge", api="v3")
        with pytest.raises(UnsupportedParameterError, match="cuts no texts"):
            client.run(client.runtime.rerank(RerankRequest(query="q", documents=["d"], truncate=5)))


class TestTokens:
    def test_they_are_asked_for_by_text(self, server):
        server.route("/v3/tokenize", (200, b'{"tokens": [1, 2, 3]}'))
        client = server.at(model="qwen")
        found = client.run(client.runtime.tokenize("Hi there", add_special_tokens=False))
        assert (found.count, found.token_ids) == (3, [1, 2, 3])
        assert server.body == {"model": "qwen", "text": "Hi there", "add_special_tokens": False}

    @pytest.mark.parametrize("body", [b"{}", b'{"tokens": ["a"]}', b'{"tokens": [[1]]}'])
    def test_something_else(self, server, body):
        server.route("/v3/tokenize", (200, body))
        client = server.at(model="qwen")
        with pytest.raises(BadResponseError):
            client.run(client.runtime.tokenize("Hi"))

    def test_what_it_does_not_have(self, server):
        client = server.at(model="qwen")
        with pytest.raises(UnsupportedParameterError, match="conversations"):
            client.run(client.runtime.tokenize_messages(ChatRequest(messages=HELLO)))
        with pytest.raises(UnsupportedParameterError, match="back into text"):
            client.run(client.runtime.detokenize([1]))


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "said", "kind"),
        [
            (500, "Unauthorized request due to invalid or missing api-key", AuthenticationError),
            (404, "Mediapipe graph definition with requested name is not found", ModelNotFoundError),
            (404, "Model with requested name is not found", ModelNotFoundError),
            (404, "Invalid request URL", NotFoundError),
            (503, "Mediapipe graph definition with requested name is not loaded yet", NotReadyError),
            (400, "Input length 600 longer than allowed 512", ContextOverflowError),
            (400, "This model's maximum context length is 4096 tokens.", ContextOverflowError),
            (400, "Number of documents exceeds the limit of 100", RequestTooLargeError),
            (412, "Cannot parse JSON body", InvalidRequestError),
            (400, "model field is missing in JSON body", InvalidRequestError),
            (400, "stop array must have no more than 4 strings", InvalidRequestError),
            (500, "Internal server error", ServerError),
        ],
    )
    def test_their_meaning(self, server, status, said, kind):
        server.route("/v3/chat/completions", error(status, said))
        client, request = chat(server)
        with pytest.raises(kind) as caught:
            client.run(client.runtime.chat(request))
        assert type(caught.value) is kind
        assert caught.value.server_message == said or said in str(caught.value)
        assert "a-token" not in str(caught.value)

    def test_an_unknown_model_is_told_the_known_ones(self, server):
        server.route("/v3/chat/completions", error(404, "Mediapipe graph definition with requested name is not found"))
        client = server.at(model="qwem")
        with pytest.raises(ModelNotFoundError) as caught:
            client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
        assert "Did you mean 'qwen'?" in caught.value.hint

    def test_a_model_for_something_else(self, server):
        server.route("/v3/chat/completions", error(404, "Mediapipe graph definition with requested name is not found"))
        client = server.at()
        with pytest.raises(ModelNotFoundError, match="not one for chat completions"):
            client.run(client.runtime.chat(ChatRequest(messages=HELLO)))


def test_it_pickles_and_shows_no_secret(server):
    client = server.at(model="qwen")
    again = pickle.loads(pickle.dumps(client.runtime))
    assert isinstance(again, OpenVINORuntime)
    assert again.model == "qwen"
    assert "qwen" in repr(again)


def test_another_kind_of_server_is_told_from_one_that_lists_nothing():
    server = OpenVINO()
    server.routes = {}
    client = server.at()
    with pytest.raises(ConfigurationError, match="No OpenVINO Model Server seems to answer") as caught:
        client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
    assert "kserve-doctor" in caught.value.hint
    server.routes["/v2"] = (200, orjson.dumps({"name": "OpenVINO Model Server"}))
    with pytest.raises(ConfigurationError, match="`model` has to be given"):
        client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
    client = server.at(model="m")
    with pytest.raises(NotFoundError) as missing:
        client.run(client.runtime.chat(ChatRequest(messages=HELLO)))
    assert "kserve-doctor" in missing.value.hint
