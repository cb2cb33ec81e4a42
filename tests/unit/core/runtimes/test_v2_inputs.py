"""Which inputs of a model the texts go to, and in what shape."""

from __future__ import annotations

import pytest
from unit.core.runtimes.v2_models import IDS, TEXT, model, spec

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.dialects import KSERVE, MLSERVER, TRITON, Dialect
from kserve_core.runtimes.open_inference.extras import extra_tensors, truncation
from kserve_core.runtimes.open_inference.inputs import (
    PairColumns,
    PairInputs,
    TextInput,
    TokenInputs,
    pair_inputs,
    text_input,
)
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.outputs import scores_output, vectors_output
from kserve_core.tensors import Tensor

COLUMN = Dialect(title="A server", text_column=True)


def chosen(metadata, dialect=TRITON, **options):
    return text_input(metadata, TensorOptions(**options), dialect)


def pair(metadata, **options):
    return pair_inputs(metadata, TensorOptions(**options), TRITON)


class TestText:
    @pytest.mark.parametrize(
        ("shape", "texts", "sent", "limit"),
        [
            ((-1,), ["a", "b"], ([2], ["a", "b"]), None),
            ((-1, 1), ["a", "b"], ([2, 1], ["a", "b"]), None),
            ((-1, -1), ["a", "b"], ([2, 1], ["a", "b"]), None),
            ((-1, 1, 1), ["a", "b"], ([2, 1, 1], ["a", "b"]), None),
            ((4,), ["a", "b"], ([4], ["a", "b", "b", "b"]), 4),
            ((4, 1), ["a", "b"], ([4, 1], ["a", "b", "b", "b"]), 4),
            ((1,), ["a"], ([1], ["a"]), 1),
            ((1, -1), ["a"], ([1, 1], ["a"]), 1),
            ((), ["a", "b"], ([2], ["a", "b"]), None),
        ],
    )
    def test_the_shape_follows_the_declared_one(self, shape, texts, sent, limit):
        found = chosen(model(spec("text", "BYTES", *shape)))
        tensor = found.tensor(texts)
        assert (list(tensor.shape), tensor.texts()) == sent
        assert found.layout.limit == limit

    def test_an_undeclared_input_has_the_servers_usual_shape(self):
        assert chosen(model(), input_name="x").tensor(["a", "b"]).shape == (2,)
        assert chosen(model(), COLUMN, input_name="x").tensor(["a", "b"]).shape == (2, 1)

    @pytest.mark.parametrize("name", ["text", "anything"])
    def test_the_only_text_input_is_taken(self, name):
        assert chosen(model(spec(name, "BYTES", -1), spec("k", "INT32", 1))).name == name

    def test_of_several_the_required_one_or_one_with_a_usual_name(self):
        assert chosen(model(spec("task", "BYTES", 1, optional=True), spec("q", "BYTES", -1))).name == "q"
        assert chosen(model(spec("instruction", "BYTES", 1), spec("TEXT", "BYTES", -1))).name == "TEXT"

    def test_several_of_which_none_is_usual_are_an_error_that_lists_them(self):
        with pytest.raises(ConfigurationError, match="not clear") as raised:
            chosen(model(spec("a", "BYTES", -1), spec("b", "BYTES", -1, 1)))
        assert raised.value.hint == "Set input_name. The model has the inputs 'a' (BYTES [-1]), 'b' (BYTES [-1, 1])."

    def test_a_name_that_is_given_wins(self):
        assert chosen(model(TEXT, spec("b", "BYTES", -1)), input_name="b").name == "b"

    @pytest.mark.parametrize("name", ["c", "n"])
    def test_a_name_that_does_not_fit_is_an_error(self, name):
        with pytest.raises(ConfigurationError) as raised:
            chosen(model(TEXT, spec("n", "FP32", -1)), input_name=name)
        assert "'text' (BYTES [-1])" in raised.value.hint

    def test_a_server_that_tells_nothing_needs_a_name(self):
        with pytest.raises(ConfigurationError, match="does not tell") as raised:
            chosen(model())
        assert "input_name" in raised.value.hint

    def test_of_mlserver_a_model_without_metadata_is_a_hugging_face_one(self):
        assert chosen(model(), MLSERVER).tensor(["a"]).name == "args"
        assert chosen(model(), MLSERVER, input_name="x").name == "x"

    def test_a_model_of_numbers_takes_no_text(self):
        with pytest.raises(ConfigurationError, match="not clear which input"):
            chosen(model(spec("x", "FP32", -1, 4)))

    def test_a_reranker_makes_no_vectors(self):
        with pytest.raises(ConfigurationError, match="pairs of texts"):
            chosen(model(spec("query", "BYTES", -1), spec("passage", "BYTES", -1)))

    def test_a_row_of_several_texts_is_no_list_of_texts(self):
        with pytest.raises(ConfigurationError, match="does not take single texts"):
            chosen(model(spec("text", "BYTES", -1, 3)))


