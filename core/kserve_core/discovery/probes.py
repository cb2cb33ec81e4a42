"""What a question to a server is made of."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from kserve_core.calls import Call, GrpcCall
from kserve_core.errors import KServeError


@dataclass(frozen=True, slots=True)
class Probe:
    """One question.

    Attributes:
        what: What it is, for people (`GET /v1/models`).
        call: The call; its result is None if the answer tells nothing.
        on_error: Reads an answer out of an error; None for none.
    """

    what: str
    call: Call[Any] | GrpcCall[Any]
    on_error: Callable[[KServeError], Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the questions found out; the fields are those of `Detected`."""

    runtime: str | None
    evidence: str
    variant: str = ""
    path: str = ""
    models: tuple[str, ...] = ()
    version: str = ""


Probes: TypeAlias = Generator[Probe, Any, Found | None]
"""Questions in turn: each is sent the answer to it, None where there was none."""


def by_server_name(name: str) -> tuple[str | None, str]:
    """The runtime whose V2 server metadata has a name; where none has it, the name itself, cut, as the variant."""
    lowered = name.lower()
    for word in ("triton", "mlserver", "openvino", "kserve"):
        if word in lowered:
            return word, ""
    return None, name[:80]
