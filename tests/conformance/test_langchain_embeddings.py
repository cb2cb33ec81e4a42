"""What every LangChain embeddings class of this package does: LangChain's own suites as they are, then ours."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from typing import Any

import matrix
import pytest
import targets
from langchain_core import exceptions as lc
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import langchain_kserve

TEXTS = ["Cats purr at night.", "The train leaves at noon.", "Bread is baked at dawn.", "two\nlines"]


def near(one: list[float], other: list[float]) -> bool:
    """Whether two vectors are the same but for what batching does to the last digits."""
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=5e-3) for a, b in zip(one, other, strict=True))


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


class _OfTheMatrix:
    """Says which class is under test and how it is made, from `runtime`."""

    runtime: str

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return getattr(langchain_kserve, matrix.entry(self.runtime).langchain["embeddings"])

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return targets.capability_params(self.runtime, "embedding")


class _Unit(_OfTheMatrix, EmbeddingsUnitTests):
    @property
    def _url(self) -> str:
        return matrix.entry(self.runtime).example_url

    @property
    def init_from_env_params(self):
        return (
            {"KSERVE_BASE_URL": self._url, "KSERVE_API_KEY": "key", "KSERVE_CA_CERT": ""},
            {"model": "model"},
            {"base_url": self._url, "api_key": "key", "model": "model"},
        )


class _Integration(_OfTheMatrix, EmbeddingsIntegrationTests):
    pass


class EmbeddingsStandardTests(_OfTheMatrix):
    """Our suite. A subclass sets `runtime`, or `embeddings_class` and `embedding_model_params` themselves."""

    def make(self, **fields: Any) -> Embeddings:
        return self.embeddings_class(**{**self.embedding_model_params, **fields})

    @pytest.fixture
    def embeddings(self) -> Embeddings:
        return self.make()

    async def test_each_text_has_the_vector_it_has_alone(self, embeddings):
        alone = [embeddings.embed_query(text) for text in TEXTS]
        for together in (embeddings.embed_documents(TEXTS), await embeddings.aembed_documents(TEXTS)):
            assert all(near(one, other) for one, other in zip(alone, together, strict=True))
        assert near(await embeddings.aembed_query(TEXTS[0]), alone[0])

    async def test_order_is_kept_over_many_batches(self, embeddings):
        texts = [f"Text number {number}: {TEXTS[number % 4]}" for number in range(30)]
        small = self.make(batch_size=4, max_concurrency=3)
        whole = embeddings.embed_documents(texts)
        for cut in (small.embed_documents(texts), await small.aembed_documents(texts)):
            assert len(cut) == len(whole)
            assert all(near(one, other) for one, other in zip(whole, cut, strict=True))

    def test_a_text_is_nearest_to_itself(self, embeddings):
        vectors = embeddings.embed_documents(TEXTS)
        for at, text in enumerate(TEXTS):
            query = embeddings.embed_query(text)
            assert max(range(len(TEXTS)), key=lambda place: cosine(query, vectors[place])) == at

    async def test_no_texts(self, embeddings):
        assert embeddings.embed_documents([]) == []
        assert await embeddings.aembed_documents([]) == []

    def test_the_given_list_is_left_as_it_was(self):
        texts = list(TEXTS)
        self.make(document_prefix="passage: ").embed_documents(texts)
        assert texts == TEXTS

    def test_prefixes(self, embeddings):
        prefixed = self.make(query_prefix="query: ", document_prefix="passage: ")
        assert near(prefixed.embed_query("cats"), embeddings.embed_query("query: cats"))
        assert near(prefixed.embed_documents(["cats"])[0], embeddings.embed_query("passage: cats"))

    @pytest.mark.needs("truncate")
    def test_a_text_that_is_too_long(self, embeddings):
        long = "word " * 50_000
        with pytest.raises(lc.ContextOverflowError):
            embeddings.embed_documents([TEXTS[0], long])
        assert len(self.make(truncate=True).embed_documents([TEXTS[0], long])) == 2

    @pytest.mark.needs("similarity")
    async def test_similarity_is_what_the_vectors_say(self, embeddings):
        first, *others = TEXTS
        vectors = embeddings.embed_documents(TEXTS)
        expected = [cosine(vectors[0], vector) for vector in vectors[1:]]
        for scores in (embeddings.similarity(first, others), await embeddings.asimilarity(first, others)):
            assert scores == pytest.approx(expected, abs=5e-3)
        for rows in (embeddings.similarities(TEXTS, TEXTS), await embeddings.asimilarities(TEXTS, TEXTS)):
            assert [row[at] for at, row in enumerate(rows)] == pytest.approx([1.0] * len(TEXTS), abs=5e-3)
            assert rows[0][1:] == pytest.approx(expected, abs=5e-3)
        assert embeddings.similarity(first, []) == []

    def test_three_event_loops(self, embeddings):
        vectors = [asyncio.run(embeddings.aembed_query(TEXTS[0])) for _ in range(3)]
        assert near(vectors[0], vectors[1])
        assert near(vectors[0], vectors[2])

    def test_threads(self, embeddings):
        expected, found = embeddings.embed_documents(TEXTS), []
        threads = [threading.Thread(target=lambda: found.append(embeddings.embed_documents(TEXTS))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert all(near(one[at], expected[at]) for one in found for at in range(len(TEXTS)))

    async def test_many_at_once(self, embeddings):
        vectors = await asyncio.gather(*(embeddings.aembed_query(TEXTS[at % 4]) for at in range(20)))
        assert near(vectors[0], vectors[4])

    def test_pickled(self, embeddings):
        vector = embeddings.embed_query(TEXTS[0])
        assert near(pickle.loads(pickle.dumps(embeddings)).embed_query(TEXTS[0]), vector)

    def test_no_secret_is_shown(self, embeddings):
        key = self.embedding_model_params.get("api_key")
        if not key:
            pytest.skip("the target needs no key")
        for text in (repr(embeddings), str(embeddings), str(embeddings.model_dump()), embeddings.model_dump_json()):
            assert key not in text

    async def test_errors(self):
        with pytest.raises(lc.ModelConnectionError):
            self.make(base_url="http://127.0.0.1:9", max_retries=0, timeout=5).embed_query("a")
        with pytest.raises(lc.ModelNotFoundError):
            await self.make(model="no-such-model").aembed_documents(["a"])
        if self.embedding_model_params.get("api_key"):
            with pytest.raises(lc.ModelAuthenticationError):
                self.make(api_key="wrong").embed_query("a")


for _entry in matrix.RUNTIMES:
    if "embeddings" in _entry.langchain:
        for _suite, _suffix in ((_Unit, "Unit"), (_Integration, "Integration"), (EmbeddingsStandardTests, "")):
            _name = _entry.suite(_entry.langchain["embeddings"]) + _suffix
            globals()[_name] = pytest.mark.needs("embedding")(
                type(_name, (_suite,), {"runtime": _entry.key, "__module__": __name__})
            )