class TestTokens:
    def test_the_usual_names_are_found_and_nothing_that_is_not_declared(self):
        found = chosen(model(*IDS))
        assert (found.ids.name, found.mask.name, found.types, found.positions) == (
            "input_ids",
            "attention_mask",
            None,
            None,
        )
        more = (spec("token_type_ids", "INT64", -1, -1), spec("position_ids", "INT64", -1, -1))
        found = chosen(model(*IDS, *more))
        assert (found.types, found.positions) == more

    def test_names_of_exported_models_are_understood(self):
        found = chosen(model(spec("serving_default_input_ids:0", "INT32", -1, 16), spec("input_mask", "INT32", -1, 16)))
        assert (found.ids.name, found.mask.name, found.length) == ("serving_default_input_ids:0", "input_mask", 16)

    def test_dimensions_that_are_fixed(self):
        found = chosen(model(spec("input_ids", "INT64", 8, 128)))
        assert (found.rows, found.length, found.flat) == (8, 128, False)
        found = chosen(model(spec("input_ids", "INT64", 128)))
        assert (found.rows, found.length, found.flat) == (None, 128, True)
        with pytest.raises(ConfigurationError, match="do not fit"):
            chosen(model(spec("input_ids", "INT64", -1, -1, 4)))

    def test_text_comes_first_unless_a_tokenizer_is_given(self):
        both = model(TEXT, *IDS)
        assert isinstance(chosen(both), TextInput)
        assert isinstance(chosen(both, tokenizer="t.json"), TokenInputs)
        assert isinstance(chosen(both, input_name="input_ids"), TokenInputs)

    def test_a_server_that_tells_nothing_is_believed_to_want_ids_and_mask(self):
        found = chosen(model(), input_name="input_ids", tokenizer="t.json")
        assert (found.ids.name, found.mask.name) == ("input_ids", "attention_mask")


