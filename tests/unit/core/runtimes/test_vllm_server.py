"""What a server tells about itself: models, version, health, tokens; and what its errors mean."""

from __future__ import annotations

import pickle

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, fixture, models, ok

from kserve_core.capabilities import ChatRequest, EmbeddingRequest, InfoRuntime, TextRequest, TokenizerRuntime
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    ServerError,
)
from kserve_core.runtimes.registry import RUNTIMES, get_runtime
from kserve_core.runtimes.vllm import VLLMRuntime

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"


def chat(client, **fields):
    return client.run(client.runtime.chat(ChatRequest(messages=HELLO, **fields)))


def failing(name, status=400, path=CHAT, **options):
    server = Server().route(path, (status, fixture(name)))
    return server, server.client(**{"model": "granit", **options})


def error_of(name, status=400):
    _, client = failing(name, status)
    with pytest.raises(KServeError) as info:
        chat(client)
    return info.value


# --- models


def test_satisfies_the_protocols():
    assert isinstance(VLLMRuntime(), InfoRuntime)
    assert isinstance(VLLMRuntime(), TokenizerRuntime)


def test_the_served_model_is_found_once():
    server = Server().route("/v1/models", ok("models_aliases_lora.json")).route(CHAT, ok("chat.json"))
    client = server.client()
    chat(client)
    chat(client)
    assert server.asked == ["GET /v1/models", f"POST {CHAT}", f"POST {CHAT}"]
    assert [body["model"] for body in server.bodies] == ["granite", "granite"]
    assert client.runtime.model == "granite"


def test_a_named_model_is_not_looked_up():
    server = Server().route(CHAT, ok("chat.json"))
    chat(server.client(model="granite"), model="sql-adapter")
    assert server.asked == [f"POST {CHAT}"]
    assert server.body["model"] == "sql-adapter"


def test_several_models_need_a_choice():
    server = Server().route("/v1/models", ok("models_several.json"))
    with pytest.raises(ConfigurationError, match="'granite', 'mistral'"):
        chat(server.client())


def test_no_model_at_all():
    server = Server().route("/v1/models", (200, b'{"object":"list","data":[]}'))
    with pytest.raises(ModelNotFoundError, match="lists no model"):
        chat(server.client())


def test_an_endpoint_that_does_not_list_its_models_is_asked_without_a_name():
    server = Server().route("/v1/models", (404, b'{"detail":"Not Found"}')).route(CHAT, ok("chat.json"))
    client = server.client()
    chat(client)
    assert "model" not in server.body
    chat(client)
    assert server.asked == ["GET /v1/models", f"POST {CHAT}", f"POST {CHAT}"]


def test_a_model_that_was_found_is_looked_up_again_when_it_is_gone():
    server = Server().route(CHAT, ok("chat.json"))
    client = server.client()
    chat(client)
    server.route(CHAT, (404, fixture("error_unknown_model.json"))).route("/v1/models", models("granite-v2"))
    with pytest.raises(ModelNotFoundError, match="granite-v2"):
        chat(client)
    server.route(CHAT, ok("chat.json"))
    chat(client)
    assert server.body["model"] == "granite-v2"


def test_info_about_models():
    server = Server().route("/v1/models", ok("models_aliases_lora.json"))
    client = server.client()
    listed = client.run(client.runtime.models())
    assert [(m.id, m.parent, m.max_model_len) for m in listed] == [
        ("granite", None, 1024),
        ("granite-alias", None, 1024),
        ("sql-adapter", "granite", None),
    ]
    assert client.run(client.runtime.model_info("sql-adapter")).root == "/mnt/adapters/sql"
    assert client.run(client.runtime.model_info()).max_model_len == 1024
    with pytest.raises(ModelNotFoundError, match="Did you mean 'granite'"):
        client.run(client.runtime.model_info("granit"))


def test_info_about_the_given_model_asks_once():
    server = Server()
    client = server.client(model="granite")
    for _ in range(3):
        assert client.run(client.runtime.model_info()).id == "granite"
    assert server.asked == ["GET /v1/models"]


def test_a_list_that_is_none():
    server = Server().route("/v1/models", (200, b'{"models":[]}'))
    client = server.client()
    with pytest.raises(BadResponseError, match="list of models"):
        client.run(client.runtime.models())


