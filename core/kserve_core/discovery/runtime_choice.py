"""Which runtime serves a model, from the documents that describe it. The first rule that knows decides."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kserve_core.discovery.documents import Json, annotation, text
from kserve_core.discovery.launch import Launch

OPENAI = "huggingfaceserver"
"""The variant of vLLM's API that KServe's own server has, under a path of its own."""


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """A runtime.

    Attributes:
        key: Its key in `kserve_core.runtimes.registry`, or None where no class of this package is for it.
        variant: What exactly it is.
        evidence: What told so.
    """

    key: str | None
    variant: str = ""
    evidence: str = ""


# Key and variant by the annotation `opendatahub.io/kserve-runtime`.
_KSERVE_RUNTIME: dict[str, tuple[str | None, str]] = {
    "vllm": ("vllm", "vllm"),
    "ovms": ("openvino", "ovms"),
    "openvino": ("openvino", "ovms"),
    "mlserver": ("mlserver", "mlserver"),
    "triton": ("triton", "triton"),
    "tgis": ("tgis", "tgis"),
    "caikit": ("caikit", "caikit"),
    "autogluon": (None, "autogluon"),
}
# The same by the annotation `serving.kserve.io/server-type`.
_SERVER_TYPE: dict[str, tuple[str | None, str]] = {
    "mlserver": ("mlserver", "mlserver"),
    "tritonserver": ("triton", "triton"),
    "triton": ("triton", "triton"),
    "ovms": ("openvino", "ovms"),
    "vllmserver": ("vllm", "vllm"),
    "vllm": ("vllm", "vllm"),
    "huggingfaceserver": ("vllm", OPENAI),
    "sklearnserver": (None, "sklearnserver"),
    "xgbserver": (None, "xgbserver"),
    "lgbserver": (None, "lgbserver"),
    "pmmlserver": (None, "pmmlserver"),
    "paddleserver": (None, "paddleserver"),
    "predictiveserver": (None, "predictiveserver"),
}
# The same by the name of a template or of a runtime.
_NAMES: tuple[tuple[str, str | None, str], ...] = (
    (r"huggingface", "vllm", OPENAI),
    (r"vllm", "vllm", "vllm"),
    (r"guardrails-detector|hf-detector", None, "guardrails detector"),
    (r"caikit-tgis", "caikit", "caikit-tgis"),
    (r"caikit-standalone", "caikit", "caikit-standalone"),
    (r"tgis", "tgis", "tgis"),
    (r"(^|-)ovms|openvino", "openvino", "ovms"),
    (r"mlserver", "mlserver", "mlserver"),
    (r"triton", "triton", "triton"),
    (r"autogluon", None, "autogluon"),
)
# The same by what the containers run.
_PROGRAMS: tuple[tuple[str, str | None, str], ...] = (
    (r"huggingfaceserver", "vllm", OPENAI),
    (r"vllm\.entrypoints\.openai|\bvllm serve\b|/vllm[-_a-z]*[:@]|\bvllm-(openai|cuda|rocm|gaudi|cpu)", "vllm", "vllm"),
    (r"caikit\.runtime|\bcaikit\b", "caikit", "caikit"),
    (r"text-generation-launcher", "tgis", "tgis"),
    (r"tritonserver", "triton", "triton"),
    (r"\bmlserver\b", "mlserver", "mlserver"),
    (r"--rest[_-]port|\bovms\b|openvino[-_]model[-_]server", "openvino", "ovms"),
)
# The same by the model's format.
_FORMATS: dict[str, tuple[str | None, str]] = {
    "vllm": ("vllm", "vllm"),
    "huggingface": ("vllm", OPENAI),
    "caikit": ("caikit", "caikit"),
    "triton": ("triton", "triton"),
    "openvino_ir": ("openvino", "ovms"),
    "mlflow": ("mlserver", "mlserver"),
    "guardrails-detector-hf-runtime": (None, "guardrails detector"),
}


def choose_runtime(name: str, predictor: Json, runtime: Json | None, launch: Launch) -> RuntimeChoice:
    """The runtime behind an InferenceService.

    Args:
        name: The ServingRuntime's name, or `""`.
        predictor: The InferenceService's `spec.predictor`.
        runtime: The ServingRuntime, or None if it could not be read.
        launch: What its containers run.
    """
    choice = _by_annotation(runtime) or _by_name(name, runtime) or _by_program(launch) or _by_format(predictor)
    if choice is None:
        return RuntimeChoice(None, evidence="nothing that was read tells")
    if choice.key == "caikit" and choice.variant == "caikit" and launch.complete:
        return RuntimeChoice("caikit", _caikit(launch), choice.evidence)
    return choice


def server_path(choice: RuntimeChoice, launch: Launch) -> str:
    """The path a runtime's API is under, `""` for none."""
    if choice.variant != OPENAI:
        return ""
    prefix = (launch.env or {}).get("KSERVE_OPENAI_ROUTE_PREFIX", "openai").strip("/")
    return f"/{prefix}/v1" if prefix else "/v1"


def _by_annotation(runtime: Json | None) -> RuntimeChoice | None:
    key = "opendatahub.io/kserve-runtime"
    value = text(runtime, "spec", "annotations", key) or annotation(runtime, key)
    if value.lower() in _KSERVE_RUNTIME:
        return RuntimeChoice(*_KSERVE_RUNTIME[value.lower()], f"the runtime's annotation {key}={value}")
    key = "serving.kserve.io/server-type"
    value = annotation(runtime, key) or text(runtime, "spec", "annotations", key)
    if value.lower() in _SERVER_TYPE:
        return RuntimeChoice(*_SERVER_TYPE[value.lower()], f"the runtime's annotation {key}={value}")
    return None


def _by_name(name: str, runtime: Json | None) -> RuntimeChoice | None:
    template = annotation(runtime, "opendatahub.io/template-name")
    for value, what in ((template, "the template"), (name, "the ServingRuntime's name")):
        for pattern, key, variant in _NAMES:
            if value and re.search(pattern, value.lower()):
                return RuntimeChoice(key, variant, f"{what} {value}")
    return None


def _by_program(launch: Launch) -> RuntimeChoice | None:
    everything = launch.everything
    for pattern, key, variant in _PROGRAMS:
        match = re.search(pattern, everything)
        if match is not None:
            return RuntimeChoice(key, variant, f"the containers run {match[0].strip(' /:@')}")
    return None


def _by_format(predictor: Json) -> RuntimeChoice | None:
    name = text(predictor, "model", "modelFormat", "name")
    protocol = text(predictor, "model", "protocolVersion")
    evidence = f"the model's format {name}"
    if name.lower() in _FORMATS:
        return RuntimeChoice(*_FORMATS[name.lower()], evidence)
    if name.lower() == "pytorch" and protocol == "grpc-v1":
        return RuntimeChoice("tgis", "tgis", f"{evidence} over gRPC")
    if name.lower() in {"sklearn", "xgboost", "lightgbm"} and protocol in {"v2", "grpc-v2"}:
        return RuntimeChoice("mlserver", "mlserver", f"{evidence} over protocol {protocol}")
    return None


def _caikit(launch: Launch) -> str:
    """Whether text generation is done by a TGIS in the same pod."""
    backed = "transformer-container" in launch.containers or "text-generation-launcher" in launch.everything
    return "caikit-tgis" if backed else "caikit-standalone"
