"""Where the servers differ.

Triton 2.51, MLServer 1.7.1 and the server of KServe's SDK 0.21 are as observed, OpenVINO Model Server as documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNKNOWN": 400,
    "ALREADY_EXISTS": 400,
    "CANCELLED": 400,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """One server's ways.

    Attributes:
        key: How this package calls the runtime.
        name: What the server calls itself.
        extensions: The extensions its metadata names; None leaves the member out.
        fastapi: Whether its routes are a FastAPI application's: redirects, `detail` bodies, 422, decoded paths.
        checks_inputs: Whether inputs are compared with what the model declares.
        binary_input: Whether requests may carry raw tensors.
        binary_output: Whether answers do when asked.
        flat_generate: Whether `/generate` takes a flat object (Triton).
        infer_stream: Whether `/infer_stream` exists (MLServer).
        wrapped_stream: Whether streamed gRPC messages are wrapped; None where there is no `ModelStreamInfer`.
        echoes_kind: Whether gRPC answers have the form of the request: typed to typed, raw to raw (MLServer).
        text_column: Whether text outputs have a second dimension of one (MLServer).
        versions: `numbers`, `names` or `none`.
        config: Whether `/config` and `/stats` exist.
        repository: Whether the repository can be listed, loaded and unloaded.
        model_list: Whether `GET /v2/models` is there.
        unknown_model: The words for a model that is not there.
        unknown_version: The same for a version.
        not_ready: The words for a model that did not load, and the gRPC status.
        forgets: Whether a model that was unloaded is as one that was never there.
        statuses: HTTP statuses by gRPC status.
    """

    key: str
    name: str
    extensions: tuple[str, ...] | None = ()
    fastapi: bool = False
    checks_inputs: bool = False
    binary_input: bool = False
    binary_output: bool = False
    flat_generate: bool = False
    infer_stream: bool = False
    wrapped_stream: bool | None = None
    echoes_kind: bool = False
    text_column: bool = False
    versions: str = "numbers"
    config: bool = False
    repository: bool = False
    model_list: bool = False
    unknown_model: str
    unknown_version: str
    not_ready: tuple[str, str]
    forgets: bool = False
    statuses: Mapping[str, int] = field(default_factory=lambda: _STATUS, repr=False)


TRITON = Ways(
    key="triton",
    name="triton",
    extensions=(
        "classification",
        "sequence",
        "model_repository",
        "model_repository(unload_dependents)",
        "schedule_policy",
        "model_configuration",
        "system_shared_memory",
        "cuda_shared_memory",
        "binary_tensor_data",
        "parameters",
        "statistics",
        "trace",
        "logging",
    ),
    checks_inputs=True,
    binary_input=True,
    binary_output=True,
    flat_generate=True,
    wrapped_stream=True,
    config=True,
    repository=True,
    unknown_model="Request for unknown model: '{model}' is not found",
    unknown_version="Request for unknown model: '{model}' version {version} is not found",
    not_ready=("Request for unknown model: '{model}' has no available versions", "NOT_FOUND"),
)
MLSERVER = Ways(
    key="mlserver",
    name="mlserver",
    fastapi=True,
    infer_stream=True,
    wrapped_stream=False,
    echoes_kind=True,
    text_column=True,
    versions="names",
    repository=True,
    forgets=True,
    unknown_model="Model {model} not found",
    unknown_version="Model {model} with version {version} not found",
    not_ready=("Model {model} is not ready yet.", "INVALID_ARGUMENT"),
)
KSERVE = Ways(
    key="kserve",
    name="kserve",
    extensions=("model_repository_extension",),
    fastapi=True,
    binary_input=True,
    binary_output=True,
    versions="none",
    model_list=True,
    unknown_model="Model with name {model} does not exist.",
    forgets=True,
    unknown_version="Model versioning not supported yet.",
    not_ready=("Model with name {model} does not exist.", "NOT_FOUND"),
)
OPENVINO = Ways(
    key="openvino",
    name="OpenVINO Model Server",
    extensions=None,
    checks_inputs=True,
    binary_input=True,
    binary_output=True,
    unknown_model="Model with requested name is not found",
    unknown_version="Model with requested version is not found",
    not_ready=("Model with requested version is not loaded yet", "UNAVAILABLE"),
    statuses={**_STATUS, "UNAVAILABLE": 500},
)

WAYS: Mapping[str, Ways] = {ways.key: ways for ways in (TRITON, MLSERVER, KSERVE, OPENVINO)}
