"""Vectors out of a model's output tensors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kserve_core.errors import BadResponseError
from kserve_core.runtimes.open_inference.pooling import normalized, pool, read_vectors
from kserve_core.tensors import Tensor


def tensor(value, datatype="FP32", shape=None):
    return Tensor.of("out", value, datatype=datatype, shape=shape)


def reference(states, mask, how):
    """Pooling in plain Python."""
    vectors = []
    for row, marks in zip(states, mask, strict=True):
        kept = [state for state, mark in zip(row, marks, strict=True) if mark]
        if not kept:
            vectors.append([0.0] * len(row[0]))
        elif how == "mean":
            vectors.append([sum(column) / len(kept) for column in zip(*kept, strict=True)])
        else:
            vectors.append(list(kept[0 if how == "cls" else -1]))
    return vectors


@st.composite
def states_and_masks(draw):
    texts, tokens, length = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    states = draw(hnp.arrays(np.float64, (texts, tokens, length), elements=st.floats(-1e3, 1e3, allow_subnormal=False)))
    counts = draw(st.lists(st.integers(0, tokens), min_size=texts, max_size=texts))
    left = draw(st.booleans())
    rows = [[1] * count + [0] * (tokens - count) for count in counts]
    return states, np.array([row[::-1] if left else row for row in rows])


@given(states_and_masks(), st.sampled_from(["mean", "cls", "last"]))
def test_pooling_is_what_the_reference_says_whichever_side_is_padded(drawn, how):
    states, mask = drawn
    expected = reference(states.tolist(), mask.tolist(), how)
    np.testing.assert_allclose(pool(states, mask, how), expected, rtol=1e-9, atol=1e-9)


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e300, 1e300)))
@settings(max_examples=50)
def test_normalized_vectors_have_length_one_or_none(vectors):
    for before, after in zip(vectors, normalized(vectors), strict=True):
        assert math.isclose(np.linalg.norm(after), 1.0, rel_tol=1e-6) if before.any() else not after.any()


def test_what_is_padding_cannot_spoil_a_vector():
    states = np.array([[[1.0, 2.0], [np.nan, np.inf]]])
    for how in ("mean", "cls", "last"):
        assert pool(states, np.array([[1, 0]]), how).tolist() == [[1.0, 2.0]]


def test_vectors_that_are_there_are_taken_as_they_are():
    assert read_vectors(tensor([[0.5, 1.5], [2.5, 3.5]]), count=2) == [[0.5, 1.5], [2.5, 3.5]]
    assert read_vectors(tensor([[3.0, 4.0]]), count=1, normalize=True)[0] == pytest.approx([0.6, 0.8])
    assert read_vectors(tensor([1.0, 2.0]), count=1) == [[1.0, 2.0]]
    assert read_vectors(tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), count=2) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64", "INT8", "UINT8", "INT32"])
@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 2)])
def test_every_width_gives_floats(datatype, shape):
    vectors = read_vectors(tensor([1, 2, 3, 4], datatype, shape), count=2)
    assert vectors == [[1.0, 2.0], [3.0, 4.0]]
    assert all(type(value) is float for vector in vectors for value in vector)


def test_token_states_are_averaged_unless_told_otherwise():
    states = tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 6.0], [9.0, 9.0], [9.0, 9.0]]])
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    assert read_vectors(states, count=2, mask=mask) == [[2.0, 3.0], [5.0, 6.0]]
    assert read_vectors(states, count=2, mask=mask, pooling="last") == [[3.0, 4.0], [5.0, 6.0]]
    assert read_vectors(states, count=2, mask=mask, pooling="cls") == [[1.0, 2.0], [5.0, 6.0]]
    with pytest.raises(BadResponseError, match="3 token states") as raised:
        read_vectors(states, count=2, mask=mask, pooling="none")
    assert '"mean"' in raised.value.hint


def test_halves_are_averaged_in_more_than_their_own_width():
    states = tensor(np.full((1, 100, 1), 60000.0, np.float16), "FP16")
    assert read_vectors(states, count=1) == [[60000.0]]


def test_token_states_of_several_texts_need_a_mask():
    states = tensor(np.ones((2, 3, 4), np.float32))
    assert read_vectors(states, count=2, pooling="cls") == [[1.0] * 4] * 2
    for how in (None, "mean", "last"):
        with pytest.raises(BadResponseError, match="padding") as raised:
            read_vectors(states, count=2, pooling=how)
        assert "batch_size=1" in raised.value.hint


def test_vectors_of_copies_are_left_out():
    assert read_vectors(tensor([[1.0], [2.0], [2.0]]), count=2, rows=3) == [[1.0], [2.0]]
    states = tensor([[[1.0], [3.0]], [[5.0], [7.0]]])
    assert read_vectors(states, count=1, rows=2, mask=np.array([[1, 1]])) == [[2.0]]


def test_a_model_without_a_batch_dimension():
    assert read_vectors(tensor([[1.0], [3.0]]), count=1, rows=1, flat=True, mask=np.array([[1, 1]])) == [[2.0]]
    assert read_vectors(tensor([1.0, 3.0]), count=1, rows=1, flat=True, mask=np.array([[1, 1]])) == [[1.0, 3.0]]
    states = tensor([[[1.0], [3.0]]])
    assert read_vectors(states, count=1, rows=1, flat=True, mask=np.array([[1, 1]])) == [[2.0]]


@pytest.mark.parametrize(
    ("value", "count", "problem"),
    [
        ([[1.0]], 2, "1 vectors came for 2 texts"),
        ([[1.0], [2.0], [3.0]], 2, "3 vectors came for 2 texts"),
        ([1.0, 2.0], 2, "shape"),
        ([[1.0, math.nan]], 1, "NaN"),
        ([[1.0, math.inf]], 1, "NaN or infinite"),
        ([[math.inf, -math.inf]], 1, "NaN or infinite"),
        (np.zeros((2, 0), np.float32), 2, "empty"),
        (np.ones((1, 1, 2, 2), np.float32), 1, "shape"),
        (np.zeros((1, 0, 4), np.float32), 1, "no token states"),
    ],
)
def test_what_is_no_list_of_vectors_is_an_error(value, count, problem):
    with pytest.raises(BadResponseError, match=problem):
        read_vectors(tensor(value), count=count)


def test_one_nan_among_many_numbers_is_found():
    many = np.ones((64, 384), np.float32)
    assert len(read_vectors(tensor(many), count=64)) == 64
    many[17, 3] = np.nan
    with pytest.raises(BadResponseError, match="NaN"):
        read_vectors(tensor(many), count=64)


def test_large_numbers_are_no_infinity():
    many = np.full((2, 4096), 3e38, np.float32)
    assert len(read_vectors(tensor(many), count=2)) == 2


def test_vectors_have_the_length_that_was_asked_for():
    with pytest.raises(BadResponseError, match="length 3 were expected"):
        read_vectors(tensor([[1.0, 2.0]]), count=1, dimensions=3)


def test_pooling_what_is_pooled_is_an_error():
    with pytest.raises(BadResponseError, match="no token states") as raised:
        read_vectors(tensor([[1.0, 2.0]]), count=1, pooling="mean")
    assert "leave pooling out" in raised.value.hint


def test_texts_and_masks_of_different_lengths_are_an_error():
    with pytest.raises(BadResponseError, match="2 token states where 3 tokens were sent"):
        read_vectors(tensor([[[1.0], [2.0]]]), count=1, mask=np.ones((1, 3)))


class TestJson:
    """What MLServer's Hugging Face runtime answers for feature extraction: each element a JSON text."""

    def elements(self, *values):
        return Tensor("output", "BYTES", (len(values), 1), None, [json.dumps(value) for value in values])

    @pytest.mark.parametrize("value", [[[1, 2], [3, 4]], [[[1, 2], [3, 4]]]])
    def test_token_states_are_pooled(self, value):
        assert read_vectors(self.elements(value), count=1) == [[2.0, 3.0]]
        assert read_vectors(self.elements(value), count=1, pooling="cls") == [[1.0, 2.0]]
        assert read_vectors(self.elements(value), count=1, pooling="last") == [[3.0, 4.0]]

    def test_vectors_are_taken(self):
        assert read_vectors(self.elements([3, 4]), count=1, normalize=True)[0] == pytest.approx([0.6, 0.8])

    def test_one_answer_for_several_texts_is_an_error(self):
        with pytest.raises(BadResponseError, match="1 results came for 2 texts") as raised:
            read_vectors(self.elements([[1, 2]]), count=2)
        assert "batch_size=1" in raised.value.hint

    @pytest.mark.parametrize(
        "value", [{"label": "x"}, "text", [], [[1], [1, 2]], ["a"], 3, [[[1], [2]], [[1], [2]]], [None]]
    )
    def test_anything_else_is_an_error(self, value):
        with pytest.raises(BadResponseError):
            read_vectors(self.elements(value), count=1)

    def test_a_generated_text_is_not_shown(self):
        with pytest.raises(BadResponseError, match="holds text") as raised:
            read_vectors(Tensor("text_output", "BYTES", (1,), None, ["secret"]), count=1)
        assert "secret" not in str(raised.value) + raised.value.server_message

    def test_what_is_no_json_is_an_error(self):
        with pytest.raises(BadResponseError):
            read_vectors(Tensor("output", "BYTES", (1,), None, ["[1, NaN"]), count=1)
