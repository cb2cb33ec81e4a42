"""Requests over gRPC."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kserve_core._json import unexpected
from kserve_core.calls import GrpcCall, GrpcStreamCall
from kserve_core.errors import UnsupportedParameterError
from kserve_core.protos import messages
from kserve_core.runtimes.open_inference.bodies import Binary
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.errors import Asked, What, explain_grpc
from kserve_core.runtimes.open_inference.metadata import shape_of
from kserve_core.runtimes.open_inference.parameters import check_tensors, fill_grpc_parameters
from kserve_core.runtimes.open_inference.raw_answers import RawAnswer
from kserve_core.runtimes.open_inference.streams import ASK_FINAL
from kserve_core.runtimes.open_inference.values import (
    InferRequest,
    InferResult,
    ModelMetadata,
    RepositoryModel,
    ServerMetadata,
    TensorSpec,
)
from kserve_core.tensors import Tensor, tensor_from_grpc

T = TypeVar("T")

SERVICE = "/inference.GRPCInferenceService"
_WHAT = "an inference answer"


class Grpc:
    """Makes gRPC calls; paths do not exist there, so the base URL's path does not matter.

    Args:
        base_path: Taken for the sake of `Rest`.
        dialect: The server's ways.
    """

    protocol = "grpc"

    def __init__(self, base_path: str, dialect: Dialect) -> None:  # noqa: ARG002
        self.dialect = dialect

    def infer(
        self,
        request: InferRequest,
        *,
        read: Callable[[InferResult], T],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
        binary: Binary | None = None,  # noqa: ARG002 - all is raw here
    ) -> GrpcCall[T]:
        """Tensors for one answer; see `Rest.infer`."""
        asked = Asked(self.dialect, "infer", request.model, request.version, known, declared)
        return GrpcCall(
            method=f"{SERVICE}/ModelInfer",
            request=infer_message(request, self.dialect),
            response_type=RawAnswer,
            read=partial(_read_answer, read),
            metadata=_lower(request.headers),
            explain=explain_grpc(asked),
            token_keys=self._token_keys,
            probe=self.model_ready(request.model, request.version),
        )

    def stream_infer(
        self,
        request: InferRequest,
        *,
        decoder: Callable[[], Any],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
    ) -> GrpcStreamCall[Any]:
        """Tensors for an answer in pieces: `ModelStreamInfer`, with one request.

        The decoder is fed `ModelStreamInferResponse`, or from MLServer `ModelInferResponse`. Triton is asked for an
        empty last message, so that the end of an answer is seen.

        Raises:
            UnsupportedParameterError: If the server has no such method.
        """
        if not self.dialect.grpc_stream:
            msg = f"{self.dialect.title} does not stream tensors."
            raise UnsupportedParameterError(msg, hint="Ask for the whole answer.")
        asked = Asked(self.dialect, "stream", request.model, request.version, known, declared)
        message = infer_message(request, self.dialect)
        if self.dialect.final_response and ASK_FINAL not in request.parameters:
            message.parameters[ASK_FINAL].bool_param = True
        wrapped = self.dialect.wrapped_stream
        return GrpcStreamCall(
            method=f"{SERVICE}/ModelStreamInfer",
            request=message,
            response_type=(
                messages.inference.ModelStreamInferResponse if wrapped else messages.inference.ModelInferResponse
            ),
            decoder=decoder,
            metadata=_lower(request.headers),
            explain=explain_grpc(asked),
            token_keys=self._token_keys,
            probe=self.model_ready(request.model, request.version),
        )

    def server_metadata(self) -> GrpcCall[ServerMetadata]:
        """Asks for the server's name, version and extensions."""
        types = messages.inference
        return self._call(
            "ServerMetadata", types.ServerMetadataRequest(), types.ServerMetadataResponse, _read_server, "server"
        )

    def live(self) -> GrpcCall[bool]:
        """Asks whether the server is up."""
        types = messages.inference
        return self._call(
            "ServerLive", types.ServerLiveRequest(), types.ServerLiveResponse, _read_live, "ready", retry=False
        )

    def ready(self) -> GrpcCall[bool]:
        """Asks whether the server, with all its models, can answer."""
        types = messages.inference
        return self._call(
            "ServerReady", types.ServerReadyRequest(), types.ServerReadyResponse, _read_ready, "ready", retry=False
        )

    def model_ready(self, model: str, version: str | None = None, *, known: Sequence[str] = ()) -> GrpcCall[bool]:
        """Asks whether a model can answer."""
        types = messages.inference
        asked = Asked(self.dialect, "ready", model, version, known)
        request = types.ModelReadyRequest(name=model, version=version or "")
        return self._call("ModelReady", request, types.ModelReadyResponse, _read_ready, asked, retry=False)

    def model_metadata(
        self, model: str, version: str | None = None, *, known: Sequence[str] = ()
    ) -> GrpcCall[ModelMetadata]:
        """Asks what a model takes and gives."""
        types = messages.inference
        asked = Asked(self.dialect, "metadata", model, version, known)
        request = types.ModelMetadataRequest(name=model, version=version or "")
        return self._call("ModelMetadata", request, types.ModelMetadataResponse, _read_metadata, asked)

    def model_config(self, model: str, version: str | None = None) -> GrpcCall[dict[str, Any]]:
        """Asks for a model's configuration, of which what says how to call it is read; Triton only."""
        types = messages.inference
        asked = Asked(self.dialect, "config", model, version)
        request = types.ModelConfigRequest(name=model, version=version or "")
        return self._call("ModelConfig", request, types.ModelConfigResponse, _read_config, asked)

    def repository_index(self) -> GrpcCall[list[RepositoryModel]]:
        """Asks for the models there are and their states."""
        types = messages.inference
        return self._call(
            "RepositoryIndex", types.RepositoryIndexRequest(), types.RepositoryIndexResponse, _read_index, "repository"
        )

    def model_list(self) -> GrpcCall[list[RepositoryModel]]:
        """Not possible: only REST lists the served models by themselves.

        Raises:
            UnsupportedParameterError: Always.
        """
        msg = f"{self.dialect.title} does not list its models over gRPC."
        raise UnsupportedParameterError(msg, hint="Give the model's name as model=..., or ask over REST.")

    def load(self, model: str) -> GrpcCall[None]:
        """Has a model loaded, or loaded anew."""
        return self._repository("RepositoryModelLoad", model)

    def unload(self, model: str) -> GrpcCall[None]:
        """Has a model unloaded."""
        return self._repository("RepositoryModelUnload", model)

    @property
    def _token_keys(self) -> tuple[str, ...]:
        return (self.dialect.restricted_header,) if self.dialect.restricted_header else ()

    def _repository(self, method: str, model: str) -> GrpcCall[None]:
        # KServe's server has the model's name in the field that the others have the repository's in.
        stem = f"KServe{method}" if self.dialect.kserve_repository else method
        request = getattr(messages.inference, f"{stem}Request")(model_name=model)
        answer = getattr(messages.inference, f"{stem}Response")
        return self._call(method, request, answer, _nothing, Asked(self.dialect, "load", model), retry=False)

    def _call(
        self,
        method: str,
        request: Any,
        response_type: Any,
        read: Callable[[Any], T],
        asked: Asked | What,
        *,
        retry: bool = True,
    ) -> GrpcCall[T]:
        return GrpcCall(
            method=f"{SERVICE}/{method}",
            request=request,
            response_type=response_type,
            read=read,
            explain=explain_grpc(asked if isinstance(asked, Asked) else Asked(self.dialect, asked)),
            retry=retry,
            token_keys=self._token_keys,
        )


