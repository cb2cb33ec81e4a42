"""Instances made from a service's name, and which class is for which runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import Self

if TYPE_CHECKING:
    from kserve_core.discovery.adoption import Origin
    from kserve_core.discovery.facts import Discovery
    from kserve_core.discovery.families import Family
    from kserve_core.endpoint import Endpoint

_PACKAGE = "llamaindex_kserve"
_LLM = {
    "vllm": "VLLM",
    "caikit": "CaikitLLM",
    "tgis": "TGISLLM",
    "triton": "TritonLLM",
    "mlserver": "MLServerLLM",
    "openvino": "OpenVINOLLM",
}
_EMBEDDING = {
    "vllm": "VLLMEmbedding",
    "caikit": "CaikitEmbedding",
    "triton": "TritonEmbedding",
    "mlserver": "MLServerEmbedding",
    "openvino": "OpenVINOEmbedding",
    "kserve": "MLServerEmbedding",
}
_RERANK = {
    "vllm": "VLLMRerank",
    "caikit": "CaikitRerank",
    "triton": "TritonRerank",
    "mlserver": "MLServerRerank",
    "openvino": "OpenVINORerank",
    "kserve": "MLServerRerank",
}


def families() -> dict[str, Family]:
    """The classes of this package, by the name of the factory that chooses among them."""
    from kserve_core.discovery.families import Family
    from llamaindex_kserve._connection import _OTHER_NAMES

    rows = (
        ("llm", "generating text", _LLM),
        ("embedding", "embeddings", _EMBEDDING),
        ("reranker", "reranking", _RERANK),
    )
    return {
        name: Family(package=_PACKAGE, factory=name, task=task, classes=classes, aliases=_OTHER_NAMES)
        for name, task, classes in rows
    }


class Discoverable:
    """Instances made by asking a cluster, and what it said."""

    if TYPE_CHECKING:
        _origin: Origin
        _cell: Any
        _protocols: ClassVar[tuple[str, ...]]

        def __init__(self, **fields: Any) -> None: ...
        @classmethod
        def _rename(cls, data: dict[str, Any]) -> None: ...
        @property
        def endpoint(self) -> Endpoint: ...
        def _make_endpoint(self) -> Endpoint: ...

    @classmethod
    def from_inference_service(
        cls,
        name: str,
        /,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        allow_exec: bool = False,
        where: Literal["auto", "inside", "outside"] = "auto",
        use_cluster_token: bool = False,
        **fields: Any,
    ) -> Self:
        """Asks the cluster where a service is, how to talk to it and what its model is called.

        Needs the permission to `get` the InferenceService (or LLMInferenceService, or InferenceGraph); what else is
        readable around it makes the answer better. `describe()` shows what was found and what was not.

        Args:
            name: The service's name.
            namespace: Its namespace; the pod's or the context's own if not given.
            context: A context of the kubeconfig.
            kubeconfig: A kubeconfig file. Without it and `context`: the files in `KUBECONFIG`, else the service
                account of the pod this runs in, else `~/.kube/config`.
            allow_exec: Whether a program that the kubeconfig names may be run to get credentials for the cluster.
            where: `inside` or `outside` the cluster, or `auto`: inside if this program runs in that cluster.
            use_cluster_token: Send the token the cluster was asked with to the model as well. It is sent to the
                cluster's own addresses only, and only if the service may need one.
            **fields: The fields of this class but for `base_url`. They win over what is found; CAs and headers are
                added to those found.

        Raises:
            ConfigurationError: If the service is of another runtime (the message names the class), a field cannot be
                used, or there is no access to a cluster.
            NotFoundError: If there is no such service.
            PermissionDeniedError: If it may not be read.
            StoppedError: If it was stopped on purpose.
            KServeError: If the cluster cannot be asked, or the service has no address that can be used from here.
        """
        from kserve_core.endpoint import Endpoint

        asking: dict[str, Any] = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        asking |= {"allow_exec": allow_exec, "where": where, "use_cluster_token": use_cluster_token}
        arguments = cls._cluster_arguments(fields)
        endpoint = Endpoint.from_inference_service(name, **asking, **arguments)
        return cls._fitting(endpoint, fields, cluster_token=use_cluster_token)

    @classmethod
    async def afrom_inference_service(
        cls,
        name: str,
        /,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        allow_exec: bool = False,
        where: Literal["auto", "inside", "outside"] = "auto",
        use_cluster_token: bool = False,
        **fields: Any,
    ) -> Self:
        """The same as `from_inference_service`, without blocking."""
        from kserve_core.endpoint import Endpoint

        asking: dict[str, Any] = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        asking |= {"allow_exec": allow_exec, "where": where, "use_cluster_token": use_cluster_token}
        arguments = cls._cluster_arguments(fields)
        endpoint = await Endpoint.afrom_inference_service(name, **asking, **arguments)
        return cls._fitting(endpoint, fields, cluster_token=use_cluster_token)

    def describe(self) -> str:
        """The endpoint as text for people: what the cluster said, if it was asked, and the terms. Never a token."""
        return self.endpoint.describe()

    @property
    def discovered(self) -> Discovery | None:
        """What the cluster said, if this came from `from_inference_service`; dumps do not have it, pickles do."""
        return self.endpoint.discovered

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether the constructor has an argument of this name."""
        from llamaindex_kserve._connection import _OTHER_NAMES

        fields = _fields(cls)
        return name in fields or name in _OTHER_NAMES or any(name == info.alias for info in fields.values())

    @classmethod
    def adopt(cls, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool = False) -> Self:
        """Makes an instance for an endpoint that was discovered; nothing is asked.

        Args:
            endpoint: The endpoint.
            fields: Fields of this class, which win over what was discovered.
            cluster_token: Whether the endpoint's token is the cluster's.
        """
        from kserve_core.discovery.adoption import Origin, context_window, learned_fields

        given = dict(fields)
        cls._rename(given)
        learned = learned_fields(endpoint, given, cluster_token=cluster_token)
        window = context_window(endpoint)
        if window is not None and "context_window" in _fields(cls) and given.get("context_window") is None:
            learned["context_window"] = window
        made = cls(**{**given, **learned})
        made._origin = Origin.of(endpoint)
        made._cell.endpoint = made._make_endpoint()
        return made

    @classmethod
    def _cluster_arguments(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Checks the fields before anybody is asked, renames them in place, and takes those of the endpoint."""
        from kserve_core.discovery.adoption import check_base_url, endpoint_arguments, only_protocol, placeholder

        cls._rename(fields)
        check_base_url(fields)
        spoken = cls._protocols
        cls(**{**fields, "base_url": placeholder(fields.get("protocol") or spoken[0])})
        return {**only_protocol(fields, spoken), **endpoint_arguments(fields)}

    @classmethod
    def _fitting(cls, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool) -> Self:
        from kserve_core.discovery.families import check_class

        assert endpoint.discovered is not None  # noqa: S101 - from_inference_service sets it
        told = check_class(list(families().values()), cls, endpoint.discovered)
        return cls.adopt(endpoint, {**told, **fields}, cluster_token=cluster_token)


def _fields(cls: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = cls.model_fields
    return fields
