"""OpenVINO Model Server: its OpenAI-style endpoints under `/v3`, and the Open Inference Protocol beside them."""

from kserve_core.runtimes.openvino.generative import OpenVINOGenerative
from kserve_core.runtimes.openvino.runtime import OpenVINORuntime
from kserve_core.runtimes.openvino.tensors import OpenVINOTensors

__all__ = ["OpenVINOGenerative", "OpenVINORuntime", "OpenVINOTensors"]
