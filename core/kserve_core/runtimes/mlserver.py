"""MLServer as a runtime: text, vectors and rankings from its Hugging Face runtime and from models of one's own."""

from __future__ import annotations

from kserve_core.runtimes.open_inference.dialects import MLSERVER
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.generation import TensorGeneration
from kserve_core.runtimes.open_inference.rerank import TensorReranking

__all__ = ["MLServerRuntime"]


class MLServerRuntime(TensorEmbeddings, TensorReranking, TensorGeneration):
    """Speaks to MLServer over REST or gRPC, with equal answers; see `OpenInferenceRuntime` for the arguments.

    Over REST the server takes and gives JSON only; over gRPC tensors are raw bytes.
    """

    name = MLSERVER.title
    dialect = MLSERVER
