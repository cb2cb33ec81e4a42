"""From a service's name to an endpoint: settings, tokens, what is shown, what is refused."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from kserve_core import Endpoint
from kserve_core.credentials import FileToken
from kserve_core.discovery import ClusterToken, NotReachableError, cluster
from kserve_core.errors import ConfigurationError, KServeError, NotFoundError, StoppedError
from tests.unit.core.discovery.kube import (
    INGRESS,
    INSIDE,
    ISVC,
    LLM2,
    NS,
    OUTSIDE,
    ROUTE,
    RUNTIME,
    TOKEN,
    TRUSTED_CA,
    Kube,
    config_map,
    isvc,
    plain_runtime,
    route,
    runtime,
)

AUTH = {"annotations": {"security.opendatahub.io/enable-auth": "true"}}
SECRET = "canary-of-the-model"


@pytest.fixture
def make(kube: Kube, tmp_path: Path) -> Any:
    """Makes the endpoint of `m`, blocking and async, and sees that they are the same."""

    def run(changed: dict[str, Any] | None = None, **options: Any) -> Endpoint:
        kube.documents.update(changed or {})
        options.setdefault("kubeconfig", kube.kubeconfig(tmp_path))
        made = Endpoint.from_inference_service("m", **options)
        again = asyncio.run(Endpoint.afrom_inference_service("m", **options))
        assert again == made
        assert again.discovered == made.discovered
        assert again.describe() == made.describe()
        return made

    return run


def test_everything_at_once(make: Any) -> None:
    endpoint = make({ISVC: isvc(metadata=AUTH), ROUTE: route()}, api_key=SECRET, max_retries=1)
    assert endpoint.base_url == OUTSIDE
    assert endpoint.token is not None
    assert endpoint.token.token() == SECRET
    assert endpoint.max_retries == 1
    found = endpoint.discovered
    assert found is not None
    assert (found.runtime, found.protocol, found.model, found.auth) == ("vllm", "rest", "m", True)
    assert Endpoint.create(OUTSIDE).discovered is None


def test_describe(make: Any) -> None:
    text = make({ISVC: isvc(metadata=AUTH), ROUTE: route()}, api_key=SECRET).describe()
    for words in (
        "InferenceService demo/m ('My model')",
        "context 'here'",
        "vllm v0.21.0 [the template vllm-cuda-runtime-template]",
        f"{OUTSIDE} (outside the cluster)",
        f"https://m-predictor.{NS}.svc.cluster.local:8443 (inside the cluster)",
        "m [--served-model-name]",
        "needed; its subject needs `get` on `inferenceservices.serving.kserve.io/m` in namespace demo",
        "30 s of silence",
        "state:         ready",
        "StaticToken()",
        "time budget:   300 s",
    ):
        assert words in text
    assert "api_key=..." in make().describe()
    plain = Endpoint.create("https://x.example", api_key=SECRET, verify=False).describe()
    assert plain.startswith("Endpoint https://x.example")
    assert "NOT checked" in plain
    assert SECRET not in text + plain
    assert TOKEN not in text


def test_the_users_settings_win(make: Any, tmp_path: Path) -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    bundle = config_map(ca_bundle__crt=ca)
    slow = isvc(metadata={"annotations": {"haproxy.router.openshift.io/timeout": "900s"}})
    endpoint = make({ISVC: slow, TRUSTED_CA: bundle})
    assert (endpoint.timeout, endpoint.idle_timeout) == (900.0, 900.0)
    assert endpoint.trust.ca_cert == (ca,)
    assert endpoint.trust.ssl_context() is not None
    assert "MII" not in endpoint.describe() + repr(endpoint)
    endpoint = make(timeout=20, idle_timeout=10, ca_cert="/mine.pem", default_headers={"x-team": "a"})
    assert (endpoint.timeout, endpoint.idle_timeout) == (20, 10)
    assert endpoint.trust.ca_cert == ("/mine.pem", ca)
    assert endpoint.headers == (("x-team", "a"),)
    assert "your CA:       /mine.pem" in endpoint.describe()


def test_headers_the_address_needs(make: Any, kube: Kube) -> None:
    del kube.documents[ISVC]
    kube.documents[LLM2] = {
        "kind": "LLMInferenceService",
        "status": {"addresses": [{"name": "gateway-external-model-routing", "url": "https://gw.apps.example.com"}]},
    }
    endpoint = make(default_headers={"x-team": "a"})
    assert dict(endpoint.headers) == {"x-gateway-model-name": "publishers/demo/models/m", "x-team": "a"}


def test_grpc(make: Any) -> None:
    endpoint = make(
        {RUNTIME: plain_runtime({"name": "c", "args": ["text-generation-launcher"]})}
        | {ISVC: isvc(spec={"predictor": {"model": {"modelFormat": {"name": "x"}}}})}
    )
    assert endpoint.is_grpc
    assert endpoint.base_url == OUTSIDE.replace("https", "grpcs")


def test_equal_whatever_was_discovered_and_picklable(make: Any) -> None:
    endpoint = make()
    assert replace(endpoint, discovered=None) == endpoint
    assert hash(replace(endpoint, discovered=None)) == hash(endpoint)
    again = pickle.loads(pickle.dumps(endpoint))
    assert again == endpoint
    assert again.discovered == endpoint.discovered
    assert copy.deepcopy(endpoint) == endpoint


def test_no_secret_anywhere(make: Any, kube: Kube, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        endpoint = make({ISVC: isvc(metadata=AUTH)}, api_key=SECRET)
        kube.documents[ISVC] = 403
        errors = []
        for options in ({}, {"where": "nowhere"}, {"base_url": "x"}, {"protocol": "smoke"}, {"context": "none"}):
            with pytest.raises(KServeError) as caught:
                make(api_key=SECRET, **options)
            errors.append(f"{caught.value} {caught.value!r} {caught.value.details()}")
    shown = [repr(endpoint), endpoint.describe(), repr(endpoint.discovered), caplog.text, *errors]
    assert TOKEN not in "".join(shown)
    assert SECRET not in "".join(shown)
    assert TOKEN.encode() not in pickle.dumps(endpoint)


# --- asking the server ------------------------------------------------------------------------------------------

UNKNOWN = {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "runtime": "of-ours"}}}


def test_a_server_is_asked_where_the_cluster_does_not_tell(make: Any) -> None:
    answers = {"/v2": {"name": "triton", "version": "2.51"}, "/v2/repository/index": [{"name": "bert"}]}
    with Kube(answers, tokens={SECRET}) as server:
        endpoint = make({ISVC: isvc(spec=UNKNOWN, status={"url": server.url})}, api_key=SECRET)
        found = endpoint.discovered
        assert found is not None
        assert (found.runtime, found.model, found.runtime_version) == ("triton", "bert", "2.51")
        assert "GET /v2" in endpoint.describe()
        assert endpoint.timeout == 300.0
        assert endpoint.max_retries == 2


def test_the_path_the_server_is_found_at_is_kept(make: Any) -> None:
    with Kube({"/openai/v1/models": {"data": [{"id": "a"}, {"id": "b"}]}}) as server:
        endpoint = make({ISVC: isvc(spec=UNKNOWN, status={"url": server.url})})
        assert endpoint.base_url == f"{server.url}/openai/v1"
        assert (endpoint.discovered.runtime, endpoint.discovered.model) == ("vllm", None)


def test_a_server_that_does_not_answer_is_noted(make: Any) -> None:
    with Kube(tokens={"another"}) as server:
        endpoint = make({ISVC: isvc(spec=UNKNOWN, status={"url": server.url})}, api_key=SECRET)
        assert endpoint.discovered.runtime is None
        assert any("in vain" in note for note in endpoint.discovered.notes)
        assert SECRET not in endpoint.describe()


def test_a_server_is_not_asked_what_is_known(make: Any) -> None:
    with Kube() as server:
        make({ISVC: isvc(status={"url": server.url})}, api_key=SECRET)
        make({RUNTIME: {"spec": {"annotations": {"opendatahub.io/kserve-runtime": "autogluon"}}}}, api_key=SECRET)
        assert server.seen == []


# --- what is refused --------------------------------------------------------------------------------------------


def test_stopped_on_purpose(make: Any) -> None:
    with pytest.raises(StoppedError, match="demo/m was stopped on purpose") as caught:
        make({ISVC: isvc(metadata={"annotations": {"serving.kserve.io/stop": "true"}}, status={"url": None})})
    assert "serving.kserve.io/stop-" in caught.value.hint


def test_no_address_from_here(make: Any) -> None:
    status = {
        "url": INSIDE,
        "modelStatus": {"lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such file"}},
    }
    status["modelStatus"]["transitionStatus"] = "BlockedByFailedLoad"  # type: ignore[index]
    with pytest.raises(NotReachableError, match="ModelLoadFailed: no such file") as caught:
        make({ISVC: isvc(status=status)})
    assert "visibility=exposed" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "nowhere"}, "where must be"),
        ({"protocol": "smoke"}, "protocol must be"),
        ({"namespace": "../x"}, "namespace is not"),
        ({"namespace": "a/b"}, "namespace is not"),
        ({"base_url": "https://x"}, "base_url"),
        ({"api_key": "x", "use_cluster_token": True}, "Both"),
    ],
)
def test_arguments_are_checked_before_anything_is_sent(kube: Kube, tmp_path: Path, options: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Endpoint.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path), **options)
    assert kube.seen == []


@pytest.mark.parametrize("name", ["", "M", "a/b", "a?b", "..", "a..b", "a b", "-a", "é", 7])
def test_names_that_cannot_be(kube: Kube, tmp_path: Path, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name is not a Kubernetes name"):
        Endpoint.from_inference_service(name, kubeconfig=kube.kubeconfig(tmp_path))
    assert kube.seen == []


def test_the_namespace_of_the_context_and_of_the_caller(kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path, namespace="elsewhere")
    with pytest.raises(NotFoundError, match="'elsewhere'"):
        Endpoint.from_inference_service("m", kubeconfig=path)
    assert Endpoint.from_inference_service("m", kubeconfig=path, namespace=NS).base_url == OUTSIDE


def test_a_token_is_not_sent_in_the_open(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        make({ISVC: isvc(status={"url": "http://m.example.com"})}, api_key=SECRET)


# --- the cluster's own token ------------------------------------------------------------------------------------


def test_the_clusters_token_is_not_used_unasked(make: Any) -> None:
    endpoint = make({ISVC: isvc(metadata=AUTH), ROUTE: route()})
    assert endpoint.token is None


def test_the_clusters_token_goes_to_its_own_routes(make: Any, kube: Kube, tmp_path: Path) -> None:
    endpoint = make({ISVC: isvc(metadata=AUTH), ROUTE: route()}, use_cluster_token=True)
    assert isinstance(endpoint.token, ClusterToken)
    assert endpoint.token.token() == TOKEN
    assert asyncio.run(endpoint.token.atoken()) == TOKEN
    assert TOKEN not in repr(endpoint) + endpoint.describe()
    assert TOKEN.encode() not in pickle.dumps(endpoint)
    assert pickle.loads(pickle.dumps(endpoint)).token.token() == TOKEN
    kube.kubeconfig(tmp_path, user={"token": "a-new-login"})
    assert endpoint.token.token() == "a-new-login"


@pytest.mark.parametrize(
    "around",
    [
        {ROUTE: route()},
        {INGRESS: {"spec": {"domain": "apps.example.com"}}},
    ],
)
def test_how_a_clusters_own_routes_are_known(make: Any, around: Any) -> None:
    assert make({ISVC: isvc(metadata=AUTH), **around}, use_cluster_token=True).token is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/apps.example.com",
        "https://apps.example.com.evil.example",
        "https://xapps.example.com",
        "https://m.svc.cluster.local.evil.example",
    ],
)
def test_the_clusters_token_goes_nowhere_else(make: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="not known to be the cluster's own"):
        make({ISVC: isvc(metadata=AUTH, status={"url": url}), ROUTE: route()}, use_cluster_token=True)


def test_the_clusters_token_is_not_sent_where_none_is_needed(make: Any) -> None:
    assert make({ROUTE: route()}, use_cluster_token=True).token is None


def test_the_clusters_token_inside(make: Any) -> None:
    endpoint = make({ISVC: isvc(metadata=AUTH)}, use_cluster_token=True, where="inside")
    assert endpoint.base_url == f"https://m-predictor.{NS}.svc.cluster.local:8443"
    assert isinstance(endpoint.token, ClusterToken)


def test_the_pods_token_is_its_file(kube: Kube, tls_pod: Any) -> None:
    kube_, folder = tls_pod
    kube_.documents[ISVC] = isvc(metadata=AUTH)
    endpoint = Endpoint.from_inference_service("m", where="inside", use_cluster_token=True)
    assert endpoint.token == FileToken(folder / "token")
    assert Endpoint.from_inference_service("m", where="inside").token is None


def test_credentials_without_a_token(make: Any, kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path, user={}, name="other.json")
    endpoint = make({ISVC: isvc(metadata=AUTH), ROUTE: route()}, kubeconfig=path, use_cluster_token=True)
    with pytest.raises(ConfigurationError, match="no token"):
        endpoint.token.token()


@pytest.fixture
def tls_pod(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pod whose cluster is a TLS server on loopback."""
    import ssl

    folder = Path(cluster.SERVICE_ACCOUNT)
    folder.mkdir()
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    (folder / "token").write_text(TOKEN)
    (folder / "namespace").write_text(NS)
    (folder / "ca.crt").write_bytes(ca.cert_pem.bytes())
    with Kube({ISVC: isvc(), RUNTIME: runtime()}, tokens={TOKEN}, tls=context) as kube:
        monkeypatch.setenv(cluster.HOST_VARIABLE, "127.0.0.1")
        monkeypatch.setenv(cluster.PORT_VARIABLE, str(kube.port))
        yield kube, folder
