"""One line that returns the LlamaIndex class for what is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llamaindex_kserve as li
from kserve_core.devserver import DevServer
from kserve_core.errors import AuthenticationError, StoppedError
from tests.unit.core.discovery.conftest import nothing_of_this_machine  # noqa: F401 - used by every test
from tests.unit.core.discovery.kube import OUTSIDE, Kube
from tests.unit.discovered import cluster, served

SECRET = "canary-of-the-model"
URL = "https://model.example.com"
STEMS = {
    "vllm": "VLLM",
    "caikit": "Caikit",
    "tgis": "TGIS",
    "triton": "Triton",
    "mlserver": "MLServer",
    "openvino": "OpenVINO",
}
LLMS = {key: stem if key == "vllm" else f"{stem}LLM" for key, stem in STEMS.items()}
VECTORS = {key: stem for key, stem in STEMS.items() if key != "tgis"} | {"kserve": "MLServer"}


def made(factory: Callable[..., Any], *given: Any, **fields: Any) -> Any:
    """An instance; the async function of the same name makes the same."""
    one = factory(*given, **fields)
    again = asyncio.run(getattr(li, f"a{factory.__name__}")(*given, **fields))
    assert (type(again), again.endpoint) == (type(one), one.endpoint)
    return one


@pytest.mark.parametrize("key", STEMS)
@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_the_same_line_for_every_runtime(key: str, grpc: bool) -> None:
    with served(key, grpc=grpc) as (_, url):
        llm = made(li.llm, url, max_tokens=20)
        assert type(llm).__name__ == LLMS[key]
        assert llm.complete("hi").text


@pytest.mark.parametrize("key", VECTORS)
def test_vectors_and_ranks(key: str) -> None:
    names = {"models": ["tiny-embedding"]} if key in {"triton", "mlserver", "kserve"} else {}
    with served(key, **names) as (_, url):
        embedding = made(li.embedding, url)
        assert type(embedding).__name__ == f"{VECTORS[key]}Embedding"
        assert len(embedding.get_query_embedding("hi")) > 1
        assert type(made(li.reranker, url, top_n=1)).__name__ == f"{VECTORS[key]}Rerank"


def test_the_same_line_for_a_service_in_a_cluster(tmp_path: Path) -> None:
    for key, name in LLMS.items():
        with served(key) as (_, url), cluster(key, url) as kube:
            path = kube.kubeconfig(tmp_path)
            llm = made(li.llm, inference_service="m", namespace="demo", kubeconfig=path, max_tokens=20)
            assert (type(llm).__name__, llm.discovered.name) == (name, "m")
            assert llm.complete("hi").text


def test_the_token_is_used_for_asking() -> None:
    with DevServer(api_key=SECRET, protect_all=True) as server:
        llm = made(li.llm, api_base=server.origin, api_key=SECRET)
        assert SECRET not in repr(llm) + llm.describe()
        assert llm.complete("hi").text
        with pytest.raises(AuthenticationError):
            li.llm(server.origin)


def test_a_runtime_that_is_named_is_not_asked_for() -> None:
    with Kube() as server:
        assert type(made(li.embedding, server.url, runtime="kserve")).__name__ == "MLServerEmbedding"
        assert server.seen == []


def test_an_argument_that_the_class_does_not_have() -> None:
    with served("vllm") as (_, url):
        with pytest.raises(li.ConfigurationError, match=r"VLLM, the class for vLLM .*'typical_p'") as caught:
            li.llm(url, typical_p=0.5)
        assert "for_runtime={'caikit': {'typical_p': ...}}" in caught.value.hint
        llm = made(li.llm, url, for_runtime={"caikit": {"typical_p": 0.5}, "vllm": {"min_p": 0.1}})
        assert llm.min_p == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temprature": 1}, "temprature"),
        ({"runtime": "vlm"}, "no runtime 'vlm'"),
        ({"for_runtime": {"openvino": {"typical_p": 1}}}, "OpenVINOLLM has no argument 'typical_p'"),
        ({"where": "inside"}, "where goes with inference_service"),
        ({"inference_service": "m"}, "base_url is what discovery finds out"),
        ({"api_base": URL}, "base_url was given twice"),
    ],
)
def test_mistakes_are_found_before_anybody_is_asked(arguments: Any, words: str) -> None:
    with Kube() as server:
        with pytest.raises(li.ConfigurationError, match=words):
            li.llm(server.url, **arguments)
        assert server.seen == []


def test_what_is_of_no_use(tmp_path: Path) -> None:
    with served("tgis") as (_, url), pytest.raises(li.ConfigurationError, match="TGIS is of no use for embeddings"):
        li.embedding(url)
    with Kube({"/v2": {"name": "something new", "version": "1"}}) as server:
        with pytest.raises(li.ConfigurationError, match="for which llamaindex_kserve has no class"):
            li.llm(server.url)
    stopped = {"annotations": {"serving.kserve.io/stop": "true"}}
    with cluster("vllm", OUTSIDE, metadata=stopped) as kube, pytest.raises(StoppedError):
        li.llm(inference_service="m", kubeconfig=kube.kubeconfig(tmp_path))
