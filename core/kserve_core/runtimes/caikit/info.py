"""What a server tells about itself and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kserve_core._json import unexpected
from kserve_core.errors import ModelNotFoundError
from kserve_core.runtimes.model_names import several_models
from kserve_core.types import ModelInfo

_MODELS = "a list of models"
_VERSION = "a version"

KINDS: Mapping[str, str] = {
    "EmbeddingModule": "embed",
    "Text Generation": "generate",
    "Peft generation": "generate",
}
"""What the modules of known names are for."""


def read_models(raw: dict[str, Any]) -> list[ModelInfo]:
    """Reads the list of models; of one that is still loading there is little more than its name.

    Raises:
        BadResponseError: If it is something else.
    """
    listed = raw.get("models")
    if not isinstance(listed, list):
        raise unexpected(_MODELS, "it has no `models`")
    return [_model(entry) for entry in listed if isinstance(entry, dict) and entry.get("name")]


def is_loaded(model: ModelInfo) -> bool:
    """Whether a model can answer."""
    return model.extra.get("loaded") is not False


def pick(models: Sequence[ModelInfo]) -> str:
    """The model meant where none is named: the only one.

    Raises:
        ModelNotFoundError: If there is none.
        ConfigurationError: If there are several.
    """
    if not models:
        msg = "The server has no model."
        raise ModelNotFoundError(msg, hint="It may still be loading.", layer="model")
    if len(models) > 1:
        raise several_models([model.id for model in models], "The server has", "It has")
    return models[0].id


def read_about(raw: dict[str, Any]) -> dict[str, Any]:
    """Reads the versions of the server's packages, and what its configuration says the version is.

    Raises:
        BadResponseError: If it is something else.
    """
    if not isinstance(raw.get("python_packages"), dict) and not isinstance(raw.get("runtime_version"), str):
        raise unexpected(_VERSION, "it has neither `runtime_version` nor `python_packages`")
    return raw


def version_of(about: Mapping[str, Any]) -> str:
    """The version of the caikit package, which says what the server can do; else what its configuration says."""
    packages = about.get("python_packages") or {}
    return str(packages.get("caikit") or about.get("runtime_version") or "")


def _model(entry: dict[str, Any]) -> ModelInfo:
    metadata = entry.get("metadata") or {}
    module = entry.get("module_metadata") or {}
    length = metadata.get("max_seq_length")
    return ModelInfo(
        id=entry["name"],
        max_model_len=length if type(length) is int else None,
        root=entry.get("model_path") or None,
        kind=KINDS.get(module.get("name", "")),
        extra={key: value for key, value in entry.items() if key not in {"name", "model_path"}},
    )
