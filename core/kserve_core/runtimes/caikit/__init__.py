"""Caikit's runtime as a runtime: REST and gRPC, with answers that are equal."""

from kserve_core.runtimes.caikit.runtime import CaikitRuntime

__all__ = ["CaikitRuntime"]
