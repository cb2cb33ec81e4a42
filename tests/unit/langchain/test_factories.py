"""One line that returns the LangChain class for what is there."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kserve_core.devserver as devserver
import langchain_kserve as lk
from langchain_kserve import factories
from tests.unit.core.discovery.conftest import nothing_of_this_machine  # noqa: F401 - used by every test
from tests.unit.core.discovery.kube import OUTSIDE, Kube
from tests.unit.discovered import cluster, served

SECRET = "canary-of-the-model"
URL = "https://model.example.com"
TEMPLATES: dict[str, Any] = {
    key: {"chat_template": "chatml", "max_tokens": 20} for key in ("caikit", "tgis", "triton", "mlserver")
}
CHAT = {
    "vllm": "ChatVLLM",
    "caikit": "ChatCaikit",
    "tgis": "ChatTGIS",
    "triton": "ChatTriton",
    "mlserver": "ChatMLServer",
    "openvino": "ChatOpenVINO",
}
TEXT = {
    "vllm": "VLLM",
    "caikit": "CaikitLLM",
    "tgis": "TGISLLM",
    "triton": "TritonLLM",
    "mlserver": "MLServerLLM",
    "openvino": "OpenVINOLLM",
}
VECTORS = {
    "vllm": "VLLMEmbeddings",
    "caikit": "CaikitEmbeddings",
    "triton": "TritonEmbeddings",
    "mlserver": "MLServerEmbeddings",
    "openvino": "OpenVINOEmbeddings",
    "kserve": "MLServerEmbeddings",
}
RANKS = {key: name.replace("Embeddings", "Rerank") for key, name in VECTORS.items()}


def made(factory: Callable[..., Any], *given: Any, **fields: Any) -> Any:
    """An instance; the async function of the same name makes an equal one."""
    one = factory(*given, **fields)
    name = "aembeddings" if factory is lk.embeddings else f"a{factory.__name__}"
    again = asyncio.run(getattr(lk, name)(*given, **fields))
    assert (type(again), again) == (type(one), one)
    return one


@pytest.mark.parametrize(("key", "name"), CHAT.items())
def test_the_same_line_for_every_runtime(key: str, name: str) -> None:
    with served(key) as (_, url):
        model = made(lk.chat_model, url, temperature=0.5, for_runtime=TEMPLATES)
        assert type(model).__name__ == name
        assert model.invoke("hi").text


@pytest.mark.parametrize(("key", "name"), TEXT.items())
def test_text_over_every_wire(key: str, name: str) -> None:
    with served(key, grpc=True) as (_, url):
        model = made(lk.llm, url, max_tokens=8)
        assert type(model).__name__ == name
        assert model.invoke("The sky is")


@pytest.mark.parametrize("key", VECTORS)
def test_vectors_and_ranks(key: str) -> None:
    names = {"models": ["tiny-embedding"]} if key in {"triton", "mlserver", "kserve"} else {}
    with served(key, **names) as (_, url):
        vectors = made(lk.embeddings, url)
        assert type(vectors).__name__ == VECTORS[key]
        assert len(vectors.embed_query("hi")) > 1
        assert type(made(lk.reranker, url, top_n=1)).__name__ == RANKS[key]


def test_the_same_line_for_a_service_in_a_cluster(tmp_path: Path) -> None:
    for key, name in CHAT.items():
        with served(key) as (_, url), cluster(key, url) as kube:
            model = made(
                lk.chat_model,
                inference_service="m",
                namespace="demo",
                kubeconfig=kube.kubeconfig(tmp_path),
                for_runtime=TEMPLATES,
            )
            assert type(model).__name__ == name
            assert model.discovered.name == "m"
            assert model.invoke("hi").text


def test_a_server_that_only_answers_tells_its_runtime(tmp_path: Path) -> None:
    with served("kserve") as (_, url), cluster(None, url) as kube:
        model = made(lk.embeddings, inference_service="m", kubeconfig=kube.kubeconfig(tmp_path))
        assert (type(model).__name__, model.server) == ("MLServerEmbeddings", "kserve")


def test_the_token_and_the_headers_are_used_for_asking() -> None:
    with devserver.DevServer(api_key=SECRET, protect_all=True) as server:
        model = made(lk.chat_model, server.origin, token=SECRET)
        assert SECRET not in repr(model) + model.describe()
        assert model.invoke("hi").text
        with pytest.raises(lk.AuthenticationError) as caught:
            lk.chat_model(server.origin)
        assert "api_key=" in caught.value.hint


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_token_that_may_not_ask_may_call_all_the_same(mode: str) -> None:
    class Closed(Kube):
        def answer(self, seen: Any) -> Any:
            return 403, {"error": "forbidden"}

    def ask(url: str) -> Any:
        if mode == "sync":
            return lk.chat_model(url, api_key=SECRET)
        return asyncio.run(lk.achat_model(url, api_key=SECRET))

    with Closed() as server, pytest.raises(lk.PermissionDeniedError) as caught:
        ask(server.url)
    assert caught.value.hint.count("runtime='vllm'") == 1
    assert SECRET not in str(caught.value)


def test_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with served("triton") as (_, url):
        monkeypatch.setenv("KSERVE_BASE_URL", url)
        assert type(made(lk.embeddings)).__name__ == "TritonEmbeddings"
    monkeypatch.delenv("KSERVE_BASE_URL")
    with pytest.raises(lk.ConfigurationError, match="No endpoint"):
        lk.embeddings()


def test_openvinos_api_is_kept_where_the_url_says_it() -> None:
    with served("openvino") as (server, _):
        assert made(lk.embeddings, f"{server.origin}/v3").base_url == f"{server.origin}/v3"


def test_grpc_on_a_port_that_has_both_names() -> None:
    with served("triton", grpc=True) as (server, url):
        model = made(lk.llm, url.replace("grpc://", "http://"), protocol="grpc", max_tokens=8)
        assert (model.base_url, model.protocol) == (server.v2_grpc_url, "grpc")
        assert model.invoke("hi")


def test_a_runtime_that_is_named_is_not_asked_for() -> None:
    with Kube() as server:
        model = made(lk.chat_model, server.url, runtime="VLLM", model="x")
        assert (type(model).__name__, model.base_url, model.model) == ("ChatVLLM", server.url, "x")
        assert type(made(lk.reranker, server.url, runtime="kserve")).__name__ == "MLServerRerank"
        assert server.seen == []


def test_a_runtime_that_is_named_goes_before_what_the_cluster_says(tmp_path: Path) -> None:
    with cluster("caikit", OUTSIDE) as kube:
        model = made(lk.llm, inference_service="m", kubeconfig=kube.kubeconfig(tmp_path), runtime="vllm")
        assert type(model).__name__ == "VLLM"


# --- what is refused ----------------------------------------------------------------------------------------------


def test_an_argument_that_the_class_does_not_have() -> None:
    with served("vllm") as (_, url):
        with pytest.raises(lk.ConfigurationError, match=r"ChatVLLM, the class for vLLM \(http.*'typical_p'") as caught:
            lk.chat_model(url, typical_p=0.5)
        assert "ChatCaikit" in str(caught.value)
        assert "for_runtime={'caikit': {'typical_p': ...}}" in caught.value.hint
        assert made(lk.chat_model, url, for_runtime={"tgis": {"typical_p": 0.5}}).temperature is None


def test_arguments_for_one_runtime_go_over_the_others() -> None:
    with served("vllm") as (_, url):
        model = made(lk.chat_model, url, temperature=1, for_runtime={"vllm": {"temperature": 0, "min_p": 0.1}})
        assert (model.temperature, model.min_p) == (0, 0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temprature": 1}, "temprature"),
        ({"runtime": "vlm"}, "no runtime 'vlm'"),
        ({"for_runtime": {"vlm": {}}}, "no runtime 'vlm'"),
        ({"for_runtime": {"openvino": {"chat_template": "x"}}}, "ChatOpenVINO has no argument 'chat_template'"),
        ({"for_runtime": {"vllm": {"api_key": SECRET}}}, "cannot say api_key"),
        ({"for_runtime": {"vllm": {"token": SECRET}}}, "cannot say token"),
        ({"namespace": "demo"}, "namespace goes with inference_service"),
        ({"context": "here"}, "context goes with inference_service"),
        ({"inference_service": "m"}, "base_url is what discovery finds out"),
        ({"openai_api_base": URL}, "base_url was given twice"),
        ({"timeout": 1, "request_timeout": 2}, "Both timeout"),
        ({"runtime": 3}, "A runtime must be text"),
    ],
)
def test_mistakes_are_found_before_anybody_is_asked(arguments: Any, words: str) -> None:
    with Kube() as server:
        with pytest.raises(lk.ConfigurationError, match=words) as caught:
            lk.chat_model(server.url, **arguments)
        assert SECRET not in str(caught.value)
        assert server.seen == []


def test_a_server_that_does_something_else(tmp_path: Path) -> None:
    with served("tgis") as (_, url):
        with pytest.raises(lk.ConfigurationError, match=r"TGIS is of no use for embeddings \(grpc") as caught:
            lk.embeddings(url)
        assert "vLLM, Caikit, Triton" in caught.value.hint
        with cluster("tgis", url) as kube, pytest.raises(lk.ConfigurationError, match="TGIS is of no use"):
            lk.reranker(inference_service="m", kubeconfig=kube.kubeconfig(tmp_path))
    with pytest.raises(lk.ConfigurationError, match="TGIS is of no use"):
        lk.embeddings(URL, runtime="tgis")
    with served("kserve") as (_, url), pytest.raises(lk.ConfigurationError, match="KServe is of no use for text"):
        lk.llm(url)


def test_a_server_that_nothing_is_known_of(tmp_path: Path) -> None:
    with Kube({"/v2": {"name": "something new", "version": "1"}}) as server:
        with pytest.raises(lk.ConfigurationError, match="something new, for which langchain_kserve has no class"):
            lk.chat_model(server.url)
    with Kube() as silent:
        with pytest.raises(lk.NotFoundError, match="like a runtime that is known"):
            lk.chat_model(silent.url)
        with cluster(None, silent.url) as kube, pytest.raises(lk.ConfigurationError, match="not known") as caught:
            lk.chat_model(inference_service="m", kubeconfig=kube.kubeconfig(tmp_path))
    assert "runtime='vllm'" in caught.value.hint


def test_a_service_that_is_stopped(tmp_path: Path) -> None:
    stopped = {"annotations": {"serving.kserve.io/stop": "true"}}
    with cluster("vllm", OUTSIDE, metadata=stopped) as kube, pytest.raises(lk.StoppedError):
        lk.chat_model(inference_service="m", kubeconfig=kube.kubeconfig(tmp_path))


def test_the_name_embeddings_is_the_module_and_the_function() -> None:
    from langchain_kserve import embeddings
    from langchain_kserve.embeddings import VLLMEmbeddings

    assert isinstance(embeddings(URL, runtime="vllm"), VLLMEmbeddings)
    assert isinstance(lk.embeddings(URL, runtime="vllm"), lk.VLLMEmbeddings)


@pytest.mark.parametrize("name", ["chat_model", "llm", "embeddings", "reranker"])
def test_functions_for_event_loops_take_the_same(name: str) -> None:
    blocking, other = getattr(factories, name), getattr(lk, f"a{name}")
    assert inspect.signature(other) == inspect.signature(blocking)
    assert inspect.iscoroutinefunction(other)
    assert (other.__name__, other.__doc__) == (f"a{name}", f"The same as `{name}`, without blocking.")
    assert pickle.loads(pickle.dumps(other)) is other


@pytest.mark.parametrize(("make", "there"), [(lk.chat_model, False), (lk.embeddings, True)])
def test_a_runtime_that_is_misspelt_is_answered_with_those_there_is_a_class_for(
    make: Callable[..., Any], there: bool
) -> None:
    with pytest.raises(ValueError, match="no runtime 'kserv'") as caught:
        make(URL, runtime="kserv")
    assert ("kserve," in str(caught.value)) is there
    assert "triton" in str(caught.value)
