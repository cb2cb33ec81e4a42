"""What embedding models send, and what comes of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from unit.llamaindex.embedding_fakes import embedding, texts
from unit.llamaindex.fake_endpoint import BASE_URL, FakeEndpoint, connect, vector_of

from kserve_core.errors import AuthenticationError, ConfigurationError, RequestTooLargeError
from llamaindex_kserve.embeddings import VLLMEmbedding


@pytest.fixture
def endpoint() -> FakeEndpoint:
    return FakeEndpoint()


class TestOneText:
    def test_is_an_embedding_model_with_a_name_of_its_own(self):
        assert issubclass(VLLMEmbedding, BaseEmbedding)
        assert VLLMEmbedding.class_name() == "VLLMEmbedding"

    def test_query_and_text_carry_their_own_instruction(self, endpoint):
        model = embedding(endpoint, query_instruction="query: ", text_instruction="passage: ")
        assert model.get_query_embedding("tea") == vector_of("query: tea")
        assert model.get_text_embedding("tea") == vector_of("passage: tea")
        assert model.get_text_embedding_batch(["tea"]) == [vector_of("passage: tea")]
        assert endpoint.texts == ["query: tea", "passage: tea", "passage: tea"]

    async def test_async_says_the_same_as_blocking(self, endpoint):
        model = embedding(endpoint, query_instruction="query: ", text_instruction="passage: ")
        assert await model.aget_query_embedding("tea") == vector_of("query: tea")
        assert await model.aget_text_embedding("tea") == vector_of("passage: tea")
        assert await model.aget_text_embedding_batch(["tea", "cake"]) == [
            vector_of("passage: tea"),
            vector_of("passage: cake"),
        ]

    async def test_several_queries_are_averaged(self, endpoint):
        model = embedding(endpoint)
        mean = [(a + b) / 2 for a, b in zip(vector_of("x"), vector_of("y"), strict=True)]
        assert model.get_agg_embedding_from_queries(["x", "y"]) == mean
        assert await model.aget_agg_embedding_from_queries(["x", "y"]) == mean

    @pytest.mark.parametrize("text", ["", "two\nlines\n", "  spaces  ", "naïve ☕ 東京"])
    async def test_a_text_is_sent_as_it_is(self, endpoint, text):
        model = embedding(endpoint)
        assert model.get_text_embedding(text) == vector_of(text)
        assert await model.aget_query_embedding(text) == vector_of(text)
        assert endpoint.texts == [text, text]

    async def test_async_does_not_block_the_loop(self):
        endpoint = FakeEndpoint(delay=0.05)
        model = embedding(endpoint)
        await asyncio.gather(*(model.aget_text_embedding(str(n)) for n in range(4)))
        assert endpoint.peak == 4


class TestWhatIsSent:
    def test_only_what_was_set(self, endpoint):
        embedding(endpoint).get_text_embedding("x")
        assert set(endpoint.bodies("embeddings")[0]) <= {"model", "input", "encoding_format"}

    def test_dimensions_truncation_and_extra_fields(self, endpoint):
        model = embedding(endpoint, dimensions=2, truncate=-1, extra_body={"user": "me"})
        assert model.get_text_embedding_batch(["x"]) == [vector_of("x", 2)]
        body = endpoint.bodies("embeddings")[0]
        assert (body["dimensions"], body["truncate_prompt_tokens"], body["user"]) == (2, -1, "me")

    async def test_dimensions_go_with_async_and_queries_too(self, endpoint):
        model = embedding(endpoint, dimensions=2)
        assert await model.aget_query_embedding("x") == vector_of("x", 2)
        assert await model.aget_text_embedding_batch(["x"]) == [vector_of("x", 2)]

    @pytest.mark.parametrize("name", ["model", "model_name"])
    def test_both_names_of_the_model_mean_the_same(self, endpoint, name):
        made = VLLMEmbedding(base_url=BASE_URL, **{name: "e5"})
        assert (made.model, made.model_name) == ("e5", "e5")
        setattr(made, name, "gte")
        assert (made.model, made.model_name) == ("gte", "gte")
        connect(made, endpoint).get_text_embedding("x")
        assert endpoint.bodies("embeddings")[0]["model"] == "gte"

    def test_two_different_models_are_refused(self):
        with pytest.raises(ConfigurationError, match="two names"):
            VLLMEmbedding(base_url=BASE_URL, model="a", model_name="b")

    def test_an_unnamed_model_is_asked_for_once(self, endpoint):
        model = embedding(endpoint, model=None)
        assert model.model_name == "unknown"
        model.get_text_embedding_batch(texts(200))
        model.get_query_embedding("x")
        assert len(endpoint.bodies("models")) == 1
        assert {body["model"] for body in endpoint.bodies("embeddings")} == {"served-model"}

    async def test_an_unnamed_model_is_asked_for_once_by_many_tasks(self):
        endpoint = FakeEndpoint(delay=0.01)
        model = embedding(endpoint, model=None)
        await model.aget_text_embedding_batch(texts(600))
        assert len(endpoint.bodies("models")) == 1

    def test_the_constructor_contacts_nobody(self):
        made = VLLMEmbedding(base_url="https://nobody.invalid/v1")
        assert made.base_url == "https://nobody.invalid/v1"

    @pytest.mark.parametrize(
        "wrong", [{"dimensions": 0}, {"truncate": -2}, {"request_batch_size": 0}, {"max_concurrency": 0}, {"tmeout": 3}]
    )
    def test_what_cannot_be_meant_is_refused(self, wrong):
        with pytest.raises(ValueError):
            embedding(**wrong)


class TestBatches:
    def test_order_survives_a_server_that_answers_in_another(self):
        endpoint = FakeEndpoint(reverse=True)
        given = texts(150)
        assert embedding(endpoint).get_text_embedding_batch(given) == [vector_of(text) for text in given]

    async def test_order_survives_async_batches_too(self):
        endpoint = FakeEndpoint(reverse=True)
        given = texts(700)
        model = embedding(endpoint, embed_batch_size=100, request_batch_size=30)
        assert await model.aget_text_embedding_batch(given) == [vector_of(text) for text in given]

    @pytest.mark.parametrize(
        ("step", "per_request", "expected"),
        [(512, 64, [64, 64, 22]), (100, 64, [64, 36, 50]), (40, 64, [40, 40, 40, 30])],
    )
    async def test_requests_hold_no_more_than_either_size(self, endpoint, step, per_request, expected):
        model = embedding(endpoint, embed_batch_size=step, request_batch_size=per_request)
        model.get_text_embedding_batch(texts(150))
        assert sorted(map(len, endpoint.batches)) == sorted(expected)
        endpoint.requests.clear()
        await model.aget_text_embedding_batch(texts(150))
        assert sorted(map(len, endpoint.batches)) == sorted(expected)

    async def test_nothing_to_embed_sends_nothing(self, endpoint):
        model = embedding(endpoint)
        assert model.get_text_embedding_batch([]) == []
        assert await model.aget_text_embedding_batch([]) == []
        assert model([]) == []
        assert endpoint.requests == []

    def test_blocking_batches_overlap_and_stay_bounded(self):
        endpoint = FakeEndpoint(delay=0.02)
        embedding(endpoint, max_concurrency=4).get_text_embedding_batch(texts(64 * 12))
        assert endpoint.peak == 4

    @pytest.mark.parametrize("step", [10, 500])
    async def test_async_batches_overlap_and_stay_bounded(self, step):
        endpoint = FakeEndpoint(delay=0.005)
        model = embedding(endpoint, embed_batch_size=step, request_batch_size=10, max_concurrency=5)
        await model.aget_text_embedding_batch(texts(1000))
        assert len(endpoint.batches) == 100
        assert endpoint.peak == 5

    async def test_calls_of_one_instance_share_the_bound(self):
        endpoint = FakeEndpoint(delay=0.005)
        model = embedding(endpoint, max_concurrency=3)
        await asyncio.gather(*(model.aget_text_embedding_batch(texts(130)) for _ in range(6)))
        assert endpoint.peak == 3

    async def test_the_frameworks_own_worker_count_does_no_harm(self):
        endpoint = FakeEndpoint(delay=0.005)
        model = embedding(endpoint, embed_batch_size=20, num_workers=4, max_concurrency=2)
        given = texts(200)
        assert await model.aget_text_embedding_batch(given) == [vector_of(text) for text in given]
        assert endpoint.peak == 2

    async def test_a_batch_the_server_finds_too_large_is_halved(self, endpoint):
        endpoint.fail = lambda body: (
            RequestTooLargeError("batch size > 16") if len(body.get("input", ())) > 16 else None
        )
        given = texts(100)
        assert embedding(endpoint).get_text_embedding_batch(given) == [vector_of(text) for text in given]
        assert await embedding(endpoint).aget_text_embedding_batch(given) == [vector_of(text) for text in given]

    async def test_what_a_refused_batch_taught_is_kept(self, endpoint):
        endpoint.fail = lambda body: RequestTooLargeError("too large") if len(body.get("input", ())) > 16 else None
        model = embedding(endpoint)
        model.get_text_embedding_batch(texts(64))
        endpoint.requests.clear()
        await model.aget_text_embedding_batch(texts(300))
        model.get_text_embedding_batch(texts(300))
        assert max(map(len, endpoint.batches)) == 16

    async def test_progress_can_be_shown(self, endpoint, capsys):
        model = embedding(endpoint, embed_batch_size=10)
        assert len(model.get_text_embedding_batch(texts(30), show_progress=True)) == 30
        assert len(await model.aget_text_embedding_batch(texts(30), show_progress=True)) == 30
        assert "Generating embeddings" in capsys.readouterr().err

    def test_one_instance_serves_many_threads(self):
        endpoint = FakeEndpoint(delay=0.001)
        model = embedding(endpoint, model=None)
        given = [texts(70) for _ in range(16)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(model.get_text_embedding_batch, given))
        assert answers == [[vector_of(text) for text in part] for part in given]

    def test_one_instance_serves_many_event_loops(self):
        endpoint = FakeEndpoint(delay=0.001)
        model = embedding(endpoint, max_concurrency=2)
        loops = []

        async def embed() -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            assert len(await model.aget_text_embedding_batch(texts(300))) == 300

        for _ in range(5):
            asyncio.run(embed())
        gc.collect()
        assert sum(loop() is not None for loop in loops) <= 1

    async def test_works_in_an_index(self, endpoint):
        model = embedding(endpoint)
        documents = [Document(text=text) for text in ("tea and cake", "coffee", "tea")]
        retriever = VectorStoreIndex.from_documents(documents, embed_model=model).as_retriever(similarity_top_k=1)
        assert retriever.retrieve("coffee")[0].text == "coffee"
        assert (await retriever.aretrieve("coffee"))[0].text == "coffee"


class TestFailures:
    @staticmethod
    def fail_once_started(endpoint: FakeEndpoint, after: int) -> None:
        lock = threading.Lock()

        def fail(body):
            with lock:
                count = len(endpoint.requests)
            return AuthenticationError("no", status=401) if count > after else None

        endpoint.fail = fail

    @pytest.mark.parametrize("progress", [False, True])
    @pytest.mark.parametrize("workers", [None, 3])
    async def test_the_first_failure_stops_the_rest_of_an_async_batch(self, workers, progress):
        endpoint = FakeEndpoint(delay=0.002)
        self.fail_once_started(endpoint, after=0)
        model = embedding(endpoint, embed_batch_size=20, request_batch_size=10, max_concurrency=4, num_workers=workers)
        with pytest.raises(AuthenticationError):
            await model.aget_text_embedding_batch(texts(1000), show_progress=progress)
        sent = len(endpoint.requests)
        assert sent <= 8
        assert endpoint.in_flight == 0
        await asyncio.sleep(0.05)
        assert len(endpoint.requests) == sent

    async def test_the_first_failure_waits_for_no_slower_request(self):
        endpoint = FakeEndpoint(delay=0.002)
        endpoint.slow = lambda body: 120.0 if "text number 1" in body["input"] else 0.0
        endpoint.fail = lambda body: AuthenticationError("no") if "text number 0" in body["input"] else None
        model = embedding(endpoint, request_batch_size=1)
        with pytest.raises(AuthenticationError):
            await asyncio.wait_for(model._aget_text_embeddings(texts(4)), 60)
        assert endpoint.in_flight == 0

    def test_the_first_failure_stops_the_rest_of_a_blocking_batch(self):
        endpoint = FakeEndpoint(delay=0.002)
        self.fail_once_started(endpoint, after=0)
        with pytest.raises(AuthenticationError):
            embedding(endpoint, request_batch_size=4, max_concurrency=4).get_text_embedding_batch(texts(1000))
        assert len(endpoint.requests) <= 12
        assert endpoint.in_flight == 0

    async def test_a_failure_leaves_the_instance_usable(self, endpoint):
        model = embedding(endpoint)
        endpoint.fail = lambda body: AuthenticationError("no", status=401)
        with pytest.raises(AuthenticationError):
            await model.aget_text_embedding_batch(texts(100))
        endpoint.fail = lambda body: None
        assert len(await model.aget_text_embedding_batch(texts(100))) == 100

    async def test_cancelling_stops_what_is_in_flight(self):
        endpoint = FakeEndpoint(delay=0.05)
        task = asyncio.ensure_future(embedding(endpoint).aget_text_embedding_batch(texts(2000)))
        await asyncio.sleep(0.02)
        assert endpoint.in_flight > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert endpoint.in_flight == 0
        sent = len(endpoint.requests)
        await asyncio.sleep(0.06)
        assert len(endpoint.requests) == sent

    async def test_one_call_failing_leaves_the_others_alone(self):
        endpoint = FakeEndpoint(delay=0.002)
        endpoint.fail = lambda body: AuthenticationError("no") if "bad" in body.get("input", ()) else None
        model = embedding(endpoint)
        good, bad = await asyncio.gather(
            model.aget_text_embedding_batch(texts(500)),
            model.aget_text_embedding_batch([*texts(200), "bad"]),
            return_exceptions=True,
        )
        assert isinstance(bad, AuthenticationError)
        assert len(good) == 500
