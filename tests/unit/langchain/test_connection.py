"""The constructor fields that say where the model is."""

from __future__ import annotations

import copy
import pickle
import socket
import time
from pathlib import Path

import pytest
from langchain_core import exceptions as lc
from langchain_core.load import dumps
from pydantic import SecretStr
from unit.langchain.chat_fakes import FakeClient

from kserve_core.devserver import DevServer
from langchain_kserve import ChatVLLM, ConfigurationError, VLLMEmbeddings, VLLMRerank

URL = "https://model.example.com/v1"
TOKEN = "sk-very-secret"


def make(**fields):
    return ChatVLLM(**{"base_url": URL, "model": "m", **fields})


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"model_name": "other"}, "model", "other"),
        ({"openai_api_base": "https://other.example.com"}, "base_url", "https://other.example.com"),
        ({"request_timeout": 7}, "timeout", 7.0),
        ({"max_completion_tokens": 9}, "max_tokens", 9),
        ({"stop_sequences": ["x"]}, "stop", ["x"]),
        ({"stop": "x"}, "stop", ["x"]),
    ],
)
def test_names_people_type_elsewhere_are_understood(given, field, value):
    base = {"base_url": URL, "model": "m"}
    base.pop(field, None)
    assert getattr(ChatVLLM(**{**base, **given}), field) == value


def test_the_same_thing_under_two_names_is_refused():
    with pytest.raises(ConfigurationError, match="both model and model_name"):
        make(model_name="x")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("temprature", "Did you mean temperature?"), ("bas_url", "base_url"), ("frobnicate", "extra_body")],
)
def test_an_unknown_name_is_an_error_that_helps(name, hint):
    with pytest.raises(ConfigurationError, match=name) as caught:
        make(**{name: 1})
    assert hint in str(caught.value)
    assert isinstance(caught.value, lc.ModelError)
    assert not caught.value.is_retryable


def test_a_protocol_the_runtime_has_not_is_refused():
    with pytest.raises(ConfigurationError, match=r"vLLM cannot be reached with protocol='grpc'"):
        make(protocol="grpc")


@pytest.mark.parametrize("url", ["http://user:pass@host/v1", "ftp://host", "https://host/v1?key=x"])
def test_a_bad_url_shows_in_the_constructor(url):
    with pytest.raises(ConfigurationError) as caught:
        make(base_url=url)
    assert "pass" not in str(caught.value).replace("password", "")


def test_no_url_at_all_is_an_error_that_names_the_variable():
    with pytest.raises(ConfigurationError, match="KSERVE_BASE_URL"):
        ChatVLLM(model="m")


def test_the_environment_fills_gaps(monkeypatch, tmp_path):
    monkeypatch.setenv("KSERVE_BASE_URL", URL)
    monkeypatch.setenv("KSERVE_CA_CERT", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("KSERVE_API_KEY_FILE", str(tmp_path / "token"))
    model = ChatVLLM(model="m")
    assert (model.base_url, model.api_key, model.ca_cert) == (URL, tmp_path / "token", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    assert ChatVLLM(model="m").api_key == SecretStr(TOKEN)
    assert ChatVLLM(model="m", api_key="mine").api_key == SecretStr("mine")


def test_a_token_of_the_environment_gives_way_to_an_authorization_header(monkeypatch):
    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    model = make(default_headers={"Authorization": "Basic abc"})
    assert model.api_key is None


def test_a_token_from_the_environment_does_not_travel_in_a_pickle(monkeypatch):
    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    data = pickle.dumps(make())
    assert TOKEN.encode() not in data
    monkeypatch.setenv("KSERVE_API_KEY", "another")
    assert pickle.loads(data).api_key == SecretStr("another")


@pytest.mark.parametrize("cls", [ChatVLLM, VLLMEmbeddings, VLLMRerank])
def test_no_secret_shows(cls):
    model = cls(
        base_url=URL,
        model="m",
        api_key=TOKEN,
        default_headers={"x-tenant-key": TOKEN},
        client_cert=("cert.pem", "key.pem", TOKEN),
    )
    shown = [repr(model), str(model), model.model_dump_json(), repr(model.model_dump())]
    if isinstance(model, ChatVLLM):
        shown += [dumps(model), str(model.asdict()), model._get_llm_string(), str(model._get_ls_params())]
    assert not [text for text in shown if TOKEN in text]


def test_no_secret_shows_in_a_validation_error():
    with pytest.raises(ValueError, match="temperature") as caught:
        make(api_key=TOKEN, temperature="warm", default_headers={"x": TOKEN})
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(caught.value)


@pytest.mark.parametrize("key", [TOKEN, SecretStr(TOKEN), Path("/var/run/token"), lambda: TOKEN, None])
def test_tokens_come_in_many_kinds(key):
    model = make(api_key=key)
    assert model.api_key == (SecretStr(TOKEN) if isinstance(key, str) else key)


def test_the_constructor_opens_nothing_and_is_quick(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    make(ca_cert="/does/not/exist.pem", api_key=Path("/does/not/exist"))
    times = []
    for _ in range(50):
        start = time.perf_counter()
        make(api_key=TOKEN)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001


def test_copies_are_equal_and_have_their_own_connections():
    model = make(api_key=TOKEN, temperature=0.5)
    model._slot.client = FakeClient()
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model), model.model_copy()):
        assert copied == model
        assert copied._slot.client is None


def test_changed_fields_make_a_new_client():
    model = make()
    before = model._get_client()
    assert model._get_client() is before
    model.base_url = "https://other.example.com/v1"
    after = model._get_client()
    assert (before.endpoint.host, after.endpoint.host) == ("model.example.com", "other.example.com")
    moved = model.model_copy(update={"base_url": "https://third.example.com"})
    assert moved._get_client().endpoint.host == "third.example.com"
    assert model._get_client() is after


def test_changed_fields_make_a_new_cache_key():
    model = make(temperature=0)
    cold = model._get_llm_string()
    model.temperature = 1.0
    warm = model._get_llm_string()
    assert cold != warm
    assert model.model_copy(update={"temperature": 0.0})._get_llm_string() == cold


def test_secret_headers_are_sent_as_text():
    model = make(default_headers={"x-plain": "a", "x-key": SecretStr(TOKEN)})
    assert dict(model._get_client().endpoint.headers) == {"x-plain": "a", "x-key": TOKEN}


async def test_the_server_can_be_asked_about_itself():
    with DevServer(models=["m", "other"], version="0.11.0") as server:
        for cls in (ChatVLLM, VLLMEmbeddings, VLLMRerank):
            model = cls(base_url=server.url, model="m")
            assert len(server.requests) == 0
            assert [info.id for info in model.list_models()] == ["m", "other"]
            assert model.is_ready()
            assert model.server_version() == "0.11.0"
            server.requests.clear()
        assert len(await model.alist_models()) == 2
        assert await model.ais_ready()
        assert await model.aserver_version() == "0.11.0"


def test_closing_lets_go_of_connections_and_can_be_undone():
    with DevServer(models=["m"]) as server, ChatVLLM(base_url=server.url) as model:
        model.invoke("Say hello.")
        assert server.open_connections == 1
        model.close()
        deadline = time.monotonic() + 5
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections == 0
        assert model.invoke("Say hello.").content


async def test_async_closing():
    with DevServer(models=["m"]) as server:
        async with ChatVLLM(base_url=server.url) as model:
            assert (await model.ainvoke("Say hello.")).content
            assert server.open_connections == 1
        deadline = time.monotonic() + 5
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections == 0
