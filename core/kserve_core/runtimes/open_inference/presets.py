"""Which inputs of a model take the prompt and which output has the text, by the names that servers use.

Found from the model's metadata, unless the user names them:

- **vLLM backend of Triton**: `text_input` and a `sampling_parameters` input that takes JSON text.
- **TensorRT-LLM** (`ensemble`, `tensorrt_llm_bls`) and anything like it: `text_input`, or one BYTES input, beside
  inputs that are named like parameters (`max_tokens`, `stop_words`, `random_seed`, ...).
- **MLServer's Hugging Face runtime**: `args`, and further inputs named like the pipeline's arguments, which its
  metadata does not list.

Names are those of the backends' public model configurations; the Hugging Face runtime was seen on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec

Kind = Literal["vllm", "tensors", "huggingface"]
"""How a model takes its parameters: as one JSON text, as inputs of their own, or as a pipeline's arguments."""

SAMPLING = "sampling_parameters"
STREAM = "stream"
EXCLUDE_PROMPT = "exclude_input_in_output"

PROMPTS = ("text_input", "prompt", "PROMPT", "text", "TEXT", "input_text", "INPUT_TEXT", "query", "INPUT", "input")
"""Names a prompt's input has, likeliest first; asked only where several inputs take text."""
TEXTS = ("text_output", "generated_text", "text", "output_text", "OUTPUT_TEXT", "completion", "output", "OUTPUT")
"""The same for the text that comes back."""

PLACES: dict[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_new_tokens", "request_output_len", "max_output_len", "max_length"),
    "min_tokens": ("min_tokens", "min_new_tokens", "min_length"),
    "temperature": ("temperature",),
    "top_k": ("top_k", "runtime_top_k"),
    "top_p": ("top_p", "runtime_top_p"),
    "min_p": ("min_p",),
    "typical_p": ("typical_p",),
    "stop": ("stop_words", "stop", "stop_sequences", "stop_words_list"),
    "stop_token_ids": ("stop_token_ids",),
    "bad_words": ("bad_words",),
    "seed": ("seed", "random_seed"),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "repetition_penalty": ("repetition_penalty",),
    "length_penalty": ("length_penalty", "len_penalty"),
    "ignore_eos": ("ignore_eos",),
    "skip_special_tokens": ("skip_special_tokens",),
    "logprobs": ("return_log_probs",),
}
"""Canonical parameters, and the inputs that take them: the first that a model declares is used."""

_NO_PROMPTS = frozenset(name for names in PLACES.values() for name in names) | {SAMPLING, "decoder_text_input"}
_NO_TEXTS = frozenset({"finish_reason", "logprobs"})


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that generates text.

    Attributes:
        kind: How it takes its parameters.
        metadata: How the server describes it.
        prompt: The input that takes the prompt.
        output: The output that has the text; None where the server does not tell and the answer shows it.
    """

    kind: Kind
    metadata: ModelMetadata
    prompt: TensorSpec
    output: str | None

    def place(self, parameter: str) -> TensorSpec | None:
        """The input that takes a canonical parameter, or one of the model's own that is named like it."""
        for name in PLACES.get(parameter, (parameter,)):
            spec = self.metadata.input(name)
            if spec is not None and name != self.prompt.name:
                return spec
        return None

    def declares(self) -> str:
        """The model's inputs, for error messages."""
        names = [spec.name for spec in self.metadata.inputs]
        return f"It declares the inputs {', '.join(names)}." if names else "The server does not tell its inputs."


def text_model(metadata: ModelMetadata, options: TensorOptions, dialect: Dialect) -> TextModel:
    """Finds out how a model takes a prompt.

    Raises:
        ConfigurationError: If that is not clear, or the user named an input or output that the model does not have.
        UnsupportedParameterError: If the model takes no text.
    """
    prompt = _prompt(metadata, options.input_name)
    kind: Kind = "tensors"
    if prompt.name == "args" and dialect.rest_generation == "infer":
        kind = "huggingface"
    elif metadata.input(SAMPLING) is not None:
        kind = "vllm"
    # The Hugging Face runtime's metadata is often wrong about its output.
    output = (options.output_name or "output") if kind == "huggingface" else _output(metadata, options.output_name)
    return TextModel(kind, metadata, prompt, output)


def _prompt(metadata: ModelMetadata, wanted: str | None) -> TensorSpec:
    specs = metadata.inputs
    if wanted is not None:
        spec = metadata.input(wanted)
        if spec is None and specs and not (wanted == "args" and all(each.name == "array_inputs" for each in specs)):
            msg = f"The model {metadata.name!r} has no input {wanted!r}."
            raise ConfigurationError(msg, hint=f"It declares the inputs {_listed(specs)}.")
        return spec or TensorSpec(wanted, "BYTES", ())
    if not specs:
        msg = f"The server does not tell the inputs of the model {metadata.name!r}."
        raise ConfigurationError(msg, hint="Name the one that takes the prompt: input_name='text_input', for example.")
    texts = [spec for spec in specs if spec.datatype == "BYTES" and spec.name not in _NO_PROMPTS]
    if len(texts) == 1:
        return texts[0]
    for name in ("args", *PROMPTS):
        for spec in texts:
            if spec.name == name:
                return spec
    if texts:
        msg = f"The model {metadata.name!r} has several inputs that take text."
        raise ConfigurationError(msg, hint=f"Say which takes the prompt with input_name=...: {_listed(texts)}.")
    msg = f"The model {metadata.name!r} takes no text, so it cannot complete a prompt."
    raise UnsupportedParameterError(
        msg, hint=f"It declares the inputs {_listed(specs)}; infer() sends it tensors of any kind."
    )


def _output(metadata: ModelMetadata, wanted: str | None) -> str | None:
    specs = metadata.outputs
    if wanted is not None:
        if specs and metadata.output(wanted) is None:
            msg = f"The model {metadata.name!r} has no output {wanted!r}."
            raise ConfigurationError(msg, hint=f"It declares the outputs {_listed(specs)}.")
        return wanted
    if not specs:
        return None
    texts = [spec for spec in specs if spec.datatype == "BYTES" and spec.name not in _NO_TEXTS]
    if len(texts) == 1:
        return texts[0].name
    for name in TEXTS:
        if any(spec.name == name for spec in texts):
            return name
    if texts:
        msg = f"The model {metadata.name!r} has several outputs with text."
        raise ConfigurationError(msg, hint=f"Say which is the answer with output_name=...: {_listed(texts)}.")
    msg = f"The model {metadata.name!r} answers with no text, so it cannot complete a prompt."
    raise UnsupportedParameterError(
        msg, hint=f"It declares the outputs {_listed(specs)}; infer() gets tensors of any kind."
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    found = [f"{spec.name} ({spec.datatype})" for spec in specs]
    return f"{', '.join(found[:30])}{', ...' if len(found) > 30 else ''}"
