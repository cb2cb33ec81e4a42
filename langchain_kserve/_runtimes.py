"""The runtimes the classes of this package speak to: one declaration each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_kserve._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a class says about its runtime.

    Attributes:
        label: The runtime's name as people write it.
        codecs: For each protocol the runtime is spoken to in, where its codec is (`module:class`), the usual one
            first. Imported at first use; one that speaks several protocols is told which.
        guided: Whether the server can hold an answer to a form.
    """

    label: str
    codecs: Mapping[str, str]
    guided: bool = True

    def protocol(self, wanted: str | None, *, is_grpc: bool) -> str:
        """The protocol to speak.

        Args:
            wanted: What the user asked for, if anything.
            is_grpc: Whether the URL says gRPC.

        Raises:
            ConfigurationError: If the runtime is not spoken to in it, or the URL says something else.
        """
        if wanted == "rest" and is_grpc and wanted in self.codecs:
            msg = "protocol='rest' does not go with a base_url of grpc:// or grpcs://."
            raise ConfigurationError(msg, hint="Give http:// or https://, or leave protocol out.")
        protocol = wanted or ("grpc" if is_grpc else next(iter(self.codecs)))
        if protocol not in self.codecs:
            known = " or ".join(repr(name) for name in self.codecs)
            url = "http:// or https://" if "rest" in self.codecs else "grpc:// or grpcs://"
            msg = f"{self.label} cannot be reached with protocol={protocol!r}."
            raise ConfigurationError(msg, hint=f"Use protocol={known}, or leave it out and give {url}.")
        return protocol

    def codec(self, protocol: str) -> Any:
        """Makes the codec for a protocol; its class is imported now."""
        module, _, name = self.codecs[protocol].partition(":")
        cls = getattr(importlib.import_module(module), name)
        return partial(cls, protocol=protocol) if len(self.codecs) > 1 else cls


VLLM = Declaration(label="vLLM", codecs={"rest": "kserve_core.runtimes.vllm:VLLMRuntime"})
CAIKIT = Declaration(
    label="Caikit",
    codecs=dict.fromkeys(("rest", "grpc"), "kserve_core.runtimes.caikit:CaikitRuntime"),
    guided=False,
)
TGIS = Declaration(label="TGIS", codecs={"grpc": "kserve_core.runtimes.tgis:TGISRuntime"})
TRITON = Declaration(
    label="Triton",
    codecs=dict.fromkeys(("rest", "grpc"), "kserve_core.runtimes.triton:TritonRuntime"),
    guided=False,
)
MLSERVER = Declaration(
    label="MLServer",
    codecs=dict.fromkeys(("rest", "grpc"), "kserve_core.runtimes.mlserver:MLServerRuntime"),
    guided=False,
)
_OPENVINO = "kserve_core.runtimes.openvino:OpenVINORuntime"
OPENVINO = Declaration(label="OpenVINO", codecs=dict.fromkeys(("rest", "grpc"), _OPENVINO))
OPENVINO_CHAT = Declaration(label="OpenVINO", codecs={"rest": _OPENVINO})
"""Text is generated over REST only."""
OPENVINO_TEXT = Declaration(label="OpenVINO", codecs={"rest": _OPENVINO}, guided=False)
"""A chat answer can be held to a form, a completion cannot."""
