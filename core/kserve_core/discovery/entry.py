"""What an endpoint can do with a cluster's help: the part of `Endpoint` that discovery brings.

It loads nothing of discovery before it is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, cast

from kserve_core.credentials import ApiKey
from kserve_core.trust import CACert

if TYPE_CHECKING:
    from kserve_core.endpoint import Endpoint


class FromCluster:
    """Endpoints made by asking a cluster, and described."""

    __slots__ = ()

    @classmethod
    def from_inference_service(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        allow_exec: bool = False,
        api_key: ApiKey | None = None,
        where: Literal["auto", "inside", "outside"] = "auto",
        protocol: Literal["rest", "grpc"] | None = None,
        ca_cert: CACert | None = None,
        timeout: float | None = None,
        use_cluster_token: bool = False,
        **options: Any,
    ) -> Endpoint:
        """Asks the cluster where a service is and how to talk to it.

        Needs the permission to `get` the InferenceService (or LLMInferenceService, or InferenceGraph); what else is
        readable around it makes the answer better. `describe()` shows what was found and what was not.

        Args:
            name: The service's name.
            namespace: Its namespace; the pod's or the context's own if not given.
            context: A context of the kubeconfig.
            kubeconfig: A kubeconfig file. Without it and `context`: the files in `KUBECONFIG`, else the service
                account of the pod this runs in, else `~/.kube/config`.
            allow_exec: Whether a program that the kubeconfig names may be run to get credentials for the cluster.
            api_key: The token for the model; see `create`.
            where: `inside` or `outside` the cluster, or `auto`: inside if this program runs in that cluster.
            protocol: What to speak; what the runtime speaks best if not given.
            ca_cert: As in `create`; CAs found in the cluster are added.
            timeout: As in `create`; what suits the service if not given.
            use_cluster_token: Send the token the cluster was asked with to the model as well: a person's, or that
                of the pod's service account. It is sent to the cluster's own addresses only, and only if the service
                may need one.
            **options: The other arguments of `create`.

        Raises:
            NotFoundError: If there is no such service.
            PermissionDeniedError: If it may not be read.
            StoppedError: If it was stopped on purpose.
            NotReachableError: If it has no address that can be used from here.
            ConfigurationError: If there is no access to a cluster, or something cannot be used as given.
            KServeError: If the cluster cannot be asked.
        """
        from kserve_core.discovery import connect

        request = connect.Request.create(
            name,
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            allow_exec=allow_exec,
            where=where,
            protocol=protocol,
            use_cluster_token=use_cluster_token,
        )
        settings = {**options, "ca_cert": ca_cert, "timeout": timeout}
        return connect.from_inference_service(_endpoint_class(cls), request, api_key=api_key, options=settings)

    @classmethod
    async def afrom_inference_service(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        allow_exec: bool = False,
        api_key: ApiKey | None = None,
        where: Literal["auto", "inside", "outside"] = "auto",
        protocol: Literal["rest", "grpc"] | None = None,
        ca_cert: CACert | None = None,
        timeout: float | None = None,
        use_cluster_token: bool = False,
        **options: Any,
    ) -> Endpoint:
        """As `from_inference_service`, from an event loop."""
        from kserve_core.discovery import connect

        request = connect.Request.create(
            name,
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            allow_exec=allow_exec,
            where=where,
            protocol=protocol,
            use_cluster_token=use_cluster_token,
        )
        settings = {**options, "ca_cert": ca_cert, "timeout": timeout}
        return await connect.afrom_inference_service(_endpoint_class(cls), request, api_key=api_key, options=settings)

    def describe(self) -> str:
        """The endpoint as text for people: what the cluster said, if it was asked, and the terms. Never a token."""
        from kserve_core.discovery.describe import describe

        return describe(cast("Endpoint", self))


def _endpoint_class(cls: type[FromCluster]) -> type[Endpoint]:
    return cast("type[Endpoint]", cls)
