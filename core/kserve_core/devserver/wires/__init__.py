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


WIRES: Mapping[str, Callable[[Settings], Wire]] = {"vllm": VLLMWire, "caikit": CaikitWire}

__all__ = ["WIRES", "Wire"]
