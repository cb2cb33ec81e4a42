"""The gRPC library, loaded as this package needs it; every other module has it from here."""

from __future__ import annotations

import os
from importlib.metadata import version

FORK_VARIABLE = "GRPC_ENABLE_FORK_SUPPORT"
"""Read by the library when it is loaded. Without it a forked child that uses gRPC hangs."""

# Before 1.83 the support has a fault: once async gRPC was used, every forked child is ended, also one without gRPC.
if tuple(map(int, version("grpcio").split(".")[:2])) >= (1, 83):
    os.environ.setdefault(FORK_VARIABLE, "1")

import grpc  # type: ignore[import-untyped]  # noqa: E402
import grpc.aio  # type: ignore[import-untyped]  # noqa: E402

from kserve_core.errors import ConfigurationError  # noqa: E402

__all__ = ["begin", "grpc"]

_used: dict[str, int] = {}
"""Which of the library's halves (`sync`, `aio`) was first used in which process."""


def begin(half: str) -> None:
    """Called before a channel of one half is made.

    Raises:
        ConfigurationError: If this process was forked from one that used the library in a way that makes every call
            of the child hang.
    """
    own = os.getpid()
    inherited = {name for name, pid in _used.items() if pid != own}
    _used.setdefault(half, own)
    if "aio" in inherited and half == "aio":
        msg = "Async gRPC cannot be used in a process that was forked from one that used it."
        raise ConfigurationError(msg, hint="Start processes with 'spawn', or use the blocking methods in the child.")
    if inherited and not _supports_fork():
        msg = "gRPC cannot be used in a forked process: the library was loaded without its support for that."
        hint = f"Start processes with 'spawn'; or use grpcio 1.83 or newer, with {FORK_VARIABLE}=1 when it is imported."
        raise ConfigurationError(msg, hint=hint)


def _supports_fork() -> bool:
    from grpc._cython import cygrpc  # type: ignore[import-untyped]

    return bool(getattr(cygrpc, "_GRPC_ENABLE_FORK_SUPPORT", True))
