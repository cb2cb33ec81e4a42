"""What a framework's class takes over from an endpoint that was discovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kserve_core.errors import ConfigurationError

if TYPE_CHECKING:
    from kserve_core.discovery.facts import Discovery
    from kserve_core.endpoint import Endpoint

ASKING = ("namespace", "context", "kubeconfig", "allow_exec", "where", "use_cluster_token")
"""The options of `Endpoint.from_inference_service` that are no setting of the endpoint."""

CONNECTION = (
    "api_key",
    "ca_cert",
    "client_cert",
    "verify",
    "timeout",
    "idle_timeout",
    "connect_timeout",
    "max_retries",
    "default_headers",
    "max_connections",
    "allow_insecure_token",
    "strict_stream",
    "stream_invoke",
    "on_wait",
)
"""The settings of an endpoint that are fields of every class, but for its URL."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What discovery said when an instance was made. Any two are equal: it is no setting of the instance.

    Attributes:
        base_url: The URL it is about.
        facts: What was said; None for an instance made otherwise.
    """

    base_url: str = field(default="", compare=False)
    facts: Discovery | None = field(default=None, compare=False)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Origin:
        """What an endpoint carries of it."""
        return cls(endpoint.base_url, endpoint.discovered)

    def attach(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the facts, if it still is the one they are about."""
        if self.facts is None or endpoint.base_url != self.base_url:
            return endpoint
        return replace(endpoint, discovered=self.facts)


def endpoint_arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What an endpoint is made from, among the fields given to a class; None for what was left open is left out.

    Args:
        fields: The fields, by their own names.
    """
    given = {name: fields[name] for name in CONNECTION if name in fields}
    kept = {name: value for name, value in given.items() if value is not None or name == "idle_timeout"}
    if "default_headers" in kept:
        kept["default_headers"] = {name: _revealed(value) for name, value in kept["default_headers"].items()}
    return kept


def check_base_url(fields: Mapping[str, Any]) -> None:
    """Refuses an address where it is to be found out.

    Raises:
        ConfigurationError: If one was given.
    """
    if fields.get("base_url") is not None:
        msg = "base_url is what discovery finds out."
        raise ConfigurationError(msg, hint="Use the constructor if you know it.")


def only_protocol(fields: Mapping[str, Any], spoken: Sequence[str]) -> dict[str, Any]:
    """The protocol to ask the cluster for: the one given, or the only one a class speaks; else the cluster says it."""
    wanted = fields.get("protocol") or (spoken[0] if len(spoken) == 1 else None)
    return {"protocol": wanted} if wanted else {}


def placeholder(protocol: str) -> str:
    """A URL that takes the place of one that is not known yet, for checking fields; nobody is ever asked there."""
    return f"{'grpcs' if protocol == 'grpc' else 'https'}://not-known-yet.invalid"


def learned_fields(endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool = False) -> dict[str, Any]:
    """The fields that discovery fills, and those it adds to. What the user gave wins.

    Args:
        endpoint: The endpoint that was discovered with the user's fields.
        fields: The user's fields, by their own names.
        cluster_token: Whether the cluster's token was asked for.
    """
    found = endpoint.discovered
    values: dict[str, Any] = {"base_url": endpoint.base_url}
    values |= {name: getattr(endpoint, name) for name in ("timeout", "idle_timeout") if name not in fields}
    if found is None:
        return values
    if found.model is not None and fields.get("model") is None:
        values["model"] = found.model
    if found.authorities:
        values["ca_cert"] = list(endpoint.trust.ca_cert)
    if found.kind == "InferenceGraph" and fields.get("stream_invoke") is None:
        values["stream_invoke"] = endpoint.stream_invoke
    if found.headers:
        values["default_headers"] = {**dict(found.headers), **(fields.get("default_headers") or {})}
    if cluster_token and fields.get("api_key") is None and found.auth is not False:
        values["api_key"] = endpoint.token  # a reference to where the token is, not its text
    return values


def context_window(endpoint: Endpoint) -> int | None:
    """The model's context window in tokens, where the server's command line says it as a plain number."""
    found = endpoint.discovered
    if found is None or found.runtime != "vllm":
        return None
    value = dict(found.options).get("--max-model-len", "")
    return int(value) if value.isdecimal() and int(value) > 0 else None


def _revealed(value: Any) -> Any:
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if callable(reveal) else value
