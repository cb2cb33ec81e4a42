"""One package per runtime wire.

A new wire is a class that satisfies `Wire` and a line in `WIRES`. The rules that make up answers are in
`kserve_core.devserver.brain`, so that every wire says the same; connections, faults and the log are not its concern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.messages import Reply, Request, StreamReply
from kserve_core.devserver.router import Route, Router
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.caikit.wire import CaikitWire
from kserve_core.devserver.wires.openvino import OpenVINOWire
from kserve_core.devserver.wires.v2 import V2Wire
from kserve_core.devserver.wires.vllm import VLLMWire


class Wire(Protocol):
    """What a server needs of a wire."""

    def routes(self) -> list[Route]:
        """The routes that exist."""
        ...

    async def answer(self, request: Request, router: Router) -> Reply | StreamReply:
        """Answer a request, with the authentication and the error shapes of the runtime."""
        ...

    def failed(self, fault: Fault, reply: Reply) -> Reply:
        """A scripted failure, in the error shape of the runtime where the fault leaves the shape open."""
        ...

    def forget(self) -> None:
        """Forget what was learned from earlier requests."""
        ...


WIRES: Mapping[str, Callable[[Settings], Wire]] = {
    "vllm": VLLMWire,
    "caikit": CaikitWire,
    "triton": V2Wire,
    "mlserver": V2Wire,
    "kserve": V2Wire,
    "openvino": OpenVINOWire,
}
VERSIONS: Mapping[str, str] = {
    "triton": "2.51.0",
    "mlserver": "1.7.1",
    "kserve": "0.21.0",
    "openvino": "2026.2.0",
}
"""The releases whose ways are known; those that are not here have vLLM's version, which the wires share."""

__all__ = ["VERSIONS", "WIRES", "Wire"]
