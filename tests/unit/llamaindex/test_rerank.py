from __future__ import annotations

import asyncio

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from unit.llamaindex.fake_endpoint import BASE_URL, TOKEN, FakeEndpoint, Recorder, connect
from unit.llamaindex.handler import Handler

from kserve_core.errors import AuthenticationError, ConfigurationError
from llamaindex_kserve.rerank import VLLMRerank

DOCUMENTS = ["nothing here", "red green blue", "red", "red green"]
BEST_FIRST = ["red green blue", "red green", "red", "nothing here"]
QUERY = "red green blue"


def rerank(endpoint: FakeEndpoint | None = None, **kwargs) -> VLLMRerank:
    made = VLLMRerank(**{"base_url": BASE_URL, "api_key": TOKEN, "model": "bge-reranker", **kwargs})
    return connect(made, endpoint) if endpoint is not None else made


def nodes(documents=DOCUMENTS) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, metadata={"source": f"file{place}"}), score=0.1 * place)
        for place, text in enumerate(documents)
    ]


@pytest.fixture
def endpoint() -> FakeEndpoint:
    return FakeEndpoint()


class TestRanking:
    def test_is_a_postprocessor_with_a_name_of_its_own(self):
        assert issubclass(VLLMRerank, BaseNodePostprocessor)
        assert VLLMRerank.class_name() == "VLLMRerank"

    async def test_best_first_with_new_scores(self, endpoint):
        model = rerank(endpoint)
        for ranked in (
            model.postprocess_nodes(nodes(), query_str=QUERY),
            await model.apostprocess_nodes(nodes(), query_str=QUERY),
            model.postprocess_nodes(nodes(), query_bundle=QueryBundle(QUERY)),
        ):
            assert [node.text for node in ranked] == BEST_FIRST
            assert [node.score for node in ranked] == [3.0, 2.0, 1.0, 0.0]

    async def test_top_n_keeps_the_best(self, endpoint):
        model = rerank(endpoint, top_n=2)
        assert [node.text for node in model.postprocess_nodes(nodes(), query_str=QUERY)] == BEST_FIRST[:2]
        assert [node.text for node in await model.apostprocess_nodes(nodes(), query_str=QUERY)] == BEST_FIRST[:2]

    def test_top_n_larger_than_the_list_keeps_all(self, endpoint):
        assert len(rerank(endpoint, top_n=50).postprocess_nodes(nodes(), query_str=QUERY)) == 4

    @pytest.mark.parametrize("keep", [True, False])
    async def test_the_given_nodes_stay_as_they_were(self, endpoint, keep):
        given = nodes()
        before = [node.model_copy(deep=True) for node in given]
        model = rerank(endpoint, keep_retrieval_score=keep)
        ranked = model.postprocess_nodes(given, query_str=QUERY) + await model.apostprocess_nodes(
            given, query_str=QUERY
        )
        assert given == before
        assert not {id(node) for node in ranked} & {id(node) for node in given}

    def test_the_retrieval_score_can_be_kept(self, endpoint):
        ranked = rerank(endpoint, keep_retrieval_score=True, top_n=1).postprocess_nodes(nodes(), query_str=QUERY)
        assert ranked[0].metadata == {"source": "file1", "retrieval_score": 0.1}
        assert ranked[0].score == 3.0
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert ranked[0].get_content(mode) == nodes()[1].get_content(mode)

    def test_ranking_twice_keeps_the_first_score_out_of_the_second_request(self, endpoint):
        model = rerank(endpoint, keep_retrieval_score=True)
        model.postprocess_nodes(model.postprocess_nodes(nodes(), query_str=QUERY), query_str=QUERY)
        first, second = endpoint.bodies("rerank")
        assert sorted(first["documents"]) == sorted(second["documents"])

    def test_nodes_without_a_score_and_without_text_are_ranked_too(self, endpoint):
        given = [NodeWithScore(node=ImageNode()), NodeWithScore(node=TextNode(text="red"))]
        ranked = rerank(endpoint, keep_retrieval_score=True).postprocess_nodes(given, query_str="red")
        assert [node.score for node in ranked] == [1.0, 0.0]
        assert ranked[0].metadata["retrieval_score"] is None

    @pytest.mark.parametrize(
        ("mode", "expected"), [(MetadataMode.EMBED, "source: file0\n\nnothing here"), ("none", "nothing here")]
    )
    def test_the_metadata_mode_says_what_the_reranker_reads(self, endpoint, mode, expected):
        rerank(endpoint, metadata_mode=mode).postprocess_nodes(nodes(), query_str=QUERY)
        assert endpoint.bodies("rerank")[0]["documents"][0] == expected

    async def test_a_missing_query_is_an_error_that_says_so(self, endpoint):
        with pytest.raises(ConfigurationError, match="query"):
            rerank(endpoint).postprocess_nodes(nodes())
        with pytest.raises(ValueError, match="query"):
            await rerank(endpoint).apostprocess_nodes(nodes())
        assert endpoint.requests == []

    def test_two_queries_are_refused_by_the_framework(self, endpoint):
        with pytest.raises(ValueError, match="both"):
            rerank(endpoint).postprocess_nodes(nodes(), query_str="a", query_bundle=QueryBundle("b"))

    async def test_no_nodes_send_nothing(self, endpoint):
        assert rerank(endpoint).postprocess_nodes([], query_str=QUERY) == []
        assert await rerank(endpoint).apostprocess_nodes([], query_str=QUERY) == []
        assert endpoint.requests == []

    async def test_a_long_list_is_ranked_as_a_whole(self, endpoint):
        documents = [" ".join(f"word{n}" for n in range(length % 37)) + f" d{length}" for length in range(200)]
        query = " ".join(f"word{n}" for n in range(40))
        model = rerank(endpoint, request_batch_size=30, top_n=10, metadata_mode="none")
        whole = sorted(documents, key=lambda text: -len(set(text.split()) & set(query.split())))[:10]
        expected = sorted(len(text.split()) for text in whole)
        for ranked in (
            model.postprocess_nodes(nodes(documents), query_str=query),
            await model.apostprocess_nodes(nodes(documents), query_str=query),
        ):
            assert sorted(len(node.text.split()) for node in ranked) == expected
            assert [node.score for node in ranked] == sorted((node.score for node in ranked), reverse=True)
        assert all(len(body["documents"]) <= 30 for body in endpoint.bodies("rerank"))
        assert len(endpoint.bodies("rerank")) == 14

    async def test_many_async_calls_overlap(self):
        endpoint = FakeEndpoint(delay=0.03)
        model = rerank(endpoint)
        await asyncio.gather(*(model.apostprocess_nodes(nodes(), query_str=QUERY) for _ in range(20)))
        assert endpoint.peak == 20

    def test_settings_are_sent_only_when_set(self, endpoint):
        rerank(endpoint).postprocess_nodes(nodes(), query_str=QUERY)
        rerank(endpoint, truncate=-1, extra_body={"use_activation": False}).postprocess_nodes(nodes(), query_str=QUERY)
        plain, set_ = endpoint.bodies("rerank")
        assert set(plain) <= {"model", "query", "documents", "top_n"}
        assert set_["truncate_prompt_tokens"] == -1
        assert set_["use_activation"] is False

    @pytest.mark.parametrize("wrong", [{"top_n": 0}, {"request_batch_size": 0}, {"metadata_mode": "some"}, {"topn": 1}])
    def test_what_cannot_be_meant_is_refused(self, wrong):
        with pytest.raises(ValueError):
            rerank(**wrong)

    def test_works_in_a_query_engine(self, endpoint):
        index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in DOCUMENTS], embed_model=MockEmbedding(embed_dim=4)
        )
        engine = index.as_query_engine(
            llm=MockLLM(), similarity_top_k=4, node_postprocessors=[rerank(endpoint, top_n=2)]
        )
        assert [node.text for node in engine.query(QUERY).source_nodes] == BEST_FIRST[:2]

    async def test_works_in_a_query_engine_async(self, endpoint):
        index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in DOCUMENTS], embed_model=MockEmbedding(embed_dim=4)
        )
        engine = index.as_query_engine(
            llm=MockLLM(), similarity_top_k=4, node_postprocessors=[rerank(endpoint, top_n=1)]
        )
        assert [node.text for node in (await engine.aquery(QUERY)).source_nodes] == BEST_FIRST[:1]


