"""KServe and Red Hat OpenShift AI inference endpoints as LlamaIndex models.

Every name below is imported from its module at first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kserve_core._version import __version__
    from kserve_core.errors import (
        AuthenticationError,
        BadResponseError,
        ConfigurationError,
        ConnectTimeoutError,
        ContextOverflowError,
        EndpointConnectionError,
        EndpointTimeoutError,
        InvalidRequestError,
        KServeError,
        ModelNotFoundError,
        NameResolutionError,
        NotFoundError,
        NotReadyError,
        PermissionDeniedError,
        QuotaExceededError,
        RateLimitError,
        RedirectError,
        RequestTooLargeError,
        ResponseError,
        ServerError,
        StoppedError,
        StreamIdleError,
        StreamInterrupted,
        TLSError,
        UnsupportedParameterError,
    )
    from llamaindex_kserve._errors import InvalidOutputError
    from llamaindex_kserve.embeddings import (
        CaikitEmbedding,
        MLServerEmbedding,
        OpenVINOEmbedding,
        TritonEmbedding,
        VLLMEmbedding,
    )
    from llamaindex_kserve.evaluation import CaikitSimilarityEvaluator
    from llamaindex_kserve.factories import (
        aembedding,
        allm,
        areranker,
        embedding,
        llm,
        reranker,
    )
    from llamaindex_kserve.llms import TGISLLM, VLLM, CaikitLLM, MLServerLLM, OpenVINOLLM, TritonLLM
    from llamaindex_kserve.rerank import CaikitRerank, MLServerRerank, OpenVINORerank, TritonRerank, VLLMRerank

__all__ = [
    "AuthenticationError",
    "BadResponseError",
    "CaikitEmbedding",
    "CaikitLLM",
    "CaikitRerank",
    "CaikitSimilarityEvaluator",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ContextOverflowError",
    "EndpointConnectionError",
    "EndpointTimeoutError",
    "InvalidOutputError",
    "InvalidRequestError",
    "KServeError",
    "MLServerEmbedding",
    "MLServerLLM",
    "MLServerRerank",
    "ModelNotFoundError",
    "NameResolutionError",
    "NotFoundError",
    "NotReadyError",
    "OpenVINOEmbedding",
    "OpenVINOLLM",
    "OpenVINORerank",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "RedirectError",
    "RequestTooLargeError",
    "ResponseError",
    "ServerError",
    "StoppedError",
    "StreamIdleError",
    "StreamInterrupted",
    "TGISLLM",
    "TLSError",
    "TritonEmbedding",
    "TritonLLM",
    "TritonRerank",
    "UnsupportedParameterError",
    "VLLM",
    "VLLMEmbedding",
    "VLLMRerank",
    "__version__",
    "aembedding",
    "allm",
    "areranker",
    "embedding",
    "llm",
    "reranker",
]

_MODULES = {
    "CaikitEmbedding": "llamaindex_kserve.embeddings",
    "CaikitLLM": "llamaindex_kserve.llms",
    "CaikitRerank": "llamaindex_kserve.rerank",
    "CaikitSimilarityEvaluator": "llamaindex_kserve.evaluation",
    "InvalidOutputError": "llamaindex_kserve._errors",
    "MLServerEmbedding": "llamaindex_kserve.embeddings",
    "MLServerLLM": "llamaindex_kserve.llms",
    "MLServerRerank": "llamaindex_kserve.rerank",
    "OpenVINOEmbedding": "llamaindex_kserve.embeddings",
    "OpenVINOLLM": "llamaindex_kserve.llms",
    "OpenVINORerank": "llamaindex_kserve.rerank",
    "TGISLLM": "llamaindex_kserve.llms",
    "TritonEmbedding": "llamaindex_kserve.embeddings",
    "TritonLLM": "llamaindex_kserve.llms",
    "TritonRerank": "llamaindex_kserve.rerank",
    "VLLM": "llamaindex_kserve.llms",
    "VLLMEmbedding": "llamaindex_kserve.embeddings",
    "VLLMRerank": "llamaindex_kserve.rerank",
    "__version__": "kserve_core._version",
    "aembedding": "llamaindex_kserve.factories",
    "allm": "llamaindex_kserve.factories",
    "areranker": "llamaindex_kserve.factories",
    "embedding": "llamaindex_kserve.factories",
    "llm": "llamaindex_kserve.factories",
    "reranker": "llamaindex_kserve.factories",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_MODULES.get(name, "kserve_core.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
