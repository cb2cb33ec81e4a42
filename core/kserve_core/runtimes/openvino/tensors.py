"""OpenVINO Model Server's tensor API as a runtime: models that are served as they are, without a graph around them."""

from __future__ import annotations

from kserve_core.runtimes.open_inference.dialects import OPENVINO
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.rerank import TensorReranking

__all__ = ["OpenVINOTensors"]


class OpenVINOTensors(TensorEmbeddings, TensorReranking):
    """Embeds and reranks by V2 tensors, over REST or gRPC; see `OpenInferenceRuntime` for the arguments.

    From the server's documentation: versions are whole numbers, an API key is not asked for here, and the JSON form of
    a tensor has neither FP16 nor whole numbers above 32 bits, so tensors are sent raw.
    """

    name = OPENVINO.title
    dialect = OPENVINO
