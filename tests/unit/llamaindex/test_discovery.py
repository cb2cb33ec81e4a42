"""LlamaIndex instances made from a service's name."""

from __future__ import annotations

import asyncio
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import trustme
from llama_index.core.schema import NodeWithScore, TextNode

import llamaindex_kserve as li
from kserve_core.discovery import ClusterToken
from kserve_core.errors import PermissionDeniedError, StoppedError
from tests.unit.core.discovery.conftest import nothing_of_this_machine  # noqa: F401 - used by every test
from tests.unit.core.discovery.kube import (
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
STEMS = {
    "vllm": "VLLM",
    "caikit": "Caikit",
    "tgis": "TGIS",
    "triton": "Triton",
    "mlserver": "MLServer",
    "openvino": "OpenVINO",
}
LLMS = {key: stem if key == "vllm" else f"{stem}LLM" for key, stem in STEMS.items()}
V2 = {key: {"models": ["tiny-embedding", "tiny-rerank"]} for key in ("triton", "mlserver")}


def made(cls: Any, kube: Kube, folder: Path, **fields: Any) -> Any:
    """An instance; the async way gives the same."""
    fields.setdefault("kubeconfig", kube.kubeconfig(folder))
    one = cls.from_inference_service("m", **fields)
    again = asyncio.run(cls.afrom_inference_service("m", **fields))
    assert again.endpoint == one.endpoint
    assert again.describe() == one.describe()
    return one


@pytest.fixture
def kube() -> Any:
    with Kube({ISVC: isvc(metadata=AUTH), RUNTIME: runtime(), ROUTE: route()}) as server:
        yield server


@pytest.mark.parametrize("key", STEMS)
def test_every_runtimes_llm_answers(key: str, tmp_path: Path) -> None:
    with served(key) as (_, url), cluster(key, url) as kube:
        llm = made(getattr(li, LLMS[key]), kube, tmp_path, max_tokens=20)
        assert (llm.base_url, llm.discovered.runtime) == (url, key)
        assert llm.complete("hi").text
        assert asyncio.run(llm.acomplete("hi")).text


@pytest.mark.parametrize("key", ["caikit", "triton", "mlserver"])
def test_over_grpc_when_that_is_asked_for(key: str, tmp_path: Path) -> None:
    with served(key, grpc=True) as (_, url), cluster(key, url) as kube:
        llm = made(getattr(li, LLMS[key]), kube, tmp_path, protocol="grpc", max_tokens=20)
        assert (llm.base_url, llm.protocol) == (url, "grpc")
        assert llm.complete("The sky is").text


@pytest.mark.parametrize("key", [key for key in STEMS if key != "tgis"])
def test_vectors_and_ranks(key: str, tmp_path: Path) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("a", "b")]
    vector, rank = ("tiny-embedding", "tiny-rerank") if key in V2 else (None, None)
    with served(key, **V2.get(key, {})) as (_, url), cluster(key, url) as kube:
        embedding = made(getattr(li, f"{STEMS[key]}Embedding"), kube, tmp_path, model=vector)
        assert len(embedding.get_query_embedding("hi")) > 1
        ranker = made(getattr(li, f"{STEMS[key]}Rerank"), kube, tmp_path, model=rank, top_n=1)
        assert len(ranker.postprocess_nodes(nodes, query_str="hi")) == 1


def test_what_is_filled_in_and_what_wins(kube: Kube, tmp_path: Path) -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    kube.documents[TRUSTED_CA] = config_map(ca_bundle__crt=ca)
    args = ["--served-model-name=granite", "--max-model-len", "4096"]
    kube.documents[RUNTIME] = runtime(spec={"containers": [{"name": "c", "image": "x/vllm:1", "args": args}]})
    llm = made(li.VLLM, kube, tmp_path, api_key=SECRET)
    assert (llm.base_url, llm.model, llm.timeout, llm.ca_cert) == (OUTSIDE, "granite", 300.0, [ca])
    assert llm.metadata.context_window == 4096
    assert "granite [--served-model-name]" in llm.describe()
    mine = made(li.VLLM, kube, tmp_path, model="mine", timeout=None, ca_cert="/mine.pem", context_window=9)
    assert (mine.model, mine.timeout, mine.ca_cert, mine.context_window) == ("mine", None, ["/mine.pem", ca], 9)


