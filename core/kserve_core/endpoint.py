"""Where requests go and under which terms: URL, token, trust, time budget, headers.

An `Endpoint` is a frozen value. Making one checks everything that can be checked without opening a file or a
connection, so a mistake shows where it was made.
"""

from __future__ import annotations

import ipaddress
import math
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kserve_core.credentials import ApiKey, EnvToken, FileToken, TokenSource, as_token_source
from kserve_core.discovery.entry import FromCluster
from kserve_core.errors import ConfigurationError
from kserve_core.trust import CACert, ClientCert, Trust

if TYPE_CHECKING:
    from kserve_core.discovery.facts import Discovery
    from kserve_core.readiness import WaitEvent

URL_VARIABLE = "KSERVE_BASE_URL"
TOKEN_VARIABLE = "KSERVE_API_KEY"  # noqa: S105 - a variable's name
TOKEN_FILE_VARIABLE = "KSERVE_API_KEY_FILE"  # noqa: S105 - a variable's name

_DEFAULT_PORTS = {"http": 80, "https": 443}
_GRPC_SCHEMES = {"grpc": "http", "grpcs": "https"}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "transfer-encoding", "accept-encoding", "upgrade", "te", "trailer"}
)
_OPERATIONS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


@dataclass(frozen=True, repr=False)
class Endpoint(FromCluster):
    """An inference endpoint and how to talk to it. Make one with `Endpoint.create`.

    Attributes:
        base_url: The URL as given, normalised, without a trailing slash. `grpc://host:port` and `grpcs://host:port`
            name a server that speaks only gRPC, without and with TLS.
        token: Where the bearer token comes from; None for none.
        trust: Which certificates to believe and to show.
        timeout: Seconds one call may take over all its attempts: up to the whole answer, or up to a stream's first
            piece. None for no limit.
        idle_timeout: Seconds a stream may be silent between two pieces. None for no limit.
        connect_timeout: Seconds for opening one connection.
        max_retries: How often a failed request is sent again; 0 sends every request exactly once. Waiting for a model
            that is still being loaded is bounded by `timeout` instead.
        headers: Sent with every request, as pairs.
        max_connections: The most connections open at once, per event loop (async) or per process (blocking).
        allow_insecure_token: Send the token over plain http to any host.
        strict_stream: Whether a stream that ends cleanly, but without the runtime's own end marker, is an error. False
            is the escape for servers and gateways that swallow the marker: what had arrived then counts as the whole
            answer, even if a proxy cut it. A broken connection and an error in the stream raise either way.
        stream_invoke: Whether whole answers travel as streams where the request allows it, so that a proxy's limit on
            silence (30 s on OpenShift routes) does not end a long generation. None: only for hosts outside this
            machine and this cluster, which are behind such a proxy.
        on_wait: Called each time a model that is being started is waited for. What it raises ends the call. It is left
            out of a pickle if it cannot travel in one.
        stopped: Why the model is stopped on purpose, as far as is known (an InferenceService's annotation
            `serving.kserve.io/stop`); an endpoint that is then not ready is not waited for.
        discovered: What the cluster said, if the endpoint came from `from_inference_service`: runtime, model,
            protocol, and how they were found. None otherwise. Equality does not look at it.
    """

    base_url: str
    token: TokenSource | None = None
    trust: Trust = field(default_factory=Trust)
    timeout: float | None = 300.0
    idle_timeout: float | None = 120.0
    connect_timeout: float = 10.0
    max_retries: int = 2
    headers: tuple[tuple[str, str], ...] = ()
    max_connections: int = 100
    allow_insecure_token: bool = False
    strict_stream: bool = True
    stream_invoke: bool | None = None
    on_wait: Callable[[WaitEvent], None] | None = field(default=None, compare=False)
    stopped: str | None = field(default=None, compare=False)
    discovered: Discovery | None = field(default=None, compare=False)
    scheme: str = field(init=False, compare=False)
    host: str = field(init=False, compare=False)
    port: int = field(init=False, compare=False)
    base_path: str = field(init=False, compare=False)

    @classmethod
    def create(
        cls,
        base_url: str | None = None,
        *,
        api_key: ApiKey | None = None,
        ca_cert: CACert | None = None,
        client_cert: ClientCert | None = None,
        verify: bool = True,
        timeout: float | None = 300.0,
        idle_timeout: float | None = 120.0,
        connect_timeout: float = 10.0,
        max_retries: int = 2,
        default_headers: Mapping[str, str] | None = None,
        max_connections: int = 100,
        allow_insecure_token: bool = False,
        strict_stream: bool = True,
        stream_invoke: bool | None = None,
        on_wait: Callable[[WaitEvent], None] | None = None,
    ) -> Endpoint:
        """Makes an endpoint from what people type, filling gaps from the environment.

        Args:
            base_url: The endpoint's URL, with the path its API is under, if any (`https://host/v1`). From
                `KSERVE_BASE_URL` if not given.
            api_key: The bearer token: its text, the `Path` of a file (re-read when it changes), a function, or a
                `TokenSource`. From `KSERVE_API_KEY` or the file named by `KSERVE_API_KEY_FILE` if not given.
            ca_cert: CA certificates to trust in addition: a PEM file, PEM text, or several.
            client_cert: For mutual TLS: a certificate file, or (certificate, key[, password]).
            verify: False turns certificate checks off.
            timeout: See `Endpoint`.
            idle_timeout: See `Endpoint`.
            connect_timeout: See `Endpoint`.
            max_retries: See `Endpoint`.
            default_headers: Sent with every request.
            max_connections: See `Endpoint`.
            allow_insecure_token: See `Endpoint`.
            strict_stream: See `Endpoint`.
            stream_invoke: See `Endpoint`.
            on_wait: See `Endpoint`.

        Raises:
            ConfigurationError: If something cannot be used as given; the hint says what can.
        """
        if base_url is None:
            base_url = os.environ.get(URL_VARIABLE) or None
        if base_url is None:
            msg = "No endpoint was given."
            raise ConfigurationError(msg, hint=f"Give base_url='https://...', or set {URL_VARIABLE}.")
        token = as_token_source(api_key)
        headers = tuple(check_headers(default_headers or {}).items())
        if api_key is None and not any(name.lower() == "authorization" for name, _ in headers):
            token = _token_from_environment()
        return cls(
            base_url=base_url,
            token=token,
            trust=Trust.create(ca_cert, client_cert, verify=verify),
            timeout=timeout,
            idle_timeout=idle_timeout,
            connect_timeout=connect_timeout,
            max_retries=max_retries,
            headers=headers,
            max_connections=max_connections,
            allow_insecure_token=allow_insecure_token,
            strict_stream=strict_stream,
            stream_invoke=stream_invoke,
            on_wait=on_wait,
        )

    def __post_init__(self) -> None:
        scheme, host, port, path = _parse(self.base_url)
        set_field = object.__setattr__
        set_field(self, "scheme", scheme)
        set_field(self, "host", host)
        set_field(self, "port", port)
        set_field(self, "base_path", path)
        set_field(self, "base_url", f"{self._origin(self.base_url)}{path}")
        _check_seconds("timeout", self.timeout, optional=True)
        _check_seconds("idle_timeout", self.idle_timeout, optional=True)
        _check_seconds("connect_timeout", self.connect_timeout, optional=False)
        _check_count("max_retries", self.max_retries, 0)
        _check_count("max_connections", self.max_connections, 1)
        if self.on_wait is not None and not callable(self.on_wait):
            msg = "on_wait must be a function that takes one argument, a WaitEvent."
            raise ConfigurationError(msg)
        self._check_token()

    @property
    def origin(self) -> str:
        """Scheme, host and port (left out where it is the scheme's own): `https://host:8443`."""
        return self._origin("")

    @property
    def is_grpc(self) -> bool:
        """Whether the URL says that the server speaks only gRPC (`grpc://`, `grpcs://`)."""
        return self.base_url.startswith(("grpc://", "grpcs://"))

    @property
    def grpc_target(self) -> str:
        """Where gRPC connects to: `dns:///host:port`.

        Raises:
            ConfigurationError: If the URL has a path, which gRPC cannot have.
        """
        if self.base_path:
            msg = f"base_url has a path ({self.base_path}), which gRPC cannot have."
            raise ConfigurationError(msg, hint=f"Give base_url='{self.origin}', or use REST.")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"dns:///{host}:{self.port}"

    @property
    def is_default_port(self) -> bool:
        """Whether the port is the scheme's own, which URLs leave out."""
        return self.port == _DEFAULT_PORTS[self.scheme]

    @property
    def default_headers(self) -> dict[str, str]:
        """Headers sent with every request."""
        return dict(self.headers)

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine (loopback)."""
        return _is_loopback(self.host)

    @property
    def is_in_cluster(self) -> bool:
        """Whether the host is a name that exists only inside a cluster (`.svc`)."""
        return self.host.endswith((".svc", ".svc.cluster.local"))

    @property
    def streams_whole_answers(self) -> bool:
        """Whether whole answers travel as streams where they can; see `stream_invoke`."""
        if self.stream_invoke is None:
            return not (self.is_local or self.is_in_cluster)
        return self.stream_invoke

    @property
    def sends_credentials(self) -> bool:
        """Whether requests carry a token."""
        return self.token is not None or any(name.lower() == "authorization" for name, _ in self.headers)

    def warn_if_unverified(self) -> None:
        """Warns, once per host, if the server's certificate is not going to be checked."""
        if self.scheme == "https":
            self.trust.warn_if_unverified(self.host)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if state["on_wait"] is not None:
            try:
                pickle.dumps(state["on_wait"])
            except Exception:  # noqa: BLE001 - anything may be raised by a value's own reducer
                state["on_wait"] = None
        return state

    def __repr__(self) -> str:
        names = [name for name, _ in self.headers]
        return (
            f"Endpoint({self.base_url!r}, token={self.token!r}, trust={self.trust!r}, timeout={self.timeout!r}, "
            f"idle_timeout={self.idle_timeout!r}, max_retries={self.max_retries!r}, headers={names!r})"
        )

    def _origin(self, url: str) -> str:
        scheme = url.partition(":")[0].strip().lower()
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = scheme if scheme in _GRPC_SCHEMES else self.scheme
        return f"{shown}://{host}" + ("" if self.is_default_port else f":{self.port}")

    def _check_token(self) -> None:
        if not self.sends_credentials:
            return
        if self.token is not None and any(name.lower() == "authorization" for name, _ in self.headers):
            msg = "Both api_key and an Authorization header were given."
            raise ConfigurationError(msg, hint="Give one of them.")
        if self.scheme == "https" or self.allow_insecure_token or self.is_local:
            return
        if self.is_in_cluster:
            return
        msg = f"The token would be sent unencrypted to {self.host}."
        hint = "Use the endpoint's https:// URL; if it has none, say allow_insecure_token=True."
        raise ConfigurationError(msg, hint=hint)


