"""The Caikit classes against the development server's wires, written from what real runtimes send; REST and gRPC."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from llama_index.core import Document
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent, ToolCallResult
from llama_index.core.base.embeddings.base import SimilarityMode
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.evaluation import BatchEvalRunner, SemanticSimilarityEvaluator
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SemanticSplitterNodeParser
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel
from unit.llamaindex.text_llms import COUNTED, FORMS, ask, collect, text_of

from kserve_core.devserver import DevServer
from kserve_core.protos import messages
from llamaindex_kserve import (
    AuthenticationError,
    BadResponseError,
    CaikitEmbedding,
    CaikitLLM,
    CaikitRerank,
    CaikitSimilarityEvaluator,
    ConfigurationError,
    ContextOverflowError,
    InvalidOutputError,
    ModelNotFoundError,
    NotFoundError,
    StreamInterrupted,
    UnsupportedParameterError,
)

BOTH = pytest.mark.parametrize("protocol", ["rest", "grpc"])


@pytest.fixture(scope="module")
def running():
    with DevServer(runtime="caikit", caikit_grpc=True, api_key="key", models=("tiny",)) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def connection(server, protocol="rest"):
    url = server.caikit_grpc_url if protocol == "grpc" else server.url
    return {"base_url": url, "api_key": "key", "model": "tiny", "timeout": 30}


def make(server, protocol="rest", **fields):
    return CaikitLLM(**{**connection(server, protocol), "temperature": 0, **fields})


def sent(server):
    """The last request's body."""
    return server.requests[-1].json


class TestAnswers:
    @BOTH
    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", FORMS)
    async def test_every_endpoint(self, server, protocol, form, template):
        responses = await ask(make(server, protocol, chat_template=template), form)
        last = responses[-1]
        assert text_of(last) == COUNTED
        assert last.additional_kwargs["finish_reason"] == "stop"
        assert last.additional_kwargs["server_finish_reason"] == "EOS_TOKEN"
        assert last.raw["usage"]["completion_tokens"] == last.additional_kwargs["completion_tokens"] > 5
        if "stream" in form:
            assert "".join(response.delta for response in responses) == COUNTED
            assert len(responses) > 5

    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", FORMS)
    async def test_both_protocols_answer_the_same(self, server, form, template):
        answers = [(await ask(make(server, one, chat_template=template), form))[-1] for one in ("rest", "grpc")]
        assert text_of(answers[0]) == text_of(answers[1])
        assert answers[0].additional_kwargs == answers[1].additional_kwargs

    @BOTH
    @pytest.mark.parametrize("form", FORMS)
    async def test_the_token_counter_takes_the_servers_word(self, server, protocol, form):
        def guess(_text):
            pytest.fail("tokens were guessed")

        counter = TokenCountingHandler(tokenizer=guess)
        llm = make(server, protocol, callback_manager=CallbackManager([counter]))
        usage = (await ask(llm, form))[-1].additional_kwargs
        assert counter.prompt_llm_token_count == usage["prompt_tokens"] > 0
        assert counter.completion_llm_token_count == usage["completion_tokens"]

    @BOTH
    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", FORMS)
    async def test_log_probabilities(self, server, protocol, form, template):
        llm = make(server, protocol, chat_template=template, logprobs=True)
        rows = [row for response in await ask(llm, form) for row in response.logprobs or ()]
        assert len(rows) > 5
        assert all(len(row) == 1 and row[0].logprob <= 0 for row in rows)


