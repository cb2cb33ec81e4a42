"""What an endpoint accepts, refuses and shows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from kserve_core.credentials import EnvToken, FileToken, StaticToken
from kserve_core.endpoint import Endpoint, check_headers
from kserve_core.errors import ConfigurationError

TOKEN = "canary-token"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KSERVE_BASE_URL", "KSERVE_API_KEY", "KSERVE_API_KEY_FILE", "KSERVE_CA_CERT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "base_url", "origin", "path", "port"),
    [
        ("https://m.example.com", "https://m.example.com", "https://m.example.com", "", 443),
        ("https://m.example.com/", "https://m.example.com", "https://m.example.com", "", 443),
        (" HTTPS://M.Example.com:443/v1/ ", "https://m.example.com/v1", "https://m.example.com", "/v1", 443),
        ("http://m:8080//openai//v1//", "http://m:8080/openai/v1", "http://m:8080", "/openai/v1", 8080),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", "http://[::1]:8000", "/v1", 8000),
        ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1", "https://xn--bcher-kva.example", "/v1", 443),
        ("http://m-predictor.ns.svc.cluster.local", *["http://m-predictor.ns.svc.cluster.local"] * 2, "", 80),
        ("https://gw/ns/model%20x/v1", "https://gw/ns/model%20x/v1", "https://gw", "/ns/model%20x/v1", 443),
    ],
)
def test_url_is_taken_apart(url: str, base_url: str, origin: str, path: str, port: int) -> None:
    endpoint = Endpoint.create(url)
    assert (endpoint.base_url, endpoint.origin, endpoint.base_path, endpoint.port) == (base_url, origin, path, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "m.example.com",
        "ftp://m.example.com",
        "https://",
        "https:///v1",
        "https://user:hunter2@m.example.com",
        "https://hunter2@m.example.com",
        "https://m.example.com/?key=hunter2",
        "https://m.example.com/v1?",
        "https://m.example.com/#hunter2",
        "https://m.example.com:99999",
        "https://m.example.com:abc",
        "https://m example.com",
        "https://m.example.com/a b",
        "https://m.example.com/a\nb",
        "https://m.example.com\r\nHost: x",
        "https://[::1",
        "https://m_ex$ample.com",
    ],
)
def test_bad_url_is_refused_with_a_hint_and_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.create(url)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert caught.value.attempts == 0


@pytest.mark.parametrize("tail", ["chat/completions", "completions", "embeddings"])
def test_url_of_an_operation_is_refused(tail: str) -> None:
    with pytest.raises(ConfigurationError, match="operation") as caught:
        Endpoint.create(f"https://m.example.com/openai/v1/{tail}")
    assert "/v1" in caught.value.hint


def test_model_named_like_an_operation_is_fine() -> None:
    assert Endpoint.create("https://gw.example.com/ns/embeddings").base_path == "/ns/embeddings"


def test_no_url_at_all_names_the_variable() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.create()
    assert "KSERVE_BASE_URL" in caught.value.hint


def test_environment_fills_the_gaps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KSERVE_BASE_URL", "https://env.example.com/v1")
    assert Endpoint.create().base_url == "https://env.example.com/v1"
    assert Endpoint.create("https://given.example.com").host == "given.example.com"
    assert Endpoint.create().token is None
    monkeypatch.setenv("KSERVE_API_KEY_FILE", str(tmp_path / "token"))
    assert Endpoint.create().token == FileToken(tmp_path / "token")
    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    assert Endpoint.create().token == EnvToken("KSERVE_API_KEY")
    assert Endpoint.create(api_key="given").token == StaticToken("given")
    assert Endpoint.create(api_key="EMPTY").token is None
    assert Endpoint.create(default_headers={"authorization": "Basic x"}).token is None


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": True},
        {"timeout": "60"},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"idle_timeout": 0},
        {"connect_timeout": None},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"max_connections": 0},
        {"verify": "/path/ca.crt"},
        {"ca_cert": ""},
        {"client_cert": ("a", "b", "c", "d")},
        {"client_cert": ()},
        {"api_key": 5},
        {"api_key": ""},
        {"api_key": TOKEN, "default_headers": {"Authorization": "Bearer x"}},
    ],
)
def test_bad_option_is_refused_with_a_hint(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.create("https://m.example.com", **options)
    assert caught.value.hint


def test_no_limits() -> None:
    endpoint = Endpoint.create("https://m.example.com", timeout=None, idle_timeout=None)
    assert (endpoint.timeout, endpoint.idle_timeout) == (None, None)


@pytest.mark.parametrize(
    "url", ["http://m.example.com", "http://10.0.0.7:8080", "http://svc.example.com", "http://msvc"]
)
def test_token_over_plain_http_is_refused(url: str) -> None:
    for options in ({"api_key": TOKEN}, {"default_headers": {"authorization": f"Bearer {TOKEN}"}}):
        with pytest.raises(ConfigurationError, match="unencrypted") as caught:
            Endpoint.create(url, **options)  # type: ignore[arg-type]
        assert "https://" in caught.value.hint
        assert "allow_insecure_token" in caught.value.hint
        assert TOKEN not in str(caught.value)
        Endpoint.create(url, allow_insecure_token=True, **options)  # type: ignore[arg-type]
    Endpoint.create(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://127.8.9.1",
        "http://[::1]",
        "http://m.ns.svc",
        "http://m-predictor.ns.svc.cluster.local:8080/v1",
        "https://m.example.com",
    ],
)
def test_token_is_allowed_where_it_cannot_be_overheard(url: str) -> None:
    assert Endpoint.create(url, api_key=TOKEN).sends_credentials


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost", True),
        ("http://a.localhost", True),
        ("http://127.0.0.2", True),
        ("http://[::1]", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_is_local(url: str, local: bool) -> None:
    assert Endpoint.create(url).is_local is local


def test_nothing_secret_is_shown() -> None:
    endpoint = Endpoint.create(
        "https://m.example.com",
        api_key=TOKEN,
        default_headers={"X-Key": "canary-header"},
        client_cert=("cert.pem", "key.pem", "canary-password"),
    )
    for text in (repr(endpoint), str(endpoint), f"{endpoint}", repr(endpoint.token), repr(endpoint.trust)):
        assert "canary" not in text
    assert "X-Key" in repr(endpoint)


def test_endpoints_compare_hash_and_pickle() -> None:
    def make() -> Endpoint:
        return Endpoint.create("https://m/v1", api_key=TOKEN, ca_cert=["a.crt"], default_headers={"a": "b"})

    assert make() == make()
    assert len({make(), make()}) == 1
    assert make() != Endpoint.create("https://m/v1")
    copy = pickle.loads(pickle.dumps(make()))
    assert copy == make()
    assert (copy.host, copy.base_path, copy.default_headers) == ("m", "/v1", {"a": "b"})


def test_pickle_of_a_reference_holds_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    path = tmp_path / "token"
    path.write_text(TOKEN)
    for source in (EnvToken("SOME_TOKEN"), path):
        endpoint = Endpoint.create("https://m", api_key=source)
        assert endpoint.token is not None
        assert endpoint.token.token() == TOKEN
        assert TOKEN.encode() not in pickle.dumps(endpoint)


@pytest.mark.parametrize(
    "headers",
    [{"a b": "x"}, {"": "x"}, {"a": "x\ny"}, {"a": "x\0"}, {"a": "€"}, {"a": 5}, {5: "a"}, {"Content-Length": "1"}],
)
def test_headers_that_cannot_be_sent(headers: Any) -> None:
    with pytest.raises(ConfigurationError):
        check_headers(headers)
    with pytest.raises(ConfigurationError):
        Endpoint.create("https://m", default_headers=headers)
