"""`VLLMRerank` as its users see it, over the development server."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Sequence

import pytest
from langchain_core import exceptions as lc
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

from kserve_core import errors as core
from kserve_core.devserver import DevServer
from langchain_kserve import VLLMRerank

KEY = "sk-unit-test-secret"
QUERY = "When does the train leave?"
TEXTS = ["Cats purr at night.", "The train leaves at noon.", "Bread is baked at dawn.", "A bus is a vehicle."]


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def make(server):
    def make(**fields):
        given = {"base_url": server.url, "api_key": KEY, "model": "dev-model", "max_retries": 0, **fields}
        return VLLMRerank(**given)

    return make


@pytest.fixture
def documents():
    return [Document(text, id=str(at), metadata={"at": at, "deep": {"a": 1}}) for at, text in enumerate(TEXTS)]


def bodies(server):
    return [record.json for record in server.requests.to("/rerank")]


async def test_documents_come_best_first_with_their_score(make, documents):
    for found in (
        make().compress_documents(documents, QUERY),
        await make().acompress_documents(documents, QUERY),
    ):
        assert found[0].page_content == "The train leaves at noon."
        scores = [document.metadata["relevance_score"] for document in found]
        assert scores == sorted(scores, reverse=True)
        assert all(isinstance(score, float) for score in scores)
        assert sorted(document.metadata["at"] for document in found) == [0, 1, 2, 3]


async def test_the_given_documents_are_left_as_they_were(make, documents):
    before = copy.deepcopy(documents)
    found = make().compress_documents(documents, QUERY)
    found += await make().acompress_documents(documents, QUERY)
    assert documents == before
    assert not any(one is other or one.metadata is other.metadata for one in documents for other in found)
    assert found[0].id == documents[1].id


def test_nothing_is_sent_that_was_not_set(server, make, documents):
    make().compress_documents(documents, QUERY)
    assert bodies(server) == [{"model": "dev-model", "query": QUERY, "documents": TEXTS}]


@pytest.mark.parametrize("empty", [[], ()])
async def test_no_documents_make_no_request(server, make, empty):
    assert list(make().compress_documents(empty, QUERY)) == []
    assert list(await make().acompress_documents(empty, QUERY)) == []
    assert make().rerank(empty, QUERY) == await make().arerank(empty, QUERY) == []
    assert len(server.requests) == 0


async def test_top_n_of_the_field_and_of_the_call(make, documents):
    reranker = make(top_n=2)
    assert len(reranker.compress_documents(documents, QUERY)) == 2
    assert len(reranker.rerank(TEXTS, QUERY)) == 2
    assert len(reranker.rerank(TEXTS, QUERY, top_n=3)) == 3
    assert len(await reranker.arerank(TEXTS, QUERY, top_n=1)) == 1
    assert len(make(top_n=99).compress_documents(documents, QUERY)) == 4


def test_a_top_n_below_one_is_refused(server, make):
    with pytest.raises(ValidationError):
        make(top_n=0)
    with pytest.raises(lc.ModelInvalidRequestError, match="top_n"):
        make().rerank(TEXTS, QUERY, top_n=0)
    assert len(server.requests) == 0


def test_rerank_tells_index_and_score(make):
    ranking = make().rerank(TEXTS, QUERY)
    assert ranking[0].keys() == {"index", "relevance_score"}
    assert ranking[0]["index"] == 1
    assert sorted(place["index"] for place in ranking) == [0, 1, 2, 3]


def test_an_unsorted_answer_is_sorted(server, make):
    results = [{"index": index, "relevance_score": score} for index, score in ((0, 0.25), (1, 0.75), (2, 0.5))]
    server.fault(status=200, body={"model": "m", "results": results}, path="/rerank")
    assert [place["index"] for place in make().rerank(["a", "b", "c"], QUERY)] == [1, 2, 0]


def test_rerank_takes_texts_documents_and_mappings(server, make):
    make().rerank(["a", Document("b"), {"text": "c"}, {"page_content": "d", "other": 1}], QUERY)
    assert bodies(server)[0]["documents"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("documents", ["one text", [7], [{"title": "no text"}], [None], [b"bytes"]])
def test_what_is_no_document_is_refused(server, make, documents):
    with pytest.raises(lc.ModelInvalidRequestError):
        make().rerank(documents, QUERY)
    assert len(server.requests) == 0


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_long_list_is_ranked_as_one(server, make, is_async):
    texts = [f"Passage {number} about trains." if number % 3 else f"Note {number}." for number in range(20)]
    whole = make(batch_size=100).rerank(texts, "trains")
    server.reset()
    cut = make(batch_size=6)
    ranking = await cut.arerank(texts, "trains") if is_async else cut.rerank(texts, "trains")
    assert [len(body["documents"]) for body in bodies(server)].count(6) == 3
    assert sorted(place["index"] for place in ranking) == list(range(20))
    by_index = {place["index"]: place["relevance_score"] for place in whole}
    assert all(place["relevance_score"] == pytest.approx(by_index[place["index"]]) for place in ranking)
    scores = [place["relevance_score"] for place in ranking]
    assert scores == sorted(scores, reverse=True)


def test_top_n_is_of_the_whole_list(make):
    texts = ["Nothing here."] * 5 + ["The train leaves at noon."]
    assert [place["index"] for place in make(batch_size=2).rerank(texts, QUERY, top_n=1)] == [5]


async def test_batches_are_in_flight_together(server, make):
    reranker = make(batch_size=1, max_concurrency=3)
    await reranker.arerank(TEXTS, QUERY)  # finds the path
    server.reset()
    server.fault(delay=0.15, path="/rerank", times=None)
    await reranker.arerank(TEXTS * 2, QUERY)
    assert server.max_in_flight == 3


async def test_async_calls_overlap(server, make, documents):
    reranker = make()
    server.fault(delay=0.2, path="/rerank", times=None)
    await asyncio.gather(*(reranker.acompress_documents(documents, QUERY) for _ in range(10)))
    assert server.max_in_flight == 10


def test_templates_are_written_around_query_and_documents(server, make):
    reranker = make(query_template="Instruct: find\nQuery: {query}", document_template="<Document>: {document}<end>")
    reranker.rerank(["a {query} {0}"], "q {document}")
    (body,) = bodies(server)
    assert body["query"] == "Instruct: find\nQuery: q {document}"
    assert body["documents"] == ["<Document>: a {query} {0}<end>"]
    with pytest.raises(ValidationError, match="query"):
        make(query_template="nothing")
    with pytest.raises(ValidationError, match="document"):
        make(document_template="nothing")


@pytest.mark.parametrize(("given", "sent"), [(None, None), (False, None), (True, -1), (16, 16)])
def test_truncation(server, make, given, sent):
    make(truncate=given).rerank(TEXTS, QUERY)
    assert bodies(server)[0].get("truncate_prompt_tokens") == sent


def test_extra_body_travels_as_it_is(server, make):
    make(extra_body={"use_activation": False}).rerank(TEXTS, QUERY)
    assert bodies(server)[0]["use_activation"] is False


@pytest.mark.parametrize(
    ("status", "theirs"),
    [
        (401, lc.ModelAuthenticationError),
        (403, lc.ModelPermissionDeniedError),
        (400, lc.ModelInvalidRequestError),
        (429, lc.ModelRateLimitError),
        (500, lc.ModelAPIError),
    ],
)
async def test_errors_are_typed_for_both_sides(server, make, documents, status, theirs):
    server.fault(status=status, path="/rerank", times=2)
    with pytest.raises(theirs) as caught:
        make().compress_documents(documents, QUERY)
    assert isinstance(caught.value, core.KServeError)
    with pytest.raises(theirs):
        await make().acompress_documents(documents, QUERY)


def test_the_model_may_be_left_out_where_one_is_served():
    with DevServer(models=["the-only-one"]) as server:
        VLLMRerank(base_url=server.url).rerank(TEXTS, QUERY)
        assert [body["model"] for body in bodies(server)] == ["the-only-one"]


def test_callbacks_are_taken(make, documents):
    assert len(make().compress_documents(documents, QUERY, callbacks=[])) == 4


def test_secrets_are_in_no_representation(make):
    reranker = make(default_headers={"x-secret": "hidden-header"})
    for text in (repr(reranker), str(reranker), str(reranker.model_dump()), reranker.model_dump_json()):
        assert KEY not in text
        assert "hidden-header" not in text


def test_a_pickle_works_like_the_original(make):
    reranker = make()
    expected = reranker.rerank(TEXTS, QUERY)
    assert pickle.loads(pickle.dumps(reranker)).rerank(TEXTS, QUERY) == expected


def test_one_instance_in_three_event_loops_and_many_threads(make):
    reranker = make()
    expected = reranker.rerank(TEXTS, QUERY)
    assert [asyncio.run(reranker.arerank(TEXTS, QUERY)) for _ in range(3)] == [expected] * 3
    found = []
    threads = [threading.Thread(target=lambda: found.append(reranker.rerank(TEXTS, QUERY))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6


class Fixed(BaseRetriever):
    """Finds the same documents whatever is asked."""

    documents: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


class Compressed(BaseRetriever):
    """Retrieves, then compresses, the way a contextual compression retriever does."""

    base_retriever: BaseRetriever
    base_compressor: BaseDocumentCompressor

    def _get_relevant_documents(self, query, *, run_manager):
        found = self.base_retriever.invoke(query, config={"callbacks": run_manager.get_child()})
        compressed: Sequence[Document] = self.base_compressor.compress_documents(
            found, query, callbacks=run_manager.get_child()
        )
        return list(compressed)

    async def _aget_relevant_documents(self, query, *, run_manager):
        found = await self.base_retriever.ainvoke(query, config={"callbacks": run_manager.get_child()})
        return list(await self.base_compressor.acompress_documents(found, query, callbacks=run_manager.get_child()))


async def test_behind_a_retriever(make, documents):
    retriever = Compressed(base_retriever=Fixed(documents=documents), base_compressor=make(top_n=1))
    assert retriever.invoke(QUERY)[0].page_content == "The train leaves at noon."
    assert (await retriever.ainvoke(QUERY))[0].page_content == "The train leaves at noon."


async def test_as_a_step_of_a_chain(make, documents):
    reranker = make(top_n=2)

    def rerank(row):
        return reranker.compress_documents(row["documents"], row["question"])

    async def arerank(row):
        return await reranker.acompress_documents(row["documents"], row["question"])

    step = RunnableLambda(rerank, arerank)
    chain = {"documents": Fixed(documents=documents), "question": RunnablePassthrough()} | step
    assert chain.invoke(QUERY) == await chain.ainvoke(QUERY)
    assert len(chain.invoke(QUERY)) == 2