# --- unknown models


@pytest.mark.parametrize("name", ["error_unknown_model.json", "error_unknown_model_0.9.json"])
def test_an_unknown_model_names_the_ones_there_are(name):
    server, client = failing(name, 404)
    with pytest.raises(ModelNotFoundError, match="'granit'") as info:
        chat(client)
    assert info.value.hint == "Did you mean 'granite'? It serves 'granite'."
    assert info.value.status == 404
    with pytest.raises(ModelNotFoundError, match="Did you mean"):
        chat(client)
    assert server.asked.count("GET /v1/models") == 1


def test_an_unknown_model_where_models_are_not_listed():
    server, client = failing("error_unknown_model.json", 404)
    server.route("/v1/models", (403, b'{"error":"forbidden"}'))
    with pytest.raises(ModelNotFoundError, match="/v1/models"):
        chat(client)


def test_a_stream_to_an_unknown_model_names_the_models_already_seen():
    _, client = failing("error_unknown_model.json", 404)
    client.run(client.runtime.models())
    with pytest.raises(ModelNotFoundError, match="Did you mean 'granite'"):
        list(client.stream(client.runtime.stream_chat(ChatRequest(messages=HELLO))))


# --- other errors


@pytest.mark.parametrize("name", ["error_overflow.json", "error_overflow_engine.json", "error_overflow_0.9.json"])
def test_an_overflow_is_recognized_in_every_wording(name):
    error = error_of(name)
    assert isinstance(error, ContextOverflowError)
    assert "1024" in str(error)
    assert error.hint
    assert not error.retryable


def test_an_overflow_of_embeddings_points_to_truncation():
    _, client = failing("error_overflow.json", path="/v1/embeddings")
    with pytest.raises(ContextOverflowError, match="truncate"):
        client.run(client.runtime.embed(EmbeddingRequest(texts=["a"])))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("error_no_template.json", ["chat_template=...", "--trust-request-chat-template", "text-completion class"]),
        ("error_untrusted_template.json", ["--trust-request-chat-template"]),
        ("error_auto_tools.json", ["--enable-auto-tool-choice", "--tool-call-parser"]),
    ],
)
def test_refusals_say_what_to_do(name, words):
    error = error_of(name)
    assert type(error) is InvalidRequestError
    assert all(word in error.hint for word in words)


def test_a_validation_error_does_not_repeat_the_prompt():
    error = error_of("error_validation.json")
    assert isinstance(error, InvalidRequestError)
    assert "Field required" in str(error)
    shown = f"{error} {error.server_message} {error.response.text}"
    assert "my secret prompt" not in shown


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"detail":"Not Found"}'), (405, b'{"detail":"Method Not Allowed"}')]
)
def test_a_missing_route_is_no_missing_model(status, body):
    server = Server().route("/v1/embeddings", (status, body))
    client = server.client(model="m")
    with pytest.raises(NotFoundError, match="not one for embeddings") as info:
        client.run(client.runtime.embed(EmbeddingRequest(texts=["a"])))
    assert type(info.value) is NotFoundError


def test_the_string_shape_of_a_wrong_token():
    assert isinstance(error_of("error_unauthorized.json", 401), AuthenticationError)


def test_a_dead_engine():
    error = error_of("error_engine.json", 500)
    assert isinstance(error, ServerError)
    assert "pod" in error.hint


# --- version, health, tokens


def test_version():
    server = Server().route("/version", (200, b'{"version":"0.32.0"}'))
    client = server.client()
    assert client.run(client.runtime.version()) == "0.32.0"


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (500, False)])
def test_health_has_no_body(status, healthy):
    server = Server().route("/health", (status, b""))
    client = server.client()
    assert client.run(client.runtime.health()) is healthy
    assert not server.calls[0].retry


def test_health_where_only_the_api_is_routed():
    server = Server().route("/health", (404, b"no route"))
    client = server.client()
    assert client.run(client.runtime.health()) is True
    assert server.asked == ["GET /health", "GET /v1/models"]


