"""Instances of the frameworks' classes, made from a service's name: what is the same for both frameworks.

It loads nothing of discovery before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing_extensions import Self

    from kserve_core.discovery.families import Family
    from kserve_core.endpoint import Endpoint


class MadeFromService:
    """Instances made by asking a cluster. A package's own class says how, by the methods without a body here."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...
        @classmethod
        def _rename(cls, data: dict[str, Any]) -> None: ...
        @classmethod
        def _spoken(cls) -> Sequence[str]:
            """The protocols the class speaks, the usual one first."""

        @classmethod
        def _families(cls) -> Mapping[str, Family]:
            """The package's families."""

        @classmethod
        def adopt(cls, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool = False) -> Self:
            """Makes an instance for an endpoint that was discovered; nothing is asked."""

    @classmethod
    def _within(cls) -> AbstractContextManager[Any]:
        """What an error passes on its way out, to become one of the framework's."""
        return nullcontext()

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
        with cls._within():
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
        with cls._within():
            arguments = cls._cluster_arguments(fields)
            endpoint = await Endpoint.afrom_inference_service(name, **asking, **arguments)
            return cls._fitting(endpoint, fields, cluster_token=use_cluster_token)

    @classmethod
    def _cluster_arguments(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Checks the fields before anybody is asked, renames them in place, and takes those of the endpoint."""
        from kserve_core.discovery.adoption import check_base_url, endpoint_arguments, only_protocol, placeholder

        cls._rename(fields)
        check_base_url(fields)
        spoken = cls._spoken()
        cls(**{**fields, "base_url": placeholder(fields.get("protocol") or spoken[0])})
        return {**only_protocol(fields, spoken), **endpoint_arguments(fields)}

    @classmethod
    def _fitting(cls, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool) -> Self:
        from kserve_core.discovery.families import check_class

        assert endpoint.discovered is not None  # noqa: S101 - from_inference_service sets it
        told = check_class(list(cls._families().values()), cls, endpoint.discovered)
        return cls.adopt(endpoint, {**told, **fields}, cluster_token=cluster_token)
