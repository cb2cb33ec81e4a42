"""What every LangChain reranker of this package does, whatever runtime is behind it.

`langchain-tests` has no suite for document compressors. To run this one over a class of your own, subclass
`RerankStandardTests` and say which class it is and how it is made.
"""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from typing import Any

import matrix
import pytest
import targets
from langchain_core import exceptions as lc
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda

import langchain_kserve

QUERY = "When does the train leave?"
TEXTS = ["Cats purr at night.", "The train leaves at noon.", "Bread is baked at dawn.", "A bus is a vehicle."]


def documents() -> list[Document]:
    return [Document(text, id=str(at), metadata={"at": at, "tags": ["a"]}) for at, text in enumerate(TEXTS)]


class RerankStandardTests:
    """The suite. A subclass sets `runtime`, or `rerank_class` and `rerank_params` themselves."""

    runtime: str

    @property
    def rerank_class(self) -> type[BaseDocumentCompressor]:
        """The class under test."""
        return getattr(langchain_kserve, matrix.entry(self.runtime).langchain["rerank"])

    @property
    def rerank_params(self) -> dict[str, Any]:
        """Its constructor arguments."""
        return targets.capability_params(self.runtime, "rerank")

    def make(self, **fields: Any) -> Any:
        return self.rerank_class(**{**self.rerank_params, **fields})

    @pytest.fixture
    def reranker(self) -> Any:
        return self.make()

    async def test_best_first_with_scores(self, reranker):
        for found in (
            reranker.compress_documents(documents(), QUERY),
            await reranker.acompress_documents(documents(), QUERY),
        ):
            scores = [document.metadata["relevance_score"] for document in found]
            assert scores == sorted(scores, reverse=True)
            assert sorted(document.metadata["at"] for document in found) == [0, 1, 2, 3]
            assert all(document.page_content == TEXTS[document.metadata["at"]] for document in found)
            assert all(document.id == str(document.metadata["at"]) for document in found)

    async def test_the_given_documents_are_left_as_they_were(self, reranker):
        given = documents()
        found = [*reranker.compress_documents(given, QUERY), *await reranker.acompress_documents(given, QUERY)]
        assert given == documents()
        assert not any(one is other for one in given for other in found)

    async def test_no_documents(self, reranker):
        assert list(reranker.compress_documents([], QUERY)) == []
        assert list(await reranker.acompress_documents([], QUERY)) == []
        assert reranker.rerank([], QUERY) == await reranker.arerank([], QUERY) == []

    def test_one_document(self, reranker):
        (found,) = reranker.compress_documents(documents()[:1], QUERY)
        assert isinstance(found.metadata["relevance_score"], float)

    async def test_rerank_and_compress_agree(self, reranker):
        ranking = reranker.rerank(TEXTS, QUERY)
        found = reranker.compress_documents(documents(), QUERY)
        assert [place["index"] for place in ranking] == [document.metadata["at"] for document in found]
        again = await reranker.arerank(documents(), QUERY)
        assert [place["index"] for place in again] == [place["index"] for place in ranking]
        assert [place["relevance_score"] for place in again] == pytest.approx(
            [place["relevance_score"] for place in ranking], abs=5e-3
        )

    async def test_top_n(self, reranker):
        best = reranker.rerank(TEXTS, QUERY)[:2]
        cut = self.make(top_n=2)
        assert [place["index"] for place in cut.rerank(TEXTS, QUERY)] == [place["index"] for place in best]
        assert len(cut.compress_documents(documents(), QUERY)) == 2
        assert len(await cut.acompress_documents(documents(), QUERY)) == 2
        assert len(cut.rerank(TEXTS, QUERY, top_n=3)) == 3
        assert len(self.make(top_n=100).rerank(TEXTS, QUERY)) == 4

    async def test_a_long_list_is_ranked_as_one(self, reranker):
        texts = [f"{number}. {TEXTS[number % 4]}" for number in range(22)]
        whole = {place["index"]: place["relevance_score"] for place in reranker.rerank(texts, QUERY)}
        cut = self.make(batch_size=5, max_concurrency=3)
        for ranking in (cut.rerank(texts, QUERY), await cut.arerank(texts, QUERY)):
            scores = [place["relevance_score"] for place in ranking]
            assert scores == sorted(scores, reverse=True)
            assert sorted(place["index"] for place in ranking) == list(range(22))
            assert scores == pytest.approx([whole[place["index"]] for place in ranking], abs=5e-3)
        assert len(cut.rerank(texts, QUERY, top_n=3)) == 3

    async def test_as_a_step_of_a_chain(self):
        reranker = self.make(top_n=1)
        step = RunnableLambda(
            lambda query: list(reranker.compress_documents(documents(), query)),
            lambda query: reranker.acompress_documents(documents(), query),
        )
        assert step.invoke(QUERY) == await step.ainvoke(QUERY)

    def test_three_event_loops(self, reranker):
        first, *others = [[place["index"] for place in asyncio.run(reranker.arerank(TEXTS, QUERY))] for _ in range(3)]
        assert others == [first, first]

    def test_threads(self, reranker):
        expected, found = [place["index"] for place in reranker.rerank(TEXTS, QUERY)], []
        threads = [threading.Thread(target=lambda: found.append(reranker.rerank(TEXTS, QUERY))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [[place["index"] for place in one] for one in found] == [expected] * 6

    async def test_many_at_once(self, reranker):
        rankings = await asyncio.gather(*(reranker.arerank(TEXTS, QUERY) for _ in range(20)))
        assert all(len(ranking) == 4 for ranking in rankings)

    def test_pickled(self, reranker):
        expected = [place["index"] for place in reranker.rerank(TEXTS, QUERY)]
        again = pickle.loads(pickle.dumps(reranker)).rerank(TEXTS, QUERY)
        assert [place["index"] for place in again] == expected

    def test_no_secret_is_shown(self, reranker):
        key = self.rerank_params.get("api_key")
        if not key:
            pytest.skip("the target needs no key")
        for text in (repr(reranker), str(reranker), str(reranker.model_dump()), reranker.model_dump_json()):
            assert key not in text

    async def test_errors(self):
        with pytest.raises(lc.ModelConnectionError):
            self.make(base_url="http://127.0.0.1:9", max_retries=0, timeout=5).rerank(TEXTS, QUERY)
        with pytest.raises(lc.ModelNotFoundError):
            await self.make(model="no-such-model").arerank(TEXTS, QUERY)
        if self.rerank_params.get("api_key"):
            with pytest.raises(lc.ModelAuthenticationError):
                self.make(api_key="wrong").rerank(TEXTS, QUERY)

    def test_made_from_the_environment(self, reranker, monkeypatch):
        params = self.rerank_params
        monkeypatch.setenv("KSERVE_BASE_URL", params.pop("base_url"))
        if key := params.pop("api_key", None):
            monkeypatch.setenv("KSERVE_API_KEY", key)
        made = self.rerank_class(**params)
        assert copy.copy(made).rerank(TEXTS, QUERY)[0]["index"] == reranker.rerank(TEXTS, QUERY)[0]["index"]


for _entry in matrix.RUNTIMES:
    if "rerank" in _entry.langchain:
        _name = _entry.suite(_entry.langchain["rerank"])
        globals()[_name] = pytest.mark.needs("rerank")(
            type(_name, (RerankStandardTests,), {"runtime": _entry.key, "__module__": __name__})
        )
