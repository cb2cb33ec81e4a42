"""What was found out about a service, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kserve_core.discovery.status import Condition

Kind = Literal["InferenceService", "LLMInferenceService", "InferenceGraph"]
Where = Literal["inside", "outside"]
Protocol = Literal["rest", "grpc"]


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate bundle found in the cluster."""

    source: str
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the cluster says about a service, and which address was chosen. Holds no secret.

    Attributes:
        kind: What kind of object describes it.
        name: Its name.
        namespace: Its namespace.
        runtime: The runtime's key in `kserve_core.runtimes.registry`; None if it is not known, or has no class here.
        variant: What exactly it is (`vllm`, `huggingfaceserver`, `caikit-tgis`, ...), or `""`.
        runtime_name: The name of its ServingRuntime, or `""`.
        runtime_version: Its version as the ServingRuntime has it, or `""`.
        runtime_evidence: What told which runtime it is.
        protocol: `rest` or `grpc`.
        url: The chosen address; None if there is none from here.
        where: Whether that is the address inside the cluster or the one outside.
        inside_url: The address inside the cluster, or None.
        outside_url: The address outside, or None.
        model: The name requests give the model; None if only the server knows it.
        aliases: Other names it has, and LoRA adapters.
        model_evidence: What told so.
        display_name: The name people gave it; never sent.
        auth: Whether requests need a token; None if the service does not say.
        permission: The permission the token's subject needs.
        deployment: How it is deployed (`Standard`, `Knative`, `ModelMesh`, `llm-d`, ...).
        headers: Headers that requests need, as pairs.
        authorities: CA certificates found for the chosen address.
        silence_limit: Seconds of silence the route in front allows, or None for none known.
        timeout: The suggested time budget of one call, in seconds.
        idle_timeout: The suggested longest silence of a stream, in seconds.
        scales_to_zero: Whether the first request may have to wait for a pod.
        stopped: Whether it was stopped on purpose.
        ready: Whether it is ready; None if it does not say.
        conditions: What its controllers report.
        failure: Why the model is not served, or `""`.
        canary: What is known of a second version beside it, or `""`.
        options: Options of the server worth knowing, as pairs (`--max-model-len`, ...).
        cluster_hosts: Ends of host names that are this cluster's own, each with its leading dot.
        source: Where the cluster's address and credentials came from.
        notes: What could not be learned, and why.
    """

    kind: Kind
    name: str
    namespace: str
    runtime: str | None = None
    variant: str = ""
    runtime_name: str = ""
    runtime_version: str = ""
    runtime_evidence: str = ""
    protocol: Protocol = "rest"
    url: str | None = None
    where: Where = "outside"
    inside_url: str | None = None
    outside_url: str | None = None
    model: str | None = None
    aliases: tuple[str, ...] = ()
    model_evidence: str = ""
    display_name: str = ""
    auth: bool | None = None
    permission: str = ""
    deployment: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    authorities: tuple[Authority, ...] = ()
    silence_limit: float | None = None
    timeout: float = 300.0
    idle_timeout: float = 120.0
    scales_to_zero: bool = False
    stopped: bool = False
    ready: bool | None = None
    conditions: tuple[Condition, ...] = ()
    failure: str = ""
    canary: str = ""
    options: tuple[tuple[str, str], ...] = ()
    cluster_hosts: tuple[str, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """The facts as text for people, a line each, with what told them; it holds no token and no certificate."""
        lines = [f"{self.kind} {self.namespace}/{self.name}"]
        if self.display_name:
            lines[0] += f" ({self.display_name!r})"
        rows = [
            ("read from", self.source),
            ("runtime", _because(self._runtime(), self.runtime_evidence)),
            ("deployed as", self.deployment),
            ("protocol", "gRPC" if self.protocol == "grpc" else "REST"),
            ("address", f"{self.url} ({self.where} the cluster)" if self.url else "none from here"),
            ("also", self._other()),
            ("model", _because(self.model or "asked of the server", self.model_evidence)),
            ("other names", ", ".join(self.aliases)),
            ("headers", ", ".join(f"{name}: {value}" for name, value in self.headers)),
            ("token", self._token()),
            ("CA from", ", ".join(item.source for item in self.authorities)),
            ("route timeout", f"{self.silence_limit:g} s of silence" if self.silence_limit else ""),
            ("options", ", ".join(f"{name} {value}".strip() for name, value in self.options)),
            ("state", self._state()),
            ("canary", self.canary),
        ]
        lines += [f"  {name + ':':<15}{value}" for name, value in rows if value]
        lines += [f"  not learned:   {note}" for note in self.notes]
        return "\n".join(lines)

    def _runtime(self) -> str:
        shown = self.runtime or "unknown"
        if self.variant and self.variant != self.runtime:
            shown = f"{shown} ({self.variant})" if self.runtime else self.variant
        return " ".join(part for part in (shown, self.runtime_version) if part)

    def _other(self) -> str:
        others = [
            f"{url} ({where} the cluster)"
            for where, url in (("inside", self.inside_url), ("outside", self.outside_url))
            if url and url != self.url
        ]
        return ", ".join(others)

    def _token(self) -> str:
        if self.auth is None:
            return "the service does not say whether it needs one"
        return f"needed; its subject needs {self.permission}" if self.auth else "not needed"

    def _state(self) -> str:
        if self.stopped:
            return "stopped on purpose (annotation serving.kserve.io/stop)"
        parts = [{True: "ready", False: "not ready", None: "unknown"}[self.ready]]
        if self.failure:
            parts.append(self.failure)
        elif not self.ready:
            parts += [str(item) for item in self.conditions if item.status != "True" and item.type != "Stopped"][:3]
        if self.scales_to_zero:
            parts.append("scales to zero")
        return "; ".join(parts)


def _because(value: str, evidence: str) -> str:
    return f"{value} [{evidence}]" if evidence else value
