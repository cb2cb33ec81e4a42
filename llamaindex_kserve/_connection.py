"""How every LlamaIndex class of this package reaches its endpoint: the shared fields and the lazily built client."""

import logging
import os
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llama_index.core.schema import BaseComponent
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from typing_extensions import Self

from kserve_core.client import RuntimeClient
from kserve_core.discovery.adoption import Origin
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.names import did_you_mean
from llamaindex_kserve._discovery import Discoverable
from llamaindex_kserve._lookup import ModelLookup

logger = logging.getLogger(__name__)

_SHARED_BY_COPIES = ("callback_manager", "rate_limiter", "on_wait")
"""Fields that belong to the process: copies share them, pickles leave them out when they cannot travel."""

_OTHER_NAMES = {"api_base": "base_url"}
"""Names that LlamaIndex users already type for the same thing."""

_SCHEMES = {"rest": "https:// or http://", "grpc": "grpcs:// or grpc://"}


def _hide(value: Any) -> Any:
    return SecretStr(value) if isinstance(value, str) else value


if TYPE_CHECKING:
    from kserve_core.credentials import TokenSource

    ApiKeyField = str | SecretStr | os.PathLike[str] | Callable[[], str | Awaitable[str]] | TokenSource | None
    CertField = str | Path | tuple[str | Path, ...] | None
    CAField = str | Path | Sequence[str | Path] | None
else:
    ApiKeyField = Annotated[Any, BeforeValidator(_hide)]
    CertField = Any
    CAField = Any


class _Cell:
    """Holds what is built at first use. Copies and unpickled cells are empty, and any two cells are equal."""

    __slots__ = ("chat", "client", "endpoint", "lock", "lookup")

    def __init__(self) -> None:
        self.chat: tuple[Any, Any] | None = None
        self.client: RuntimeClient[Any] | None = None
        self.endpoint: Endpoint | None = None
        self.lock = threading.Lock()
        self.lookup = ModelLookup()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cell)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Cell, ())

    def __copy__(self) -> "_Cell":
        return _Cell()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Cell":
        return _Cell()


