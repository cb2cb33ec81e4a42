"""The served models, and which module each of them has."""

from __future__ import annotations

from typing import Any

from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.caikit.errors import CaikitError, not_loaded

GENERATION, EMBEDDING = "Text Generation", "EmbeddingModule"

_MODULES = {
    GENERATION: ("f9181353-4ccf-4572-bd1e-f12bcda26792", "0.1.0"),
    EMBEDDING: ("eeb12558-b4fa-4f34-a9fd-3f5890e9cd3f", "0.0.1"),
}


class Models:
    """The models of one server.

    A real model has one module. Here one has both, so that a single model does for everything, unless its name says
    otherwise: `...embed...` has no generation, `...gen...` no embeddings, and `...local...` generates without TGIS,
    which means without streaming.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find(self, name: str | None) -> Model:
        """The model of a name.

        Raises:
            CaikitError: None was given, or it is not there.
        """
        if name is None:
            raise CaikitError(400, "Please provide model_id in payload")
        if not name:
            raise CaikitError(400, "Missing required model ID")
        model = self._settings.by_name.get(name)
        if model is None:
            raise not_loaded(name)
        return model

    def info(self, wanted: list[str]) -> list[dict[str, Any]]:
        """What the info routes tell, of some models or all.

        Raises:
            CaikitError: One that is wanted is not there.
        """
        for name in wanted:
            if name not in self._settings.by_name:
                raise CaikitError(404, f"Model {name} is not loaded")
        names = wanted or [name for model in self._settings.models for name in (model.name, *model.aliases)]
        return [_entry(name, self._settings.by_name[name]) for name in names]


def has(model: Model, module: str) -> bool:
    """Whether a model has a module."""
    name = model.name.lower()
    return "gen" not in name if module == EMBEDDING else "embed" not in name


def streams(model: Model) -> bool:
    """Whether a model generates behind TGIS."""
    return has(model, GENERATION) and "local" not in model.name.lower()


def _entry(name: str, model: Model) -> dict[str, Any]:
    module = GENERATION if has(model, GENERATION) else EMBEDDING
    number, version = _MODULES[module]
    metadata: dict[str, Any] = {}
    if has(model, EMBEDDING):
        metadata = {"max_seq_length": model.max_model_len, "sentence_embedding_dimension": model.dimensions}
    return {
        "model_path": f"/models/{name}",
        "name": name,
        "size": 4100,
        "metadata": metadata,
        "loaded": True,
        "module_id": number,
        "module_metadata": {"name": module, "version": version},
    }
