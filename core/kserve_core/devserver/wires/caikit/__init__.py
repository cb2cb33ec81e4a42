"""The wires of a Caikit runtime: REST at the development server's port, gRPC at a port of its own."""

from kserve_core.devserver.wires.caikit.service import methods
from kserve_core.devserver.wires.caikit.wire import CaikitWire

__all__ = ["CaikitWire", "methods"]
