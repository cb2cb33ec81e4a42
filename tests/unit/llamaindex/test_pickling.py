"""Copies, pickles and dumps of embedding and rerank objects: nothing lost, nothing leaked."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from pathlib import Path

import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from unit.llamaindex.fake_endpoint import BASE_URL, TOKEN, FakeEndpoint, connect, vector_of
from unit.llamaindex.handler import Handler
from unit.llamaindex.test_rerank import BEST_FIRST, QUERY, nodes

from llamaindex_kserve.embeddings import VLLMEmbedding
from llamaindex_kserve.rerank import VLLMRerank

BOTH = pytest.mark.parametrize("cls", [VLLMEmbedding, VLLMRerank])
HEADER = "hidden-tenant"


def importable_token() -> str:
    return TOKEN


def make(cls, **kwargs):
    return cls(**{"base_url": BASE_URL, "api_key": TOKEN, "model": "bge", **kwargs})


def works(made) -> bool:
    endpoint = FakeEndpoint()
    connect(made, endpoint)
    if isinstance(made, VLLMEmbedding):
        return made.get_text_embedding_batch(["a", "b"]) == [vector_of("a"), vector_of("b")]
    return [node.text for node in made.postprocess_nodes(nodes(), query_str=QUERY)] == BEST_FIRST


class TestCopies:
    @BOTH
    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
    def test_a_copy_has_everything_and_works(self, cls, duplicate, tmp_path):
        ca = tmp_path / "ca.pem"
        made = make(
            cls, default_headers={"x-tenant": HEADER}, ca_cert=ca, timeout=7, max_retries=5, verify=True, truncate=9
        )
        connect(made, FakeEndpoint())
        twin = duplicate(made)
        assert (twin.default_headers, twin.ca_cert, twin.timeout, twin.max_retries, twin.truncate) == (
            {"x-tenant": HEADER},
            ca,
            7,
            5,
            9,
        )
        assert twin.api_key.get_secret_value() == TOKEN
        assert works(twin)

    @BOTH
    def test_a_used_object_still_pickles(self, cls):
        made = make(cls)
        assert works(made)
        assert works(pickle.loads(pickle.dumps(made)))

    async def test_an_object_used_in_a_loop_still_pickles(self):
        made = connect(make(VLLMEmbedding), FakeEndpoint())
        await made.aget_text_embedding_batch(["a"])
        assert works(pickle.loads(pickle.dumps(made)))
        assert works(copy.deepcopy(made))

    @BOTH
    def test_unpickling_opens_no_file(self, cls, tmp_path):
        token, ca = tmp_path / "token", tmp_path / "ca.pem"
        token.write_text(TOKEN)
        pickled = pickle.dumps(make(cls, api_key=token, ca_cert=ca))
        token.unlink()
        assert pickle.loads(pickled).api_key == token

    @BOTH
    def test_a_token_file_travels_as_its_path(self, cls, tmp_path):
        token = tmp_path / "token"
        token.write_text(TOKEN)
        made = make(cls, api_key=token)
        assert works(made)
        pickled = pickle.dumps(made)
        assert TOKEN.encode() not in pickled
        assert str(token.name).encode() in pickled
        assert isinstance(pickle.loads(pickled).api_key, Path)

    @BOTH
    def test_a_token_function_travels_by_reference(self, cls):
        pickled = pickle.dumps(make(cls, api_key=importable_token))
        assert TOKEN.encode() not in pickled
        assert pickle.loads(pickled).api_key is importable_token

    @BOTH
    def test_what_cannot_travel_is_an_error_and_not_dropped(self, cls):
        with pytest.raises(TypeError, match="api_key"):
            pickle.dumps(make(cls, api_key=lambda: TOKEN))

    @BOTH
    def test_handlers_that_cannot_travel_stay_behind(self, cls):
        handler = Handler()
        handler.seen = threading.Lock()
        twin = pickle.loads(pickle.dumps(make(cls, callback_manager=CallbackManager([handler]))))
        assert twin.callback_manager.handlers == []
        assert works(twin)

    def test_a_cache_travels_if_it_can(self):
        store = SimpleKVStore()
        made = connect(make(VLLMEmbedding, embeddings_cache=store), FakeEndpoint())
        made.get_text_embedding("tea")
        twin = pickle.loads(pickle.dumps(made))
        assert twin.get_text_embedding("tea") == vector_of("tea")  # nobody to ask: the copy has no endpoint
        store.unpicklable = lambda: None
        assert pickle.loads(pickle.dumps(made)).embeddings_cache is None

    def test_deep_copies_share_the_cache(self):
        store = SimpleKVStore()
        made = connect(make(VLLMEmbedding, embeddings_cache=store), FakeEndpoint())
        made.get_text_embedding("tea")
        assert copy.deepcopy(made).get_text_embedding("tea") == vector_of("tea")


class TestDumps:
    @BOTH
    def test_no_text_form_holds_a_secret(self, cls, tmp_path):
        cert = (str(tmp_path / "c.pem"), str(tmp_path / "k.pem"), "key-password")
        made = make(cls, default_headers={"x-tenant": HEADER}, client_cert=cert)
        forms = [repr(made), str(made), made.to_json(), str(made.to_dict()), made.model_dump_json(), made.json()]
        for form in forms:
            assert TOKEN not in form
            assert HEADER not in form
            assert "key-password" not in form

    @BOTH
    def test_a_dump_comes_back_with_its_credentials_given_again(self, cls):
        made = make(cls, truncate=12, extra_body={"user": "me"})
        back = cls.from_dict(made.to_dict(), base_url=BASE_URL, api_key=TOKEN)
        assert back.to_dict() == made.to_dict()
        assert back.model == "bge"
        assert works(back)
        again = cls.from_json(made.to_json(), base_url=BASE_URL, api_key=TOKEN)
        assert again.to_dict() == made.to_dict()

    @BOTH
    def test_a_dump_comes_back_with_credentials_from_the_environment(self, cls, monkeypatch):
        monkeypatch.setenv("KSERVE_BASE_URL", BASE_URL)
        monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
        back = cls.from_dict(make(cls).to_dict())
        assert back.base_url == BASE_URL
        assert works(back)

    @BOTH
    def test_from_dict_leaves_the_given_dict_alone(self, cls):
        data = make(cls).to_dict()
        before = copy.deepcopy(data)
        cls.from_dict(data, base_url=BASE_URL)
        assert data == before

    def test_dumps_are_told_apart_by_class_name(self):
        assert make(VLLMEmbedding).to_dict()["class_name"] == "VLLMEmbedding"
        assert make(VLLMRerank).to_dict()["class_name"] == "VLLMRerank"

    def test_rerank_settings_come_back(self):
        made = make(VLLMRerank, top_n=3, keep_retrieval_score=True, metadata_mode="llm")
        back = VLLMRerank.from_json(made.to_json(), base_url=BASE_URL)
        assert (back.top_n, back.keep_retrieval_score, back.metadata_mode) == (3, True, made.metadata_mode)

    def test_an_unnamed_model_comes_back_unnamed(self):
        made = make(VLLMEmbedding, model=None)
        assert VLLMEmbedding.from_dict(made.to_dict()).model is None
        assert json.loads(made.to_json())["base_url"] == BASE_URL


class TestIngestionHash:
    @staticmethod
    def digest(**kwargs) -> str:
        return get_transformation_hash([TextNode(text="x")], make(VLLMEmbedding, **kwargs))

    @pytest.mark.parametrize(
        "change",
        [
            {"api_key": "rotated"},
            {"api_key": importable_token},
            {"timeout": 1.0},
            {"max_retries": 0},
            {"default_headers": {"x-request-id": "1"}},
            {"max_concurrency": 2},
            {"request_batch_size": 2},
            {"embed_batch_size": 2},
            {"num_workers": 2},
            {"embeddings_cache": SimpleKVStore()},
            {"base_url": "https://moved.example.com/v1"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_does_not_change_a_vector_keeps_it(self, change):
        assert self.digest(**change) == self.digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"model": "e5"},
            {"dimensions": 2},
            {"truncate": 3},
            {"text_instruction": "passage: "},
            {"extra_body": {"a": 1}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_changes_a_vector_changes_it(self, change):
        assert self.digest(**change) != self.digest()

    def test_use_does_not_change_it(self):
        made = connect(make(VLLMEmbedding, model=None), FakeEndpoint())
        before = get_transformation_hash([TextNode(text="x")], made)
        made.get_text_embedding("x")
        assert get_transformation_hash([TextNode(text="x")], made) == before

    def test_unnamed_models_are_told_apart_by_their_endpoint(self):
        assert self.digest(model=None) != self.digest(model=None, base_url="https://other.example.com/v1")
