"""One function per task that returns the class for what is there: it keeps working when the runtime changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kserve_core.discovery.choosing import Factories
from langchain_kserve._discovery import families
from langchain_kserve._errors import translated

if TYPE_CHECKING:
    from langchain_kserve._base_chat import RuntimeChat
    from langchain_kserve._base_llm import RuntimeLLM
    from langchain_kserve.embeddings import RuntimeEmbeddings
    from langchain_kserve.rerank import RuntimeRerank

_factories = Factories(families, translated)


def chat_model(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> RuntimeChat:
    """A model for conversations, as the class of the runtime that is there.

    Example:
        ```python
        model = chat_model("https://llm.apps.example.com", for_runtime={"tgis": {"chat_template": "granite"}})
        model.invoke("Why is the sky blue?")
        ```

    Args:
        base_url: The endpoint's URL; `KSERVE_BASE_URL` when left out. The server there is asked which runtime it is,
            with harmless questions, the cheapest first; the token goes to that origin only.
        runtime: What is there, if you know: `vllm`, `caikit`, `tgis`, `triton`, `mlserver` or `openvino`. Nobody is
            asked then.
        inference_service: The name of a service in a cluster, instead of `base_url`; see `from_inference_service`.
        namespace: Its namespace.
        for_runtime: Arguments by the runtime they are for, where runtimes differ; those of others are not used.
        **fields: The arguments of the class; with `inference_service` also the options of `from_inference_service`.
            One that the class does not have is an error, never left out.

    Raises:
        ConfigurationError: If no class is for what is there, or the class does not have an argument.
        AuthenticationError: If the server does not say what it is without a token that it accepts.
        KServeError: If the server or the cluster does not answer, or the service cannot be used from here.
    """
    chosen = _factories.make(
        "chat_model",
        base_url,
        runtime=runtime,
        inference_service=inference_service,
        namespace=namespace,
        for_runtime=for_runtime,
        **fields,
    )
    return cast("RuntimeChat", chosen)


achat_model = _factories.without_blocking(chat_model)


def llm(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> RuntimeLLM:
    """A model that completes text, as the class of the runtime that is there.

    Example:
        ```python
        model = llm(inference_service="granite", namespace="demo")
        model.invoke("The sky is")
        ```

    Args:
        base_url: The endpoint's URL; `KSERVE_BASE_URL` when left out. The server there is asked which runtime it is,
            with harmless questions, the cheapest first; the token goes to that origin only.
        runtime: What is there, if you know: `vllm`, `caikit`, `tgis`, `triton`, `mlserver` or `openvino`. Nobody is
            asked then.
        inference_service: The name of a service in a cluster, instead of `base_url`; see `from_inference_service`.
        namespace: Its namespace.
        for_runtime: Arguments by the runtime they are for, where runtimes differ; those of others are not used.
        **fields: The arguments of the class; with `inference_service` also the options of `from_inference_service`.
            One that the class does not have is an error, never left out.

    Raises:
        ConfigurationError: If no class is for what is there, or the class does not have an argument.
        AuthenticationError: If the server does not say what it is without a token that it accepts.
        KServeError: If the server or the cluster does not answer, or the service cannot be used from here.
    """
    chosen = _factories.make(
        "llm",
        base_url,
        runtime=runtime,
        inference_service=inference_service,
        namespace=namespace,
        for_runtime=for_runtime,
        **fields,
    )
    return cast("RuntimeLLM", chosen)


allm = _factories.without_blocking(llm)


def embeddings(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> RuntimeEmbeddings:
    """A model that turns text into vectors, as the class of the runtime that is there.

    Example:
        ```python
        model = embeddings("https://minilm.apps.example.com")
        model.embed_query("Why is the sky blue?")
        ```

    Args:
        base_url: The endpoint's URL; `KSERVE_BASE_URL` when left out. The server there is asked which runtime it is,
            with harmless questions, the cheapest first; the token goes to that origin only.
        runtime: What is there, if you know: `vllm`, `caikit`, `tgis`, `triton`, `mlserver` or `openvino`. Nobody is
            asked then.
        inference_service: The name of a service in a cluster, instead of `base_url`; see `from_inference_service`.
        namespace: Its namespace.
        for_runtime: Arguments by the runtime they are for, where runtimes differ; those of others are not used.
        **fields: The arguments of the class; with `inference_service` also the options of `from_inference_service`.
            One that the class does not have is an error, never left out.

    Raises:
        ConfigurationError: If no class is for what is there, or the class does not have an argument.
        AuthenticationError: If the server does not say what it is without a token that it accepts.
        KServeError: If the server or the cluster does not answer, or the service cannot be used from here.
    """
    chosen = _factories.make(
        "embeddings",
        base_url,
        runtime=runtime,
        inference_service=inference_service,
        namespace=namespace,
        for_runtime=for_runtime,
        **fields,
    )
    return cast("RuntimeEmbeddings", chosen)


aembeddings = _factories.without_blocking(embeddings)


def reranker(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> RuntimeRerank:
    """A model that ranks documents by their relevance, as the class of the runtime that is there.

    Example:
        ```python
        model = reranker("https://bge.apps.example.com", top_n=3)
        model.compress_documents(documents, "Why is the sky blue?")
        ```

    Args:
        base_url: The endpoint's URL; `KSERVE_BASE_URL` when left out. The server there is asked which runtime it is,
            with harmless questions, the cheapest first; the token goes to that origin only.
        runtime: What is there, if you know: `vllm`, `caikit`, `tgis`, `triton`, `mlserver` or `openvino`. Nobody is
            asked then.
        inference_service: The name of a service in a cluster, instead of `base_url`; see `from_inference_service`.
        namespace: Its namespace.
        for_runtime: Arguments by the runtime they are for, where runtimes differ; those of others are not used.
        **fields: The arguments of the class; with `inference_service` also the options of `from_inference_service`.
            One that the class does not have is an error, never left out.

    Raises:
        ConfigurationError: If no class is for what is there, or the class does not have an argument.
        AuthenticationError: If the server does not say what it is without a token that it accepts.
        KServeError: If the server or the cluster does not answer, or the service cannot be used from here.
    """
    chosen = _factories.make(
        "reranker",
        base_url,
        runtime=runtime,
        inference_service=inference_service,
        namespace=namespace,
        for_runtime=for_runtime,
        **fields,
    )
    return cast("RuntimeRerank", chosen)


areranker = _factories.without_blocking(reranker)
