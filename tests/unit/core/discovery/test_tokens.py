"""Tokens that a cluster or a gateway issues, and a gateway's models."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from kserve_core import Endpoint
from kserve_core.discovery import (
    ClusterAccess,
    MaaSToken,
    TokenRequestToken,
    alist_maas_models,
    list_maas_models,
    tokens,
)
from kserve_core.errors import AuthenticationError, BadResponseError, ConfigurationError, PermissionDeniedError
from tests.unit.core.discovery.kube import NS, TOKEN, Kube, Seen

REQUEST = f"/api/v1/namespaces/{NS}/serviceaccounts/m-sa/token"


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Issuer:
    """Answers TokenRequests with `issued-1`, `issued-2`, ...; each is good for `life` seconds."""

    def __init__(self, life: float = 3600) -> None:
        self.life = life
        self.bodies: list[Any] = []

    def __call__(self, seen: Seen) -> Any:
        self.bodies.append(json.loads(seen.body))
        return {"status": {"token": f"issued-{len(self.bodies)}", "expirationTimestamp": stamp(self.life)}}


@pytest.fixture
def issuer(kube: Kube) -> Issuer:
    found = Issuer()
    kube.documents[REQUEST] = found
    kube.tokens = {TOKEN}
    return found


@pytest.fixture
def source(kube: Kube, tmp_path: Path, issuer: Issuer) -> TokenRequestToken:
    return TokenRequestToken("m-sa", access=ClusterAccess(kubeconfig=str(kube.kubeconfig(tmp_path))))


def test_a_token_is_asked_for_once(kube: Kube, source: TokenRequestToken, issuer: Issuer) -> None:
    assert [source.token(), source.token()] == ["issued-1", "issued-1"]
    assert kube.seen[0].method == "POST"
    assert issuer.bodies == [
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    ]


def test_a_refused_one_is_replaced(source: TokenRequestToken) -> None:
    assert source.token() == "issued-1"
    assert source.token(refresh=True) == "issued-2"
    assert source.token() == "issued-2"


async def test_from_an_event_loop(source: TokenRequestToken, issuer: Issuer) -> None:
    assert await asyncio.gather(*(source.atoken() for _ in range(20))) == ["issued-1"] * 20
    assert await source.atoken(refresh=True) == "issued-2"
    assert len(issuer.bodies) == 2


def test_many_threads_ask_once(source: TokenRequestToken, issuer: Issuer) -> None:
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(source.token())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["issued-1"] * 16
    assert len(issuer.bodies) == 1


def test_those_who_wait_together_ask_once_also_in_vain(
    kube: Kube, source: TokenRequestToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Semaphore(0)
    ready = TokenRequestToken._ready

    def counted(self: Any, issued: Any, *, refresh: bool) -> Any:
        waiting.release()
        return ready(self, issued, refresh=refresh)

    def refuse(_: Any) -> Any:
        for _ in range(8):
            assert waiting.acquire(timeout=20)
        return {"status": {}}

    monkeypatch.setattr(TokenRequestToken, "_ready", counted)
    kube.documents[REQUEST] = refuse
    errors: list[Exception] = []

    def ask() -> None:
        try:
            source.token()
        except BadResponseError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == len(set(map(id, errors))) == 8
    assert len({str(error) for error in errors}) == 1
    assert len(kube.seen) == 1
    kube.documents[REQUEST] = Issuer()
    assert source.token() == "issued-1"


async def test_tasks_that_wait_together_ask_once_also_in_vain(kube: Kube, source: TokenRequestToken) -> None:
    kube.documents[REQUEST] = 403
    errors = await asyncio.gather(*(source.atoken() for _ in range(8)), return_exceptions=True)
    assert [type(error) for error in errors] == [PermissionDeniedError] * 8
    assert len(kube.seen) == 1
    with pytest.raises(PermissionDeniedError):
        await source.atoken()
    assert len(kube.seen) == 2


def test_it_is_renewed_before_it_expires(
    source: TokenRequestToken, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source.token() == "issued-1"
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.75 * 3600)
    assert source.token() == "issued-1"
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.85 * 3600)
    assert source.token() == "issued-2"


async def test_the_old_one_serves_while_the_next_cannot_be_had(
    kube: Kube, source: TokenRequestToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source.token() == "issued-1"
    kube.documents[REQUEST] = 403
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.85 * 3600)
    asked = len(kube.seen)
    assert source.token() == "issued-1"
    assert await source.atoken() == "issued-1"
    assert len(kube.seen) == asked + 1  # and not once per call
    with pytest.raises(PermissionDeniedError):
        source.token(refresh=True)
    monkeypatch.setattr(tokens.time, "time", lambda: now + 3601)
    with pytest.raises(PermissionDeniedError):
        source.token()
    with pytest.raises(PermissionDeniedError):
        await source.atoken()


def test_audiences_and_life(kube: Kube, tmp_path: Path, issuer: Issuer) -> None:
    access = ClusterAccess(kubeconfig=str(kube.kubeconfig(tmp_path, namespace="other")))
    TokenRequestToken("m-sa", NS, ("https://kubernetes.default.svc",), 600, access).token()
    assert issuer.bodies[0]["spec"] == {"expirationSeconds": 600, "audiences": ["https://kubernetes.default.svc"]}


def test_it_travels_as_a_reference(source: TokenRequestToken) -> None:
    source.token()
    data = pickle.dumps(source)
    assert b"issued" not in data
    assert TOKEN.encode() not in data
    again = pickle.loads(data)
    assert again == source
    assert again.token() == "issued-2"
    assert "issued" not in repr(source)


def test_an_endpoint_takes_it(source: TokenRequestToken) -> None:
    assert Endpoint.create("https://m.example.com", api_key=source).token is source


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenRequestToken("../x"),
        lambda: TokenRequestToken("sa", "a/b"),
        lambda: TokenRequestToken("sa", audiences="x"),  # type: ignore[arg-type]
        lambda: TokenRequestToken("sa", expiration_seconds=5),
        lambda: MaaSToken.create("https://maas.example.com", api_key="x", expires_in="soon"),
        lambda: MaaSToken.create("https://maas.example.com", api_key="x", expires_in=""),
        lambda: MaaSToken.create("http://maas.example.com", api_key="x"),
    ],
)
def test_what_cannot_be_asked_for(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_an_answer_without_a_token(kube: Kube, source: TokenRequestToken) -> None:
    kube.documents[REQUEST] = {"status": {}}
    with pytest.raises(BadResponseError, match="without a token"):
        source.token()


# --- Models-as-a-Service ----------------------------------------------------------------------------------------

KEYS = "/maas-api/v1/api-keys"
MODELS = "/maas-api/v1/models"


def keys(kube: Kube, **answer: Any) -> list[Any]:
    bodies: list[Any] = []

    def make(seen: Seen) -> Any:
        bodies.append(json.loads(seen.body))
        return {"key": f"sk-oai-{len(bodies)}", "name": "x", **answer}

    kube.documents[KEYS] = make
    kube.tokens = {TOKEN}
    return bodies


def test_keys_are_made_and_renewed(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = keys(kube, expiresAt=stamp(7200))
    source = MaaSToken.create(kube.url, api_key=TOKEN, name="rag", expires_in="2h", subscription="gold")
    assert [source.token(), asyncio.run(source.atoken())] == ["sk-oai-1", "sk-oai-1"]
    assert bodies == [{"name": "rag", "expiresIn": "2h", "subscription": "gold"}]
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.9 * 7200)
    assert asyncio.run(source.atoken()) == "sk-oai-2"
    assert source.token(refresh=True) == "sk-oai-3"
    assert "sk-oai" not in repr(source)
    assert TOKEN not in repr(source)
    assert b"sk-oai" not in pickle.dumps(source)


def test_a_key_without_an_end_is_good_for_what_was_asked(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(kube)
    source = MaaSToken.create(f"{kube.url}/maas-api", api_key=TOKEN, expires_in="1h30m")
    source.token()
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.75 * 5400)
    assert source.token() == "sk-oai-1"
    monkeypatch.setattr(tokens.time, "time", lambda: now + 0.85 * 5400)
    assert source.token() == "sk-oai-2"


def test_a_key_that_may_not_be_made(kube: Kube) -> None:
    keys(kube)
    with pytest.raises(AuthenticationError):
        MaaSToken.create(kube.url, api_key="another").token()
    kube.documents[KEYS] = {"id": "x"}
    with pytest.raises(BadResponseError, match="no `key`"):
        MaaSToken.create(kube.url, api_key=TOKEN).token()


def test_the_models_of_a_gateway(kube: Kube) -> None:
    kube.tokens = {"sk-oai-1"}
    kube.documents[MODELS] = {
        "object": "list",
        "data": [
            {
                "id": "llama",
                "object": "model",
                "owned_by": "llm",
                "ready": True,
                "url": "https://maas.example.com/llm/llama",
            },
            {"id": "granite", "object": "model", "ready": False, "kind": "LLMInferenceService"},
            {"nothing": 1},
        ],
    }
    for base in (kube.url, f"{kube.url}/v1", f"{kube.url}/maas-api", f"{kube.url}/maas-api/v1"):
        models = list_maas_models(base, api_key="sk-oai-1")
        assert [(model.id, model.url, model.ready) for model in models] == [
            ("llama", "https://maas.example.com/llm/llama", True),
            ("granite", None, False),
        ]
    assert models[1].extra["kind"] == "LLMInferenceService"
    assert asyncio.run(alist_maas_models(Endpoint.create(kube.url, api_key="sk-oai-1"))) == models


@pytest.mark.parametrize(("answer", "expected"), [({"data": None}, []), ({"data": []}, []), ({"data": {}}, None)])
def test_a_gateway_without_models(kube: Kube, answer: Any, expected: Any) -> None:
    kube.documents[MODELS] = answer
    if expected is None:
        with pytest.raises(BadResponseError):
            list_maas_models(kube.url)
    else:
        assert list_maas_models(kube.url) == expected
    with pytest.raises(ConfigurationError):
        list_maas_models(Endpoint.create(kube.url), api_key="x")
