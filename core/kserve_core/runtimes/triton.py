"""Triton Inference Server as a runtime: text, vectors and rankings from any model with a text or token interface."""

from __future__ import annotations

from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.generation import TensorGeneration
from kserve_core.runtimes.open_inference.rerank import TensorReranking

__all__ = ["TritonRuntime"]


class TritonRuntime(TensorEmbeddings, TensorReranking, TensorGeneration):
    """Speaks to Triton over REST or gRPC, with equal answers; see `OpenInferenceRuntime` for the arguments.

    Text goes through `generate` and `generate_stream` over REST, and `ModelInfer` and `ModelStreamInfer` over gRPC, for
    the vLLM backend, the TensorRT-LLM ensemble, and any model that takes and gives text. Tensors are raw bytes.
    """

    name = TRITON.title
    dialect = TRITON
