"""Which runtimes there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kserve_core.capabilities import Runtime
from kserve_core.errors import ConfigurationError
from kserve_core.names import did_you_mean


@dataclass(frozen=True, slots=True)
class RuntimeEntry:
    """A runtime.

    Attributes:
        key: Its name in code and configuration.
        title: Its name as people write it.
        factory: Where its codec is, as `module:class`; imported when first used.
    """

    key: str
    title: str
    factory: str

    def create(self, **options: Any) -> Runtime:
        """Makes the codec; the options are its constructor's (`base_path`, `model`, ...)."""
        module, _, attribute = self.factory.partition(":")
        runtime: Runtime = getattr(import_module(module), attribute)(**options)
        return runtime


RUNTIMES: dict[str, RuntimeEntry] = {
    entry.key: entry
    for entry in (
        RuntimeEntry("vllm", "vLLM", "kserve_core.runtimes.vllm:VLLMRuntime"),
        RuntimeEntry("caikit", "Caikit", "kserve_core.runtimes.caikit:CaikitRuntime"),
        RuntimeEntry("tgis", "TGIS", "kserve_core.runtimes.tgis:TGISRuntime"),
        RuntimeEntry("triton", "Triton", "kserve_core.runtimes.triton:TritonRuntime"),
        RuntimeEntry("mlserver", "MLServer", "kserve_core.runtimes.mlserver:MLServerRuntime"),
        RuntimeEntry("openvino", "OpenVINO Model Server", "kserve_core.runtimes.openvino:OpenVINORuntime"),
        RuntimeEntry("kserve", "KServe", "kserve_core.runtimes.kserve:KServeRuntime"),
    )
}


def get_runtime(key: str, *, among: Collection[str] = ()) -> RuntimeEntry:
    """The runtime of a name, however it is capitalized.

    Args:
        key: The name.
        among: The names to propose where there is none of this name; all if not given.

    Raises:
        ConfigurationError: If there is none.
    """
    entry = RUNTIMES.get(key.lower())
    if entry is None:
        names = sorted(among or RUNTIMES)
        msg = f"There is no runtime {key!r}."
        raise ConfigurationError(msg, hint=f"{did_you_mean(key.lower(), names)}There are {', '.join(names)}.")
    return entry
