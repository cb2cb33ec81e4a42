"""`VLLMEmbeddings` as its users see it, over the development server."""

from __future__ import annotations

import asyncio
import math
import pickle
import sys
import threading

import pytest
from langchain_core import exceptions as lc
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.unit_tests import EmbeddingsUnitTests

from kserve_core import errors as core
from kserve_core.devserver import DevServer
from langchain_kserve import VLLMEmbeddings

KEY = "sk-unit-test-secret"


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key=KEY, models=["dev-model", "dev-matryoshka"]) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def make(server):
    def make(**fields):
        given = {"base_url": server.url, "api_key": KEY, "model": "dev-model", "max_retries": 0, **fields}
        return VLLMEmbeddings(**given)

    return make


class TestStandard(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return VLLMEmbeddings

    @property
    def embedding_model_params(self):
        return {"base_url": "http://localhost/v1", "api_key": "k", "model": "m"}

    @property
    def init_from_env_params(self):
        return (
            {"KSERVE_BASE_URL": "http://localhost/v1", "KSERVE_API_KEY": "k"},
            {"model": "m"},
            {"base_url": "http://localhost/v1", "api_key": "k"},
        )


def bodies(server):
    return [record.json for record in server.requests.to("/embeddings")]


def near(one, two):
    return len(one) == len(two) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, two, strict=True))


def test_nothing_is_sent_that_was_not_set(server, make):
    make().embed_query("a question")
    (body,) = bodies(server)
    assert body.keys() <= {"model", "input", "encoding_format"}
    assert body["input"] == ["a question"]


def test_texts_travel_as_they_are(server, make):
    texts = ["two\nlines\n", " spaces ", "", "ünïcödé 漢字 🎉"]
    given = list(texts)
    make().embed_documents(given)
    assert given == texts
    assert bodies(server)[0]["input"] == texts


def test_vectors_come_in_the_order_of_the_texts(server, make):
    texts = [f"text number {number}" for number in range(25)]
    one_by_one = [make().embed_query(text) for text in texts]
    server.reset()
    vectors = make(batch_size=4).embed_documents(texts)
    assert [len(body["input"]) for body in bodies(server)].count(4) == 6
    assert len(vectors) == 25
    assert all(near(one, two) for one, two in zip(one_by_one, vectors, strict=True))


def test_vectors_go_to_their_texts_whatever_their_order(server, make):
    data = [{"index": index, "embedding": [float(index), 1.0]} for index in (2, 0, 1)]
    server.fault(status=200, body={"object": "list", "model": "m", "data": data}, path="/embeddings")
    assert make().embed_documents(["a", "b", "c"]) == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]


def test_fewer_vectors_than_texts_are_an_error(server, make):
    data = [{"index": 0, "embedding": [1.0]}]
    server.fault(status=200, body={"object": "list", "model": "m", "data": data}, path="/embeddings")
    with pytest.raises(core.BadResponseError):
        make().embed_documents(["a", "b"])


@pytest.mark.parametrize("is_async", [False, True])
async def test_batches_are_in_flight_together_and_no_more_than_allowed(server, make, is_async):
    server.fault(delay=0.15, path="/embeddings", times=None)
    embeddings = make(batch_size=1, max_concurrency=3)
    texts = [f"text {number}" for number in range(9)]
    if is_async:
        await embeddings.aembed_documents(texts)
    else:
        await asyncio.to_thread(embeddings.embed_documents, texts)
    assert server.max_in_flight == 3
    assert len(bodies(server)) == 9


@pytest.mark.parametrize("texts", [[], ()])
async def test_no_texts_make_no_request(server, make, texts):
    assert make().embed_documents(texts) == []
    assert await make().aembed_documents(texts) == []
    assert len(server.requests) == 0


async def test_sync_and_async_agree(make):
    embeddings = make()
    assert await embeddings.aembed_query("a") == embeddings.embed_query("a")
    assert await embeddings.aembed_documents(["a", "b"]) == embeddings.embed_documents(["a", "b"])


def test_dimensions_are_sent_when_set(server, make):
    assert len(make(model="dev-matryoshka", dimensions=32).embed_query("a")) == 32
    assert bodies(server)[0]["dimensions"] == 32


@pytest.mark.parametrize(("given", "sent"), [(None, None), (False, None), (True, -1), (16, 16)])
def test_truncation(server, make, given, sent):
    make(truncate=given).embed_query("a")
    assert bodies(server)[0].get("truncate_prompt_tokens") == sent


def test_a_text_too_long_fails_or_is_cut():
    long = "word " * 200
    with DevServer(max_model_len=32) as server:
        with pytest.raises(lc.ContextOverflowError):
            VLLMEmbeddings(base_url=server.url).embed_documents(["short", long])
        assert len(VLLMEmbeddings(base_url=server.url, truncate=True).embed_query(long)) > 0


