"""MLServer's Hugging Face runtime: a pipeline's arguments as inputs, and its JSON answers as text.

Seen with mlserver-huggingface 1.7.1: the prompt goes into `args`, arguments are further inputs named like the
pipeline's own, and the answer is `output` with one JSON text per element, `{"generated_text": "<prompt and text>"}`.
It does not stream, and request parameters do not reach the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kserve_core._json import encode, unexpected
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.values import TensorSpec

_ARGUMENTS = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "length_penalty": "length_penalty",
}
"""Canonical parameters, and the pipeline's arguments."""
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_WHAT = "the answer of a text generation pipeline"


def pipeline_arguments(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The pipeline's arguments for canonical parameters, and the parameters it has none for.

    A pipeline samples only if told to, so what belongs to sampling turns it on; temperature 0 is greedy.

    Raises:
        ConfigurationError: If temperature=0 comes with something that belongs to sampling.
    """
    arguments = {_ARGUMENTS[name]: value for name, value in given.items() if name in _ARGUMENTS}
    left = [name for name in given if name not in _ARGUMENTS and not (name == "n" and given[name] == 1)]
    if arguments.get("top_k", 1) <= 0:
        arguments["top_k"] = 0  # off, which is -1 elsewhere
    if given.get("temperature") == 0:
        others = [name for name in _SAMPLING[1:] if name in given]
        if others:
            msg = f"temperature=0 leaves nothing to chance, so {' and '.join(others)} cannot be set with it."
            raise ConfigurationError(msg)
        del arguments["temperature"]
        arguments["do_sample"] = False
    elif any(name in given for name in _SAMPLING):
        arguments["do_sample"] = True
    return arguments, left


def argument(name: str, value: Any) -> tuple[TensorSpec, list[str], dict[str, Any]]:
    """An argument as an input: its value as JSON text, which the runtime takes for values of any kind."""
    return TensorSpec(name, "BYTES", (1,)), [encode(value).decode()], {"content_type": "hg_json"}


def generated_text(element: str) -> str:
    """The text in one element of `output`.

    Raises:
        BadResponseError: If it is another pipeline's answer.
    """
    try:
        value = orjson.loads(element)
    except orjson.JSONDecodeError:
        problem = "it is not JSON"
        raise unexpected(_WHAT, problem, hint=_HINT) from None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = value.get("generated_text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        problem = "it has no `generated_text`"
        raise unexpected(_WHAT, problem, hint=_HINT)
    return text


_HINT = "Name a model whose task is text-generation or text2text-generation."
