"""The constructor fields every class of this package shares, and the client made from them."""

import os
import pickle
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    SkipValidation,
)
from typing_extensions import Self

from kserve_core.credentials import TokenSource
from kserve_core.discovery.adoption import Origin
from kserve_core.names import PARAMETER, nearest
from langchain_kserve._discovery import Discoverable
from langchain_kserve._errors import ConfigurationError, translated
from langchain_kserve._runtimes import Declaration
from langchain_kserve._server_info import ServerInfo

if TYPE_CHECKING:
    from kserve_core.calls import Exchange
    from kserve_core.client import RuntimeClient
    from kserve_core.endpoint import Endpoint

T = TypeVar("T")

_BUILDING = threading.Lock()
_ENDPOINT_FIELDS = (
    "base_url",
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


def _as_api_key(value: Any) -> Any:
    if isinstance(value, str):
        return SecretStr(value)
    if isinstance(value, os.PathLike) and not isinstance(value, Path):
        return Path(value)
    return value


ApiKey = Annotated[
    SkipValidation[SecretStr | str | Path | Callable[[], Any] | TokenSource | None],
    BeforeValidator(_as_api_key),
]


def _env_base_url() -> str | None:
    return os.environ.get("KSERVE_BASE_URL") or None


def _env_api_key() -> SecretStr | Path | None:
    if key := os.environ.get("KSERVE_API_KEY"):
        return SecretStr(key)
    if path := os.environ.get("KSERVE_API_KEY_FILE"):
        return Path(path)
    return None


def _env_ca_cert() -> str | None:
    return os.environ.get("KSERVE_CA_CERT") or None


class _Slot:
    """Holds what is built from the fields; never compared, pickled or deep-copied with them."""

    __slots__ = ("chat", "client", "endpoint", "settings")

    def __init__(self) -> None:
        self.chat: Any = None
        self.client: Any = None
        self.endpoint: Any = None
        self.settings: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Slot)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type["_Slot"], tuple[()]]:
        return _Slot, ()

    def __deepcopy__(self, memo: Any) -> "_Slot":
        return _Slot()


