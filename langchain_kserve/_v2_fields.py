"""What the runtimes of the Open Inference Protocol (V2) take, as constructor fields.

Models of these servers take and give tensors. Their metadata says which, and everything here that is left out is
decided by it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from langchain_kserve._sampling import PromptFields


class TensorFields(BaseModel):
    """What every class of these runtimes takes about the model's tensors."""

    model_version: str | int | None = None
    """The model's version; the server's choice (mostly the latest) if not given."""

    input_name: str | None = None
    """The model's input that takes the text (of a reranker: the documents)."""

    output_name: str | None = None
    """The model's output that has the answer."""

    tokenizer: str | os.PathLike[str] | None = None
    """Path of the model's `tokenizer.json`, for models that take token ids, and to count tokens. A name is never looked
    up. Needs `pip install "kserve-integrations[tokenizers]"`."""

    extra_inputs: Mapping[str, Any] = Field(default_factory=dict)
    """Further inputs by name: texts, numbers, lists or numpy arrays. One value serves for every text."""

    parameters: Mapping[str, Any] = Field(default_factory=dict)
    """Request parameters sent with every request."""


class TextFields(TensorFields):
    """The same for text generation."""

    cumulative: bool | None = None
    """Whether each piece of a stream repeats all text before it, as TensorRT-LLM models with `accumulate_tokens` do."""


class VectorFields(TensorFields):
    """The same for embeddings."""

    pooling: Literal["mean", "cls", "last", "none"] | None = None
    """How the states of a text's tokens become its vector: their mean, the first token's or the last one's. `none`: the
    model has pooled them. Left out, an output that is pooled is taken as it is, and states are averaged."""

    normalize: bool | None = None
    """Whether vectors are scaled to length 1 here. Left out, they stay as the model made them."""

    max_length: int | None = None
    """Most tokens of a text. Longer ones fail unless `truncate` is set."""


class ScoreFields(TensorFields):
    """The same for reranking."""

    query_input_name: str | None = None
    """The model's input that takes the query."""

    max_length: int | None = None
    """Most tokens of a query and document together. Longer ones fail unless `truncate` is set."""

    sigmoid: bool | None = None
    """Whether scores are put between 0 and 1 here, by a sigmoid. Left out, they stay as the model made them."""


class KServeServerField(BaseModel):
    """Which server speaks MLServer's protocol."""

    server: Literal["mlserver", "kserve"] = "mlserver"
    """`kserve` for a server made with KServe's Python SDK."""


_SCALARS = (str, int, float, type(None))
"""Told apart from mappings in a tenth of the time that asking whether they are some takes."""


class TensorClass:
    """What the classes of these runtimes do the same; goes before the class that drives the capability."""

    _codec_options: ClassVar[tuple[str, ...]]

    def _settings(self) -> tuple[Any, ...]:
        # Arrays have no one truth value, so that mappings with them cannot be compared.
        values: tuple[Any, ...] = super()._settings()  # type: ignore[misc]
        return tuple(
            value if isinstance(value, _SCALARS) or not isinstance(value, Mapping) else _Same(value) for value in values
        )


class TextClass(TensorClass):
    """The same for text generation."""

    @property
    def _identifying_params(self) -> dict[str, Any]:
        values: dict[str, Any] = super()._identifying_params  # type: ignore[misc]
        own = {name: getattr(self, name) for name in self._codec_options}
        return {**values, **{name: _written(value) for name, value in own.items() if value not in (None, {})}}


class _Same:
    """Equal to what holds the very same object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    __hash__ = None  # type: ignore[assignment]


def _written(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _written(item) for name, item in value.items()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else value


class _GenerationFields(PromptFields):
    n: int | None = Field(default=None, ge=1)
    """Answers to make of one prompt, with the vLLM backend. Streams carry one answer only."""

    min_p: float | None = None
    """Choose among tokens at least this likely, relative to the likeliest."""

    typical_p: float | None = None
    """Choose among tokens that are about as likely as expected, up to this probability together."""

    frequency_penalty: float | None = None
    """Lowers a token's chance by how often it was used."""

    presence_penalty: float | None = None
    """Lowers a token's chance once it was used."""

    length_penalty: float | None = None
    """Favors longer (above 1) or shorter answers of beam search."""

    stop_token_ids: list[int] | None = None
    """Ids of tokens that end the answer."""

    ignore_eos: bool | None = None
    """Whether to go on after the end-of-text token, up to `max_tokens`."""

    logit_bias: Mapping[str | int, float] | None = None
    """Added to the scores of tokens, by token id."""

    allowed_token_ids: list[int] | None = None
    """The only tokens that may be generated."""

    bad_words: Sequence[str] | None = None
    """Words that may not be generated."""

    skip_special_tokens: bool | None = None
    """Whether special tokens are left out of the text."""

    lora_name: str | None = None
    """The adapter to answer with, of the vLLM backend."""


class V2ChatParameters(_GenerationFields):
    """What models of these servers may understand in text generation.

    A parameter that the served model has no place for is an error that names it, and nothing is sent.
    """

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities, in `response_metadata["logprobs"]`."""

    top_logprobs: int | None = None
    """How many alternatives to return with each log-probability; needs `logprobs`."""


class V2TextParameters(_GenerationFields):
    """The same for text completion."""

    logprobs: bool | int | None = None
    """Log-probabilities of the tokens, in `generation_info["logprobs"]`; a number asks for that many alternatives."""

    echo: bool | None = None
    """Whether the text begins with the prompt."""


TEXT_OPTIONS = tuple(TextFields.model_fields)
VECTOR_OPTIONS = tuple(VectorFields.model_fields)
SCORE_OPTIONS = tuple(ScoreFields.model_fields)
