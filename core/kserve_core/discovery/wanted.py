"""What a user asked discovery for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kserve_core.errors import ConfigurationError

_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which service, and how to reach it.

    Attributes:
        name: The name of the InferenceService, LLMInferenceService or InferenceGraph.
        namespace: Its namespace.
        where: Which of its addresses to use.
        inside: Whether this program runs in that cluster; what `auto` goes by.
        protocol: What to speak; None for what the runtime speaks best.
        cluster_token: Whether the credentials for the cluster are to be used for inference as well.
        source: Where the cluster's address and credentials came from, for people.
    """

    name: str
    namespace: str
    where: Literal["auto", "inside", "outside"] = "auto"
    inside: bool = False
    protocol: Literal["rest", "grpc"] | None = None
    cluster_token: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("namespace", self.namespace)
        if self.where not in {"auto", "inside", "outside"}:
            msg = f"where must be 'auto', 'inside' or 'outside', not {self.where!r}."
            raise ConfigurationError(msg)
        if self.protocol not in {None, "rest", "grpc"}:
            msg = f"protocol must be 'rest' or 'grpc', not {self.protocol!r}."
            raise ConfigurationError(msg)

    def choose(self, inside: str | None, outside: str | None) -> tuple[str | None, Literal["inside", "outside"]]:
        """The address to use, and which it is."""
        if self.where == "inside" or (self.where == "auto" and self.inside and inside):
            return inside, "inside"
        return outside, "outside"


def check_name(what: str, value: object) -> str:
    """Refuses what cannot be a Kubernetes name, so that nothing else gets into a path.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(value, str) or not _LABEL.fullmatch(value) or ".." in value:
        msg = f"{what} is not a Kubernetes name."
        raise ConfigurationError(msg, hint="Names have lower-case letters, digits, dashes and dots only.")
    return value
