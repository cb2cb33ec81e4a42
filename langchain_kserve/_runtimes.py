"""The runtimes the classes of this package speak to: one declaration each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_kserve._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a class says about its runtime.

    Attributes:
        label: The runtime's name as people write it.
        codecs: For each protocol the runtime is spoken to in, where its codec is (`module:class`). Imported at
            first use.
    """

    label: str
    codecs: Mapping[str, str]

    def check(self, protocol: str) -> None:
        """Checks that the runtime is spoken to in this protocol.

        Raises:
            ConfigurationError: If it is not.
        """
        if protocol not in self.codecs:
            known = " or ".join(repr(name) for name in self.codecs)
            msg = f"{self.label} cannot be reached with protocol={protocol!r}."
            raise ConfigurationError(msg, hint=f"Use protocol={known}, or leave it out.")

    def codec(self, protocol: str) -> Any:
        """The codec class for a protocol, imported now.

        Raises:
            ConfigurationError: If there is none.
        """
        self.check(protocol)
        module, _, name = self.codecs[protocol].partition(":")
        return getattr(importlib.import_module(module), name)


VLLM = Declaration(label="vLLM", codecs={"rest": "kserve_core.runtimes.vllm:VLLMRuntime"})
