"""The server's tokenizer and what it says about itself."""

from __future__ import annotations

import pytest

from kserve_core.errors import ModelNotFoundError


@pytest.mark.parametrize(
    "text", ["Say hello.", "你好啊集团 🎈", "  spaces\n\tand tabs ", "<|im_end|> in the middle", "word " * 6000]
)
def test_tokens_turn_back_into_the_text(generator, text):
    tokens = generator.run(generator.runtime.tokenize(text, add_special_tokens=False))
    assert tokens.count == len(tokens.token_ids)
    assert generator.run(generator.runtime.detokenize(tokens.token_ids)) == text


def test_special_tokens_can_be_left_out(embedder):
    without = embedder.run(embedder.runtime.tokenize("hello world", add_special_tokens=False)).token_ids
    assert embedder.run(embedder.runtime.tokenize("hello world")).token_ids[1:-1] == without


def test_the_context_window(generator):
    assert generator.run(generator.runtime.tokenize("x")).max_model_len == 4096
    assert generator.run(generator.runtime.model_info()).max_model_len == 4096


def test_the_models_served(generator, embedder):
    base, adapter = generator.run(generator.runtime.models())
    assert (base.id, base.parent) == ("tiny", None)
    assert (adapter.id, adapter.parent) == ("tiny-adapter", "tiny")
    (only,) = embedder.run(embedder.runtime.models())
    assert only.owned_by == "vllm"


def test_a_model_that_is_not_listed(connect, vllm):
    client = connect({**vllm.chat, "model": "absent"})
    with pytest.raises(ModelNotFoundError):
        client.run(client.runtime.model_info())


def test_the_model_is_found_where_none_is_named(connect, vllm):
    for params in (vllm.chat, vllm.embedding):
        client = connect({**params, "model": None})
        assert client.run(client.runtime.resolve_model()) == params["model"]


def test_version_and_health(generator):
    assert generator.run(generator.runtime.version()).startswith("0.32")
    assert generator.run(generator.runtime.health()) is True
