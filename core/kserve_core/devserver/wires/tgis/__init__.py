"""The gRPC wire of TGIS, as its vLLM-backed server speaks it."""

from kserve_core.devserver.wires.tgis.service import methods

__all__ = ["methods"]
