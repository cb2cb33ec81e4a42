"""How text becomes tensors and tensors become text, vectors and scores, where the model's metadata leaves a choice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kserve_core.runtimes.checks import refuse as _refuse

Pooling = Literal["mean", "cls", "last", "none"]
"""How token states become one vector: their mean, the first token's, the last one's; `none`: the model has pooled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOptions:
    """What a user may say about a model's tensors; everything left None is decided by the model's metadata.

    Attributes:
        input_name: The input that takes the text (for reranking: the documents).
        query_input_name: The input that takes the query of a reranking request.
        output_name: The output that has the answer.
        tokenizer: Path of a `tokenizer.json`, for models that take token ids; never a name to be downloaded.
        pooling: How token states become one vector.
        normalize: Whether vectors are scaled to length 1 here; None leaves them as the model made them.
        max_length: Most tokens of one text; the tokenizer cuts to it only when truncation is asked for.
        sigmoid: Whether reranking scores go through a sigmoid (or softmax, for two columns) here; None leaves them.
        extra_inputs: Further inputs by name: numpy arrays, lists, texts or numbers.
        parameters: Request parameters sent with every request.
        cumulative: Whether each piece of a streamed text repeats all text before it, as TensorRT-LLM does with
            `accumulate_tokens`; None and False are new text only.
        batch_size: Most texts of one request, where the model's configuration does not tell it.

    Raises:
        ConfigurationError: If something is not what it can be.
    """

    input_name: str | None = None
    query_input_name: str | None = None
    output_name: str | None = None
    tokenizer: str | os.PathLike[str] | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    max_length: int | None = None
    sigmoid: bool | None = None
    extra_inputs: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cumulative: bool | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in get_args(Pooling):
            _refuse("pooling", self.pooling, f"one of {', '.join(map(repr, get_args(Pooling)))}, or None")
        for name in ("max_length", "batch_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                _refuse(name, value, "a whole number of at least 1, or None")
        for name in ("input_name", "query_input_name", "output_name"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                _refuse(name, value, "a name, or None")
        for name in ("extra_inputs", "parameters"):
            if not isinstance(getattr(self, name), Mapping):
                _refuse(name, getattr(self, name), "a dict")
