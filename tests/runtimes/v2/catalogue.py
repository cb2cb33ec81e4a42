"""The models the servers have, as their metadata describes them. What they do is in `behaviour`."""

from __future__ import annotations

from dataclasses import dataclass

DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "fp16": "FP16",
    "bf16": "BF16",
    "fp32": "FP32",
    "fp64": "FP64",
    "string": "BYTES",
}
"""The ends of the names of `echo_types`' tensors, and their datatypes."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        inputs: What it takes.
        outputs: What it answers.
        max_batch_size: Rows of a batch where the server makes batches (Triton); then the tensors have a dimension
            more than is listed here.
        decoupled: Whether it may send any number of answers to a request.
        versions: Its versions.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int = 0
    decoupled: bool = False
    versions: tuple[int, ...] = (1,)


def _texts(name: str) -> Tensor:
    return Tensor(name, "BYTES", (-1,))


def _maybe(name: str, datatype: str, *shape: int) -> Tensor:
    return Tensor(name, datatype, shape or (1,), optional=True)


_VECTORS = Tensor("embedding", "FP32", (-1, 384))
_IDS = (Tensor("input_ids", "INT64", (-1, -1)), Tensor("attention_mask", "INT64", (-1, -1)))
_PAIR = (*_IDS, Tensor("token_type_ids", "INT64", (-1, -1)))
_TRUNCATE = _maybe("truncate", "BOOL")
_TEXT = Tensor("text_output", "BYTES", (-1,))
_FINISH = Tensor("finish_reason", "BYTES", (-1,))
_SPEAKER = Model(
    (
        Tensor("text_input", "BYTES", (1,)),
        _maybe("stream", "BOOL"),
        _maybe("max_tokens", "INT32"),
        _maybe("temperature", "FP32"),
        _maybe("top_p", "FP32"),
        _maybe("seed", "INT64"),
        _maybe("stop", "BYTES", -1),
    ),
    (_TEXT, _FINISH),
    decoupled=True,
)

# The vLLM backend: sampling parameters as JSON, the prompt in front of the answer unless told otherwise.
_VLLM = Model(
    (
        Tensor("text_input", "BYTES", (1,)),
        _maybe("stream", "BOOL"),
        _maybe("sampling_parameters", "BYTES"),
        _maybe("exclude_input_in_output", "BOOL"),
        _maybe("return_finish_reason", "BOOL"),
        _maybe("return_num_input_tokens", "BOOL"),
        _maybe("return_num_output_tokens", "BOOL"),
    ),
    (_TEXT, _FINISH, Tensor("num_input_tokens", "UINT32", (1,)), Tensor("num_output_tokens", "UINT32", (-1,))),
    decoupled=True,
)

# The ensemble of the TensorRT-LLM backend: a batch dimension, and a limit of tokens that must be given.
_TENSORRT_LLM = Model(
    (
        Tensor("text_input", "BYTES", (1,)),
        Tensor("max_tokens", "INT32", (1,)),
        _maybe("bad_words", "BYTES", -1),
        _maybe("stop_words", "BYTES", -1),
        _maybe("exclude_input_in_output", "BOOL"),
        _maybe("end_id", "INT32"),
        _maybe("pad_id", "INT32"),
        _maybe("top_k", "INT32"),
        _maybe("top_p", "FP32"),
        _maybe("temperature", "FP32"),
        _maybe("length_penalty", "FP32"),
        _maybe("repetition_penalty", "FP32"),
        _maybe("min_tokens", "INT32"),
        _maybe("presence_penalty", "FP32"),
        _maybe("frequency_penalty", "FP32"),
        _maybe("seed", "UINT64"),
        _maybe("return_log_probs", "BOOL"),
        _maybe("beam_width", "INT32"),
        _maybe("stream", "BOOL"),
    ),
    (_TEXT, Tensor("cum_log_probs", "FP32", (-1,))),
    max_batch_size=8,
    decoupled=True,
)

MODELS: dict[str, Model] = {
    # Texts to vectors
    "embed": Model((_texts("text"),), (_VECTORS,)),
    "minilm": Model((_texts("text"), _TRUNCATE), (_VECTORS,)),
    "embed_wide": Model((Tensor("text", "BYTES", (1,)),), (Tensor("embedding", "FP32", (384,)),), max_batch_size=64),
    "embed_ids": Model(
        _IDS, (Tensor("last_hidden_state", "FP32", (-1, -1, 384)), Tensor("sentence_embedding", "FP32", (-1, 384)))
    ),
    "embed_states": Model(
        tuple(Tensor(one.name, "INT32", one.shape) for one in _PAIR),
        (Tensor("last_hidden_state", "FP32", (-1, -1, 384)),),
    ),
    "embed_fp16": Model((_texts("text"),), (Tensor("embedding", "FP16", (-1, 384)),)),
    "embed_int8": Model((_texts("text"),), (Tensor("embedding", "INT8", (-1, 384)),)),
    "null_embed": Model((_texts("text"),), (_VECTORS,)),
    # Pairs to scores
    "rerank": Model((_texts("query"), _texts("passage"), _TRUNCATE), (Tensor("score", "FP32", (-1, 1)),)),
    "rerank_ids": Model(_PAIR, (Tensor("logits", "FP32", (-1, 1)),)),
    "rerank_ids_two": Model(_PAIR, (Tensor("logits", "FP32", (-1, 2)),)),
    # Text to text
    "generate": Model(
        (Tensor("text_input", "BYTES", (1,)), _maybe("max_tokens", "INT32"), _maybe("temperature", "FP32")), (_TEXT,)
    ),
    "generate_stream": Model(
        (Tensor("text_input", "BYTES", (1,)), _maybe("stream", "BOOL"), _maybe("max_tokens", "INT32")),
        (_TEXT,),
        decoupled=True,
    ),
    "tiny": _SPEAKER,
    "tiny-adapter": _SPEAKER,
    "vllm": _VLLM,
    "tensorrt_llm": _TENSORRT_LLM,
    # Neither
    "echo_types": Model(
        tuple(_maybe(f"in_{end}", datatype, -1) for end, datatype in DATATYPES.items()),
        (
            *(Tensor(f"out_{end}", datatype, (-1,)) for end, datatype in DATATYPES.items()),
            Tensor("params", "BYTES", (1,)),
        ),
    ),
    "versioned": Model((_texts("text"),), (_texts("text_output"),), versions=(1, 2, 7)),
    "fails": Model((Tensor("code", "BYTES", (1,)),), (Tensor("out", "BYTES", (1,)),)),
    "broken": Model((Tensor("x", "FP32", (1,)),), (Tensor("y", "FP32", (1,)),)),
}