class TestEvents:
    @pytest.mark.parametrize("given", [nodes(), []], ids=["nodes", "no nodes"])
    async def test_one_start_and_one_end(self, endpoint, given):
        model = rerank(endpoint, top_n=3)
        for run in (
            lambda: asyncio.to_thread(model.postprocess_nodes, given, query_str=QUERY),
            lambda: model.apostprocess_nodes(given, query_str=QUERY),
        ):
            with Recorder() as seen:
                await run()
            assert seen.names == ["ReRankStartEvent", "ReRankEndEvent"]
            start, end = seen.events
            assert (start.model_name, start.top_n, start.query.query_str) == ("bge-reranker", 3, QUERY)
            assert [node.text for node in start.nodes] == [node.text for node in given]
            assert len(end.nodes) == min(3, len(given))
            assert len(seen.spans) == 1

    async def test_a_failure_is_told_instead_of_an_end(self, endpoint):
        endpoint.fail = lambda body: AuthenticationError("no", status=401)
        handler = Handler()
        model = rerank(endpoint, callback_manager=CallbackManager([handler]))
        with Recorder() as seen, pytest.raises(AuthenticationError):
            await model.apostprocess_nodes(nodes(), query_str=QUERY)
        assert [name for name in seen.names if name != "SpanDropEvent"] == ["ReRankStartEvent", "ExceptionEvent"]
        assert [when for when, kind, _ in handler.seen if kind is CBEventType.RERANKING] == ["start", "end"]
        assert isinstance(handler.seen[1][2][EventPayload.EXCEPTION], AuthenticationError)

    async def test_old_callbacks_tell_what_is_ranked(self, endpoint):
        handler = Handler()
        model = rerank(endpoint, top_n=2, callback_manager=CallbackManager([handler]))
        model.postprocess_nodes(nodes(), query_str=QUERY)
        await model.apostprocess_nodes([], query_str=QUERY)
        reranking = [(when, payload) for when, kind, payload in handler.seen if kind is CBEventType.RERANKING]
        assert [when for when, _ in reranking] == ["start", "end", "start", "end"]
        start = reranking[0][1]
        assert len(start[EventPayload.NODES]) == 4
        assert start[EventPayload.MODEL_NAME] == "bge-reranker"
        assert start[EventPayload.QUERY_STR] == QUERY
        assert start[EventPayload.TOP_K] == 2
        assert [node.text for node in reranking[1][1][EventPayload.NODES]] == BEST_FIRST[:2]

    def test_events_hold_no_secret(self, endpoint):
        with Recorder() as seen:
            rerank(endpoint, default_headers={"x-tenant": "hidden-tenant"}).postprocess_nodes(nodes(), query_str=QUERY)
        everything = str([event.model_dump() for event in seen.events]) + str(seen.events)
        assert TOKEN not in everything
        assert "hidden-tenant" not in everything
