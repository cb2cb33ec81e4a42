"""Instances made from a service's name, and which class is for which runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import Self

from langchain_kserve._errors import translated

if TYPE_CHECKING:
    from kserve_core.client import RuntimeClient
    from kserve_core.discovery.adoption import Origin
    from kserve_core.discovery.facts import Discovery
    from kserve_core.discovery.families import Family
    from kserve_core.endpoint import Endpoint

_PACKAGE = "langchain_kserve"
_CHAT = {
    "vllm": "ChatVLLM",
    "caikit": "ChatCaikit",
    "tgis": "ChatTGIS",
    "triton": "ChatTriton",
    "mlserver": "ChatMLServer",
    "openvino": "ChatOpenVINO",
}
_TEXT = {
    "vllm": "VLLM",
    "caikit": "CaikitLLM",
    "tgis": "TGISLLM",
    "triton": "TritonLLM",
    "mlserver": "MLServerLLM",
    "openvino": "OpenVINOLLM",
}
_EMBEDDINGS = {
    "vllm": "VLLMEmbeddings",
    "caikit": "CaikitEmbeddings",
    "triton": "TritonEmbeddings",
    "mlserver": "MLServerEmbeddings",
    "openvino": "OpenVINOEmbeddings",
    "kserve": "MLServerEmbeddings",
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
    from langchain_kserve._connection import KServeConnection

    rows = (
        ("chat_model", "conversations", _CHAT),
        ("llm", "text completion", _TEXT),
        ("embeddings", "embeddings", _EMBEDDINGS),
        ("reranker", "reranking", _RERANK),
    )
    return {
        name: Family(package=_PACKAGE, factory=name, task=task, classes=classes, aliases=KServeConnection._aliases)
        for name, task, classes in rows
    }


class Discoverable:
    """Instances made by asking a cluster, and what it said."""

    if TYPE_CHECKING:
        _aliases: ClassVar[Mapping[str, str]]
        _origin: Origin
        _slot: Any

        def __init__(self, **fields: Any) -> None: ...
        @classmethod
        def _rename(cls, data: dict[str, Any]) -> None: ...
        def _get_client(self) -> RuntimeClient[Any]: ...
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
        with translated:
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
        with translated:
            arguments = cls._cluster_arguments(fields)
            endpoint = await Endpoint.afrom_inference_service(name, **asking, **arguments)
            return cls._fitting(endpoint, fields, cluster_token=use_cluster_token)

    def describe(self) -> str:
        """The endpoint as text for people: what the cluster said, if it was asked, and the terms. Never a token."""
        return self._get_client().endpoint.describe()

    @property
    def discovered(self) -> Discovery | None:
        """What the cluster said, if this came from `from_inference_service`; dumps do not have it, pickles do."""
        return self._get_client().endpoint.discovered

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():  # type: ignore[misc]
            yield name, _short(value) if name == "ca_cert" else value

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether the constructor has an argument of this name."""
        fields = _fields(cls)
        return name in fields or cls._aliases.get(name) in fields

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
        made = cls(**{**given, **learned_fields(endpoint, given, cluster_token=cluster_token)})
        made._origin = Origin.of(endpoint)
        made._slot.endpoint = made._make_endpoint()
        window = context_window(endpoint)
        if window is not None and "profile" in _fields(cls):
            profile = getattr(made, "profile", None) or {}
            made.profile = {"max_input_tokens": window, **profile}  # type: ignore[attr-defined]
        return made

    @classmethod
    def _cluster_arguments(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Checks the fields before anybody is asked, renames them in place, and takes those of the endpoint."""
        from kserve_core.discovery.adoption import check_base_url, endpoint_arguments, only_protocol, placeholder

        cls._rename(fields)
        check_base_url(fields)
        spoken = list(cls._declaration.codecs)  # type: ignore[attr-defined]
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


def _short(value: Any) -> Any:
    """Certificates as their paths, and those that are given as text in two words."""
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return "<PEM text>" if isinstance(value, str) and "-----BEGIN" in value else value
