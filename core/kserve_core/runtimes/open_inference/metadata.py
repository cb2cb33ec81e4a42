"""What servers tell about themselves and their models, as read from JSON; gRPC's answers are put into that form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kserve_core._json import unexpected
from kserve_core.runtimes.open_inference.values import (
    ModelMetadata,
    RepositoryModel,
    ServerMetadata,
    TensorSpec,
)
from kserve_core.types import ModelInfo

_MODEL = "a model's metadata"
_SERVER = "a server's metadata"
_INDEX = "a list of models"


def read_server_metadata(raw: Any) -> ServerMetadata:
    """Reads `GET /v2`.

    Raises:
        BadResponseError: If it is something else.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise unexpected(_SERVER, "it has no `name`")
    return ServerMetadata(raw["name"], _text(raw.get("version")), _texts(raw.get("extensions")))


def read_model_metadata(raw: Any) -> ModelMetadata:
    """Reads `GET /v2/models/m`.

    Raises:
        BadResponseError: If it is something else.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise unexpected(_MODEL, "it has no `name`")
    return ModelMetadata(
        name=raw["name"],
        versions=_texts(raw.get("versions")),
        platform=_text(raw.get("platform")),
        inputs=_specs(raw.get("inputs")),
        outputs=_specs(raw.get("outputs")),
        parameters=_mapping(raw.get("parameters")),
    )


def with_config(metadata: ModelMetadata, config: Any) -> ModelMetadata:
    """Adds what a model's configuration (Triton's) tells: its batch limit, and whether it answers in pieces.

    Whatever of it is missing or strange is left unknown, since requests work without.
    """
    if not isinstance(config, dict):
        return metadata
    limit = config.get("max_batch_size", 0)
    policy = _mapping(config.get("model_transaction_policy"))
    optional = {
        entry["name"]
        for entry in _entries(config.get("input"))
        if isinstance(entry, dict) and entry.get("optional") is True and isinstance(entry.get("name"), str)
    }
    inputs = tuple(replace(spec, optional=True) if spec.name in optional else spec for spec in metadata.inputs)
    return replace(
        metadata,
        inputs=inputs,
        max_batch_size=limit if type(limit) is int and limit >= 0 else None,
        decoupled=policy.get("decoupled") is True,
    )


def read_index(raw: Any) -> list[RepositoryModel]:
    """Reads the answer of `/v2/repository/index`.

    Raises:
        BadResponseError: If it is something else.
    """
    if not isinstance(raw, list):
        raise unexpected(_INDEX, "it is no list")
    return [
        RepositoryModel(
            entry["name"],
            _text(entry.get("version")),
            # MLServer's gRPC answers with the name of its enum.
            _text(entry.get("state")).removeprefix("State."),
            _text(entry.get("reason")),
        )
        for entry in raw
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"]
    ]


def read_model_list(raw: Any) -> list[RepositoryModel]:
    """Reads KServe's `GET /v2/models`: names of models that are ready, as only those are registered.

    Raises:
        BadResponseError: If it is something else.
    """
    models = raw.get("models") if isinstance(raw, dict) else None
    if not isinstance(models, list):
        raise unexpected(_INDEX, "it has no `models`")
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in models]
    return [RepositoryModel(name, state="READY") for name in names if isinstance(name, str) and name]


def read_version_states(raw: Any) -> list[RepositoryModel]:
    """Reads OpenVINO Model Server's `GET /v1/config`: the states of all models' versions.

    Raises:
        BadResponseError: If it is something else.
    """
    if not isinstance(raw, dict):
        raise unexpected(_INDEX, "it is no object of models")
    found = []
    for name, entry in raw.items():
        states = entry.get("model_version_status") if isinstance(entry, dict) else None
        if not isinstance(states, list):
            continue
        for state in states:
            if isinstance(state, dict):
                word = _text(state.get("state"))
                status = _mapping(state.get("status"))
                message = _text(status.get("error_message"))
                found.append(
                    RepositoryModel(
                        name,
                        _text(state.get("version")),
                        "READY" if word == "AVAILABLE" else word,
                        "" if message == "OK" else message,
                    )
                )
        if not states:
            found.append(RepositoryModel(name))
    return found


def model_infos(models: Iterable[RepositoryModel]) -> list[ModelInfo]:
    """One entry for each model, its versions together; models that cannot answer say so in `extra`."""
    grouped: dict[str, list[RepositoryModel]] = {}
    for model in models:
        grouped.setdefault(model.name, []).append(model)
    infos = []
    for name, entries in grouped.items():
        versions = [entry.version for entry in entries if entry.version]
        reasons = [entry.reason for entry in entries if entry.reason]
        extra: dict[str, Any] = {"ready": any(is_ready(entry) for entry in entries)}
        if versions:
            extra["versions"] = versions
        if reasons:
            extra["reason"] = reasons[0]
        infos.append(ModelInfo(id=name, extra=extra))
    return infos


def is_ready(model: RepositoryModel) -> bool:
    """Whether a model of the repository can answer."""
    return model.state.upper() == "READY"


def _specs(raw: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(raw, list):
        return ()
    return tuple(
        TensorSpec(
            entry["name"],
            _text(entry.get("datatype")).upper(),
            shape_of(entry.get("shape")),
            _mapping(entry.get("parameters")),
        )
        for entry in raw
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    )


def shape_of(raw: Any) -> tuple[int, ...]:
    """A declared shape. Servers write 64-bit numbers as text sometimes, and what is no number may be any length."""
    return tuple(_dimension(item) for item in raw[:64]) if isinstance(raw, Sequence) else ()


def _dimension(item: Any) -> int:
    try:
        size = int(item) if isinstance(item, (int, str)) else -1
    except ValueError:
        return -1
    return size if 0 <= size < 2**63 else -1


def _text(raw: Any) -> str:
    return raw if isinstance(raw, str) else str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else ""


def _texts(raw: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in raw if _text(item)) if isinstance(raw, list) else ()


def _entries(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _mapping(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}
