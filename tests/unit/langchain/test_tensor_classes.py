"""The Triton, MLServer and OpenVINO classes over the development server."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from langchain_core.load import dumps

import langchain_kserve
from kserve_core.devserver import DevServer
from langchain_kserve import (
    ChatMLServer,
    ChatOpenVINO,
    ChatTriton,
    ConfigurationError,
    MLServerEmbeddings,
    MLServerLLM,
    OpenVINOEmbeddings,
    OpenVINOLLM,
    TritonEmbeddings,
    TritonLLM,
    TritonRerank,
    UnsupportedParameterError,
)

MODELS = ("tiny", "tiny-embedding", "tiny-rerank", "ids-embedding")
TOKENIZER = Path(__file__).parents[1] / "core" / "runtimes" / "fixtures" / "v2" / "tokenizer.json"
NAMES = [
    name for name in langchain_kserve.__all__ if any(runtime in name for runtime in ("Triton", "MLServer", "OpenVINO"))
]


@pytest.fixture(scope="module")
def triton():
    with DevServer(runtime="triton", models=MODELS, v2_grpc=True) as server:
        yield server


@pytest.fixture(scope="module")
def mlserver():
    with DevServer(runtime="mlserver", models=MODELS) as server:
        yield server


@pytest.fixture(scope="module")
def openvino():
    with DevServer(runtime="openvino", models=MODELS, v2_grpc=True) as server:
        yield server


def arguments(name, **more):
    template = {"chat_template": "chatml"} if name in {"ChatTriton", "ChatMLServer"} else {}
    return {"base_url": "https://model.example.com", "api_key": "a-secret", **template, **more}


def test_there_are_twelve():
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
class TestEveryClass:
    def test_unknown_arguments_are_refused(self, name):
        with pytest.raises(ConfigurationError, match="no argument 'inputname'"):
            getattr(langchain_kserve, name)(**arguments(name), inputname="x")

    def test_it_pickles_and_keeps_its_secret(self, name):
        model = getattr(langchain_kserve, name)(**arguments(name, model="m"))
        assert pickle.loads(pickle.dumps(model)) == model
        assert "a-secret" not in repr(model) + dumps(model)

    def test_it_documents_its_fields(self, name):
        cls = getattr(langchain_kserve, name)
        assert "???+ example" in cls.__doc__


@pytest.mark.parametrize("cls", [ChatTriton, ChatMLServer])
def test_a_chat_needs_a_template_and_has_no_tools(cls):
    with pytest.raises(ConfigurationError, match="chat_template"):
        cls(base_url="https://model.example.com")
    model = cls(**arguments(cls.__name__))
    assert model.profile["tool_calling"] is False
    with pytest.raises(UnsupportedParameterError, match="no tools"):
        model.bind_tools([len])


def test_a_parameter_without_a_place_is_refused_by_name(mlserver):
    with pytest.raises(UnsupportedParameterError, match="min_p"):
        MLServerLLM(base_url=mlserver.url, model="tiny", min_p=0.1).invoke("Hi")


def test_nothing_is_sent_that_was_not_set(triton):
    triton.reset()
    TritonLLM(base_url=triton.url, model="tiny").invoke("Hi")
    body = triton.requests.last.json
    assert "sampling_parameters" not in body
    assert "parameters" not in body


def test_token_ids_are_made_here(triton):
    embeddings = TritonEmbeddings(
        base_url=triton.v2_grpc_url, model="ids-embedding", tokenizer=TOKENIZER, pooling="mean", normalize=True
    )
    (vector,) = embeddings.embed_documents(["a cat"])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigurationError, match="tokenizer"):
        TritonEmbeddings(base_url=triton.url, model="ids-embedding").embed_query("a cat")


def test_a_sigmoid_keeps_the_order(triton):
    plain = TritonRerank(base_url=triton.url, model="tiny-rerank").rerank(["a dog", "a cat"], "cat")
    squeezed = TritonRerank(base_url=triton.url, model="tiny-rerank", sigmoid=True).rerank(["a dog", "a cat"], "cat")
    assert [place["index"] for place in plain] == [place["index"] for place in squeezed] == [1, 0]
    assert all(0 < place["relevance_score"] < 1 for place in squeezed)


def test_assigning_another_array_makes_another_client(triton):
    embeddings = TritonEmbeddings(base_url=triton.url, model="tiny-embedding", extra_inputs={"x": np.ones(3)})
    client = embeddings._get_client()
    assert embeddings._get_client() is client
    embeddings.extra_inputs = {"x": np.zeros(3)}
    assert embeddings._get_client() is not client


def test_what_changes_the_answer_is_in_the_caches_key(triton):
    one = TritonLLM(base_url=triton.url, model="tiny", model_version=1, parameters={"priority": 1})
    other = TritonLLM(base_url=triton.url, model="tiny")
    assert one._identifying_params != other._identifying_params
    assert one._identifying_params["parameters"] == {"priority": 1}
    assert "extra_inputs" not in other._identifying_params


def test_openvino_speaks_both_its_apis(openvino):
    openvino.reset()
    by_text = OpenVINOEmbeddings(base_url=f"{openvino.url}/v3", model="tiny-embedding").embed_query("a cat")
    by_tensors = OpenVINOEmbeddings(base_url=openvino.url, model="tiny-embedding").embed_query("a cat")
    by_grpc = OpenVINOEmbeddings(base_url=openvino.v2_grpc_url, model="tiny-embedding").embed_query("a cat")
    assert by_text == pytest.approx(by_tensors, abs=1e-6)
    assert by_text == pytest.approx(by_grpc, abs=1e-6)
    paths = {record.path for record in openvino.requests}
    assert {"/v3/embeddings", "/v2/models/tiny-embedding/infer", "/inference.GRPCInferenceService/ModelInfer"} <= paths


@pytest.mark.parametrize("cls", [ChatOpenVINO, OpenVINOLLM])
def test_openvino_generates_over_rest_only(cls):
    with pytest.raises(ConfigurationError, match="protocol='grpc'"):
        cls(base_url="grpcs://model.example.com:443")


def test_openvino_calls_tools_and_keeps_to_forms(openvino):
    def get_weather(city: str) -> str:
        """Tells the weather in a city."""
        return city

    model = ChatOpenVINO(base_url=openvino.url, model="tiny", temperature=0)
    calls = model.bind_tools([get_weather], tool_choice="any").invoke("Weather in Paris?").tool_calls
    assert [call["name"] for call in calls] == ["get_weather"]
    schema = {"title": "City", "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert isinstance(model.with_structured_output(schema).invoke("A city?")["city"], str)
    with pytest.raises(UnsupportedParameterError, match="regex"):
        model.invoke("A number?", guided_regex="[0-9]+")


def test_openvino_streams_are_whole_answers(openvino):
    model = ChatOpenVINO(base_url=openvino.url, model="tiny", temperature=0, stop=["four"])
    whole = model.invoke("Count to ten.").content
    assert "".join(chunk.content for chunk in model.stream("Count to ten.")) == whole
    assert "four" not in whole


def test_kserves_own_server_is_one_of_mlservers(openvino):
    with DevServer(runtime="kserve", models=("tiny-embedding",)) as server:
        embeddings = MLServerEmbeddings(base_url=server.url, server="kserve")
        assert len(embeddings.embed_documents(["a", "b"])) == 2
