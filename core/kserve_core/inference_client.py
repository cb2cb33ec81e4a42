"""Any model behind the Open Inference Protocol (V2): arrays and texts in, arrays out.

with InferenceClient("https://host", model="scorer") as client:
scores = client.infer({"features": numpy.zeros((8, 4), "f4")})["scores"]
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kserve_core.calls import AnyStreamCall, Flow
from kserve_core.client import RuntimeClient
from kserve_core.credentials import ApiKey
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, NotFoundError, PermissionDeniedError
from kserve_core.names import listed
from kserve_core.observe import Named
from kserve_core.runtimes.open_inference.arguments import as_tensors, check_outputs
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.dialects import DIALECTS, PLAIN, dialect_named
from kserve_core.runtimes.open_inference.results import InferenceResult
from kserve_core.runtimes.open_inference.values import (
    InferRequest,
    ModelMetadata,
    RepositoryModel,
    ServerMetadata,
)
from kserve_core.tensors import Tensor
from kserve_core.trust import CACert, ClientCert

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

T = TypeVar("T")

Server = Literal["triton", "mlserver", "openvino", "kserve"]


@dataclass(frozen=True, slots=True, repr=False)
class _Given:
    """The arguments of a request."""

    inputs: Any
    outputs: Sequence[str]
    model: str | None
    version: str | int | None
    parameters: Mapping[str, Any] | None
    id: str | None
    headers: Mapping[str, str] | None


class InferenceClient:
    """A server of the Open Inference Protocol: Triton, MLServer, OpenVINO Model Server, KServe's own, or another.

    Values are turned into the datatypes that the model declares, and mistakes in names, datatypes and shapes are found
    before anything is sent; for that a model's metadata is read once. Safe to share between threads and event loops;
    pickles (connections are left behind).

    Args:
        base_url: As for `Endpoint.create`, with or without `/v2`; `grpc://` and `grpcs://` choose gRPC.
        protocol: `rest` or `grpc`; by the URL if not given. A server has a port for each.
        server: Which server it is. If not given, the server is asked, once.
        model: The model that requests go to when they name none; may be left out if one only is served.
        model_version: Its version; left out, the server chooses.
        api_key: See `Endpoint.create`, as for all further arguments.

    Raises:
        ConfigurationError: If something cannot be used as given.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        protocol: Literal["rest", "grpc"] | None = None,
        server: Server | None = None,
        model: str | None = None,
        model_version: str | int | None = None,
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
    ) -> None:
        endpoint = Endpoint.create(
            base_url,
            api_key=api_key,
            ca_cert=ca_cert,
            client_cert=client_cert,
            verify=verify,
            timeout=timeout,
            idle_timeout=idle_timeout,
            connect_timeout=connect_timeout,
            max_retries=max_retries,
            default_headers=default_headers,
            max_connections=max_connections,
            allow_insecure_token=allow_insecure_token,
        )
        if server is not None and server not in DIALECTS:
            msg = f"server must be one of {listed(tuple(DIALECTS))}, or None to ask it, not {server!r}."
            raise ConfigurationError(msg)
        if endpoint.is_grpc and protocol == "rest":
            msg = "base_url names a gRPC server, and protocol is 'rest'."
            raise ConfigurationError(msg, hint="Give an https:// or http:// URL, or leave protocol out.")
        self._make = partial(
            OpenInferenceRuntime,
            base_path=endpoint.base_path,
            model=model,
            model_version=model_version,
            protocol=protocol or ("grpc" if endpoint.is_grpc else "rest"),
        )
        # Until the server has said what it is, nothing but that is asked by this runtime.
        self._sure = server is not None
        self._client = RuntimeClient(endpoint, self._make(dialect=DIALECTS.get(server or "", PLAIN)))

    def __repr__(self) -> str:
        return f"InferenceClient({self._client.endpoint!r}, {self._client.runtime!r})"

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is."""
        return self._client.endpoint

    # --- inference ----------------------------------------------------------------------------------------------

    def infer(
        self,
        inputs: Mapping[str, Any] | Sequence[Tensor],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        model_version: str | int | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferenceResult:
        """Has the model compute its outputs.

        Args:
            inputs: Values by the names of the model's inputs: numpy arrays, lists (nested as the shape is), texts,
                bytes, numbers; or tensors (`kserve_core.tensors.Tensor`), which are sent as they are.
            outputs: Names of the outputs wanted; all if none is named. Some servers send all nevertheless.
            model: The model; the client's, or the only one served, if not given.
            model_version: Its version; the client's if not given.
            parameters: Request parameters: texts, numbers, booleans.
            id: The request's id; made up if not given.
            headers: Extra headers of this request.

        Raises:
            ConfigurationError: If the inputs are not what the model declares; they were not sent.
            KServeError: If there is no answer, or it is an error.
        """
        flow = self._infer(_Given(inputs, outputs, model, model_version, parameters, id, headers))
        return self._client.run(flow, about=_about(inputs, model))

    async def ainfer(
        self,
        inputs: Mapping[str, Any] | Sequence[Tensor],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        model_version: str | int | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferenceResult:
        """As `infer`, from an event loop."""
        flow = self._infer(_Given(inputs, outputs, model, model_version, parameters, id, headers))
        return await self._client.arun(flow, about=_about(inputs, model))

    def stream_infer(
        self,
        inputs: Mapping[str, Any] | Sequence[Tensor],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        model_version: str | int | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[InferenceResult, None, None]:
        """Has the model compute, and yields each of its answers as it comes; close the generator to stop it.

        For models that answer any number of times (Triton's decoupled ones): over gRPC, with MLServer over REST too.
        Arguments and errors as for `infer`.
        """
        flow = self._stream(_Given(inputs, outputs, model, model_version, parameters, id, headers))
        return self._client.stream(flow, about=_about(inputs, model))

    def astream_infer(
        self,
        inputs: Mapping[str, Any] | Sequence[Tensor],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        model_version: str | int | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[InferenceResult, None]:
        """As `stream_infer`, from an event loop."""
        flow = self._stream(_Given(inputs, outputs, model, model_version, parameters, id, headers))
        return self._client.astream(flow, about=_about(inputs, model))

    # --- about the server ---------------------------------------------------------------------------------------

    def server_metadata(self) -> ServerMetadata:
        """The server's name, version and the extensions it names."""
        return self._client.run(self._client.runtime.server_metadata())

    async def aserver_metadata(self) -> ServerMetadata:
        """As `server_metadata`, from an event loop."""
        return await self._client.arun(self._client.runtime.server_metadata())

    def model_metadata(self, model: str | None = None, model_version: str | int | None = None) -> ModelMetadata:
        """What a model takes and gives; asked of the server once.

        Raises:
            ModelNotFoundError: If there is no such model, or no such version.
        """
        return self._client.run(self._describe(model, model_version))

    async def amodel_metadata(self, model: str | None = None, model_version: str | int | None = None) -> ModelMetadata:
        """As `model_metadata`, from an event loop."""
        return await self._client.arun(self._describe(model, model_version))

    def is_server_live(self) -> bool:
        """Whether the server is up."""
        return self._client.run(self._client.runtime.server_live())

    async def ais_server_live(self) -> bool:
        """As `is_server_live`, from an event loop."""
        return await self._client.arun(self._client.runtime.server_live())

    def is_server_ready(self) -> bool:
        """Whether the server can answer. MLServer says no while any one of its models is not ready."""
        return self._client.run(self._client.runtime.server_ready())

    async def ais_server_ready(self) -> bool:
        """As `is_server_ready`, from an event loop."""
        return await self._client.arun(self._client.runtime.server_ready())

    def is_model_ready(self, model: str | None = None, model_version: str | int | None = None) -> bool:
        """Whether a model can answer; False as well if there is none of this name."""
        return self._client.run(self._ready(model, model_version))

    async def ais_model_ready(self, model: str | None = None, model_version: str | int | None = None) -> bool:
        """As `is_model_ready`, from an event loop."""
        return await self._client.arun(self._ready(model, model_version))

    def repository_index(self) -> list[RepositoryModel]:
        """The models the server has, with the states of their versions.

        Raises:
            KServeError: If the server does not list them over this protocol, among others.
        """
        return self._client.run(self._index())

    async def arepository_index(self) -> list[RepositoryModel]:
        """As `repository_index`, from an event loop."""
        return await self._client.arun(self._index())

    def load_model(self, model: str | None = None) -> None:
        """Has a model loaded, or loaded anew; Triton allows it in its explicit mode only."""
        self._client.run(self._change("load", model))

    async def aload_model(self, model: str | None = None) -> None:
        """As `load_model`, from an event loop."""
        await self._client.arun(self._change("load", model))

    def unload_model(self, model: str | None = None) -> None:
        """Has a model unloaded; Triton allows it in its explicit mode only."""
        self._client.run(self._change("unload", model))

    async def aunload_model(self, model: str | None = None) -> None:
        """As `unload_model`, from an event loop."""
        await self._client.arun(self._change("unload", model))

    # --- connections --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes the connections of blocking calls; later calls open new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Closes the connections of this event loop and of blocking calls; later calls open new ones."""
        await self._client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- flows --------------------------------------------------------------------------------------------------

    def _runtime(self) -> Flow[OpenInferenceRuntime]:
        """The runtime for the server there is; which one that is is asked once."""
        if not self._sure:
            try:
                metadata = yield from self._client.runtime.server_metadata()
            except (NotFoundError, PermissionDeniedError):
                pass  # a proxy that routes inference only: what all servers take is sent
            else:
                dialect = dialect_named(metadata.name)
                if dialect is not PLAIN and not self._sure:
                    self._client.runtime = self._make(dialect=dialect)
            self._sure = True
        return self._client.runtime

    def _request(self, given: _Given) -> Flow[tuple[OpenInferenceRuntime, InferRequest]]:
        runtime = yield from self._runtime()
        name = yield from runtime.resolve_model(given.model)
        described = yield from runtime.describe_model(name, given.version)
        request = runtime.request(
            as_tensors(given.inputs, described, runtime.dialect),
            outputs=check_outputs(given.outputs, described, runtime.dialect),
            model=name,
            version=given.version,
            id=given.id,
            parameters=given.parameters,
            headers=given.headers,
        )
        return runtime, request

    def _infer(self, given: _Given) -> Flow[InferenceResult]:
        runtime, request = yield from self._request(given)
        return InferenceResult((yield from runtime.infer(request)))

    def _stream(self, given: _Given) -> Flow[Any]:
        runtime, request = yield from self._request(given)
        call: AnyStreamCall[InferenceResult] = runtime.stream_results(request, InferenceResult)
        return call

    def _describe(self, model: str | None, version: str | int | None) -> Flow[ModelMetadata]:
        runtime = yield from self._runtime()
        return (yield from runtime.describe_model(model, version))

    def _ready(self, model: str | None, version: str | int | None) -> Flow[bool]:
        runtime = yield from self._runtime()
        return (yield from runtime.model_ready(model, version))

    def _index(self) -> Flow[list[RepositoryModel]]:
        runtime = yield from self._runtime()
        return (yield from runtime.repository_index())

    def _change(self, action: Literal["load", "unload"], model: str | None) -> Flow[None]:
        runtime = yield from self._runtime()
        yield from runtime.load_model(model) if action == "load" else runtime.unload_model(model)


def _about(inputs: Any, model: str | None) -> Named:
    return Named("inference", model, len(inputs) if isinstance(inputs, Sized) else None)