def test_headers_that_the_address_needs(kube: Kube, tmp_path: Path) -> None:
    del kube.documents[ISVC]
    address = {"name": "gateway-external-model-routing", "url": "https://gw.apps.example.com"}
    kube.documents[LLM2] = {"kind": "LLMInferenceService", "status": {"addresses": [address]}}
    llm = made(li.VLLM, kube, tmp_path, default_headers={"x-team": "a"})
    assert llm.default_headers == {"x-gateway-model-name": "publishers/demo/models/m", "x-team": "a"}


@pytest.mark.parametrize("cls", [li.VLLM, li.VLLMEmbedding, li.VLLMRerank])
def test_no_token_shows_and_the_clusters_is_a_reference(kube: Kube, tmp_path: Path, cls: Any) -> None:
    given = made(cls, kube, tmp_path, api_key=SECRET)
    taken = made(cls, kube, tmp_path, use_cluster_token=True)
    assert isinstance(taken.api_key, ClusterToken)
    shown = [text(one) for one in (given, taken) for text in (repr, str, cls.describe, cls.to_json, cls.to_dict)]
    assert not [text for text in map(str, shown) if SECRET in text or TOKEN in text or "BEGIN" in text]
    data = pickle.dumps(taken)
    assert TOKEN.encode() not in data
    assert pickle.loads(data).endpoint.token.token() == TOKEN


@pytest.mark.parametrize("cls", [li.VLLM, li.VLLMEmbedding, li.VLLMRerank])
def test_copies_know_where_they_came_from(kube: Kube, tmp_path: Path, cls: Any) -> None:
    one = made(cls, kube, tmp_path, api_key=Path("/var/run/token"))
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), one.model_copy()):
        assert again.discovered == one.discovered
        assert again.describe() == one.describe()
    moved = one.model_copy(update={"base_url": "https://other.example.com"})
    assert moved.discovered is None
    one.base_url = "https://other.example.com"
    assert one.describe().startswith("Endpoint https://other.example.com")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TGISLLM", "Use VLLM.from_inference_service('m', ...), or llamaindex_kserve.llm("),
        ("CaikitEmbedding", "Use VLLMEmbedding.from_inference_service('m', ...), or llamaindex_kserve.embedding("),
        ("TritonRerank", "Use VLLMRerank.from_inference_service('m', ...), or llamaindex_kserve.reranker("),
    ],
)
def test_another_runtimes_class_names_the_right_one(kube: Kube, tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(li.ConfigurationError, match="demo/m is served by vLLM") as caught:
        getattr(li, name).from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path))
    assert hint in caught.value.hint


def test_mistakes_are_found_before_anybody_is_asked(kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path)
    for cls, fields, words in (
        (li.VLLM, {"temprature": 1}, "temprature"),
        (li.VLLM, {"base_url": OUTSIDE}, "base_url is what discovery finds out"),
        (li.VLLM, {"api_base": OUTSIDE}, "base_url is what discovery finds out"),
        (li.VLLM, {"protocol": "grpc"}, "not reached over grpc"),
        (li.VLLM, {"default_headers": {"x": f"{SECRET}\n"}}, "header x"),
    ):
        with pytest.raises(li.ConfigurationError, match=words) as caught:
            cls.from_inference_service("m", kubeconfig=path, **fields)
        assert SECRET not in str(caught.value)
    assert kube.seen == []


def test_what_the_cluster_refuses(kube: Kube, tmp_path: Path) -> None:
    kube.documents[ISVC] = isvc(metadata={"annotations": {"serving.kserve.io/stop": "true"}})
    with pytest.raises(StoppedError, match="stopped on purpose"):
        li.VLLM.from_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path))
    kube.documents[ISVC] = 403
    with pytest.raises(PermissionDeniedError):
        asyncio.run(li.VLLM.afrom_inference_service("m", kubeconfig=kube.kubeconfig(tmp_path)))
