"""Models that embed and rank."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.features import embed, relevance, sigmoid
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import Tensor, coded

MAX_BATCH = 8
_PADDING = 9.0


def text_embedding(model: Model, datatype: str = "FP32") -> Served:
    """Texts in, one vector each out; `...truncat...` in the name declares the input that cuts long texts."""

    def run(asked: Asked) -> Iterator[Answered]:
        texts = [_fitting(text, model, asked) for text in asked.texts("text")]
        vectors = _joined(embed(text, model.dimensions) for text in texts)
        yield Answered([coded(Tensor("embedding", datatype, [len(texts), model.dimensions], vectors))])

    name = model.name.lower()
    batches = "batch" in name
    inputs = [Spec("text", "BYTES", (-1, 1) if batches else (-1,))]
    if "truncat" in name:
        inputs.append(Spec("truncate", "BOOL", (-1, 1) if batches else (1,), optional=True))
    outputs = (Spec("embedding", datatype, (-1, model.dimensions)),)
    return Served(model.name, tuple(inputs), outputs, run, max_batch_size=MAX_BATCH if batches else 0)


def token_embedding(model: Model) -> Served:
    """Token ids in, the states of the tokens and their pooled vector out.

    Every state of a text's own tokens is the text's vector, those of the padding are far off: whichever way a client
    pools, it gets the vector of the text if it minds the attention mask, and something else if it does not.
    """
    datatype = "INT32" if "int32" in model.name.lower() else "INT64"

    def run(asked: Asked) -> Iterator[Answered]:
        rows = _rows(asked, model)
        width, size = asked.tensor("input_ids").shape[-1], model.dimensions
        states, pooled = array("f"), array("f")
        for ids, mask in rows:
            vector = embed(_text(ids, mask), size)
            pooled.extend(vector)
            for kept in mask:
                states.extend(vector if kept else [_PADDING] * size)
        yield Answered(
            [
                coded(Tensor("last_hidden_state", "FP32", [len(rows), width, size], states)),
                coded(Tensor("sentence_embedding", "FP32", [len(rows), size], pooled)),
            ]
        )

    outputs = [Spec("last_hidden_state", "FP32", (-1, -1, model.dimensions))]
    if "states" not in model.name.lower():
        outputs.append(Spec("sentence_embedding", "FP32", (-1, model.dimensions)))
    return Served(model.name, _id_inputs(model, datatype), tuple(outputs), run)


def text_rerank(model: Model) -> Served:
    """Pairs of texts in, one score each out; `...logits...` in the name leaves the scores as they are."""

    def run(asked: Asked) -> Iterator[Answered]:
        queries, passages = asked.texts("query"), asked.texts("passage")
        if len(queries) == 1:
            queries = queries * len(passages)
        if len(queries) != len(passages):
            msg = f"{len(queries)} queries for {len(passages)} passages"
            raise V2Error(msg, "INTERNAL", raised=True)
        values = [
            relevance(query, _fitting(passage, model, asked)) for query, passage in zip(queries, passages, strict=True)
        ]
        if "logits" not in model.name.lower():
            values = [sigmoid(value) for value in values]
        yield Answered([coded(Tensor("score", "FP32", [len(values), 1], array("f", values)))])

    batches = "batch" in model.name.lower()
    shape = (-1, 1) if batches else (-1,)
    inputs = (Spec("query", "BYTES", shape), Spec("passage", "BYTES", shape))
    return Served(
        model.name, inputs, (Spec("score", "FP32", (-1, 1)),), run, max_batch_size=MAX_BATCH if batches else 0
    )


def token_rerank(model: Model) -> Served:
    """Token ids of a pair in, logits out: one column, or two with `...columns...` in the name.

    The two texts are told apart by the separator between them, `<|im_end|>`, as `tokens.tokenizer_json` puts it.
    """
    columns = 2 if "columns" in model.name.lower() else 1

    def run(asked: Asked) -> Iterator[Answered]:
        logits = array("f")
        rows = _rows(asked, model)
        for ids, mask in rows:
            kept = [number for number, use in zip(ids, mask, strict=True) if use]
            at = kept.index(tokens.END) if tokens.END in kept else len(kept)
            value = relevance(_plain(kept[:at]), _plain(kept[at:]))
            logits.extend([value] if columns == 1 else [-value / 2, value / 2])
        yield Answered([coded(Tensor("logits", "FP32", [len(rows), columns], logits))])

    return Served(model.name, _id_inputs(model, "INT64"), (Spec("logits", "FP32", (-1, columns)),), run)


def _id_inputs(model: Model, datatype: str) -> tuple[Spec, ...]:
    names = ["input_ids", "attention_mask"]
    if "types" in model.name.lower():
        names.append("token_type_ids")
    return tuple(Spec(name, datatype, (-1, -1)) for name in names)


def _joined(vectors: Iterator[array[float]]) -> array[float]:
    made = array("f")
    for vector in vectors:
        made.extend(vector)
    return made


def _fitting(text: str, model: Model, asked: Asked) -> str:
    """The text if it fits; cut if that is asked for."""
    ids = tokens.encode(text)
    limit = model.max_model_len
    if len(ids) <= limit:
        return text
    if asked.value("truncate"):
        return tokens.decode(ids[:limit])
    msg = f"text of {len(ids)} tokens is longer than the maximum sequence length {limit}"
    raise V2Error(msg)


def _rows(asked: Asked, model: Model) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Ids and mask of every row.

    Raises:
        V2Error: The shapes do not fit each other, a row is too long, or an id is not in the vocabulary.
    """
    ids, mask = asked.tensor("input_ids"), asked.tensor("attention_mask")
    if list(ids.shape) != list(mask.shape) or len(ids.shape) != 2:
        msg = f"input_ids has the shape {list(ids.shape)} and attention_mask {list(mask.shape)}"
        raise V2Error(msg)
    width = ids.shape[1]
    if width > model.max_model_len:
        msg = f"index out of range: {width} tokens, the model has {model.max_model_len} positions"
        raise V2Error(msg, "INTERNAL", raised=True)
    if any(not 0 <= number < tokens.VOCABULARY_SIZE for number in ids.data):
        msg = f"index out of range: token {max(ids.data)}"
        raise V2Error(msg, "INTERNAL", raised=True)
    cuts = range(0, ids.shape[0] * width, width) if width else [0] * ids.shape[0]
    return [(ids.data[at : at + width], mask.data[at : at + width]) for at in cuts]


def _text(ids: Sequence[int], mask: Sequence[int]) -> str:
    return _plain([number for number, use in zip(ids, mask, strict=True) if use])


def _plain(ids: Sequence[int]) -> str:
    """The text of tokens without the special ones."""
    special = range(tokens.END_OF_TEXT, tokens.IMAGE + 1)
    return tokens.decode(number for number in ids if number not in special)