class TestPairs:
    @pytest.mark.parametrize(
        ("query", "documents"),
        [
            ("query", "passage"),
            ("QUERY", "documents"),
            ("query", "text"),
            ("text", "text_pair"),
            ("text_1", "text_2"),
            ("sentence1", "sentence2"),
        ],
    )
    def test_the_usual_names_are_found_in_any_order(self, query, documents):
        found = pair(model(spec(documents, "BYTES", -1), spec(query, "BYTES", -1)))
        assert (found.query.name, found.documents.name) == (query, documents)

    def test_names_that_are_given_win(self):
        two = model(spec("a", "BYTES", -1), spec("b", "BYTES", -1))
        for options in ({"query_input_name": "b"}, {"input_name": "a"}, {"query_input_name": "b", "input_name": "a"}):
            found = pair(two, **options)
            assert (found.query.name, found.documents.name) == ("b", "a")
        with pytest.raises(ConfigurationError, match="query and documents"):
            pair(two)
        with pytest.raises(ConfigurationError, match="the same input"):
            pair(two, query_input_name="a", input_name="a")
        with pytest.raises(ConfigurationError, match="no input 'c'"):
            pair(two, query_input_name="c", input_name="a")

    @pytest.mark.parametrize(
        ("query", "documents", "shapes", "limit"),
        [
            ((-1,), (-1,), [[2], [2]], None),
            ((-1, 1), (-1, 1), [[2, 1], [2, 1]], None),
            ((-1, -1), (-1, -1), [[2, 1], [2, 1]], None),
            ((1,), (-1,), [[1], [2]], None),
            ((1,), (-1, 1), [[1], [2, 1]], None),
            ((1, 1), (1, -1), [[1, 1], [1, 2]], None),
            ((-1, 1), (-1, -1), [[1, 1], [1, 2]], None),
            ((4,), (4,), [[4], [4]], 4),
            ((1,), (4,), [[1], [4]], 4),
        ],
    )
    def test_the_query_is_repeated_where_the_model_has_room_for_it(self, query, documents, shapes, limit):
        found = pair(model(spec("query", "BYTES", *query), spec("passage", "BYTES", *documents)))
        assert isinstance(found, PairInputs)
        tensors = found.tensors("q", ["a", "b"])
        assert [list(tensor.shape) for tensor in tensors] == shapes
        assert set(tensors[0].texts()) == {"q"}
        assert tensors[1].texts()[:2] == ["a", "b"]
        assert found.limit == limit

    def test_shapes_that_do_not_go_together_are_an_error(self):
        with pytest.raises(ConfigurationError, match="different numbers"):
            pair(model(spec("query", "BYTES", 3), spec("passage", "BYTES", 4)))

    def test_one_input_may_take_both(self):
        found = pair(model(spec("pairs", "BYTES", -1, 2)))
        assert isinstance(found, PairColumns)
        (tensor,) = found.tensors("q", ["a", "b"])
        assert (tensor.shape, tensor.texts()) == ((2, 2), ["q", "a", "q", "b"])

    def test_a_model_of_single_texts_is_no_reranker(self):
        with pytest.raises(ConfigurationError, match="no reranker"):
            pair(model(TEXT))

    def test_a_server_that_tells_nothing_needs_both_names(self):
        with pytest.raises(ConfigurationError) as raised:
            pair(model())
        assert "query_input_name and input_name" in raised.value.hint
        assert pair(model(), query_input_name="q", input_name="d").tensors("x", ["a", "b"])[0].texts() == ["x", "x"]


