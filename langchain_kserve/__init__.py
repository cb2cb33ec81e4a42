"""KServe and Red Hat OpenShift AI inference endpoints as LangChain models.

Every name below is imported from its module at first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kserve_core._version import __version__
    from langchain_kserve._errors import (
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
    from langchain_kserve.chat_models import ChatCaikit, ChatMLServer, ChatOpenVINO, ChatTGIS, ChatTriton, ChatVLLM
    from langchain_kserve.embeddings import (
        CaikitEmbeddings,
        MLServerEmbeddings,
        OpenVINOEmbeddings,
        TritonEmbeddings,
        VLLMEmbeddings,
    )
    from langchain_kserve.factories import (
        achat_model,
        aembeddings,
        allm,
        areranker,
        chat_model,
        embeddings,
        llm,
        reranker,
    )
    from langchain_kserve.llms import TGISLLM, VLLM, CaikitLLM, MLServerLLM, OpenVINOLLM, TritonLLM
    from langchain_kserve.rerank import CaikitRerank, MLServerRerank, OpenVINORerank, TritonRerank, VLLMRerank

__all__ = [
    "AuthenticationError",
    "BadResponseError",
    "CaikitEmbeddings",
    "CaikitLLM",
    "CaikitRerank",
    "ChatCaikit",
    "ChatMLServer",
    "ChatOpenVINO",
    "ChatTGIS",
    "ChatTriton",
    "ChatVLLM",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ContextOverflowError",
    "EndpointConnectionError",
    "EndpointTimeoutError",
    "InvalidRequestError",
    "KServeError",
    "MLServerEmbeddings",
    "MLServerLLM",
    "MLServerRerank",
    "ModelNotFoundError",
    "NameResolutionError",
    "NotFoundError",
    "NotReadyError",
    "OpenVINOEmbeddings",
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
    "TritonEmbeddings",
    "TritonLLM",
    "TritonRerank",
    "UnsupportedParameterError",
    "VLLM",
    "VLLMEmbeddings",
    "VLLMRerank",
    "__version__",
    "achat_model",
    "aembeddings",
    "allm",
    "areranker",
    "chat_model",
    "embeddings",
    "llm",
    "reranker",
]

_MODULES = {
    "CaikitEmbeddings": "langchain_kserve.embeddings",
    "CaikitLLM": "langchain_kserve.llms",
    "CaikitRerank": "langchain_kserve.rerank",
    "ChatCaikit": "langchain_kserve.chat_models",
    "ChatMLServer": "langchain_kserve.chat_models",
    "ChatOpenVINO": "langchain_kserve.chat_models",
    "ChatTGIS": "langchain_kserve.chat_models",
    "ChatTriton": "langchain_kserve.chat_models",
    "ChatVLLM": "langchain_kserve.chat_models",
    "MLServerEmbeddings": "langchain_kserve.embeddings",
    "MLServerLLM": "langchain_kserve.llms",
    "MLServerRerank": "langchain_kserve.rerank",
    "OpenVINOEmbeddings": "langchain_kserve.embeddings",
    "OpenVINOLLM": "langchain_kserve.llms",
    "OpenVINORerank": "langchain_kserve.rerank",
    "TGISLLM": "langchain_kserve.llms",
    "TritonEmbeddings": "langchain_kserve.embeddings",
    "TritonLLM": "langchain_kserve.llms",
    "TritonRerank": "langchain_kserve.rerank",
    "VLLM": "langchain_kserve.llms",
    "VLLMEmbeddings": "langchain_kserve.embeddings",
    "VLLMRerank": "langchain_kserve.rerank",
    "__version__": "kserve_core._version",
    "achat_model": "langchain_kserve.factories",
    "aembeddings": "langchain_kserve.factories",
    "allm": "langchain_kserve.factories",
    "areranker": "langchain_kserve.factories",
    "chat_model": "langchain_kserve.factories",
    "llm": "langchain_kserve.factories",
    "reranker": "langchain_kserve.factories",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    if name == "embeddings":
        return importlib.import_module("langchain_kserve.embeddings")  # which can be called like the function
    value = getattr(importlib.import_module(_MODULES.get(name, "langchain_kserve._errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
