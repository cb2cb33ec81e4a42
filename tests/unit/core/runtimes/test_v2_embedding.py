"""Embeddings by models of the Open Inference Protocol."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import orjson
import pytest
from unit.core.runtimes.v2_models import IDS, STATES, TEXT, VECTORS, Fake, model, out, shown, spec

from kserve_core.batching import embed_all
from kserve_core.calls import Call, Parallel, Response
from kserve_core.capabilities import (
    ChatRequest,
    EmbeddingRequest,
    EmbeddingRuntime,
    LimitedEmbeddings,
    TokenizerRuntime,
)
from kserve_core.errors import (
    BadResponseError,
    ConfigurationError,
    ContextOverflowError,
    KServeError,
    RequestTooLargeError,
    UnsupportedParameterError,
)
from kserve_core.protos import messages
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings

TOKENIZER = Path(__file__).parent / "fixtures" / "v2" / "tokenizer.json"


def embed(runtime, *texts, outputs, **request):
    """The vectors that come of some output tensors."""
    return runtime.embed(EmbeddingRequest(texts=texts, **request)).read(outputs).embeddings


def finish(flow):
    """The result of a flow that asks nothing."""
    with pytest.raises(StopIteration) as stopped:
        next(flow)
    return stopped.value.value


def batches(runtime, texts, answer, **options):
    """Runs `embed_all` over a runtime; `answer` makes the output tensors of a request, or an error."""
    flow = embed_all(runtime, texts, **options)

    def one(call):
        request = made[id(call)]
        try:
            return call.read(answer(request))
        except KServeError as error:
            return error

    made = {}
    original = runtime.infer_call

    def infer_call(request, read):
        call = original(request, read)
        made[id(call)] = request
        kept.append(call)
        return call

    kept = []
    runtime.infer_call = infer_call
    step = next(flow)
    while True:
        value = [one(call) for call in step.calls] if isinstance(step, Parallel) else one(step)
        try:
            step = flow.throw(value) if isinstance(value, KServeError) else flow.send(value)
        except StopIteration as stop:
            return stop.value


class TestText:
    def test_texts_go_out_and_vectors_come_back(self):
        runtime = Fake(model(TEXT, outputs=(VECTORS,)))
        assert embed(runtime, "a", "ö☃", outputs=out("embedding", [[1, 2], [3, 4]])) == [[1.0, 2.0], [3.0, 4.0]]
        (request,) = runtime.sent
        assert shown(request) == {"text": ("BYTES", [2], ["a", "ö☃"])}
        assert request.outputs == ("embedding",)
        assert not request.parameters

    def test_the_protocol_counts_no_tokens(self):
        result = Fake(model(TEXT)).embed(EmbeddingRequest(texts=["a"])).read(out("embedding", [[1.0]]))
        assert (result.usage, result.model) == (None, "m")

    def test_what_the_user_set_goes_along(self):
        metadata = model(TEXT, spec("task", "BYTES", -1, 1), spec("k", "INT32", 1), outputs=(VECTORS,))
        runtime = Fake(metadata, extra_inputs={"task": "query", "k": 3}, parameters={"a": 1, "b": 2}, model_version=7)
        request = EmbeddingRequest(texts=["a", "b"], extra_body={"b": 3}, headers={"x-request-id": "r"})
        runtime.embed(request)
        (sent,) = runtime.sent
        assert shown(sent) == {
            "text": ("BYTES", [2], ["a", "b"]),
            "task": ("BYTES", [2, 1], ["query", "query"]),
            "k": ("INT32", [1], [3]),
        }
        assert sent.parameters == {"a": 1, "b": 3}
        assert (sent.version, sent.headers) == ("7", {"x-request-id": "r"})

    def test_a_server_without_metadata_is_asked_by_the_names_given(self):
        runtime = Fake(model(), input_name="in", output_name="out")
        assert embed(runtime, "a", outputs=out("out", [[1.0]]) + out("embedding", [[2.0]])) == [[1.0]]
        assert shown(runtime.sent[0]) == {"in": ("BYTES", [1], ["a"])}
        assert runtime.sent[0].outputs == ("out",)

    def test_an_answer_decides_where_no_outputs_are_declared(self):
        runtime = Fake(model(TEXT))
        assert embed(runtime, "a", outputs=out("x", [[1.0]])) == [[1.0]]
        assert embed(runtime, "a", outputs=out("x", [[1.0]]) + out("embeddings", [[2.0]])) == [[2.0]]
        assert runtime.sent[0].outputs == ()
        with pytest.raises(BadResponseError, match="not clear which output") as raised:
            embed(runtime, "a", outputs=out("x", [[1.0]]) + out("y", [[2.0]]))
        assert "'x', 'y'" in raised.value.hint

    def test_an_output_that_is_missing_is_an_error(self):
        with pytest.raises(BadResponseError, match="no output 'embedding'"):
            embed(Fake(model(TEXT, outputs=(VECTORS,))), "a", outputs=out("x", [[1.0]]) + out("y", [[1.0]]))
        with pytest.raises(BadResponseError, match="no output 'z'"):
            embed(Fake(model(TEXT), output_name="z"), "a", outputs=out("x", [[1.0]]))

    def test_a_vector_is_missing(self):
        with pytest.raises(BadResponseError, match="1 vectors came for 2 texts"):
            embed(Fake(model(TEXT)), "a", "b", outputs=out("embedding", [[1.0]]))

    @pytest.mark.parametrize("texts", [[], ["a", 3]])
    def test_what_is_no_text_is_refused(self, texts):
        with pytest.raises(ConfigurationError):
            Fake(model(TEXT)).embed(EmbeddingRequest(texts=texts))

    def test_the_length_of_vectors_is_asked_for_where_the_model_can(self):
        with pytest.raises(UnsupportedParameterError, match="cannot shorten"):
            Fake(model(TEXT)).embed(EmbeddingRequest(texts=["a"], dimensions=2))
        runtime = Fake(model(TEXT, spec("dimensions", "INT32", 1)))
        assert embed(runtime, "a", dimensions=2, outputs=out("v", [[1.0, 2.0]])) == [[1.0, 2.0]]
        assert shown(runtime.sent[0])["dimensions"] == ("INT32", [1], [2])
        with pytest.raises(BadResponseError, match="length 3"):
            embed(runtime, "a", dimensions=3, outputs=out("v", [[1.0, 2.0]]))

    def test_cutting_is_left_to_a_model_that_knows_how(self):
        with pytest.raises(UnsupportedParameterError):
            Fake(model(TEXT)).embed(EmbeddingRequest(texts=["a"], truncate=-1))
        runtime = Fake(model(TEXT, spec("truncate", "BOOL", 1)))
        runtime.embed(EmbeddingRequest(texts=["a"], truncate=-1))
        assert shown(runtime.sent[0])["truncate"] == ("BOOL", [1], [True])
        runtime = Fake(model(TEXT), parameters={"truncate": 5})
        runtime.embed(EmbeddingRequest(texts=["a"], truncate=9))
        assert runtime.sent[0].parameters == {"truncate": 9}

    def test_max_length_is_kept_by_a_tokenizer(self):
        with pytest.raises(ConfigurationError, match="no tokenizer to count"):
            Fake(model(TEXT), max_length=4).embed(EmbeddingRequest(texts=["a"]))
        runtime = Fake(model(TEXT), max_length=4, tokenizer=TOKENIZER)
        runtime.embed(EmbeddingRequest(texts=["the cat"]))
        with pytest.raises(ContextOverflowError, match="5 tokens; the limit is 4"):
            runtime.embed(EmbeddingRequest(texts=["the cat sat"]))
        assert len(runtime.sent) == 1

    def test_vectors_are_scaled_if_asked(self):
        runtime = Fake(model(TEXT), normalize=True)
        assert embed(runtime, "a", outputs=out("embedding", [[3.0, 4.0]]))[0] == pytest.approx([0.6, 0.8])


class TestTokens:
    def runtime(self, *inputs, outputs=(STATES,), **options):
        return Fake(model(*(inputs or IDS), outputs=outputs), **{"tokenizer": TOKENIZER, **options})

    def test_texts_become_ids_and_states_are_pooled(self):
        runtime = self.runtime()
        states = [[[1, 1], [3, 3], [5, 5], [7, 7]], [[1, 1], [2, 2], [3, 3], [99, 99]]]
        vectors = embed(runtime, "the cat", "the", outputs=out("last_hidden_state", states))
        assert vectors == [[4.0, 4.0], [2.0, 2.0]]
        assert shown(runtime.sent[0]) == {
            "input_ids": ("INT64", [2, 4], [2, 4, 6, 3, 2, 4, 3, 0]),
            "attention_mask": ("INT64", [2, 4], [1, 1, 1, 1, 1, 1, 1, 0]),
        }

    def test_datatypes_and_inputs_are_the_declared_ones(self):
        names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
        datatypes = ("INT32", "FP32", "INT32", "INT64")
        runtime = self.runtime(
            *(spec(name, kind, -1, -1) for name, kind in zip(names, datatypes, strict=True)), spec("x", "FP32", 1)
        )
        runtime.embed(EmbeddingRequest(texts=["the"]))
        assert shown(runtime.sent[0]) == {
            "input_ids": ("INT32", [1, 3], [2, 4, 3]),
            "attention_mask": ("FP32", [1, 3], [1.0, 1.0, 1.0]),
            "token_type_ids": ("INT32", [1, 3], [0, 0, 0]),
            "position_ids": ("INT64", [1, 3], [0, 1, 2]),
        }

    def test_a_fixed_batch_is_filled_up_and_the_filling_dropped(self):
        runtime = self.runtime(spec("input_ids", "INT64", 3, 4), spec("attention_mask", "INT64", 3, 4), outputs=())
        assert runtime.embedding_limit() == 3
        assert embed(runtime, "the", outputs=out("e", [[1.0], [2.0], [2.0]])) == [[1.0]]
        assert shown(runtime.sent[0])["input_ids"] == ("INT64", [3, 4], [2, 4, 3, 0] * 3)
        with pytest.raises(ConfigurationError, match="takes 3 texts in one request, not 4"):
            runtime.embed(EmbeddingRequest(texts=["the"] * 4))

    def test_a_model_without_a_batch_dimension(self):
        runtime = self.runtime(spec("input_ids", "INT64", -1), spec("attention_mask", "INT64", -1), outputs=())
        assert runtime.embedding_limit() == 1
        assert embed(runtime, "the", outputs=out("s", [[1.0], [2.0], [6.0]])) == [[3.0]]
        assert shown(runtime.sent[0])["input_ids"] == ("INT64", [3], [2, 4, 3])

    def test_a_text_that_is_too_long_is_told_before_anything_is_sent(self):
        runtime = self.runtime()
        with pytest.raises(ContextOverflowError, match=r"position 1 .* has 32 tokens; the limit is 12"):
            runtime.embed(EmbeddingRequest(texts=["the", "the " * 30]))
        assert not runtime.sent

    @pytest.mark.parametrize(
        ("options", "inputs", "limit"),
        [
            ({"max_length": 20}, IDS, 20),
            ({"max_length": 20}, (spec("input_ids", "INT64", -1, 16),), 16),
            ({}, (spec("input_ids", "INT64", -1, 8),), 8),
            ({}, IDS, 12),
        ],
    )
    def test_the_limit_is_the_users_or_the_files_and_never_more_than_fits(self, options, inputs, limit):
        runtime = self.runtime(*inputs, **options)
        with pytest.raises(ContextOverflowError, match=f"the limit is {limit}"):
            runtime.embed(EmbeddingRequest(texts=["the " * 30]))
        runtime.embed(EmbeddingRequest(texts=["the " * 30], truncate=-1))
        assert sum(shown(runtime.sent[0])["input_ids"][2][-1:]) == 3  # [SEP] is kept
        assert len(shown(runtime.sent[0])["input_ids"][2]) == limit
        runtime.embed(EmbeddingRequest(texts=["the " * 30], truncate=5))
        assert [token for token in shown(runtime.sent[1])["input_ids"][2] if token] == [2, 4, 4, 4, 3]
        with pytest.raises(ConfigurationError, match=f"more than the {limit} tokens"):
            runtime.embed(EmbeddingRequest(texts=["the"], truncate=limit + 1))

    def test_a_tokenizer_is_needed(self):
        with pytest.raises(ConfigurationError, match="takes token ids") as raised:
            self.runtime(tokenizer=None).embed(EmbeddingRequest(texts=["a"]))
        assert "tokenizer=" in raised.value.hint

    def test_states_whose_number_differs_are_an_error(self):
        with pytest.raises(BadResponseError, match="2 token states where 3 tokens"):
            embed(self.runtime(), "the", outputs=out("last_hidden_state", [[[1.0], [2.0]]]))

    def test_pooling_can_be_chosen(self):
        states = out("last_hidden_state", [[[1.0], [2.0], [6.0]]])
        assert embed(self.runtime(pooling="cls"), "the", outputs=states) == [[1.0]]
        assert embed(self.runtime(pooling="last"), "the", outputs=states) == [[6.0]]

    def test_only_the_output_that_is_read_is_asked_for(self):
        runtime = self.runtime(outputs=(STATES, spec("sentence_embedding", "FP32", -1, 2)))
        runtime.embed(EmbeddingRequest(texts=["the"]))
        assert runtime.sent[0].outputs == ("sentence_embedding",)


class TestLimits:
    @pytest.mark.parametrize(
        ("metadata", "options", "limit"),
        [
            (model(TEXT), {}, None),
            (model(TEXT, max_batch_size=0), {}, None),
            (model(spec("text", "BYTES", -1, 1), max_batch_size=8), {}, 8),
            (model(spec("text", "BYTES", -1, 1), max_batch_size=8), {"batch_size": 4}, 4),
            (model(TEXT), {"batch_size": 4}, 4),
            (model(spec("text", "BYTES", 16)), {}, 16),
            (model(spec("text", "BYTES", 1)), {}, 1),
            (model(spec("args", "BYTES", -1)), {}, 1),
            (model(spec("x", "BYTES", -1, parameters={"content_type": "hg_jsonlist"})), {}, 1),
            (model(TEXT, outputs=(STATES,)), {}, 1),
            (model(TEXT, outputs=(STATES,)), {"pooling": "cls"}, None),
        ],
    )
    def test_the_most_texts_of_one_request(self, metadata, options, limit):
        assert Fake(metadata, **options).embedding_limit() == limit

    def test_a_long_list_is_cut_to_what_the_model_takes(self):
        runtime = Fake(model(spec("text", "BYTES", -1, 1), max_batch_size=3, outputs=(VECTORS,)))
        assert isinstance(runtime, LimitedEmbeddings)

        def answer(request):
            return out("embedding", [[float(text)] for text in request.inputs[0].texts()])

        result = batches(runtime, [str(number) for number in range(8)], answer)
        assert [vector[0] for vector in result.embeddings] == list(range(8))
        assert [request.inputs[0].shape for request in runtime.sent] == [(3, 1), (3, 1), (2, 1)]

    def test_a_batch_that_is_too_large_all_the_same_is_halved(self):
        runtime = Fake(model(TEXT, outputs=(VECTORS,)))

        def answer(request):
            texts = request.inputs[0].texts()
            if len(texts) > 2:
                raise RequestTooLargeError("too large")
            return out("embedding", [[float(text)] for text in texts])

        result = batches(runtime, [str(number) for number in range(6)], answer, batch_size=6)
        assert [vector[0] for vector in result.embeddings] == list(range(6))

    def test_a_text_that_is_too_long_is_placed_in_the_whole_list(self):
        runtime = Fake(model(*IDS, max_batch_size=2), tokenizer=TOKENIZER)
        flow = embed_all(runtime, ["the", "the", "the", "the " * 30])
        with pytest.raises(ContextOverflowError) as raised:
            next(flow)
        assert "positions 2 to 3" in raised.value.hint

    def test_no_text_is_made_into_tokens_twice(self, monkeypatch):
        runtime = Fake(model(*IDS, outputs=(spec("embedding", "FP32", -1, 1),)), tokenizer=TOKENIZER)
        batches(
            runtime, ["the"] * 6, lambda request: out("embedding", [[1.0]] * request.inputs[0].shape[0]), batch_size=2
        )
        assert len(runtime.sent) == 3


def test_hugging_face_results_are_pooled():
    """MLServer's runtime answers one JSON text a request: the states of the text's tokens."""
    answer = out("output", ["[[1,2],[3,4]]"], "BYTES")
    runtime = Fake(model(spec("args", "BYTES", -1)))
    assert embed(runtime, "a", outputs=answer) == [[2.0, 3.0]]
    wrong = model(spec("array_inputs", "BYTES", -1), outputs=(spec("output", "FP64", -1, -1),))
    assert embed(Fake(wrong, input_name="args", pooling="cls"), "a", outputs=answer) == [[1.0, 2.0]]


def test_token_counts_are_made_here():
    runtime = Fake(model(*IDS), tokenizer=TOKENIZER)
    assert isinstance(runtime, (EmbeddingRuntime, TokenizerRuntime))
    counted = finish(runtime.tokenize("the cats"))
    assert (counted.count, counted.tokens) == (5, ["[CLS]", "the", "cat", "##s", "[SEP]"])
    assert counted.max_model_len == 12
    assert finish(runtime.tokenize("the cats", add_special_tokens=False)).count == 3
    assert finish(runtime.detokenize([4, 6])) == "the cat"
    with pytest.raises(UnsupportedParameterError):
        runtime.tokenize_messages(ChatRequest(messages=[]))
    with pytest.raises(UnsupportedParameterError, match="does not count tokens"):
        Fake(model(TEXT)).tokenize("the")


class TestWire:
    """Bytes as Triton 2.51 sends them (compact JSON, the number of its bytes in a header, raw numbers behind)."""

    METADATA = (
        b'{"name":"embed","versions":["1"],"platform":"python","inputs":[{"name":"text","datatype":"BYTES","shape":[-1]}],'
        b'"outputs":[{"name":"embedding","datatype":"FP32","shape":[-1,2]}]}'
    )
    CONFIG = b'{"name":"embed","platform":"","backend":"python","max_batch_size":0,"input":[],"output":[]}'

    class Triton(TensorEmbeddings):
        dialect = TRITON

    def described(self, **options):
        """A runtime that has read its model's metadata, and how often it asked."""
        runtime = self.Triton(model="embed", **options)
        flow = runtime.resolve_model()
        call = next(flow)
        calls = 0
        while True:
            calls += 1
            body = self.CONFIG if call.path.endswith("/config") else self.METADATA
            try:
                call = flow.send(call.read(Response(200, {"content-type": "application/json"}, body)))
            except StopIteration:
                return runtime, calls

    def test_metadata_is_read_once(self):
        runtime, calls = self.described()
        assert calls == 2
        assert finish(runtime.resolve_model()) == "embed"

    def test_a_model_must_be_known(self):
        with pytest.raises(ConfigurationError, match="not known yet") as raised:
            self.Triton(model="embed").embed(EmbeddingRequest(texts=["a"]))
        assert "resolve_model()" in raised.value.hint

    def test_rest_in_raw_bytes(self):
        runtime, _ = self.described()
        call = runtime.embed(EmbeddingRequest(texts=["hi", "wörld"]))
        assert isinstance(call, Call)
        assert call.path == "/v2/models/embed/infer"
        size = int(call.headers.get("inference-header-content-length", len(call.body)))
        body = orjson.loads(call.body[:size])
        (sent,) = body["inputs"]
        assert (sent["name"], sent["datatype"], sent["shape"]) == ("text", "BYTES", [2])
        if "data" in sent:
            assert sent["data"] == ["hi", "wörld"]
        else:
            assert call.body[size:] == b"\x02\0\0\0hi\x06\0\0\0w\xc3\xb6rld"
        head = (
            b'{"id":"1","model_name":"embed","model_version":"1","outputs":[{"name":"embedding","datatype":"FP32",'
            b'"shape":[2,2],"parameters":{"binary_data_size":16}}]}'
        )
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        result = call.read(Response(200, headers, head + struct.pack("<4f", 0.5, 1, 1.5, 2)))
        assert result.embeddings == [[0.5, 1.0], [1.5, 2.0]]
        assert result.model == "embed"

    def test_rest_in_json(self):
        runtime, _ = self.described()
        call = runtime.embed(EmbeddingRequest(texts=["hi"]))
        body = (
            b'{"model_name":"embed","model_version":"1","outputs":[{"name":"embedding","datatype":"FP32","shape":[1,2],'
            b'"data":[0.10000000149011612,2.0]}]}'
        )
        result = call.read(Response(200, {"content-type": "application/json"}, body))
        assert result.embeddings == [[0.10000000149011612, 2.0]]

    def test_grpc(self):
        runtime = self.Triton(model="embed", protocol="grpc")
        flow = runtime.resolve_model()
        call = next(flow)
        metadata = messages.get("inference.ModelMetadataResponse")(
            name="embed",
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            outputs=[{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}],
        )
        call = flow.send(call.read(metadata))
        with pytest.raises(StopIteration):
            flow.send(call.read(call.response_type()))
        call = runtime.embed(EmbeddingRequest(texts=["hi", "wörld"]))
        assert call.request.inputs[0].shape == [2]
        assert list(call.request.raw_input_contents) == [b"\x02\0\0\0hi\x06\0\0\0w\xc3\xb6rld"]
        answer = messages.get("inference.ModelInferResponse")(
            model_name="embed",
            outputs=[{"name": "embedding", "datatype": "FP32", "shape": [2, 2]}],
            raw_output_contents=[struct.pack("<4f", 0.5, 1, 1.5, 2)],
        )
        assert call.read(answer).embeddings == [[0.5, 1.0], [1.5, 2.0]]

    def test_it_pickles_with_what_it_knows(self):
        runtime, _ = self.described(tokenizer=TOKENIZER)
        finish(runtime.tokenize("the"))
        copy = pickle.loads(pickle.dumps(runtime))
        assert finish(copy.resolve_model()) == "embed"
        assert finish(copy.tokenize("the")).count == 3

    def test_an_inner_name_is_not_the_one_to_ask_by(self):
        """ModelMesh describes a model by a name it has inside."""
        runtime = self.Triton(model="outer")
        flow = runtime.resolve_model()
        call = next(flow)
        call = flow.send(call.read(Response(200, {}, self.METADATA)))
        config = call.read(Response(200, {}, self.CONFIG))
        with pytest.raises(StopIteration) as stopped:
            flow.send(config)
        assert stopped.value.value == "outer"
        assert runtime.embed(EmbeddingRequest(texts=["a"])).path == "/v2/models/outer/infer"


def test_an_extra_input_with_parts_of_different_lengths_is_refused():
    runtime = Fake(model(TEXT, spec("k", "INT32", -1, 2), outputs=(VECTORS,)), extra_inputs={"k": [[1], [1, 2]]})
    with pytest.raises(ConfigurationError, match="differ in length"):
        runtime.embed(EmbeddingRequest(texts=["a"]))
