"""Token ids made by a local tokenizer.json: a small WordPiece with [CLS] and [SEP], that pads to 16 and cuts to 12."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.errors import ConfigurationError, ContextOverflowError
from kserve_core.runtimes.open_inference.tokenizing import LocalTokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers")

PATH = Path(__file__).parent / "fixtures" / "v2" / "tokenizer.json"
CLS, SEP, THE, CAT = 2, 3, 4, 6


@pytest.fixture
def tokenizer():
    return load_tokenizer(PATH)


def changed(folder, **members):
    """The tokenizer's file with other settings."""
    content = json.loads(PATH.read_text())
    content.update(members)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(content))
    return file


def test_rows_are_padded_to_the_longest_and_not_to_the_files_own_length(tokenizer):
    tokens = tokenizer.encode(["the cat", "the"])
    assert tokens.ids.tolist() == [[CLS, THE, CAT, SEP], [CLS, THE, SEP, 0]]
    assert tokens.mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert tokens.types.tolist() == [[0] * 4] * 2


def test_rows_are_padded_to_the_length_a_model_wants(tokenizer):
    tokens = tokenizer.encode(["the cat"], length=8)
    assert tokens.ids.shape == (1, 8)
    assert tokens.mask.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_pairs_have_types(tokenizer):
    tokens = tokenizer.encode(["the", "the"], pairs=["cat cat", "cat"])
    assert tokens.ids.tolist() == [[CLS, THE, SEP, CAT, CAT, SEP], [CLS, THE, SEP, CAT, SEP, 0]]
    assert tokens.types.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]


def test_the_left_is_padded_where_the_file_says_so(tmp_path):
    padding = json.loads(PATH.read_text())["padding"]
    tokenizer = load_tokenizer(changed(tmp_path, padding={**padding, "direction": "Left", "pad_id": 9}))
    tokens = tokenizer.encode(["the cat", "the"])
    assert tokens.ids.tolist() == [[CLS, THE, CAT, SEP], [9, CLS, THE, SEP]]
    assert tokens.mask.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
    assert tokens.positions.tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]


def test_the_pad_token_is_found_where_the_file_has_no_padding(tmp_path):
    assert load_tokenizer(changed(tmp_path, padding=None)).pad_id == 0


def test_nothing_is_cut_unless_asked_for(tokenizer):
    assert tokenizer.max_length == 12
    assert tokenizer.encode(["the " * 30]).ids.shape == (1, 32)
    with pytest.raises(
        ContextOverflowError, match=r"The text at position 1 .* has 32 tokens; the limit is 12"
    ) as raised:
        tokenizer.encode(["the", "the " * 30], limit=12)
    assert raised.value.layer == "client"
    assert "truncate=-1" in raised.value.hint


def test_a_cut_text_keeps_its_special_tokens(tokenizer):
    tokens = tokenizer.encode(["the cat the cat", "the"], cut=4, limit=4)
    assert tokens.ids.tolist() == [[CLS, THE, CAT, SEP], [CLS, THE, SEP, 0]]


def test_the_beginning_is_cut_where_the_file_says_so(tmp_path):
    truncation = json.loads(PATH.read_text())["truncation"]
    tokenizer = load_tokenizer(changed(tmp_path, truncation={**truncation, "direction": "Left"}))
    assert tokenizer.encode(["the the cat"], cut=3).ids.tolist() == [[CLS, CAT, SEP]]


@given(
    first=st.integers(0, 12), second=st.integers(0, 12), cut=st.integers(5, 20), side=st.sampled_from(["left", "right"])
)
def test_pairs_are_cut_as_the_library_cuts_them(first, second, cut, side):
    """`longest_first`, the usual way for rerankers, done outside the tokenizer."""
    reference = tokenizers.Tokenizer.from_file(str(PATH))
    reference.no_padding()
    reference.enable_truncation(cut, direction=side)
    base = tokenizers.Tokenizer.from_file(str(PATH))
    base.enable_truncation(12, direction=side)
    pair = ("the cat " * 6)[: 4 * first].strip(), ("dog a " * 6)[: 4 * second].strip()
    ours = LocalTokenizer("", base).encode([pair[0]], pairs=[pair[1]], cut=cut)
    expected = reference.encode(*pair)
    assert ours.ids[0, : ours.mask.sum()].tolist() == expected.ids
    assert ours.types[0, : ours.mask.sum()].tolist() == expected.type_ids


def test_special_tokens_need_room(tokenizer):
    with pytest.raises(ConfigurationError, match="leave no room"):
        tokenizer.encode(["the cat"], cut=2)


def test_a_text_that_is_none_is_refused_without_being_shown(tokenizer):
    for text in (3, "secret \ud800"):
        with pytest.raises(ConfigurationError) as raised:
            tokenizer.encode([text])
        assert "secret" not in str(raised.value)


def test_tokens_are_counted_with_and_without_special_ones(tokenizer):
    assert tokenizer.count("the cats") == [CLS, THE, CAT, tokenizer.count("the cats")[3], SEP]
    assert tokenizer.tokens(tokenizer.count("the cats", special=False)) == ["the", "cat", "##s"]
    assert tokenizer.decode([THE, CAT]) == "the cat"
    with pytest.raises(ConfigurationError, match="Token ids"):
        tokenizer.decode([-1])


def test_a_folder_is_as_good_as_the_file(tmp_path):
    shutil.copy(PATH, tmp_path)
    assert load_tokenizer(tmp_path).encode(["the"]).ids.tolist() == [[CLS, THE, SEP]]
    assert load_tokenizer(str(tmp_path)) is load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "bert-base-uncased", ""])
def test_a_models_name_is_not_looked_up(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        load_tokenizer(name)
    assert "nothing is downloaded" in raised.value.hint


def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(ConfigurationError, match="cannot be read as a tokenizer"):
        load_tokenizer(file)


def test_a_missing_package_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    shutil.copy(PATH, tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigurationError) as raised:
        load_tokenizer(tmp_path)
    assert 'pip install "kserve-integrations[tokenizers]"' in raised.value.hint


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path):
    file = changed(tmp_path)
    first = load_tokenizer(file)
    assert load_tokenizer(file) is first
    changed(tmp_path, truncation=None)
    os.utime(file, ns=(1, 1))
    assert load_tokenizer(file).max_length is None


def test_it_pickles_as_its_path(tokenizer):
    data = pickle.dumps(tokenizer)
    assert len(data) < 1000
    assert pickle.loads(data).encode(["the"]).ids.tolist() == [[CLS, THE, SEP]]


def test_threads_that_cut_and_pad_do_not_disturb_each_other(tokenizer):
    wrong = []

    def work(cut):
        for _ in range(200):
            shape = tokenizer.encode(["the " * 30, "cat"], cut=cut).ids.shape
            if shape != (2, cut or 32):
                wrong.append(shape)

    threads = [threading.Thread(target=work, args=(cut,)) for cut in (None, 5, 9, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
