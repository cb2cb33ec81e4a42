"""Reranking by models of the Open Inference Protocol."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.runtimes.v2_models import IDS, SCORE, TEXT, VECTORS, Fake, model, out, shown, spec

from kserve_core.batching import rerank_all
from kserve_core.calls import Call, Parallel, Response
from kserve_core.capabilities import LimitedReranking, RerankRequest, RerankRuntime
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    ModelNotFoundError,
    UnsupportedParameterError,
)
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.rerank import TensorReranking, read_scores

TOKENIZER = Path(__file__).parent / "fixtures" / "v2" / "tokenizer.json"
PAIR = (spec("query", "BYTES", -1), spec("passage", "BYTES", -1))
PAIR_IDS = (*IDS, spec("token_type_ids", "INT64", -1, -1))


def rerank(runtime, documents, scores, datatype="FP32", name="score", **request):
    """The ranking that comes of some scores, as pairs."""
    call = runtime.rerank(RerankRequest(query="q", documents=documents, **request))
    assert isinstance(call, Call)
    return [(result.index, result.score) for result in call.read(out(name, scores, datatype)).results]


class TestText:
    def test_a_query_and_documents_become_a_ranking(self):
        runtime = Fake(model(*PAIR, outputs=(SCORE,)))
        assert isinstance(runtime, RerankRuntime)
        assert rerank(runtime, ["a", "b", "ö"], [[0.25], [1.0], [0.5]]) == [(1, 1.0), (2, 0.5), (0, 0.25)]
        (request,) = runtime.sent
        assert shown(request) == {
            "query": ("BYTES", [3], ["q", "q", "q"]),
            "passage": ("BYTES", [3], ["a", "b", "ö"]),
        }
        assert request.outputs == ("score",)

    def test_equal_scores_keep_the_documents_order(self):
        assert rerank(Fake(model(*PAIR)), ["a", "b", "c"], [1.0, 2.0, 1.0]) == [(1, 2.0), (0, 1.0), (2, 1.0)]

    def test_the_best_few_are_enough(self):
        assert rerank(Fake(model(*PAIR)), ["a", "b", "c"], [1.0, 2.0, 3.0], top_n=2) == [(2, 3.0), (1, 2.0)]
        assert rerank(Fake(model(*PAIR)), ["a"], [1.0], top_n=5) == [(0, 1.0)]
        with pytest.raises(ConfigurationError, match="top_n"):
            rerank(Fake(model(*PAIR)), ["a"], [1.0], top_n=0)

    def test_for_no_documents_nothing_is_sent(self):
        runtime = Fake(model(*PAIR))
        flow = runtime.rerank(RerankRequest(query="q", documents=[]))
        with pytest.raises(StopIteration) as stopped:
            next(flow)
        assert stopped.value.value.results == []
        assert not runtime.sent

    @pytest.mark.parametrize(("query", "documents"), [(3, ["a"]), ("q", ["a", None])])
    def test_what_is_no_text_is_refused(self, query, documents):
        with pytest.raises(ConfigurationError, match="not a string"):
            Fake(model(*PAIR)).rerank(RerankRequest(query=query, documents=documents))

    def test_what_the_user_set_goes_along(self):
        metadata = model(*PAIR, spec("truncate", "BOOL", 1), spec("k", "INT32", -1, 1))
        runtime = Fake(metadata, extra_inputs={"k": 2}, parameters={"a": 1})
        rerank(runtime, ["a", "b"], [1.0, 2.0], truncate=-1, extra_body={"b": 2}, headers={"x": "y"})
        (sent,) = runtime.sent
        assert shown(sent)["truncate"] == ("BOOL", [1], [True])
        assert shown(sent)["k"] == ("INT32", [2, 1], [2, 2])
        assert (sent.parameters, sent.headers) == ({"a": 1, "b": 2}, {"x": "y"})
        with pytest.raises(UnsupportedParameterError):
            Fake(model(*PAIR)).rerank(RerankRequest(query="q", documents=["a"], truncate=3))

    def test_a_row_of_documents_with_one_query(self):
        metadata = model(spec("query", "BYTES", -1, 1), spec("passages", "BYTES", -1, -1), max_batch_size=4)
        runtime = Fake(metadata)
        assert rerank(runtime, ["a", "b", "c", "d", "e"], [[1.0, 2.0, 3.0, 4.0, 5.0]])[0] == (4, 5.0)
        assert [tensor.shape for tensor in runtime.sent[0].inputs] == [(1, 1), (1, 5)]

    def test_models_that_are_no_rerankers_say_so(self):
        for metadata in (model(TEXT, outputs=(VECTORS,)), model(*PAIR, outputs=(VECTORS_WIDE,))):
            with pytest.raises(ConfigurationError, match="no reranker"):
                Fake(metadata).rerank(RerankRequest(query="q", documents=["a"]))
        with pytest.raises(ConfigurationError, match="no reranker"):
            Fake(model(*IDS, outputs=(STATES_WIDE,)), tokenizer=TOKENIZER).rerank(
                RerankRequest(query="q", documents=["a"])
            )


VECTORS_WIDE = spec("embedding", "FP32", -1, 384)
STATES_WIDE = spec("last_hidden_state", "FP32", -1, -1, 384)


class TestTokens:
    def test_pairs_become_ids_with_types(self):
        runtime = Fake(model(*PAIR_IDS, outputs=(spec("logits", "FP32", -1, 1),)), tokenizer=TOKENIZER)
        call = runtime.rerank(RerankRequest(query="the", documents=["cat", "cat dog"]))
        assert [result.index for result in call.read(out("logits", [[1.0], [2.0]])).results] == [1, 0]
        assert shown(runtime.sent[0]) == {
            "input_ids": ("INT64", [2, 6], [2, 4, 3, 6, 3, 0, 2, 4, 3, 6, 7, 3]),
            "attention_mask": ("INT64", [2, 6], [1, 1, 1, 1, 1, 0] + [1] * 6),
            "token_type_ids": ("INT64", [2, 6], [0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1]),
        }

    def test_types_are_sent_where_declared_only(self):
        runtime = Fake(model(*IDS), tokenizer=TOKENIZER)
        rerank(runtime, ["a"], [1.0])
        assert set(shown(runtime.sent[0])) == {"input_ids", "attention_mask"}

    def test_a_pair_that_is_too_long_is_told_before_anything_is_sent(self):
        runtime = Fake(model(*PAIR_IDS), tokenizer=TOKENIZER)
        with pytest.raises(ContextOverflowError, match=r"The document at position 1 .* has 34 tokens; the limit is 12"):
            rerank(runtime, ["a", "the " * 30], [1.0, 2.0])
        rerank(runtime, ["a", "the " * 30], [1.0, 2.0], truncate=-1)
        assert runtime.sent[0].inputs[0].shape == (2, 12)

    def test_a_tokenizer_is_needed(self):
        with pytest.raises(ConfigurationError, match="takes token ids"):
            rerank(Fake(model(*PAIR_IDS)), ["a"], [1.0])

    def test_a_fixed_batch_is_filled_up_and_the_filling_dropped(self):
        fixed = tuple(spec(one.name, "INT64", 4, 16) for one in PAIR_IDS)
        runtime = Fake(model(*fixed), tokenizer=TOKENIZER)
        assert rerank(runtime, ["a", "the"], [[1.0], [2.0], [9.0], [9.0]]) == [(1, 2.0), (0, 1.0)]
        assert runtime.sent[0].inputs[0].shape == (4, 16)


class TestScores:
    @pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (3, 1, 1)])
    @pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64", "INT8"])
    def test_one_score_each_in_any_shape(self, shape, datatype):
        (tensor,) = out("s", [1, 2, 3], datatype)
        tensor = type(tensor).of("s", tensor.numpy().reshape(shape), datatype=datatype)
        assert read_scores(tensor, rows=3) == [1.0, 2.0, 3.0]

    def test_two_columns_are_their_difference(self):
        assert read_scores(*out("s", [[1.0, 3.0], [2.0, 0.5]]), rows=2) == [2.0, -1.5]
        assert read_scores(*out("s", [[1.0, 3.0]]), rows=1) == [2.0]
        assert read_scores(*out("s", [1.0, 3.0]), rows=1) == [2.0]
        assert read_scores(*out("s", [[1.0, 3.0]]), rows=2) == [1.0, 3.0]

    @given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
    def test_sigmoid_of_two_columns_is_the_softmax_of_the_second(self, first, second):
        (score,) = read_scores(*out("s", [[first, second]], "FP64"), rows=1, sigmoid=True)
        top = max(first, second)
        expected = math.exp(second - top) / (math.exp(first - top) + math.exp(second - top))
        assert math.isclose(score, expected, rel_tol=1e-9, abs_tol=1e-12)

    def test_sigmoid_of_one_column(self):
        assert read_scores(*out("s", [0.0, 1000.0, -1000.0]), rows=3, sigmoid=True) == [0.5, 1.0, 0.0]

    def test_scores_are_left_as_they_are_unless_asked(self):
        assert rerank(Fake(model(*PAIR)), ["a"], [3.5]) == [(0, 3.5)]
        assert rerank(Fake(model(*PAIR), sigmoid=True), ["a"], [0.0]) == [(0, 0.5)]

    @pytest.mark.parametrize(
        ("value", "datatype"),
        [
            ([1.0], "FP32"),
            ([1.0, 2.0, 3.0], "FP32"),
            ([[1.0, 2.0, 3.0]] * 2, "FP32"),
            ([1.0, math.nan], "FP32"),
            ([1.0, math.inf], "FP32"),
            (["a", "b"], "BYTES"),
            ([True, False], "BOOL"),
        ],
    )
    def test_what_are_no_scores_is_an_error(self, value, datatype):
        with pytest.raises(BadResponseError):
            rerank(Fake(model(*PAIR)), ["a", "b"], value, datatype)

    def test_a_missing_output_is_an_error(self):
        with pytest.raises(BadResponseError, match="no output 'other'"):
            rerank(Fake(model(*PAIR), output_name="other"), ["a"], [1.0])


class TestLimits:
    def run(self, flow, answer):
        step = next(flow)
        while True:
            calls = step.calls if isinstance(step, Parallel) else [step]
            value = [call.read(answer(call)) for call in calls]
            try:
                step = flow.send(value if isinstance(step, Parallel) else value[0])
            except StopIteration as stop:
                return stop.value

    def runtime(self):
        class Counting(Fake):
            """Answers each document with the number it is."""

            def infer_call(self, request, read):
                call = super().infer_call(request, read)
                self.documents[id(call)] = request.inputs[1].texts()
                self.kept.append(call)
                return call

        runtime = Counting(model(*PAIR, max_batch_size=3, outputs=(SCORE,)))
        runtime.documents, runtime.kept = {}, []
        return runtime

    def scores(self, runtime):
        return lambda call: out("score", [[float(text)] for text in runtime.documents[id(call)]])

    def test_a_long_list_is_cut_to_what_the_model_takes(self):
        runtime = self.runtime()
        assert isinstance(runtime, LimitedReranking)
        documents = [str(number) for number in range(7)]
        ranking = self.run(rerank_all(runtime, "q", documents, top_n=4), self.scores(runtime))
        assert [result.index for result in ranking.results] == [6, 5, 4, 3]
        assert sorted(len(texts) for texts in runtime.documents.values()) == [1, 3, 3]

    def test_one_request_of_too_many_documents_is_cut_as_well(self):
        runtime = self.runtime()
        flow = runtime.rerank(RerankRequest(query="q", documents=[str(number) for number in range(7)], top_n=1))
        assert [result.index for result in self.run(flow, self.scores(runtime)).results] == [6]

    def test_documents_in_one_row_are_no_batch(self):
        row = model(spec("query", "BYTES", -1, 1), spec("passages", "BYTES", -1, -1), max_batch_size=4)
        assert Fake(row).rerank_limit() is None
        assert Fake(row, batch_size=9).rerank_limit() == 9
        assert Fake(model(*(spec(one.name, "BYTES", 8) for one in PAIR))).rerank_limit() == 8


class TestWire:
    class Triton(TensorReranking):
        dialect = TRITON

    def test_an_unknown_model_is_described_first_and_then_a_call_is_enough(self):
        runtime = self.Triton(model="rerank")
        request = RerankRequest(query="q", documents=["a", "b"])
        flow = runtime.rerank(request)
        metadata = (
            b'{"name":"rerank","versions":["1"],"platform":"python","inputs":[{"name":"query","datatype":"BYTES","shape":'
            b'[-1]},{"name":"passage","datatype":"BYTES","shape":[-1]}],"outputs":[{"name":"score","datatype":"FP32",'
            b'"shape":[-1,1]}]}'
        )
        call = next(flow)
        assert call.path == "/v2/models/rerank"
        call = flow.send(call.read(Response(200, {}, metadata)))
        call = flow.send(call.read(Response(200, {}, b'{"max_batch_size":0}')))
        assert call.path == "/v2/models/rerank/infer"
        body = (
            b'{"model_name":"rerank","model_version":"1","outputs":[{"name":"score","datatype":"FP32","shape":[2,1],'
            b'"data":[0.25,0.75]}]}'
        )
        with pytest.raises(StopIteration) as stopped:
            flow.send(call.read(Response(200, {"content-type": "application/json"}, body)))
        assert [(result.index, result.score) for result in stopped.value.value.results] == [(1, 0.75), (0, 0.25)]
        assert isinstance(runtime.rerank(request), Call)

    def test_a_model_that_is_not_there_is_an_error(self):
        flow = self.Triton(model="x").rerank(RerankRequest(query="q", documents=["a"]))
        call = next(flow)
        error = call.explain(Response(404, {}, b'{"error":"Request for unknown model: \'x\' is not found"}'))
        assert isinstance(error, ModelNotFoundError)
        index = flow.throw(error)
        with pytest.raises(ModelNotFoundError) as raised:
            flow.send(index.read(Response(200, {}, b'[{"name":"rerank","version":"1","state":"READY"}]')))
        assert "'rerank'" in raised.value.hint
