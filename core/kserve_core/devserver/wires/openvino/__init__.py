"""OpenVINO Model Server: its OpenAI-like routes under `/v3` beside the Open Inference Protocol.

From its documentation and sources: no real one was at hand to compare with.
"""

from kserve_core.devserver.wires.openvino.wire import OpenVINOWire

__all__ = ["OpenVINOWire"]
