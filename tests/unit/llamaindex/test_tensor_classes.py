"""The Triton, MLServer and OpenVINO classes over the development server."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import BaseModel

import llamaindex_kserve
from kserve_core.devserver import DevServer
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from llamaindex_kserve import (
    MLServerEmbedding,
    MLServerLLM,
    OpenVINOEmbedding,
    OpenVINOLLM,
    TritonEmbedding,
    TritonLLM,
)

MODELS = ("tiny", "tiny-embedding", "tiny-rerank")
NAMES = [
    name for name in llamaindex_kserve.__all__ if any(runtime in name for runtime in ("Triton", "MLServer", "OpenVINO"))
]


@pytest.fixture(scope="module")
def triton():
    with DevServer(runtime="triton", models=MODELS, v2_grpc=True) as server:
        yield server


@pytest.fixture(scope="module")
def openvino():
    with DevServer(runtime="openvino", models=MODELS, v2_grpc=True) as server:
        yield server


class City(BaseModel):
    """A city."""

    city: str


def test_there_are_nine():
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", NAMES)
class TestEveryClass:
    def make(self, name, **fields):
        return getattr(llamaindex_kserve, name)(
            base_url="https://model.example.com", api_key="a-secret", model="m", **fields
        )

    def test_unknown_arguments_are_refused(self, name):
        with pytest.raises(ConfigurationError, match="inputname"):
            self.make(name, inputname="x")

    def test_it_pickles_and_keeps_its_secret(self, name):
        made = self.make(name)
        again = pickle.loads(pickle.dumps(made))
        assert again.model == "m"
        assert "a-secret" not in repr(made) + str(made.to_dict())

    def test_it_documents_its_fields(self, name):
        cls = getattr(llamaindex_kserve, name)
        assert "Example:" in cls.__doc__
        assert not [
            field for field, info in cls.model_fields.items() if field in cls._runtime_fields and not info.description
        ]


def test_completions_are_256_tokens_where_the_model_can_be_told(triton):
    triton.reset()
    llm = TritonLLM(base_url=triton.url, model="tiny")
    assert llm.complete("Count to ten.").text
    assert json.loads(triton.requests.last.json["sampling_parameters"])["max_tokens"] == 256
    llm = TritonLLM(base_url=triton.url, model="tiny", extra_inputs={"sampling_parameters": '{"max_tokens": 4}'})
    assert len(llm.complete("Count to ten.").text) < 30


def test_a_chat_template_makes_it_a_chat_model(triton):
    llm = TritonLLM(base_url=triton.v2_grpc_url, model="tiny", chat_template="chatml")
    assert llm.metadata.is_chat_model
    assert not llm.metadata.is_function_calling_model
    assert llm.chat([ChatMessage("Count to ten.")]).message.content.strip().startswith("one")


def test_a_dump_comes_back(triton):
    made = TritonEmbedding(
        base_url=triton.url, model="tiny-embedding", tokenizer=Path("a.json"), extra_inputs={"x": np.ones(2)}
    )
    data = json.loads(json.dumps(made.to_dict()))
    assert data["tokenizer"] == "a.json"
    assert data["extra_inputs"] == {"x": [1.0, 1.0]}
    again = TritonEmbedding.from_dict(data, base_url=triton.url)
    assert again.tokenizer == "a.json"


def test_the_cache_tells_poolings_apart(triton):
    store = SimpleKVStore()
    vectors = []
    for normalize in (None, True):
        embedding = TritonEmbedding(
            base_url=triton.url, model="tiny-embedding", normalize=normalize, embeddings_cache=store
        )
        vectors.append(embedding.get_text_embedding("a cat"))
        embedding.normalize = not normalize
        embedding.get_text_embedding("a cat")
    cached = next(iter(store.to_dict().values()))
    assert len(cached) == 3  # left as they are, scaled, and not scaled


def test_openvino_speaks_both_its_apis(openvino):
    vectors = [
        OpenVINOEmbedding(base_url=url, model="tiny-embedding").get_text_embedding("a cat")
        for url in (f"{openvino.url}/v3", openvino.url, openvino.v2_grpc_url)
    ]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-6)


def test_openvino_generates_over_rest_only():
    with pytest.raises(UnsupportedParameterError, match="grpc"):
        OpenVINOLLM(base_url="grpcs://model.example.com:443", model="m")


@pytest.mark.parametrize("chat", [True, False])
def test_openvino_predicts_objects_with_either_endpoint(openvino, chat):
    from llama_index.core.prompts import PromptTemplate

    llm = OpenVINOLLM(base_url=openvino.url, model="tiny", is_chat_model=chat, temperature=0)
    found = llm.structured_predict(City, PromptTemplate("A city?"))
    assert isinstance(found.city, str)


def test_openvino_sets_no_length(openvino):
    openvino.reset()
    OpenVINOLLM(base_url=openvino.url, model="tiny", is_chat_model=False).complete("Count to ten.")
    assert "max_tokens" not in openvino.requests.last.json


def test_kserves_own_server_is_one_of_mlservers():
    with DevServer(runtime="kserve", models=("tiny-embedding",)) as server:
        assert MLServerEmbedding(base_url=server.url, server="kserve").get_text_embedding("a")


def test_a_parameter_without_a_place_is_refused_by_name():
    with DevServer(runtime="mlserver", models=("tiny",)) as server:
        llm = MLServerLLM(base_url=server.url, model="tiny")
        assert llm.complete("Hi").text
        with pytest.raises(UnsupportedParameterError, match="min_p"):
            llm.complete("Hi", min_p=0.1)
