"""What comes from outside stays data: server answers, names, header values, tokens, templates, redirects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from security.canary import PROMPT, TOKEN, found_in
from unit.core.grpc_scripted import GrpcServer
from unit.core.scripted import STREAM_HEAD, ServerSide, answer, chunk

from kserve_core.devserver import DevServer
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError

# LangChain's own serialisation: an object with the key `lc` in a server's answer must not become one of its objects.

SECRET = {"lc": 1, "type": "secret", "id": ["KSERVE_API_KEY"]}
OBJECT = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain_core", "messages", "ai", "AIMessage"],
    "kwargs": {"content": "I was made by the server"},
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": SECRET})}}


def answered(planted: dict[str, Any]) -> dict[str, Any]:
    """A chat completion with something planted wherever a server may put its own things."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "system_fingerprint": planted,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "tool_calls": [TOOL_CALL], "extra": planted},
                "finish_reason": "stop",
                "stop_reason": planted,
                "logprobs": {"content": [{"token": "hi", "logprob": -0.1, "top_logprobs": [], "more": planted}]},
                "own": planted,
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "own": planted},
        "own": planted,
    }


def streamed(planted: dict[str, Any]) -> list[bytes]:
    """The same as a stream."""
    whole = answered(planted)
    choice = whole["choices"][0]
    message = {**choice.pop("message"), "tool_calls": [{**TOOL_CALL, "index": 0}]}
    event = {**whole, "object": "chat.completion.chunk", "choices": [{**choice, "delta": message}]}
    return [STREAM_HEAD, chunk(b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n"), b"0\r\n\r\n"]


@pytest.mark.parametrize("planted", [SECRET, OBJECT, {"deep": [{"er": SECRET}]}], ids=["secret", "object", "deep"])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_lc_objects_of_a_server_stay_data(way: str, planted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.load import dumps, loads
    from langchain_core.messages import AIMessage, AIMessageChunk

    from langchain_kserve import ChatVLLM

    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    script = answer(200, answered(planted)) if way == "invoke" else streamed(planted)
    with ServerSide(script) as server, ChatVLLM(base_url=f"{server.url}/v1", model="m") as model:
        if way == "invoke":
            message: Any = model.invoke("x")
        else:
            message = None
            for piece in model.stream("x"):
                message = piece if message is None else message + piece
    assert message.tool_calls[0]["args"] == {"x": SECRET}
    again = loads(dumps(message), allowed_objects=[AIMessage, AIMessageChunk], secrets_from_env=True)
    assert again.tool_calls == message.tool_calls
    assert again.response_metadata == message.response_metadata
    assert again.additional_kwargs == message.additional_kwargs
    assert not found_in(repr(again), again.model_dump_json())
    assert "AIMessage(" not in repr(again.response_metadata) + repr(again.additional_kwargs)


# Line breaks

BREAKS = ("a\r\nx-injected: 1", "a\nb", "a\rb", "a\x00b", "a\u2028b")


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer(models=["m"], tgis=True) as running:
        yield running


@pytest.mark.parametrize("text", BREAKS)
@pytest.mark.parametrize("kind", ["text", "file", "function", "coroutine"])
@pytest.mark.parametrize("over", ["rest", "grpc"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_token_with_a_line_break_is_refused_before_anything_is_sent(
    server: DevServer, text: str, kind: str, over: str, mode: str, tmp_path: Path
) -> None:
    from langchain_kserve import TGISLLM, ChatVLLM

    async def later() -> str:
        return text

    file = tmp_path / "token"
    file.write_text(text)
    sources: dict[str, Any] = {"text": text, "file": file, "function": lambda: text, "coroutine": later}
    server.reset()
    cls, url = (TGISLLM, server.tgis_url) if over == "grpc" else (ChatVLLM, f"{server.url}/v1")

    def ask() -> None:
        with cls(base_url=url, api_key=sources[kind], **({} if over == "grpc" else {"model": "m"})) as model:
            asyncio.run(_ainvoke(model)) if mode == "async" else model.invoke("x")

    with pytest.raises(KServeError) as caught:
        ask()
    assert len(server.requests) == 0
    assert text not in str(caught.value)


async def _ainvoke(model: Any) -> None:
    try:
        await model.ainvoke("x")
    finally:
        await model.aclose()


def test_a_token_files_last_line_end_is_no_part_of_the_token(server: DevServer, tmp_path: Path) -> None:
    from langchain_kserve import ChatVLLM

    (tmp_path / "token").write_text(f"{TOKEN}\r\n")
    server.reset()
    with ChatVLLM(base_url=f"{server.url}/v1", model="m", api_key=tmp_path / "token") as model:
        model.invoke("x")
    assert server.requests.last.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("text", BREAKS[:4])
def test_headers_with_line_breaks_are_refused(text: str) -> None:
    for headers in ({"x-a": text}, {text: "x"}):
        with pytest.raises(ConfigurationError):
            Endpoint.create("https://model.example.com", default_headers=headers)


@pytest.mark.parametrize("text", [*BREAKS, "../../v2/repository", "m?x=1", "m#x", "m/infer\r\n", "%2e%2e"])
@pytest.mark.parametrize("cls", ["TritonLLM", "MLServerLLM", "OpenVINOEmbeddings"])
def test_a_models_name_stays_one_part_of_the_path(cls: str, text: str) -> None:
    import langchain_kserve

    with ServerSide(answer(404, {"error": "no"})) as server:
        with pytest.raises(KServeError):
            _use(getattr(langchain_kserve, cls)(base_url=server.url, model=text, max_retries=0))
    for seen in server.requests:
        assert seen.raw_head.count(b"\r\n") == len(seen.headers)  # the lines that were meant, no more
        assert "x-injected" not in seen.headers
        assert ".." not in seen.path
        assert seen.path.partition("?")[0].count("/") <= 5
        assert "#" not in seen.path


def _use(model: Any) -> None:
    try:
        model.embed_query("x") if hasattr(model, "embed_query") else model.invoke("x")
    finally:
        model.close()


@pytest.mark.parametrize("text", BREAKS)
def test_a_models_name_in_a_body_or_in_metadata_does_no_harm(server: DevServer, text: str) -> None:
    from langchain_kserve import CaikitEmbeddings, ChatVLLM

    server.reset()
    with ChatVLLM(base_url=f"{server.url}/v1", model=text, max_retries=0) as model, pytest.raises(KServeError):
        model.invoke("x")
    assert server.requests.to("/v1/chat/completions")[-1].json["model"] == text
    with GrpcServer(lambda *_: b"") as scripted:
        with CaikitEmbeddings(base_url=scripted.url, model=text, max_retries=0) as embeddings:
            with pytest.raises(KServeError):
                embeddings.embed_query("x")
    assert all("x-injected" not in call.metadata for call in scripted.calls)


# Where things go


@pytest.mark.parametrize("url", ["http://model.example.com/v1", "http://10.0.0.1:8080", "grpc://model.example.com:80"])
def test_a_token_is_not_sent_in_the_clear_to_another_host(url: str) -> None:
    from langchain_kserve import CaikitLLM

    with pytest.raises(ConfigurationError, match="allow_insecure_token"):
        CaikitLLM(base_url=url, api_key=TOKEN)
    with pytest.raises(ConfigurationError, match="allow_insecure_token"):
        CaikitLLM(base_url=url, default_headers={"Authorization": f"Bearer {TOKEN}"})


def test_urls_in_messages_are_passed_on_and_never_fetched(server: DevServer) -> None:
    from langchain_core.messages import HumanMessage

    from langchain_kserve import ChatVLLM

    server.reset()
    with ServerSide(answer()) as elsewhere:
        image = {"type": "image_url", "image_url": {"url": f"{elsewhere.url}/picture.png"}}
        with ChatVLLM(base_url=f"{server.url}/v1", model="m") as model:
            model.invoke([HumanMessage([{"type": "text", "text": "What is this?"}, image])])
            model.get_num_tokens_from_messages([HumanMessage([image])])
    assert elsewhere.connections == 0
    assert f"{elsewhere.url}/picture.png" in server.requests[0].body.decode()


# Chat templates

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ ''|attr('__class__')|attr('mro') }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '%(x)s'.__mod__.__self__.__class__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}{{ x }}",
    "{% set _ = messages.append(1) %}{{ messages }}",
    "{{ strftime_now.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
)
ENDLESS = (
    "{% for a in range(10**9) %}x{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{% set ns = namespace(s='x') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 'x'.center(10**10) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
)


@pytest.mark.parametrize("template", [*ESCAPES, *ENDLESS])
@pytest.mark.parametrize("package", ["langchain", "llamaindex"])
def test_templates_neither_escape_nor_run_on(server: DevServer, template: str, package: str) -> None:
    from faults.ways import bounded

    said = bounded(lambda: _prompted(server, template, package), seconds=20)
    for word in ("<class", "built-in", "<module", "root:", "uid=", "object at 0x"):
        assert word not in said


def _prompted(server: DevServer, template: str, package: str) -> str:
    """The prompt that reached the server, or the error."""
    from llama_index.core.base.llms.types import ChatMessage

    import langchain_kserve
    import llamaindex_kserve

    server.reset()
    fields: dict[str, Any] = {"base_url": server.tgis_url, "max_tokens": 4, "chat_template": template}
    try:
        if package == "langchain":
            with langchain_kserve.ChatTGIS(**fields) as model:
                model.invoke(PROMPT)
        else:
            with llamaindex_kserve.TGISLLM(**fields) as llm:
                llm.chat([ChatMessage(PROMPT)])
    except KServeError as error:
        return str(error)
    return server.requests.last.body.decode("utf-8", "replace")


def test_no_template_is_taken_from_a_server(server: DevServer) -> None:
    from langchain_kserve import ChatTGIS

    with pytest.raises(ConfigurationError, match="chat_template"):
        ChatTGIS(base_url=server.tgis_url)
