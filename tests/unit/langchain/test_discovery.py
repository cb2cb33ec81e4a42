"""LangChain instances made from a service's name."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import trustme
from langchain_core.load import dumps, load
from langchain_core.messages import HumanMessage
from pydantic import SecretStr

import langchain_kserve as lk
from kserve_core.discovery import ClusterToken
from tests.unit.core.discovery.conftest import nothing_of_this_machine  # noqa: F401 - used by every test
from tests.unit.core.discovery.kube import (
    INSIDE,
    ISVC,
    LLM2,
    OUTSIDE,
    ROUTE,
    RUNTIME,
    TOKEN,
    TRUSTED_CA,
    Kube,
    config_map,
    isvc,
    route,
    runtime,
)
from tests.unit.discovered import cluster, served

SECRET = "canary-of-the-model"
AUTH = {"annotations": {"security.opendatahub.io/enable-auth": "true"}}
CHAT = {"chat_template": "chatml", "max_tokens": 20}
V2 = {"embedding": "tiny-embedding", "rerank": "tiny-rerank"}
MODELS = {key: {"models": list(V2.values())} for key in ("triton", "mlserver")}


def made(cls: Any, kube: Kube, folder: Path, **fields: Any) -> Any:
    """An instance; the async way gives an equal one."""
    fields.setdefault("kubeconfig", kube.kubeconfig(folder))
    one = cls.from_inference_service("m", **fields)
    again = asyncio.run(cls.afrom_inference_service("m", **fields))
    assert again == one
    assert again.describe() == one.describe()
    return one


@pytest.fixture
def kube() -> Any:
    with Kube({ISVC: isvc(metadata=AUTH), RUNTIME: runtime(), ROUTE: route()}) as server:
        yield server


@pytest.mark.parametrize(
    ("key", "name", "fields"),
    [
        ("vllm", "ChatVLLM", {}),
        ("caikit", "ChatCaikit", CHAT),
        ("tgis", "ChatTGIS", CHAT),
        ("triton", "ChatTriton", CHAT),
        ("mlserver", "ChatMLServer", CHAT),
        ("openvino", "ChatOpenVINO", {}),
    ],
)
def test_every_runtimes_chat_class_answers(key: str, name: str, fields: Any, tmp_path: Path) -> None:
    with served(key) as (_, url), cluster(key, url) as kube:
        model = made(getattr(lk, name), kube, tmp_path, **fields)
        assert model.base_url == url
        assert model.discovered.runtime == key
        assert model.invoke("hi").text
        assert asyncio.run(model.ainvoke([HumanMessage("hi")])).text


@pytest.mark.parametrize("key", ["caikit", "triton", "mlserver"])
def test_over_grpc_when_that_is_asked_for(key: str, tmp_path: Path) -> None:
    name = {"caikit": "CaikitLLM", "triton": "TritonLLM", "mlserver": "MLServerLLM"}[key]
    with served(key, grpc=True) as (_, url), cluster(key, url) as kube:
        model = made(getattr(lk, name), kube, tmp_path, protocol="grpc", max_tokens=20)
        assert model.base_url == url
        assert model.invoke("The sky is")


@pytest.mark.parametrize("key", ["vllm", "caikit", "triton", "mlserver", "openvino"])
def test_vectors_and_ranks(key: str, tmp_path: Path) -> None:
    stem = {"vllm": "VLLM", "caikit": "Caikit", "triton": "Triton", "mlserver": "MLServer", "openvino": "OpenVINO"}[key]
    with served(key, **MODELS.get(key, {})) as (_, url), cluster(key, url) as kube:
        vectors = made(
            getattr(lk, f"{stem}Embeddings"), kube, tmp_path, model=V2["embedding"] if key in MODELS else None
        )
        assert len(vectors.embed_query("hi")) > 1
        ranks = made(getattr(lk, f"{stem}Rerank"), kube, tmp_path, model=V2["rerank"] if key in MODELS else None)
        assert len(ranks.rerank(["a", "b"], "hi")) == 2


def test_what_is_filled_in(kube: Kube, tmp_path: Path) -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    kube.documents[TRUSTED_CA] = config_map(ca_bundle__crt=ca)
    kube.documents[ISVC] = isvc(
        metadata={"annotations": {**AUTH["annotations"], "haproxy.router.openshift.io/timeout": "900s"}}
    )
    args = ["--served-model-name=granite", "--max-model-len", "4096"]
    kube.documents[RUNTIME] = runtime(spec={"containers": [{"name": "c", "image": "x/vllm:1", "args": args}]})
    model = made(lk.ChatVLLM, kube, tmp_path, api_key=SECRET, temperature=0.5)
    assert (model.base_url, model.model, model.temperature) == (OUTSIDE, "granite", 0.5)
    assert (model.timeout, model.idle_timeout) == (900.0, 900.0)
    assert model.ca_cert == [ca]
    assert model.profile["max_input_tokens"] == 4096
    assert model.profile["tool_calling"] is True
    assert model._get_client().endpoint.trust.ca_cert == (ca,)
    shown = model.describe()
    assert "InferenceService demo/m" in shown
    assert "granite [--served-model-name]" in shown
    assert "<PEM text>" in repr(model)
    assert "BEGIN" not in repr(model) + shown


def test_what_the_user_says_wins(kube: Kube, tmp_path: Path) -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    kube.documents[TRUSTED_CA] = config_map(ca_bundle__crt=ca)
    model = made(
        lk.ChatVLLM,
        kube,
        tmp_path,
        model="mine",
        timeout=None,
        idle_timeout=7,
        ca_cert="/mine.pem",
        max_retries=0,
        default_headers={"x-team": SecretStr(SECRET)},
        name="my model",
        profile={"max_input_tokens": 5},
    )
    assert (model.model, model.timeout, model.idle_timeout, model.max_retries) == ("mine", None, 7, 0)
    assert model.ca_cert == ["/mine.pem", ca]
    assert model.default_headers == {"x-team": SecretStr(SECRET)}
    assert (model.name, model.profile["max_input_tokens"]) == ("my model", 5)
    assert SECRET not in repr(model) + model.describe() + dumps(model)
    inside = lk.VLLMRerank.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path), where="inside")
    assert inside.base_url.endswith(":8443")


def test_names_of_other_packages(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path, token=SECRET, model_name="mine", request_timeout=9)
    assert (model.api_key, model.model, model.timeout) == (SecretStr(SECRET), "mine", 9)


def test_headers_that_the_address_needs(kube: Kube, tmp_path: Path) -> None:
    del kube.documents[ISVC]
    address = {"name": "gateway-external-model-routing", "url": "https://gw.apps.example.com"}
    kube.documents[LLM2] = {"kind": "LLMInferenceService", "status": {"addresses": [address]}}
    model = made(lk.ChatVLLM, kube, tmp_path, default_headers={"x-team": "a"})
    assert model.default_headers == {"x-gateway-model-name": "publishers/demo/models/m", "x-team": "a"}
    assert pickle.loads(pickle.dumps(model)).default_headers == model.default_headers


def test_the_clusters_token_is_a_reference(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path, use_cluster_token=True)
    assert isinstance(model.api_key, ClusterToken)
    assert model._get_client().endpoint.token.token() == TOKEN
    data = pickle.dumps(model)
    shown = (repr(model), model.describe(), dumps(model), model.model_dump_json(), str(model.lc_secrets))
    assert not [text for text in shown if TOKEN in text]
    assert TOKEN.encode() not in data
    assert pickle.loads(data)._get_client().endpoint.token.token() == TOKEN
    assert lk.ChatVLLM.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path)).api_key is None


def test_no_token_shows(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path, api_key=SECRET, client_cert=("c.pem", "k.pem", SECRET))
    shown = (repr(model), model.describe(), dumps(model), model.model_dump_json(), model._get_llm_string())
    assert not [text for text in shown if SECRET in text or TOKEN in text]
    assert TOKEN.encode() not in pickle.dumps(model)


def test_copies_know_where_they_came_from(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path, api_key=Path("/var/run/token"))
    for again in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model), model.model_copy()):
        assert again == model
        assert again.discovered == model.discovered
        assert again.describe() == model.describe()
    plain = lk.ChatVLLM(base_url=OUTSIDE, model="m", api_key=Path("/var/run/token"), timeout=300, idle_timeout=120)
    assert (plain.discovered, plain.base_url) == (None, model.base_url)


def test_facts_about_another_address_are_not_shown(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path)
    model.base_url = "https://other.example.com"
    assert model.discovered is None
    assert model.describe().startswith("Endpoint https://other.example.com")


def test_a_dump_is_a_plain_instance_for_the_same_endpoint(kube: Kube, tmp_path: Path) -> None:
    model = made(lk.ChatVLLM, kube, tmp_path)
    again = load(json.loads(dumps(model)), allowed_objects=[lk.ChatVLLM], valid_namespaces=["langchain_kserve"])
    assert (again.base_url, again.model, again.timeout) == (model.base_url, model.model, model.timeout)
    assert again.discovered is None


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ChatCaikit", "Use ChatVLLM.from_inference_service('m', ...), or langchain_kserve.chat_model("),
        ("TGISLLM", "Use VLLM.from_inference_service('m', ...), or langchain_kserve.llm("),
        ("TritonEmbeddings", "Use VLLMEmbeddings.from_inference_service('m', ...), or langchain_kserve.embeddings("),
        ("MLServerRerank", "Use VLLMRerank.from_inference_service('m', ...), or langchain_kserve.reranker("),
    ],
)
def test_another_runtimes_class_names_the_right_one(kube: Kube, tmp_path: Path, name: str, hint: str) -> None:
    fields = CHAT if name == "ChatCaikit" else {}
    with pytest.raises(lk.ConfigurationError, match="demo/m is served by vLLM") as caught:
        getattr(lk, name).from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path), **fields)
    assert hint in caught.value.hint


def test_a_runtime_that_cannot_do_it(tmp_path: Path) -> None:
    with cluster("tgis", OUTSIDE) as kube, pytest.raises(lk.ConfigurationError, match="served by TGIS") as caught:
        lk.VLLMEmbeddings.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path))
    assert "TGIS is of no use for embeddings" in caught.value.hint


def test_a_server_without_a_class(tmp_path: Path) -> None:
    with cluster("x", OUTSIDE) as kube:
        kube.documents[RUNTIME]["metadata"]["annotations"] = {"serving.kserve.io/server-type": "pmmlserver"}
        with pytest.raises(lk.ConfigurationError, match="served by pmmlserver") as caught:
            lk.ChatVLLM.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path))
    assert "no class for it" in caught.value.hint


def test_kserves_own_server_has_mlservers_class(tmp_path: Path) -> None:
    with served("kserve") as (_, url), cluster(None, url) as kube:
        model = made(lk.MLServerEmbeddings, kube, tmp_path)
        assert (model.discovered.runtime, model.server) == ("kserve", "kserve")
        assert model._get_client().runtime.name != "MLServer"


def test_where_nothing_tells_the_runtime_the_class_is_believed(tmp_path: Path) -> None:
    with Kube() as silent, cluster(None, silent.url) as kube:
        model = made(lk.ChatVLLM, kube, tmp_path)
        assert model.discovered.runtime is None
        assert "in vain" in model.describe()


def test_a_subclass_is_for_the_same_runtime(kube: Kube, tmp_path: Path) -> None:
    class MyChat(lk.ChatVLLM):
        pass

    assert type(made(MyChat, kube, tmp_path)) is MyChat


def test_mistakes_are_found_before_anybody_is_asked(kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path)
    for cls, fields, words in (
        (lk.ChatVLLM, {"temprature": 1}, "temprature"),
        (lk.ChatVLLM, {"base_url": INSIDE}, "base_url is what discovery finds out"),
        (lk.ChatVLLM, {"openai_api_base": INSIDE}, "base_url is what discovery finds out"),
        (lk.ChatVLLM, {"protocol": "grpc"}, "cannot be reached with protocol"),
        (lk.ChatTGIS, {}, "needs a chat_template"),
        (lk.ChatVLLM, {"api_key": SECRET, "use_cluster_token": True}, "Both api_key and use_cluster_token"),
    ):
        with pytest.raises(lk.ConfigurationError, match=words):
            cls.from_inference_service("m", kubeconfig=path, **fields)
    with pytest.raises(ValueError, match="temperature"):
        lk.ChatVLLM.from_inference_service("m", kubeconfig=path, temperature="warm")
    assert kube.seen == []


def test_errors_are_langchains(kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path)
    with pytest.raises(lk.NotFoundError, match="no InferenceService 'other'"):
        lk.ChatVLLM.from_inference_service("other", kubeconfig=path)
    kube.documents[ISVC] = isvc(metadata={"annotations": {"serving.kserve.io/stop": "true"}})
    with pytest.raises(lk.StoppedError, match="stopped on purpose"):
        lk.ChatVLLM.from_inference_service("m", kubeconfig=path)
    kube.documents[ISVC] = 403
    with pytest.raises(lk.PermissionDeniedError):
        asyncio.run(lk.ChatVLLM.afrom_inference_service("m", kubeconfig=path))
