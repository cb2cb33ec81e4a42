"""The models a server lists, and which of them a request means that names none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kserve_core._json import decode_object, unexpected
from kserve_core.calls import Response
from kserve_core.errors import ModelNotFoundError
from kserve_core.runtimes.model_names import several_models
from kserve_core.types import ModelInfo

_WHAT = "a list of models"
_KNOWN = frozenset({"id", "max_model_len", "root", "parent", "owned_by"})


def read_models(response: Response) -> list[ModelInfo]:
    """Reads the answer of `/v1/models`.

    Raises:
        BadResponseError: If it is something else.
    """
    data = decode_object(response, _WHAT).get("data")
    if not isinstance(data, list):
        raise unexpected(_WHAT, "it has no `data`", status=response.status)
    return [_model(entry) for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def pick_served(models: Sequence[ModelInfo]) -> str:
    """The name to send where the user gave none: that of the only base model.

    One model may be listed under several names (they share a root) and with LoRA adapters (they have a parent).

    Raises:
        ModelNotFoundError: If there is none.
        ConfigurationError: If there are several.
    """
    bases = [model for model in models if not model.parent] or list(models)
    if not bases:
        msg = "The endpoint lists no model."
        raise ModelNotFoundError(msg, hint="It may still be loading, or the base URL's path is not the model's.")
    roots = {model.root or model.id for model in bases}
    if len(bases) > 1 and len(roots) > 1:
        raise several_models([model.id for model in bases], "The endpoint serves", "It serves")
    return bases[0].id


def _model(entry: dict[str, Any]) -> ModelInfo:
    length = entry.get("max_model_len")
    return ModelInfo(
        id=entry["id"],
        max_model_len=length if type(length) is int else None,
        root=entry.get("root"),
        parent=entry.get("parent"),
        owned_by=entry.get("owned_by"),
        extra={key: value for key, value in entry.items() if key not in _KNOWN},
    )