class KServeConnection(Discoverable, ServerInfo, BaseModel):
    """Where the model is and how to reach it.

    Put it first among the bases. Nothing is opened by the constructor; connections are made at the first request,
    shared by all threads and event loops, and closed by `close` or `aclose`. A copy makes its own.

    Raises:
        ConfigurationError: From the constructor, if a field cannot be used or has an unknown name.
    """

    base_url: str | None = Field(default_factory=_env_base_url)
    """The endpoint's URL: `https://host[:port]`, for vLLM with the path before `/chat/completions` and the like
    (`https://host/v1`), or `grpcs://host[:port]` (`grpc://` without TLS) for a runtime that speaks gRPC.

    Taken from `KSERVE_BASE_URL` when not given.
    """

    api_key: ApiKey = Field(default_factory=_env_api_key, exclude=True, repr=False)
    """The bearer token: text, a `Path` to a file that holds it (read again when it changes), or a callable that
    returns it, `async` or not.

    Taken from `KSERVE_API_KEY`, or the file named by `KSERVE_API_KEY_FILE`, when not given. Open endpoints need none.
    """

    ca_cert: str | Path | list[str | Path] | None = Field(default_factory=_env_ca_cert)
    """PEM files with certificate authorities to trust in addition to the system's. `KSERVE_CA_CERT` when not given."""

    client_cert: str | Path | tuple[str | Path, ...] | None = Field(default=None, exclude=True, repr=False)
    """A client certificate for mutual TLS: one PEM file, or `(certificate, key)`, or `(certificate, key, password)`."""

    verify: bool = True
    """Whether to check the server's certificate. For a private authority give `ca_cert` instead of turning it off."""

    timeout: float | None = 300.0
    """Seconds one call may take in all, retries and cold starts included; None for no limit."""

    idle_timeout: float | None = 120.0
    """Seconds a stream may stay silent before it is given up; None for no limit."""

    connect_timeout: float = 10.0
    """Seconds to wait for a connection."""

    max_retries: int = 2
    """How often a failed request is sent again, within `timeout`; waiting for a model being loaded is not counted."""

    default_headers: Mapping[str, str | SecretStr] | None = Field(default=None, exclude=True, repr=False)
    """Headers sent with every request. They are kept out of dumps and `repr`."""

    max_connections: int = 100
    """How many connections may be open at once in one event loop (and among all threads together)."""

    allow_insecure_token: bool = False
    """Whether a token may be sent over plain HTTP to a host other than this one."""

    strict_stream: bool = True
    """Whether a stream that ends cleanly, but without the runtime's own end marker, is an error. False takes what had
    arrived for the whole answer, for servers and gateways that swallow the marker."""

    stream_invoke: bool | None = None
    """Whether whole answers (`invoke`, `generate`) travel as streams where the request allows it, so that a proxy's
    limit on silence, 30 s on OpenShift routes, does not end a long generation. The result is the same, and callbacks
    are told of no tokens. None: only for hosts outside this machine and this cluster."""

    on_wait: SkipValidation[Callable[[Any], None] | None] = Field(default=None, exclude=True, repr=False)
    """Called with a `kserve_core.WaitEvent` each time a model that is being started is waited for. What it raises ends
    the call. A pickle leaves it out if it cannot travel in one."""

    protocol: Literal["rest", "grpc"] | None = None
    """How to talk to the runtime: the runtime's usual way, or gRPC if the URL says so, unless it is set."""

    model_config = ConfigDict(hide_input_in_errors=True, arbitrary_types_allowed=True, protected_namespaces=())

    _declaration: ClassVar[Declaration]
    """The runtime; set by each concrete class."""

    _codec_options: ClassVar[tuple[str, ...]] = ()
    """Fields that the codec takes besides `model`."""

    _aliases: ClassVar[Mapping[str, str]] = {
        "model_name": "model",
        "model_id": "model",
        "openai_api_base": "base_url",
        "api_base": "base_url",
        "endpoint_url": "base_url",
        "openai_api_key": "api_key",
        "token": "api_key",
        "request_timeout": "timeout",
        "stop_sequences": "stop",
        "max_completion_tokens": "max_tokens",
        "max_new_tokens": "max_tokens",
        "num_retries": "max_retries",
        "ca_bundle": "ca_cert",
    }
    """Names other packages use for the same thing, taken where the class has the field."""

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _slot: _Slot = PrivateAttr(default_factory=_Slot)

    def __init__(self, *args: Any, **data: Any) -> None:
        self._rename(data)
        if data.get("api_key") is None and _authorizes(data.get("default_headers")):
            data["api_key"] = None  # the header is the credential; the environment's token is for others
        super().__init__(*args, **data)
        slot = self._slot
        slot.settings, slot.endpoint = self._settings(), self._make_endpoint()

    def model_post_init(self, context: Any, /) -> None:
        """Lets LangChain's own bases finish, which come after this one."""
        super().model_post_init(context)

    @classmethod
    def _rename(cls, data: dict[str, Any]) -> None:
        """Replaces other packages' names in place and refuses unknown ones."""
        fields = cls.model_fields
        for name in [name for name in data if name not in fields]:
            target = cls._aliases.get(name)
            if target is None or target not in fields:
                raise cls._unknown(name)
            if data.get(target) is not None:
                msg = f"{cls.__name__} got both {target} and {name}, which are the same."
                raise ConfigurationError(msg, hint=f"Give {target} only.")
            data[target] = data.pop(name)

    @classmethod
    def _unknown(cls, name: str) -> ConfigurationError:
        known = [*cls.model_fields, *cls._aliases]
        near = nearest(name, known, likeness=PARAMETER)
        hint = f"Did you mean {near}?" if near else ""
        if not near and "extra_body" in cls.model_fields:
            hint = f"A request field this class does not know can be sent with extra_body={{{name!r}: ...}}."
        msg = f"{cls.__name__} has no argument {name!r}."
        return ConfigurationError(msg, hint=hint)

    def _settings(self) -> tuple[Any, ...]:
        """Everything the client depends on; a change (assignment, copy with update) makes a new client."""
        values = self.__dict__
        names = (*_ENDPOINT_FIELDS, "protocol", *self._codec_options)
        return (*[values[name] for name in names], values.get("model"))

    def _make_endpoint(self) -> "Endpoint":
        from kserve_core.endpoint import Endpoint

        arguments = {name: self.__dict__[name] for name in _ENDPOINT_FIELDS}
        if "api_key" not in self.model_fields_set:
            arguments["api_key"] = None  # read by the endpoint from the environment, each time anew
        if headers := arguments["default_headers"]:
            arguments["default_headers"] = {name: revealed(value) for name, value in headers.items()}
        with translated:
            endpoint = Endpoint.create(**arguments)
            if self._declaration.protocol(self.protocol, is_grpc=endpoint.is_grpc) == "grpc":
                _ = endpoint.grpc_target  # complains about what gRPC cannot be reached at
            return self._origin.attach(endpoint)

    def _make_runtime(self, endpoint: "Endpoint") -> Any:
        """Makes the codec."""
        values = self.__dict__
        make = self._declaration.codec(self._declaration.protocol(self.protocol, is_grpc=endpoint.is_grpc))
        options = {name: values[name] for name in self._codec_options}
        return make(base_path=endpoint.base_path, model=values.get("model"), **options)

    def _get_client(self) -> "RuntimeClient[Any]":
        """The client of the present settings, made at first use."""
        slot, settings = self._slot, self._settings()
        if slot.client is None or slot.settings != settings:
            self._build_client(slot, settings)
        client: RuntimeClient[Any] = slot.client
        return client

    def _build_client(self, slot: _Slot, settings: tuple[Any, ...]) -> None:
        with _BUILDING:
            if slot.client is None or slot.settings != settings:
                from kserve_core.client import RuntimeClient

                if slot.endpoint is None or slot.settings != settings:
                    slot.endpoint = self._make_endpoint()
                slot.client = RuntimeClient(slot.endpoint, self._make_runtime(slot.endpoint))
                slot.settings = settings

    def _run(self, exchange: "Exchange[T]", about: Any = None) -> T:
        """Runs an exchange, blocking; errors are this package's. `about` is the request, for traces."""
        with translated:
            return self._get_client().run(exchange, about=about)

    async def _arun(self, exchange: "Exchange[T]", about: Any = None) -> T:
        """As `_run`, from an event loop."""
        with translated:
            return await self._get_client().arun(exchange, about=about)

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where a reloaded instance finds its token; a file or a callable is not written down at all."""
        return {"api_key": "KSERVE_API_KEY"} if isinstance(self.api_key, SecretStr) else {}

    def close(self) -> None:
        """Closes the connections of blocking calls. The instance can be used again; it then opens new ones."""
        if (client := self._slot.client) is not None:
            client.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop and of blocking calls; the instance can be used again."""
        if (client := self._slot.client) is not None:
            await client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._slot = _Slot()
        copied.__dict__.pop("_serialized", None)
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__.pop("_serialized", None)  # LangChain keeps a dump for the cache's key; it is out of date now

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if "api_key" not in self.model_fields_set:
            state["__dict__"] = {**state["__dict__"], "api_key": None}
        on_wait = state["__dict__"].get("on_wait")
        if on_wait is not None and not _pickles(on_wait):
            state["__dict__"] = {**state["__dict__"], "on_wait": None}
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if "api_key" not in self.model_fields_set:
            self.__dict__["api_key"] = _env_api_key()


def revealed(value: Any) -> Any:
    """A secret's text, and anything else as it is."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - anything may be raised by a value's own reducer
        return False
    return True


def _authorizes(headers: Any) -> bool:
    return isinstance(headers, Mapping) and any(str(name).lower() == "authorization" for name in headers)
