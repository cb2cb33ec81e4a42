"""The server of KServe's Python SDK as a runtime: vectors and rankings from custom predictors."""

from __future__ import annotations

from kserve_core.runtimes.open_inference.dialects import KSERVE
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.rerank import TensorReranking

__all__ = ["KServeRuntime"]


class KServeRuntime(TensorEmbeddings, TensorReranking):
    """Speaks to a server made with KServe's SDK, over REST or gRPC; see `OpenInferenceRuntime` for the arguments.

    Its models have no versions. The protocol has no text generation on this server: models that generate have
    OpenAI-style routes under `/openai/v1` (as huggingfaceserver has), which `VLLMRuntime` speaks to.
    """

    name = KSERVE.title
    dialect = KSERVE