class ConnectionMixin(Discoverable, BaseComponent):
    """Fields that say how to reach an endpoint, and the one client built from them.

    All of them are public fields, so that copies and pickles are complete; all of them stay out of dumps,
    events and the ingestion cache's hash, so that rotating a token neither leaks it nor throws a cache away.
    `from_dict` therefore takes them again as keyword arguments, or from the `KSERVE_*` environment variables.

    A pickle carries token files, environment variables and importable functions by reference. A literal token
    does travel in it: a worker process would be useless without.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    base_url: str | None = Field(
        default=None,
        exclude=True,
        description=(
            "The endpoint's URL, `https://` or `http://`; `grpcs://` or `grpc://` (without TLS) for a gRPC port. "
            "`KSERVE_BASE_URL` when left out."
        ),
    )
    api_key: ApiKeyField = Field(
        default=None,
        exclude=True,
        repr=False,
        description=(
            "The bearer token: its text, a `pathlib.Path` of a file that is read again when it changes, or a callable "
            "(async ones too). `KSERVE_API_KEY` or `KSERVE_API_KEY_FILE` when left out."
        ),
    )
    ca_cert: CAField = Field(
        default=None,
        exclude=True,
        repr=False,
        description="CA file(s) trusted in addition to the system's; `KSERVE_CA_CERT` when left out.",
    )
    client_cert: CertField = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Client certificate: one PEM file, or (certificate, key), or (certificate, key, password).",
    )
    verify: bool = Field(default=True, exclude=True, repr=False, description="False accepts any certificate.")
    timeout: float | None = Field(
        default=300.0,
        exclude=True,
        repr=False,
        description="Seconds one call may take in all, retries and cold starts included; None for no limit.",
    )
    idle_timeout: float | None = Field(
        default=120.0,
        exclude=True,
        repr=False,
        description="Seconds the server may be silent within an answer; None for no limit.",
    )
    connect_timeout: float = Field(default=10.0, exclude=True, repr=False, description="Seconds to open a connection.")
    max_retries: int = Field(
        default=2,
        ge=0,
        exclude=True,
        repr=False,
        description="Requests sent again after a passing failure; nothing above this class retries.",
    )
    default_headers: Mapping[str, str] | None = Field(
        default=None, exclude=True, repr=False, description="Headers of every request."
    )
    max_connections: int = Field(
        default=100, ge=1, exclude=True, repr=False, description="Connections open at once, per event loop."
    )
    allow_insecure_token: bool = Field(
        default=False,
        exclude=True,
        repr=False,
        description="Send the token over plain HTTP to hosts outside this machine and cluster.",
    )
    strict_stream: bool = Field(
        default=True,
        exclude=True,
        repr=False,
        description=(
            "False takes a stream that ends cleanly, but without the runtime's end marker, for a whole answer; for "
            "servers and gateways that swallow the marker."
        ),
    )
    stream_invoke: bool | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description=(
            "Whether whole answers (`chat`, `complete`) travel as streams where the request allows it, so that a "
            "proxy's limit on silence (30 s on OpenShift routes) does not end a long generation. The result is the "
            "same. Left out: only for hosts outside this machine and this cluster."
        ),
    )
    on_wait: Callable[[Any], None] | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description=(
            "Called with a `kserve_core.WaitEvent` each time a model that is being started is waited for; what it "
            "raises ends the call."
        ),
    )
    protocol: Literal["rest", "grpc"] = Field(
        default="rest",
        exclude=True,
        repr=False,
        description="The wire to speak, where the runtime has both; a `grpc://` or `grpcs://` URL says it as well.",
    )

    _cell: _Cell = PrivateAttr(default_factory=_Cell)
    _origin: Origin = PrivateAttr(default_factory=Origin)

    _runtime_name: ClassVar[str] = "KServe"
    _protocols: ClassVar[tuple[str, ...]] = ("rest",)
    _runtime_fields: ClassVar[tuple[str, ...]] = ()
    """Further fields the runtime's codec is made from."""

    def __init__(self, *args: Any, **data: Any) -> None:
        self._rename(data)
        try:
            super().__init__(*args, **data)
        except ValidationError as error:
            if _mentions_secret(error):
                msg = f"{type(self).__name__} cannot use these arguments: {_complaints(error)}"
                raise ConfigurationError(msg) from None
            raise
        endpoint = self._make_endpoint()
        if self.base_url is None:
            self.base_url = endpoint.base_url
        if endpoint.is_grpc and "protocol" not in data:
            self.protocol = "grpc"
        self._check_protocol(endpoint)
        self._cell.endpoint = endpoint

    def _check_protocol(self, endpoint: Endpoint) -> None:
        if self.protocol not in self._protocols:
            msg = f"{self._runtime_name} is not reached over {self.protocol}."
            hint = f"Use protocol={self._protocols[0]!r}, and a base_url that is {_SCHEMES[self._protocols[0]]}."
            raise UnsupportedParameterError(msg, hint=hint)
        if self.protocol == "grpc":
            _ = endpoint.grpc_target  # complains about a path
        elif endpoint.is_grpc:
            msg = f"base_url={endpoint.base_url!r} names a gRPC server, and protocol is 'rest'."
            raise ConfigurationError(msg, hint="Leave protocol out, or give an https:// URL.")

    @classmethod
    def _rename(cls, data: dict[str, Any]) -> None:
        """Replaces other packages' names in place and refuses unknown ones."""
        for other, name in _OTHER_NAMES.items():
            if other in data and name not in data:
                data[name] = data.pop(other)
        cls._refuse_unknown(data)

    @classmethod
    def _refuse_unknown(cls, data: Mapping[str, Any]) -> None:
        known: dict[str, None] = {}
        for name, info in cls.model_fields.items():
            known[name] = None
            if info.alias:
                known[info.alias] = None
        unknown = [name for name in data if name not in known]
        if not unknown:
            return
        msg = f"{cls.__name__} takes no argument named {', '.join(map(repr, unknown))}."
        raise ConfigurationError(msg, hint=did_you_mean(unknown[0], known).rstrip())

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _hide(value) if name == "api_key" else value)
        if self.__pydantic_private__ is not None and self._leads_elsewhere(name):
            self._forget()

    @classmethod
    def _leads_elsewhere(cls, name: str) -> bool:
        """Whether a client made before this field changed is of no use any more."""
        return name == "model" or name in ConnectionMixin.model_fields or name in cls._runtime_fields

    def _forget(self) -> None:
        """Drops what was built or learned from fields that have changed."""
        self._cell = _Cell()

    # -- the client ---------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """The validated endpoint these fields describe.

        Raises:
            ConfigurationError: If they describe none.
        """
        cell = self._cell
        if cell.endpoint is None:
            cell.endpoint = self._make_endpoint()
        return cell.endpoint

    @property
    def client(self) -> RuntimeClient[Any]:
        """The client behind this object, made at first use; its `runtime` speaks the server's own API."""
        cell = self._cell
        client = cell.client
        if client is None:
            with cell.lock:
                client = cell.client
                if client is None:
                    client = cell.client = self._make_client(self.endpoint)
        return client

    def _make_endpoint(self) -> Endpoint:
        endpoint = Endpoint.create(
            self.base_url,
            api_key=self.api_key,
            ca_cert=self.ca_cert,
            client_cert=self.client_cert,
            verify=self.verify,
            timeout=self.timeout,
            idle_timeout=self.idle_timeout,
            connect_timeout=self.connect_timeout,
            max_retries=self.max_retries,
            default_headers=self.default_headers,
            max_connections=self.max_connections,
            allow_insecure_token=self.allow_insecure_token,
            strict_stream=self.strict_stream,
            stream_invoke=self.stream_invoke,
            on_wait=self.on_wait,
        )
        return self._origin.attach(endpoint)

    def _make_client(self, endpoint: Endpoint) -> RuntimeClient[Any]:
        return RuntimeClient(endpoint, self._make_runtime(endpoint))

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        """The codec of the runtime this class is for; the one thing every runtime's class says for itself."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connections of blocking calls. The object stays usable and opens new ones."""
        if self._cell.client is not None:
            self._cell.client.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop and of blocking calls. The object stays usable."""
        if self._cell.client is not None:
            await self._cell.client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # What was set is worth reading; dozens of defaults are not.
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            info = fields.get(name or "")
            if info is None or (info.exclude and name != "base_url"):
                continue
            if value != info.get_default(call_default_factory=True):
                yield name, value

    # -- copies -------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[Any, Any]:
        # The framework's own method leaves out whatever does not pickle; here that is an error, but for what
        # belongs to this process alone.
        state = super(BaseComponent, self).__getstate__()
        values = dict(state["__dict__"])
        for name, value in values.items():
            problem = _pickle_problem(value)
            if problem is None:
                continue
            if name in _SHARED_BY_COPIES:
                logger.warning("%s is left out of a pickled %s: %s", name, type(self).__name__, problem)
                values[name] = type(self).model_fields[name].get_default(call_default_factory=True)
                continue
            msg = f"{type(self).__name__}.{name} cannot be pickled ({problem}); use an importable function or a file"
            raise TypeError(msg)
        return {**state, "__dict__": values}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super(BaseComponent, self).__setstate__(state)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced; it shares this object's connections unless they are for elsewhere."""
        update = {name: _hide(value) if name == "api_key" else value for name, value in (update or {}).items()}
        copied = super().model_copy(update=update, deep=deep)
        if any(map(self._leads_elsewhere, update)):
            copied._forget()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        for name in _SHARED_BY_COPIES:
            shared = getattr(self, name, None)
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)


def _pickle_problem(value: Any) -> str | None:
    try:
        pickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - anything may be raised by a value's own reducer
        return f"{type(error).__name__} on {type(value).__name__}"
    return None


def _mentions_secret(error: ValidationError) -> bool:
    secret = {"api_key", "default_headers", "client_cert"}
    return any(set(map(str, item["loc"])) & secret for item in error.errors(include_input=False))


def _complaints(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_input=False, include_context=False, include_url=False)
    )