class TestRequests:
    def test_only_what_was_set_is_sent(self, server):
        make(server, temperature=None).complete("Say hello.")
        assert sent(server) == {
            "inputs": "Say hello.",
            "model_id": "tiny",
            "parameters": {"max_new_tokens": 256, "preserve_input_text": False},
        }

    def test_fields_reach_the_body_and_a_call_goes_over_them(self, server):
        llm = make(
            server,
            temperature=0.5,
            top_p=0.9,
            max_tokens=7,
            min_tokens=2,
            stop=["four"],
            repetition_penalty=1.1,
            length_penalty=(3, 1.5),
            time_limit=1.5,
            truncate_prompt_tokens=50,
            include_stop_str_in_output=True,
            extra_body={"token_ranks": True, "generated_tokens": True},
        )
        llm.complete("Count to ten.", temperature=0.25, seed=3)
        assert sent(server)["parameters"] == {
            "decoding_method": "SAMPLING",
            "temperature": 0.25,
            "seed": 3,
            "top_p": 0.9,
            "max_new_tokens": 7,
            "min_new_tokens": 2,
            "stop_sequences": ["four"],
            "include_stop_sequence": True,
            "repetition_penalty": 1.1,
            "exponential_decay_length_penalty": {"start_index": 3, "decay_factor": 1.5},
            "max_time": 1.5,
            "truncate_input_tokens": 50,
            "generated_tokens": True,
            "token_ranks": True,
            "preserve_input_text": False,
        }

    @BOTH
    def test_a_conversation_by_its_template(self, server, protocol):
        llm = make(server, protocol, chat_template="chatml", stop="four")
        answer = llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage("Count to ten.")])
        assert text_of(answer).strip() == "one two three"
        prompt = (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nCount to ten.<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        if protocol == "rest":
            assert sent(server)["inputs"] == prompt
            assert sent(server)["parameters"]["stop_sequences"] == ["<|im_end|>", "four"]
            return
        kind = messages.caikit_runtime_nlp.TextGenerationTaskRequest
        request = kind.FromString(server.requests[-1].body)
        assert request.text == prompt
        assert list(request.stop_sequences) == ["<|im_end|>", "four"]
        assert server.requests[-1].headers["mm-model-id"] == "tiny"

    def test_what_caikit_does_not_have_is_refused_here(self, server):
        llm = make(server)
        with pytest.raises(UnsupportedParameterError, match="frequency_penalty"):
            llm.complete("Say hello.", frequency_penalty=1)
        for name in ("frequency_penalty", "top_logprobs", "dimensions"):
            with pytest.raises(ConfigurationError, match=name):
                make(server, **{name: 1})
        with pytest.raises(ConfigurationError, match="seed"):
            llm.complete("Say hello.", seed=1)  # greedy
        for template in (None, "chatml"):
            with pytest.raises(UnsupportedParameterError):
                make(server, chat_template=template).complete("Yes?", structured_outputs={"choice": ["yes", "no"]})
        with pytest.raises(UnsupportedParameterError, match="tools"):
            make(server, chat_template="chatml").chat([ChatMessage("Hi")], tools=[{"type": "function"}])
        assert len(server.requests) == 0

    def test_another_route_prefix(self, server):
        llm = make(server, route_prefix="caikit/v2")
        with pytest.raises(NotFoundError):
            llm.complete("Say hello.")
        assert server.requests[-1].path == "/caikit/v2/task/text-generation"
        llm.route_prefix = "api/v1"
        assert text_of(llm.complete("Say hello."))


class TestModels:
    @BOTH
    @pytest.mark.parametrize("form", FORMS)
    async def test_the_only_one_is_found_once(self, server, protocol, form):
        llm = make(server, protocol, model=None)
        for _ in range(2):
            assert text_of((await ask(llm, form))[-1]) == COUNTED
        assert llm.metadata.model_name == "tiny"
        assert len([record for record in server.requests if "odels" in record.path]) == 1

    @BOTH
    def test_of_several_one_is_to_be_chosen(self, protocol):
        with DevServer(runtime="caikit", caikit_grpc=True, models=("one", "two")) as server:
            fields = {**connection(server, protocol), "api_key": None, "model": None}
            with pytest.raises(ConfigurationError, match=r"one.*two"):
                CaikitLLM(**fields).complete("Say hello.")
            with pytest.raises(ConfigurationError, match=r"one.*two"):
                CaikitEmbedding(**fields).get_text_embedding("x")
            assert text_of(CaikitLLM(**{**fields, "model": "two"}).complete("Say hello."))

    @BOTH
    def test_one_without_the_task_is_said_to_lack_it(self, protocol):
        with DevServer(runtime="caikit", caikit_grpc=True, models=("an-embedder", "a-generator")) as server:
            fields = {**connection(server, protocol), "api_key": None}
            with pytest.raises(BadResponseError, match="an-embedder"):
                CaikitLLM(**{**fields, "model": "an-embedder"}).complete("Say hello.")
            with pytest.raises(BadResponseError, match="a-generator"):
                CaikitEmbedding(**{**fields, "model": "a-generator"}).get_text_embedding("x")

    @BOTH
    async def test_metadata(self, server, protocol):
        llm = make(server, protocol, model=None, context_window=2048, chat_template="chatml")
        metadata = await llm.aload_metadata()
        assert (metadata.model_name, metadata.context_window) == ("tiny", 2048)
        assert metadata.is_chat_model
        assert not metadata.is_function_calling_model

    @BOTH
    async def test_tokens_are_counted_by_the_server(self, server, protocol):
        llm = make(server, protocol)
        assert llm.count_tokens("Say hello.") == len(llm.tokenize("Say hello.")) > 1
        chat = make(server, protocol, chat_template="chatml")
        talk = [ChatMessage("Say hello.")]
        assert await chat.acount_tokens(talk) > llm.count_tokens("Say hello.")


class Greeting(BaseModel):
    """A greeting."""

    polite: bool
    times: int


class TestStructured:
    PROMPT = PromptTemplate("Say hello to {name}, please.")

    @pytest.mark.parametrize("template", [None, "chatml"])
    async def test_is_asked_for_in_the_prompt(self, server, template):
        llm = make(server, chat_template=template)
        assert isinstance(llm.structured_predict(Greeting, self.PROMPT, name="Ada"), Greeting)
        assert '"polite"' in sent(server)["inputs"]
        assert isinstance(await llm.astructured_predict(Greeting, self.PROMPT, name="Ada"), Greeting)
        assert isinstance(list(llm.stream_structured_predict(Greeting, self.PROMPT, name="Ada"))[-1], Greeting)

    def test_and_checked(self, server):
        with pytest.raises(InvalidOutputError, match="cut off"):
            make(server, max_tokens=2).structured_predict(Greeting, self.PROMPT, name="Ada")

    def test_the_server_cannot_hold_an_answer_to_it(self, server):
        llm = make(server, structured_output_mode="json_schema")
        with pytest.raises(UnsupportedParameterError):
            llm.structured_predict(Greeting, self.PROMPT, name="Ada")


class TestAgents:
    @BOTH
    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("streaming", [True, False])
    async def test_react(self, server, protocol, template, streaming):
        def get_weather(city: str) -> str:
            """Get the current weather in a city."""
            return f"21 degrees and sunny in {city}"

        llm = make(server, protocol, chat_template=template, stop=["Observation:"])
        (agent,) = AgentWorkflow.from_tools_or_functions([get_weather], llm=llm).agents.values()
        assert type(agent) is ReActAgent
        handler = ReActAgent(tools=[get_weather], llm=llm, streaming=streaming).run("Weather in Paris?")
        results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        assert "21 degrees" in str(await handler)
        assert [result.tool_kwargs for result in results] == [{"city": "Paris"}]


class TestConnection:
    def test_the_protocol_is_said_by_the_url(self, server):
        assert make(server).protocol == "rest"
        assert make(server, "grpc").protocol == "grpc"
        assert CaikitLLM(base_url="https://caikit.example.com", protocol="grpc").protocol == "grpc"
        with pytest.raises(ConfigurationError, match="rest"):
            CaikitEmbedding(base_url="grpc://caikit.example.com", protocol="rest")
        with pytest.raises(ConfigurationError, match="path"):
            CaikitRerank(base_url="https://caikit.example.com/v1", protocol="grpc")

    @BOTH
    @pytest.mark.parametrize("form", FORMS)
    async def test_errors(self, server, protocol, form):
        with pytest.raises(AuthenticationError):
            await ask(make(server, protocol, api_key="wrong"), form)
        with pytest.raises(ModelNotFoundError, match="nope"):
            await ask(make(server, protocol, model="nope"), form)
        with pytest.raises(ContextOverflowError):
            await ask(make(server, protocol), form, "word " * 20000)

    @BOTH
    @pytest.mark.parametrize("template", [None, "chatml"])
    @pytest.mark.parametrize("form", ["stream_complete", "astream_chat"])
    async def test_a_broken_stream_is_an_error_that_has_the_text_so_far(self, server, protocol, form, template):
        server.fault(cut_after=4)
        texts: list[str] = []
        llm = make(server, protocol, chat_template=template)
        with pytest.raises(StreamInterrupted) as caught:
            await collect(llm, form, texts)
        assert caught.value.partial_text == "".join(texts) != ""

    @BOTH
    async def test_leaving_a_stream_ends_the_call(self, protocol):
        with DevServer(runtime="caikit", caikit_grpc=True, models=("tiny",), pace=0.05) as slow:
            llm = CaikitLLM(**{**connection(slow, protocol), "api_key": None, "chat_template": "chatml"})
            stream = llm.stream_complete("Count to ten.")
            next(stream)
            stream.close()
            astream = await llm.astream_complete("Count to ten.")
            await anext(astream)
            await astream.aclose()
            for _ in range(100):
                if all(record.cancelled for record in slow.requests):
                    break
                await asyncio.sleep(0.02)
            assert [record.cancelled is not None for record in slow.requests] == [True, True]
            await llm.aclose()

    @BOTH
    def test_pickles_dumps_and_loops(self, server, protocol):
        llm = make(server, protocol, chat_template="chatml")
        assert llm.complete("Count to ten.").text == COUNTED
        assert pickle.loads(pickle.dumps(llm)).complete("Count to ten.").text == COUNTED
        again = CaikitLLM.from_dict(llm.to_dict(), base_url=llm.base_url, api_key="key")
        assert again.complete("Count to ten.").text == COUNTED
        assert {asyncio.run(llm.acomplete("Count to ten.")).text for _ in range(3)} == {COUNTED}


class TestEmbedding:
    def make(self, server, protocol="rest", **fields):
        return CaikitEmbedding(**{**connection(server, protocol), **fields})

    async def test_both_protocols_give_the_same_vectors(self, server):
        texts = [f"text {number}" for number in range(10)]
        rest, grpc = self.make(server, request_batch_size=3), self.make(server, "grpc", request_batch_size=4)
        vectors = rest.get_text_embedding_batch(texts)
        assert len(vectors) == 10
        for given in (
            grpc.get_text_embedding_batch(texts),
            await rest.aget_text_embedding_batch(texts),
            await grpc.aget_text_embedding_batch(texts),
            [grpc.get_text_embedding(text) for text in texts],
        ):
            for one, other in zip(vectors, given, strict=True):
                assert one == pytest.approx(other, abs=1e-6)
        assert rest.get_query_embedding("text 0") == pytest.approx(vectors[0], abs=1e-6)

    def test_long_texts_are_cut_when_asked(self, server):
        with pytest.raises(ContextOverflowError):
            self.make(server).get_text_embedding("word " * 20000)
        assert self.make(server, truncate=-1).get_text_embedding("word " * 20000)
        assert sent(server)["parameters"] == {"truncate_input_tokens": -1}

    def test_dimensions_are_not_for_caikit(self, server):
        with pytest.raises(ConfigurationError, match="dimensions"):
            self.make(server, dimensions=16)

    @BOTH
    async def test_similarity_of_texts(self, server, protocol):
        embedding = self.make(server, protocol, truncate=-1)
        scores = embedding.similarity("a cat", ["a cat", "stock prices"])
        assert scores[0] == pytest.approx(1, abs=1e-5)
        assert scores[1] < scores[0]
        assert embedding.similarity("a cat", "stock prices") == pytest.approx(scores[1])
        assert await embedding.asimilarity("a cat", ["a cat", "stock prices"]) == pytest.approx(scores)
        assert await embedding.asimilarity("a cat", "a cat") == pytest.approx(1, abs=1e-5)
        assert embedding.similarity("a cat", []) == []
        assert {record.path.rsplit("/", 1)[-1] for record in server.requests} <= {
            "sentence-similarity",
            "SentenceSimilarityTaskPredict",
        }

    def test_similarity_of_vectors_is_the_frameworks(self, server):
        embedding = self.make(server)
        assert embedding.similarity([1.0, 0.0], [1.0, 0.0]) == pytest.approx(1)
        assert embedding.similarity([1.0, 0.0], [3.0, 0.0], SimilarityMode.DOT_PRODUCT) == pytest.approx(3)
        assert len(server.requests) == 0
        with pytest.raises(ConfigurationError, match="cosine"):
            embedding.similarity("a", "b", SimilarityMode.EUCLIDEAN)
        splitter = SemanticSplitterNodeParser(embed_model=embedding, breakpoint_percentile_threshold=50)
        text = "Cats purr. Cats sleep all day. Stock prices fell. Shares were sold."
        assert len(splitter.get_nodes_from_documents([Document(text=text)])) >= 1

    @BOTH
    def test_worker_processes_ingest(self, server, protocol):
        nodes = [Document(text=f"text {number}") for number in range(4)]
        embedding = self.make(server, protocol)
        pipeline = IngestionPipeline(transformations=[embedding])
        embedded = pipeline.run(documents=nodes, num_workers=2)
        texts = [node.get_content() for node in nodes]
        for node, vector in zip(embedded, embedding.get_text_embedding_batch(texts), strict=True):
            assert node.embedding == pytest.approx(vector, abs=1e-6)

    def test_a_token_is_no_part_of_what_the_ingestion_cache_hashes(self, server):
        dumped = json.dumps(self.make(server, api_key="sha256~canary", route_prefix="x").to_dict())
        assert "canary" not in dumped
        assert "route_prefix" not in dumped


class TestEvaluator:
    @BOTH
    async def test_the_server_compares(self, server, protocol):
        embedding = CaikitEmbedding(**connection(server, protocol))
        evaluator = CaikitSimilarityEvaluator(embedding, similarity_threshold=0.9)
        assert isinstance(evaluator, SemanticSimilarityEvaluator)
        same = evaluator.evaluate(query="Who?", response="a cat", reference="a cat")
        assert (same.passing, same.query, same.response) == (True, "Who?", "a cat")
        assert same.score == pytest.approx(1, abs=1e-5)
        other = await evaluator.aevaluate(response="stock prices", reference="a cat")
        assert other.passing is False
        assert other.score == pytest.approx(embedding.similarity("a cat", "stock prices"))
        assert len(server.requests) == 3

    async def test_it_is_what_the_framework_finds_with_vectors(self, server):
        embedding = CaikitEmbedding(**connection(server))
        pair = {"response": "a small cat", "reference": "a cat"}
        theirs = SemanticSimilarityEvaluator(embed_model=embedding).evaluate(**pair)
        ours = CaikitSimilarityEvaluator(embedding).evaluate(**pair)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert ours.passing == theirs.passing

    async def test_in_a_batch_runner(self, server):
        evaluator = CaikitSimilarityEvaluator(CaikitEmbedding(**connection(server)))
        runner = BatchEvalRunner({"similarity": evaluator}, workers=2)
        results = await runner.aevaluate_response_strs(
            queries=["x", "y"],
            response_strs=["a cat", "stock prices"],
            contexts_list=[["x"], ["y"]],
            reference=["a cat", "a cat"],
        )
        assert [result.passing for result in results["similarity"]] == [True, False]

    def test_both_texts_are_needed(self, server):
        evaluator = CaikitSimilarityEvaluator(CaikitEmbedding(**connection(server)))
        with pytest.raises(ValueError, match="reference"):
            evaluator.evaluate(response="a cat")


class TestRerank:
    @BOTH
    async def test_best_first(self, server, protocol):
        texts = ["stock prices fell", "a cat sat on the mat", "the cat and the mat"]
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
        rerank = CaikitRerank(**connection(server, protocol), top_n=2)
        ranked = rerank.postprocess_nodes(nodes, query_str="a cat sat on the mat")
        assert ranked[0].node.text == texts[1]
        assert len(ranked) == 2
        assert ranked[0].score > ranked[1].score
        again = await rerank.apostprocess_nodes(nodes, query_str="a cat sat on the mat")
        assert [node.score for node in again] == pytest.approx([node.score for node in ranked], abs=1e-5)
        assert [node.score for node in nodes] == [0.5] * 3
