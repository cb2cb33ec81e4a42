"""Requests to the Kubernetes API as values, and what its error answers mean."""

from __future__ import annotations

import re
from typing import Any

from kserve_core._json import decode_object, encode
from kserve_core.calls import Call, Response
from kserve_core.discovery.documents import Json, one_line, text
from kserve_core.error_bodies import read_error_body
from kserve_core.errors import AuthenticationError, KServeError, NotFoundError, PermissionDeniedError

KSERVE = "/apis/serving.kserve.io"

_CANNOT = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?'
)
_UNAUTHORIZED = (
    "The cluster does not accept these credentials: log in again (oc login), choose another context=..., or check the "
    "service account's token."
)


class KubernetesApi:
    """Makes calls to one API server.

    Args:
        base_path: The path its URL has, if it is behind a proxy that has one.
    """

    def __init__(self, base_path: str = "") -> None:
        self._base = base_path.rstrip("/")

    def get(self, path: str) -> Call[Json]:
        """Reads an object, or a list of them."""
        return Call(method="GET", path=f"{self._base}{path}", read=_read, explain=explain)

    def post(self, path: str, body: Any) -> Call[Json]:
        """Creates an object; it is answered with what became of it."""
        return Call(method="POST", path=f"{self._base}{path}", read=_read, body=encode(body), explain=explain)

    def inference_service(self, namespace: str, name: str) -> Call[Json]:
        """An InferenceService."""
        return self.get(f"{KSERVE}/v1beta1/namespaces/{namespace}/inferenceservices/{name}")

    def inference_services(self, namespace: str) -> Call[Json]:
        """The InferenceServices of a namespace, the first of them."""
        return self.get(f"{KSERVE}/v1beta1/namespaces/{namespace}/inferenceservices?limit=100")

    def llm_inference_service(self, namespace: str, name: str, version: str) -> Call[Json]:
        """An LLMInferenceService, in one version of its API."""
        return self.get(f"{KSERVE}/{version}/namespaces/{namespace}/llminferenceservices/{name}")

    def inference_graph(self, namespace: str, name: str) -> Call[Json]:
        """An InferenceGraph."""
        return self.get(f"{KSERVE}/v1alpha1/namespaces/{namespace}/inferencegraphs/{name}")

    def serving_runtime(self, namespace: str | None, name: str) -> Call[Json]:
        """A ServingRuntime; without a namespace, a ClusterServingRuntime."""
        if namespace is None:
            return self.get(f"{KSERVE}/v1alpha1/clusterservingruntimes/{name}")
        return self.get(f"{KSERVE}/v1alpha1/namespaces/{namespace}/servingruntimes/{name}")

    def service(self, namespace: str, name: str) -> Call[Json]:
        """A Service."""
        return self.get(f"/api/v1/namespaces/{namespace}/services/{name}")

    def services_of(self, namespace: str, name: str) -> Call[Json]:
        """The Services that belong to an InferenceService."""
        selector = f"serving.kserve.io%2Finferenceservice%3D{name}"
        return self.get(f"/api/v1/namespaces/{namespace}/services?labelSelector={selector}")

    def route(self, namespace: str, name: str) -> Call[Json]:
        """A Route of OpenShift."""
        return self.get(f"/apis/route.openshift.io/v1/namespaces/{namespace}/routes/{name}")

    def config_map(self, namespace: str, name: str) -> Call[Json]:
        """A ConfigMap."""
        return self.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    def ingress_config(self) -> Call[Json]:
        """OpenShift's ingress configuration, which names the domain of its routes."""
        return self.get("/apis/config.openshift.io/v1/ingresses/cluster")

    def token_request(self, namespace: str, account: str, seconds: int, audiences: tuple[str, ...]) -> Call[Json]:
        """Asks for a token of a service account."""
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if audiences:
            spec["audiences"] = list(audiences)
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)


def explain(response: Response) -> KServeError | None:
    """The error a `Status` object stands for; None leaves other answers to the general rules."""
    body = read_error_body(response.body)
    value = body.value if isinstance(body.value, dict) else {}
    if value.get("kind") != "Status":
        return None
    words = one_line(text(value, "message") or text(value, "reason"))
    message = f"The Kubernetes API answered {response.status}: {words}" if words else ""
    message = message or f"The Kubernetes API answered {response.status}."
    if response.status == 401:
        return AuthenticationError(message, hint=_UNAUTHORIZED, layer="cluster")
    if response.status == 403:
        return PermissionDeniedError(message, hint=_grant(words), layer="cluster")
    if response.status == 404:
        return NotFoundError(message, layer="cluster")
    return None


def _grant(words: str) -> str:
    match = _CANNOT.search(words)
    if match is None:
        return "Ask the namespace's owner for the permission."
    resource = match["resource"] + (f".{match['group']}" if match["group"] else "")
    return f"Grant {match['user']} the verb `{match['verb']}` on `{resource}` by a Role and RoleBinding."


def _read(response: Response) -> Json:
    return decode_object(response, "an object of the Kubernetes API")