def infer_message(request: InferRequest, dialect: Dialect) -> Any:
    """A request's message; all tensors are raw, which every server takes and is the fastest form.

    Raises:
        ConfigurationError: If a parameter would not reach the server.
    """
    check_tensors(request, dialect)
    message = messages.inference.ModelInferRequest(
        model_name=request.model, model_version=request.version or "", id=request.id or uuid.uuid4().hex
    )
    fill_grpc_parameters(message.parameters, request.parameters, dialect)
    for tensor in request.inputs:
        part = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        # A tensor taken from an answer still says how many bytes it had there.
        parameters = {name: value for name, value in tensor.parameters.items() if name != "binary_data_size"}
        fill_grpc_parameters(part.parameters, parameters, dialect)
    message.raw_input_contents.extend([tensor.raw_bytes() for tensor in request.inputs])
    for name in request.outputs:
        message.outputs.add(name=name)
    return message


def read_infer_message(message: Any) -> InferResult:
    """Reads a `ModelInferResponse`: raw contents where there is one for every output, else typed ones.

    Raises:
        BadResponseError: If a tensor is not what it says.
    """
    raw = message.raw_output_contents
    if raw and len(raw) != len(message.outputs):
        raise unexpected(_WHAT, f"it has {len(raw)} raw tensors for {len(message.outputs)} outputs")
    outputs: dict[str, Tensor] = {}
    for index, output in enumerate(message.outputs):
        tensor = tensor_from_grpc(output, raw[index] if raw else None)
        outputs.setdefault(tensor.name, tensor)
    return InferResult(
        outputs,
        model=message.model_name or None,
        version=message.model_version or None,
        id=message.id or None,
        parameters={name: _parameter(value) for name, value in message.parameters.items()},
    )


def _read_answer(read: Callable[[InferResult], T], message: Any) -> T:
    return read(read_infer_message(message))


def _read_server(message: Any) -> ServerMetadata:
    return ServerMetadata(message.name, message.version, tuple(message.extensions))


def _read_live(message: Any) -> bool:
    return bool(message.live)


def _read_ready(message: Any) -> bool:
    return bool(message.ready)


def _read_metadata(message: Any) -> ModelMetadata:
    return ModelMetadata(
        name=message.name,
        versions=tuple(message.versions),
        platform=message.platform,
        inputs=tuple(_spec(part) for part in message.inputs),
        outputs=tuple(_spec(part) for part in message.outputs),
    )


def _spec(part: Any) -> TensorSpec:
    parameters = {name: _parameter(value) for name, value in part.parameters.items()}
    return TensorSpec(part.name, part.datatype.upper(), shape_of(part.shape), parameters)


def _read_config(message: Any) -> dict[str, Any]:
    config = message.config
    return {
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": [{"name": part.name, "optional": part.optional} for part in config.input],
        "model_transaction_policy": {"decoupled": config.model_transaction_policy.decoupled},
    }


def _read_index(message: Any) -> list[RepositoryModel]:
    return [
        # MLServer answers with the name of its enum's value.
        RepositoryModel(entry.name, entry.version, entry.state.removeprefix("State."), entry.reason)
        for entry in message.models
        if entry.name
    ]


def _parameter(value: Any) -> Any:
    choice = value.WhichOneof("parameter_choice")
    return None if choice is None else getattr(value, choice)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _nothing(message: Any) -> None:
    """The answer says nothing that the status does not."""