def check_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Refuses headers that cannot be sent, or that would let a value smuggle in another header.

    Raises:
        ConfigurationError: Naming the header, never its value.
    """
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            msg = "A header's name is not a valid one."
            raise ConfigurationError(msg, hint="Header names have letters, digits and dashes only.")
        if name.lower() in _OWN_HEADERS:
            msg = f"The header {name} is set by the transport."
            raise ConfigurationError(msg, hint="Leave it out.")
        if not isinstance(value, str) or any(char in "\r\n\0" for char in value) or not _is_latin(value):
            msg = f"The value of header {name} cannot be sent (it is not text, or has a line break)."
            raise ConfigurationError(msg, hint="Header values are one line of Latin-1 text.")
        checked[name] = value
    return checked


def _is_latin(value: str) -> bool:
    return value.isascii() or all(ord(char) < 256 for char in value)


def _token_from_environment() -> TokenSource | None:
    if os.environ.get(TOKEN_VARIABLE):
        return EnvToken(TOKEN_VARIABLE)
    name = os.environ.get(TOKEN_FILE_VARIABLE)
    return FileToken(name) if name else None


def _parse(url: str) -> tuple[str, str, int, str]:
    if not isinstance(url, str):
        msg = f"base_url must be text, not {type(url).__name__}."
        raise ConfigurationError(msg, hint="For example base_url='https://model.example.com'.")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        msg = "base_url is not a valid URL."
        raise ConfigurationError(msg, hint="For example base_url='https://model.example.com:8443/v1'.") from None
    if "@" in parts.netloc:
        msg = "base_url holds a user name or password."
        raise ConfigurationError(msg, hint="Take it out of the URL and give the token as api_key.")
    scheme = _GRPC_SCHEMES.get(parts.scheme, parts.scheme)
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        msg = "base_url must start with https:// or http:// (for gRPC grpcs:// or grpc://) and name a host."
        raise ConfigurationError(msg, hint="For example base_url='https://model.example.com'.")
    if parts.query or parts.fragment or url.rstrip().endswith(("?", "#")):
        msg = "base_url has a query or a fragment."
        raise ConfigurationError(msg, hint="Give the part before '?' or '#'.")
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    if re.search(r"[\x00-\x20\x7f]", url.strip()) or not path.isascii():
        msg = "base_url has a character that no URL may have."
        raise ConfigurationError(msg, hint="Check for blanks and quote special characters as %XX.")
    for operation in _OPERATIONS:
        if path.endswith(operation):
            msg = f"base_url names an operation ({operation}), not an endpoint."
            raise ConfigurationError(msg, hint=f"Give the part before it, ending in {operation[:3]}.")
    if path and scheme != parts.scheme:
        msg = "base_url has a path, which a gRPC endpoint cannot have."
        raise ConfigurationError(msg, hint="Give base_url='grpcs://host:port'.")
    return scheme, _host(parts.hostname), port or _DEFAULT_PORTS[scheme], path


def _host(name: str) -> str:
    try:
        ascii_name = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if not re.fullmatch(r"[0-9a-z._\-]+|[0-9a-f:.]+(%[0-9a-z._~\-]+)?", ascii_name):
        msg = "base_url names a host that cannot exist."
        raise ConfigurationError(msg, hint="For example base_url='https://model.example.com'.")
    return ascii_name


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _check_seconds(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or math.isinf(value):
        msg = f"{name} must be a number of seconds above 0{' or None' if optional else ''}."
        raise ConfigurationError(msg, hint=f"For example {name}=60.")


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} must be a whole number, {least} or more."
        raise ConfigurationError(msg, hint=f"For example {name}={max(least, 2)}.")
