"""Older releases have older shapes."""

from __future__ import annotations

import json

import httpx
import pytest

from kserve_core.devserver import DevServer
from tests.unit.core.devserver.wire import deltas

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def ask(server, said, **fields):
    body = {"messages": [{"role": "user", "content": said}], **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body)


@pytest.fixture(scope="module", params=["0.8.5", "0.9.2", "0.10.2", "0.11.0", "0.12.0", "0.15.1", "0.17.1", "0.20.2"])
def old(request):
    with DevServer(version=request.param) as server:
        yield server, server.settings.release


def test_the_error_shape(old):
    server, release = old
    body = ask(server, "hi", temperature=9).json()
    if release < (0, 10):
        assert (body["object"], body["code"]) == ("error", 400)
    else:
        assert body["error"]["code"] == 400


def test_the_reasoning_field(old):
    server, release = old
    message = ask(server, "Think: what is two plus two?").json()["choices"][0]["message"]
    shown = {name for name in ("reasoning", "reasoning_content") if message.get(name)}
    if release < (0, 12):
        assert shown == {"reasoning_content"}
    elif release < (0, 17):
        assert shown == {"reasoning", "reasoning_content"}
    else:
        assert shown == {"reasoning"}
    streamed = deltas(ask(server, "Think: what is two plus two?", stream=True).text)
    assert {name for delta in streamed for name in delta if name.startswith("reasoning")} == shown


def test_guided_fields_are_ignored_from_0_12_on(old):
    server, release = old
    text = ask(server, "The number is 7.", guided_json=SCHEMA).json()["choices"][0]["message"]["content"]
    if release < (0, 12):
        assert json.loads(text) == {"n": 7}
    else:
        assert text == "You said: The number is 7."


def test_structured_outputs_are_ignored_before_0_11(old):
    server, release = old
    text = ask(server, "The number is 7.", structured_outputs={"json": SCHEMA}).json()["choices"][0]["message"][
        "content"
    ]
    assert (text == '{"n": 7}') == (release >= (0, 11))


def test_a_message_without_calls_still_lists_them(old):
    server, _ = old
    assert ask(server, "hi").json()["choices"][0]["message"]["tool_calls"] == []


def test_token_texts_and_rerank_usage(old):
    server, release = old
    tokens = httpx.post(f"{server.url}/tokenize", json={"prompt": "a"}).json()
    assert ("token_strs" in tokens) == (release >= (0, 9))
    ranked = httpx.post(f"{server.url}/rerank", json={"query": "a", "documents": ["a"]}).json()
    assert ("prompt_tokens" in ranked["usage"]) == (release >= (0, 15))


def test_too_much_output_is_an_error_in_old_releases(old):
    server, _ = old
    refused = ask(server, "word " * 50, max_tokens=8190)
    assert refused.status_code == 400
    body = refused.json()
    assert "maximum context length is 8192 tokens" in body.get("error", body)["message"]


def test_only_v1_is_protected_in_old_releases():
    with DevServer(version="0.20.2", api_key="k") as server:
        rerank = {"query": "a", "documents": ["a"]}
        assert httpx.post(f"{server.url}/v2/rerank", json=rerank).status_code == 200
        assert httpx.post(f"{server.url}/v1/rerank", json=rerank).status_code == 401


@pytest.mark.parametrize("version", ["", "latest", "x.y"])
def test_a_version_that_is_none(version):
    with pytest.raises(ValueError, match="does not look like"):
        DevServer(version=version)


def test_other_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="no wire for runtime 'abacus'"):
        DevServer(runtime="abacus")
    with pytest.raises(ValueError, match="known are"):
        DevServer(tasks=("dance",))
    with pytest.raises(ValueError, match="at least one model"):
        DevServer(models=())
