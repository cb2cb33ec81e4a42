"""The name a request has to give a model, which often is not the InferenceService's."""

from __future__ import annotations

from dataclasses import dataclass

from kserve_core.discovery.launch import Launch
from kserve_core.discovery.runtime_choice import OPENAI, RuntimeChoice


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name.

    Attributes:
        name: The name, or None if only the server knows it.
        aliases: Further names of the same model, and its LoRA adapters.
        evidence: What told so, or why it is not known.
    """

    name: str | None
    aliases: tuple[str, ...] = ()
    evidence: str = ""


def model_name(choice: RuntimeChoice, launch: Launch, service: str) -> ModelName:
    """The name a server expects.

    Args:
        choice: The runtime.
        launch: What its containers run.
        service: The InferenceService's name.
    """
    if choice.key == "vllm":
        return _huggingface(launch) if choice.variant == OPENAI else _vllm(launch)
    if choice.key == "tgis":
        return ModelName(service, evidence="the InferenceService's name (TGIS serves one model and takes any name)")
    if choice.key == "mlserver":
        name = _known(launch.variable("MLSERVER_MODEL_NAME"))
        if name:
            evidence = "MLSERVER_MODEL_NAME (a model-settings.json may say otherwise)"
            return ModelName(name, evidence=evidence)
        return ModelName(None, evidence="MLSERVER_MODEL_NAME is not set in what could be read")
    if choice.key == "openvino":
        return _option(launch, "--model_name")
    if choice.key == "triton":
        return ModelName(None, evidence="Triton names models by their folder in the model repository")
    if choice.key == "caikit":
        return ModelName(None, evidence="Caikit names models by their folder; the server lists them")
    return ModelName(None, evidence="the runtime is not known")


def _vllm(launch: Launch) -> ModelName:
    names = [name for name in launch.option("--served-model-name") if _known(name)]
    adapters = [name for item in launch.option("--lora-modules") if (name := _adapter(item))]
    if names:
        return ModelName(names[0], (*names[1:], *adapters), "--served-model-name")
    if launch.has("--served-model-name"):
        return ModelName(None, tuple(adapters), "--served-model-name is set from something that could not be read")
    model = launch.option("--model")
    if launch.complete and model and _known(model[0]):
        return ModelName(model[0], tuple(adapters), "--model, as there is no --served-model-name")
    return ModelName(None, tuple(adapters), "no --served-model-name in what could be read; the server lists its names")


def _huggingface(launch: Launch) -> ModelName:
    found = _option(launch, "--model_name")
    if found.name is None and launch.complete and not launch.has("--model_name"):
        return ModelName("model", evidence="the server's default, as there is no --model_name")
    return found


def _option(launch: Launch, option: str) -> ModelName:
    values = launch.option(option)
    if values and _known(values[0]):
        return ModelName(values[0], evidence=option)
    return ModelName(None, evidence=f"no {option} in what could be read")


def _known(value: str) -> str:
    """The value, or `""` if something in it was to be filled in by the cluster."""
    return "" if "$(" in value or "${" in value or "{{" in value or value.startswith("$") else value


def _adapter(value: str) -> str:
    """The name in `name=path`, the form adapters are given in; the JSON form is left to the server's list."""
    name, equals, _ = value.partition("=")
    return name if equals and not value.startswith("{") else ""
