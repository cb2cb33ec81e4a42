"""One function per task that returns the class for what is there: it keeps working when the runtime changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kserve_core.discovery.choosing import Factories
from llamaindex_kserve._discovery import families

if TYPE_CHECKING:
    from llamaindex_kserve._base_embedding import KServeEmbedding
    from llamaindex_kserve._base_llm import KServeLLM
    from llamaindex_kserve.rerank import KServeRerank

_factories = Factories(families)


def llm(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> KServeLLM:
    """A language model, as the class of the runtime that is there.

    Example:
        ```python
        Settings.llm = llm("https://llm.apps.example.com", for_runtime={"tgis": {"chat_template": "granite"}})
        Settings.llm.complete("Why is the sky blue?")
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
    return cast("KServeLLM", chosen)


allm = _factories.without_blocking(llm)


def embedding(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> KServeEmbedding:
    """A model that turns text into vectors, as the class of the runtime that is there.

    Example:
        ```python
        Settings.embed_model = embedding("https://minilm.apps.example.com")
        Settings.embed_model.get_query_embedding("Why is the sky blue?")
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
        "embedding",
        base_url,
        runtime=runtime,
        inference_service=inference_service,
        namespace=namespace,
        for_runtime=for_runtime,
        **fields,
    )
    return cast("KServeEmbedding", chosen)


aembedding = _factories.without_blocking(embedding)


def reranker(
    base_url: str | None = None,
    *,
    runtime: str | None = None,
    inference_service: str | None = None,
    namespace: str | None = None,
    for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> KServeRerank:
    """A model that ranks nodes by their relevance, as the class of the runtime that is there.

    Example:
        ```python
        ranker = reranker(inference_service="bge", namespace="demo", top_n=3)
        ranker.postprocess_nodes(nodes, query_str="Why is the sky blue?")
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
    return cast("KServeRerank", chosen)


areranker = _factories.without_blocking(reranker)