async def test_prefixes_go_before_queries_and_documents(server, make):
    embeddings = make(query_prefix="query: ", document_prefix="passage: ")
    embeddings.embed_query("q")
    embeddings.embed_documents(["d"])
    await embeddings.aembed_query("q")
    await embeddings.aembed_documents(["d"])
    assert [body["input"] for body in bodies(server)] == [["query: q"], ["passage: d"]] * 2


def test_a_batch_the_server_calls_too_large_is_halved(server, make):
    texts = ["a", "b", "c", "d"]
    expected = make().embed_documents(texts)
    server.reset()
    server.fault(status=413, body="Request Entity Too Large", path="/embeddings")
    assert make().embed_documents(texts) == expected
    assert sorted(text for body in bodies(server)[1:] for text in body["input"]) == texts


def test_extra_body_travels_as_it_is(server, make):
    make(extra_body={"priority": 3}).embed_query("a")
    assert bodies(server)[0]["priority"] == 3


def test_one_text_instead_of_a_list_is_refused(server, make):
    with pytest.raises(lc.ModelInvalidRequestError, match="list"):
        make().embed_documents("abc")
    assert len(server.requests) == 0


def test_a_progress_bar_counts_texts(make, capsys):
    make(show_progress_bar=True, batch_size=2).embed_documents(["a", "b", "c"])
    assert "3/3" in capsys.readouterr().err
    make(batch_size=2).embed_documents(["a", "b", "c"])
    assert capsys.readouterr().err == ""


def test_a_missing_tqdm_is_named(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(core.ConfigurationError, match="tqdm"):
        make(show_progress_bar=True).embed_documents(["a"])


@pytest.mark.parametrize(
    ("status", "theirs"),
    [
        (401, lc.ModelAuthenticationError),
        (403, lc.ModelPermissionDeniedError),
        (404, lc.ModelNotFoundError),
        (400, lc.ModelInvalidRequestError),
        (429, lc.ModelRateLimitError),
        (500, lc.ModelAPIError),
    ],
)
async def test_errors_are_typed_for_both_sides(server, make, status, theirs):
    server.fault(status=status, path="/embeddings", times=2)
    with pytest.raises(theirs) as caught:
        make().embed_query("a")
    assert isinstance(caught.value, core.KServeError)
    with pytest.raises(theirs):
        await make().aembed_documents(["a", "b"])


def test_an_error_in_one_batch_fails_the_whole(server, make):
    server.fault(status=500, path="/embeddings", skip=2)
    with pytest.raises(lc.ModelAPIError):
        make(batch_size=1).embed_documents(["a", "b", "c", "d"])


def test_the_model_may_be_left_out_where_one_is_served():
    with DevServer(models=["the-only-one"]) as server:
        embeddings = VLLMEmbeddings(base_url=server.url, batch_size=1)
        embeddings.embed_documents(["a", "b", "c"])
        assert [body["model"] for body in bodies(server)] == ["the-only-one"] * 3
        assert len(server.requests.to("/models")) == 1


def test_other_packages_names_are_taken_and_unknown_ones_refused(make):
    assert make(model=None, model_name="m").model == "m"
    with pytest.raises(core.ConfigurationError, match="chunk"):
        make(chunk_sise=3)


def test_secrets_are_in_no_representation(make):
    embeddings = make(default_headers={"x-secret": "hidden-header"})
    for text in (repr(embeddings), str(embeddings), str(embeddings.model_dump()), embeddings.model_dump_json()):
        assert KEY not in text
        assert "hidden-header" not in text


def test_a_pickle_works_like_the_original(make):
    embeddings = make()
    expected = embeddings.embed_query("a")
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("a") == expected


def test_one_instance_in_three_event_loops(server, make):
    embeddings = make()
    vectors = [asyncio.run(embeddings.aembed_query("a")) for _ in range(3)]
    assert vectors[0] == vectors[1] == vectors[2]


def test_one_instance_in_many_threads(make):
    embeddings, found = make(batch_size=2), []
    texts = [f"text {number}" for number in range(6)]
    expected = embeddings.embed_documents(texts)
    threads = [threading.Thread(target=lambda: found.append(embeddings.embed_documents(texts))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6


async def test_async_calls_overlap(server, make):
    embeddings = make()
    server.fault(delay=0.2, path="/embeddings", times=None)
    await asyncio.gather(*(embeddings.aembed_query(f"text {number}") for number in range(10)))
    assert server.max_in_flight == 10


async def test_in_a_vector_store(make):
    store = InMemoryVectorStore(make())
    store.add_documents([Document("Cats purr at night."), Document("The train leaves at noon.")])
    assert store.similarity_search("When does the train leave?", k=1)[0].page_content == "The train leaves at noon."
    (found,) = await store.asimilarity_search("Do cats purr?", k=1)
    assert found.page_content == "Cats purr at night."
