"""A Kubernetes API on loopback, and the documents it serves: written from the field facts of KServe, Open Data Hub
and OpenShift (names of fields, annotations and states), not recorded from a cluster."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NS = "demo"
TOKEN = "canary-cluster-token"
KSERVE = "/apis/serving.kserve.io"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

ISVC = f"{KSERVE}/v1beta1/namespaces/{NS}/inferenceservices/m"
RUNTIME = f"{KSERVE}/v1alpha1/namespaces/{NS}/servingruntimes/rt"
CLUSTER_RUNTIME = f"{KSERVE}/v1alpha1/clusterservingruntimes/rt"
SERVICE = f"/api/v1/namespaces/{NS}/services/m-predictor"
ROUTE = f"/apis/route.openshift.io/v1/namespaces/{NS}/routes/m"
SERVICE_CA = f"/api/v1/namespaces/{NS}/configmaps/openshift-service-ca.crt"
TRUSTED_CA = f"/api/v1/namespaces/{NS}/configmaps/odh-trusted-ca-bundle"
ROOT_CA = f"/api/v1/namespaces/{NS}/configmaps/kube-root-ca.crt"
INGRESS = "/apis/config.openshift.io/v1/ingresses/cluster"
LLM2 = f"{KSERVE}/v1alpha2/namespaces/{NS}/llminferenceservices/m"
LLM1 = f"{KSERVE}/v1alpha1/namespaces/{NS}/llminferenceservices/m"

INSIDE = f"http://m-predictor.{NS}.svc.cluster.local"
OUTSIDE = f"https://m-{NS}.apps.example.com"


@dataclass
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Kube:
    """The server: documents by path; a number instead of one is the status to refuse with."""

    documents: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    tokens: set[str] | None = None
    tls: ssl.SSLContext | None = None
    url: str = ""

    def __enter__(self) -> Kube:
        kube = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body leave together

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                seen = Seen(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
                kube.seen.append(seen)
                status, value = kube.answer(seen)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "text/plain" if isinstance(value, bytes) else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                self.wfile.flush()

            do_POST = do_GET  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass  # clients that refuse this server's certificate

        self._server = Server(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, seen: Seen) -> tuple[int, Any]:
        given = {name.lower(): value for name, value in seen.headers.items()}.get("authorization", "")
        if self.tokens is not None and given.removeprefix("Bearer ") not in self.tokens:
            return 401, status_object(401, "Unauthorized", "Unauthorized")
        found = self.documents.get(seen.path)
        if callable(found):
            found = found(seen)
        if found is None:
            if KSERVE in seen.path and self.documents.get(KSERVE) == 404:
                return 404, b"404 page not found\n"
            return 404, status_object(404, "NotFound", f"{seen.path.rpartition('/')[2]!r} not found")
        if isinstance(found, int):
            words = 'User "system:serviceaccount:demo:app" cannot get resource "things" in API group "x"'
            return found, status_object(found, "Forbidden", f"things is forbidden: {words}")
        return 200, found

    def paths(self) -> list[str]:
        return [item.path for item in self.seen]

    def kubeconfig(self, folder: Path, **changes: Any) -> Path:
        """Writes a kubeconfig, as JSON, that names this server; `cluster`, `user` and `namespace` change it."""
        cluster = {"server": self.url, **changes.get("cluster", {})}
        user = changes.get("user", {"token": TOKEN})
        path = folder / changes.get("name", "kubeconfig.json")
        path.write_text(json.dumps(kubeconfig(cluster, user, changes.get("namespace", NS))))
        return path


def kubeconfig(cluster: Any, user: Any, namespace: str = NS, context: str = "here") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }


def status_object(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def merge(base: Any, change: Any) -> Any:
    if isinstance(base, dict) and isinstance(change, dict):
        return {key: merge(base.get(key), change.get(key, base.get(key))) for key in {**base, **change}}
    return change


def isvc(**changes: Any) -> dict[str, Any]:
    """A ready InferenceService of a vLLM runtime, deployed as Standard, exposed by a route."""
    base = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "m",
            "namespace": NS,
            "labels": {"networking.kserve.io/visibility": "exposed", "opendatahub.io/dashboard": "true"},
            "annotations": {
                "serving.kserve.io/deploymentMode": "RawDeployment",
                "openshift.io/display-name": "My model",
            },
        },
        "spec": {"predictor": {"model": {"modelFormat": {"name": "vLLM"}, "runtime": "rt"}, "minReplicas": 1}},
        "status": {
            "url": OUTSIDE,
            "address": {"url": INSIDE},
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PredictorReady", "status": "True"}],
            "modelStatus": {
                "transitionStatus": "UpToDate",
                "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
            },
        },
    }
    return merge(base, changes)


def runtime(**changes: Any) -> dict[str, Any]:
    """A ServingRuntime as the dashboard makes it out of the vLLM template."""
    base = {
        "kind": "ServingRuntime",
        "metadata": {
            "name": "rt",
            "annotations": {
                "opendatahub.io/template-name": "vllm-cuda-runtime-template",
                "opendatahub.io/apiProtocol": "REST",
                "opendatahub.io/runtime-version": "v0.21.0",
            },
        },
        "spec": {
            "supportedModelFormats": [{"name": "vLLM", "autoSelect": True}],
            "multiModel": False,
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "quay.io/modh/vllm:stable",
                    "command": ["python", "-m", "vllm.entrypoints.openai.api_server"],
                    "args": ["--port=8080", "--model=/mnt/models", "--served-model-name={{.Name}}"],
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                }
            ],
        },
    }
    return merge(base, changes)


def plain_runtime(*containers: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """A ServingRuntime that says what it is in no other way than by these."""
    return {
        "kind": "ServingRuntime",
        "metadata": {
            "name": "rt",
            "annotations": {name.replace("__", "/"): text for name, text in annotations.items()},
        },
        "spec": {"containers": list(containers)},
    }


def container(
    *args: str, name: str = "kserve-container", image: str = "registry.example/x:1", ports: Any = ()
) -> dict[str, Any]:
    ported = [{"containerPort": number, "name": label} for number, label in ports]
    return {"name": name, "image": image, "args": list(args), "ports": ported}


def service(*ports: dict[str, Any], headless: bool = False) -> dict[str, Any]:
    listed = list(ports) or [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"kind": "Service", "spec": {"clusterIP": "None" if headless else "10.0.0.1", "ports": listed}}


def route(host: str = f"m-{NS}.apps.example.com", **changes: Any) -> dict[str, Any]:
    base = {
        "kind": "Route",
        "metadata": {"name": "m", "annotations": {}},
        "spec": {"host": host, "tls": {"termination": "reencrypt"}, "port": {"targetPort": "https"}},
        "status": {"ingress": [{"host": host, "routerCanonicalHostname": "router-default.apps.example.com"}]},
    }
    return merge(base, changes)


def config_map(**data: str) -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "data": {name.replace("__", ".").replace("_", "-"): value for name, value in data.items()},
    }