def test_tokens_of_a_text():
    server = Server().route("/tokenize", ok("tokenize.json"))
    client = server.client(model="granite")
    found = client.run(client.runtime.tokenize("a b", add_special_tokens=False, token_strings=True))
    assert (found.count, found.token_ids, found.max_model_len) == (3, [1, 2, 3], 1024)
    assert found.tokens == ["<s>", "Ġa", "b"]
    assert server.body == {
        "prompt": "a b", "add_special_tokens": False, "return_token_strs": True, "model": "granite",
    }  # fmt: skip


def test_tokens_of_a_conversation_are_those_of_the_chat_request():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    params = {"temperature": 0.5, "chat_template_kwargs": {"enable_thinking": False}, "add_generation_prompt": False}
    server = Server().route("/tokenize", ok("tokenize.json"))
    client = server.client(model="granite")
    client.run(client.runtime.tokenize_messages(ChatRequest(messages=HELLO, tools=[tool], params=params)))
    assert server.body == {
        "messages": HELLO, "model": "granite", "tools": [tool], "add_generation_prompt": False,
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip


def test_text_of_tokens():
    server = Server().route("/detokenize", (200, b'{"prompt":"a b"}'))
    client = server.client(model="granite")
    assert client.run(client.runtime.detokenize([1, 2])) == "a b"
    assert server.body == {"tokens": [1, 2], "model": "granite"}


def test_a_gateway_without_the_token_route_is_explained():
    client = Server().client(model="granite")
    with pytest.raises(NotFoundError, match="only what is under /v1"):
        client.run(client.runtime.tokenize("a"))


@pytest.mark.parametrize("body", [b'{"count":"3","tokens":[]}', b'{"count":1}', b"[]"])
def test_tokens_that_are_none(body):
    client = Server().route("/tokenize", (200, body)).client(model="m")
    with pytest.raises(BadResponseError):
        client.run(client.runtime.tokenize("a"))


# --- where things are


@pytest.mark.parametrize(
    ("base", "api", "root"),
    [
        ("", "/v1", ""),
        ("/", "/v1", ""),
        ("/v1", "/v1", ""),
        ("/v1/", "/v1", ""),
        ("/openai/v1", "/openai/v1", "/openai"),
        ("/openai", "/openai/v1", "/openai"),
        ("/v3", "/v3", ""),
        ("/team/granite/v1", "/team/granite/v1", "/team/granite"),
        ("/team/granite", "/team/granite/v1", "/team/granite"),
    ],
)
def test_base_paths(base, api, root):
    paths = {f"{api}/models": models("m"), f"{root}/version": (200, b'{"version":"1"}')}
    server = Server()
    server.routes = {**paths, f"{api}/completions": (200, b'{"choices":[{"index":0,"text":"x"}]}')}
    client = server.client(base_path=base)
    client.run(client.runtime.generate(TextRequest(prompts=["a"])))
    client.run(client.runtime.version())
    assert server.asked == [f"GET {api}/models", f"POST {api}/completions", f"GET {root}/version"]


@pytest.mark.parametrize("base", ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank/"])
def test_the_address_of_one_endpoint_is_no_base_path(base):
    with pytest.raises(ConfigurationError, match="up to /v1"):
        VLLMRuntime(base_path=base)


# --- the instance


def test_an_instance_pickles_with_what_it_learned():
    server = Server().route("/v1/rerank", ok("rerank.json"))
    client = server.client(base_path="/v1")
    client.run(client.runtime.resolve_model())
    copy = pickle.loads(pickle.dumps(client.runtime))
    assert (copy.model, copy.paths, copy.strict_stream) == ("granite", client.runtime.paths, True)


def test_it_is_in_the_registry():
    runtime = get_runtime("vLLM").create(base_path="/v1", model="m")
    assert isinstance(runtime, VLLMRuntime)
    assert RUNTIMES["vllm"].title == runtime.name
    with pytest.raises(ConfigurationError, match="Did you mean 'vllm'"):
        get_runtime("vlm")


@pytest.mark.parametrize("name", ["chat.json", "tools_0.32.json"])
async def test_flows_run_the_same_in_an_event_loop(name):
    server = Server().route(CHAT, ok(name))
    client = server.client()
    request = ChatRequest(messages=HELLO)
    assert (await client.arun(client.runtime.chat(request))).raw == orjson.loads(fixture(name))