class TestExtras:
    @pytest.mark.parametrize(
        ("shape", "value", "sent"),
        [
            ((1,), 3, ([1], [3])),
            ((-1, 1), 3, ([2, 1], [3, 3])),
            ((-1, 2), [1, 2], ([2, 2], [1, 2, 1, 2])),
            ((-1, 2), [[1, 2], [3, 4]], ([2, 2], [1, 2, 3, 4])),
            ((2,), 3, ([2], [3, 3])),
            ((), 3, ([1], [3])),
        ],
    )
    def test_values_are_repeated_to_the_declared_shape(self, shape, value, sent):
        (tensor,) = extra_tensors({"k": value}, model(TEXT, spec("k", "INT32", *shape)), 2, {"text"})
        assert (list(tensor.shape), tensor.flat()) == sent
        assert tensor.datatype == "INT32"

    def test_texts_are_as_good(self):
        (tensor,) = extra_tensors({"task": "query"}, model(TEXT, spec("task", "BYTES", -1, 1)), 2, {"text"})
        assert (tensor.shape, tensor.texts()) == ((2, 1), ["query", "query"])

    def test_a_tensor_goes_as_it_is(self):
        tensor = Tensor.of("k", [1], datatype="INT8", parameters={"content_type": "raw"})
        assert extra_tensors({"k": tensor}, model(TEXT, spec("k", "INT32", 1)), 2, set()) == [tensor]

    def test_what_the_model_does_not_declare_is_not_sent(self):
        with pytest.raises(ConfigurationError, match="no input 'k'") as raised:
            extra_tensors({"k": 1}, model(TEXT), 1, {"text"})
        assert "'text'" in raised.value.hint

    def test_arguments_of_hugging_face_models_are_never_declared(self):
        (tensor,) = extra_tensors({"truncation": True}, model(spec("args", "BYTES", -1)), 1, {"args"})
        assert (tensor.datatype, tensor.flat()) == ("BOOL", [True])

    def test_values_that_do_not_fit_are_an_error(self):
        with pytest.raises(ConfigurationError, match="does not fit into the input 'k'"):
            extra_tensors({"k": [1, 2, 3]}, model(TEXT, spec("k", "INT32", 2)), 1, {"text"})
        with pytest.raises(ConfigurationError, match="holds the texts"):
            extra_tensors({"text": "x"}, model(TEXT), 1, {"text"})

    def test_cutting_needs_an_input_or_parameter_for_it(self):
        assert truncation(None, model(TEXT), {}) == ({}, {})
        assert truncation(-1, model(TEXT, spec("truncate", "BOOL", 1)), {}) == ({"truncate": True}, {})
        assert truncation(9, model(TEXT, spec("truncate", "INT32", 1)), {}) == ({"truncate": 9}, {})
        assert truncation(9, model(TEXT), {"truncate": 1}) == ({}, {"truncate": 9})
        for metadata, tokens in ((model(TEXT), -1), (model(TEXT, spec("truncate", "BOOL", 1)), 9)):
            with pytest.raises(UnsupportedParameterError, match="cannot be told to cut"):
                truncation(tokens, metadata, {})
        for tokens in (0, -2):
            with pytest.raises(ConfigurationError, match="truncate must be"):
                truncation(tokens, model(TEXT), {})


class TestOutputs:
    def name(self, *names_and_ranks, pooling=None, output=None):
        outputs = tuple(spec(name, "FP32", *(-1,) * rank) for name, rank in names_and_ranks)
        return vectors_output(model(TEXT, outputs=outputs), output, pooling).name

    def test_pooled_vectors_come_before_token_states_and_berts_pooler_last(self):
        states, pooler = ("last_hidden_state", 3), ("pooler_output", 2)
        assert self.name(states, ("sentence_embedding", 2)) == "sentence_embedding"
        assert self.name(pooler, states) == "last_hidden_state"
        assert self.name(pooler, states, pooling="none") == "pooler_output"
        assert self.name(("sentence_embedding", 2), states, pooling="cls") == "last_hidden_state"
        assert self.name(("whatever", 2)) == "whatever"
        assert self.name(states, ("embedding", 2), output="last_hidden_state") == "last_hidden_state"

    def test_what_is_not_clear_is_an_error_that_lists_the_outputs(self):
        with pytest.raises(ConfigurationError, match="not clear") as raised:
            self.name(("a", 2), ("b", 2))
        assert "'a' (FP32 [-1, -1])" in raised.value.hint
        with pytest.raises(ConfigurationError, match="no output 'c'"):
            self.name(("a", 2), output="c")
        with pytest.raises(ConfigurationError, match="no token states"):
            self.name(("embedding", 2), pooling="mean")

    def test_scores_are_found_by_name_and_shape(self):
        both = (spec("embedding", "FP32", -1, 384), spec("relevance", "FP32", -1, 1))
        assert scores_output(model(outputs=both), None).name == "relevance"
        both = (spec("aux", "FP32", -1, 1), spec("logits", "FP16", -1, 2))
        assert scores_output(model(outputs=both), None).name == "logits"
        assert scores_output(model(outputs=both), "aux").name == "aux"
        with pytest.raises(ConfigurationError, match="no scores: it is no reranker"):
            scores_output(model(outputs=(spec("embedding", "FP32", -1, 384),)), None)
        assert scores_output(model(), None) is None


@pytest.mark.parametrize("dialect", [TRITON, MLSERVER, KSERVE])
def test_undeclared_text_of_every_server_is_a_plain_list(dialect):
    assert chosen(model(), dialect, input_name="x").tensor(["a"]).shape == (1,)
