"""What every LlamaIndex reranker of this package does, whatever runtime is behind it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import matrix
import pytest
from conformance.counting import answered, refused, work
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, TextNode
from unit.llamaindex.fake_endpoint import Recorder

import llamaindex_kserve
from llamaindex_kserve import AuthenticationError, ModelNotFoundError

if TYPE_CHECKING:
    from targets import Target

pytestmark = pytest.mark.needs("rerank")

QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Bananas are yellow.",
    "The capital of France is Paris.",
    "France has many rivers.",
    "A capital is a city where a government sits.",
    "My bicycle needs new tires.",
]


def make(target: Target, **kwargs: Any) -> BaseNodePostprocessor:
    cls = getattr(llamaindex_kserve, matrix.entry(target.runtime).llamaindex["rerank"])
    return cls(**{**target.rerank, **kwargs})


@pytest.fixture
def rerank(target: Target) -> BaseNodePostprocessor:
    return make(target)


def nodes(documents: list[str] = DOCUMENTS) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.01 * place) for place, text in enumerate(documents)]


def scores(ranked: list[NodeWithScore]) -> dict[str, float]:
    return {node.text: node.score for node in ranked}


class TestRanking:
    def test_all_nodes_come_back_best_first(self, rerank):
        ranked = rerank.postprocess_nodes(nodes(), query_str=QUERY)
        assert sorted(scores(ranked)) == sorted(DOCUMENTS)
        assert [node.score for node in ranked] == sorted((node.score for node in ranked), reverse=True)
        assert all(isinstance(node.score, float) for node in ranked)

    async def test_async_is_the_same_as_blocking(self, rerank):
        ranked = await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
        assert scores(ranked) == pytest.approx(scores(rerank.postprocess_nodes(nodes(), query_str=QUERY)), abs=5e-3)

    async def test_top_n(self, target, rerank):
        whole = rerank.postprocess_nodes(nodes(), query_str=QUERY)
        best = make(target, top_n=2)
        for ranked in (
            best.postprocess_nodes(nodes(), query_str=QUERY),
            await best.apostprocess_nodes(nodes(), query_str=QUERY),
        ):
            assert [node.score for node in ranked] == pytest.approx([node.score for node in whole[:2]], abs=5e-3)

    async def test_a_long_list_is_ranked_as_a_whole(self, target, rerank):
        documents = [f"{number}: {DOCUMENTS[number % 5]}" for number in range(50)]
        whole = rerank.postprocess_nodes(nodes(documents), query_str=QUERY)
        cut = make(target, request_batch_size=8)
        for ranked in (
            cut.postprocess_nodes(nodes(documents), query_str=QUERY),
            await cut.apostprocess_nodes(nodes(documents), query_str=QUERY),
        ):
            assert scores(ranked) == pytest.approx(scores(whole), abs=5e-3)
            assert [node.score for node in ranked] == sorted((node.score for node in ranked), reverse=True)

    async def test_the_given_nodes_stay_as_they_were(self, target):
        keeping = make(target, keep_retrieval_score=True)
        given = nodes()
        before = copy.deepcopy(given)
        ranked = keeping.postprocess_nodes(given, query_str=QUERY)
        await keeping.apostprocess_nodes(given, query_str=QUERY)
        assert given == before
        assert {node.text: node.metadata["retrieval_score"] for node in ranked} == scores(given)

    async def test_no_nodes(self, rerank):
        with Recorder() as seen:
            assert rerank.postprocess_nodes([], query_str=QUERY) == []
            assert await rerank.apostprocess_nodes([], query_str=QUERY) == []
        assert seen.names == ["ReRankStartEvent", "ReRankEndEvent"] * 2

    def test_no_query(self, rerank):
        with pytest.raises(ValueError, match="query"):
            rerank.postprocess_nodes(nodes())


class TestUse:
    async def test_in_a_query_engine(self, target):
        index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in DOCUMENTS], embed_model=MockEmbedding(embed_dim=8)
        )
        engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=5, node_postprocessors=[make(target, top_n=3)])
        with Recorder() as seen:
            blocking = engine.query(QUERY).source_nodes
            unblocking = (await engine.aquery(QUERY)).source_nodes
        assert len(blocking) == 3
        assert scores(unblocking) == pytest.approx(scores(blocking), abs=5e-3)
        assert seen.names.count("ReRankStartEvent") == seen.names.count("ReRankEndEvent") == 2

    def test_one_instance_works_in_many_event_loops_and_threads(self, rerank):
        expected = scores(rerank.postprocess_nodes(nodes(), query_str=QUERY))
        for _ in range(3):
            ranked = asyncio.run(rerank.apostprocess_nodes(nodes(), query_str=QUERY))
            assert scores(ranked) == pytest.approx(expected, abs=5e-3)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: rerank.postprocess_nodes(nodes(), query_str=QUERY), range(16)))
        assert all(scores(ranked) == pytest.approx(expected, abs=5e-3) for ranked in answers)

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_copies_work(self, rerank, duplicate):
        expected = scores(rerank.postprocess_nodes(nodes(), query_str=QUERY))
        ranked = duplicate(rerank).postprocess_nodes(nodes(), query_str=QUERY)
        assert scores(ranked) == pytest.approx(expected, abs=5e-3)

    def test_a_dump_comes_back_when_the_credentials_are_given_again(self, target, rerank):
        data = rerank.to_dict()
        key = target.rerank.get("api_key")
        assert not key or key not in str(data)
        back = type(rerank).from_dict(data, **{**target.rerank, "model": rerank.model})
        assert len(back.postprocess_nodes(nodes(), query_str=QUERY)) == 5


class TestErrors:
    def test_a_model_that_is_not_there(self, target):
        with pytest.raises(ModelNotFoundError):
            make(target, model="no-such-model").postprocess_nodes(nodes(), query_str=QUERY)

    @pytest.mark.needs("devserver")
    async def test_a_wrong_token(self, target):
        with pytest.raises(AuthenticationError) as caught:
            await make(target, api_key="a-wrong-token").apostprocess_nodes(nodes(), query_str=QUERY)
        assert "a-wrong-token" not in str(caught.value)

    @pytest.mark.needs("devserver")
    def test_a_server_that_starts_up_is_waited_for(self, target, rerank):
        target.devserver.fault(status=503, body="router-page", times=2)
        assert len(rerank.postprocess_nodes(nodes(), query_str=QUERY)) == 5
        assert len(refused(target.devserver.requests)) == 2
        assert len(answered(work(target.devserver.requests))) == 1

    @pytest.mark.needs("devserver")
    async def test_many_async_calls_overlap(self, target, rerank):
        await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
        target.devserver.reset()
        target.devserver.fault(delay=0.3, times=20)
        await asyncio.gather(*(rerank.apostprocess_nodes(nodes(), query_str=QUERY) for _ in range(20)))
        assert target.devserver.max_in_flight > 10
