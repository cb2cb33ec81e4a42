"""The methods of `inference.GRPCInferenceService`."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.grpc_exchange import GrpcContext, GrpcStatus
from kserve_core.devserver.grpc_host import GrpcMethod
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.v2 import info
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.repository import Repository
from kserve_core.devserver.wires.v2.request import Answered, Asked
from kserve_core.devserver.wires.v2.tensors import CODES, RAW_ONLY, Tensor, from_contents, from_raw
from kserve_core.devserver.wires.v2.ways import Ways
from kserve_core.protos import messages

SERVICE = "/inference.GRPCInferenceService/"
RESTRICTED = "triton-grpc-protocol-authorization"
_OPEN = ("ServerLive", "ServerReady", "ModelReady", "Check")
_FINAL = "triton_enable_empty_final_response"


def authorize(path: str, metadata: Mapping[str, str], settings: Settings, ways: Ways) -> None:
    """Check the token: Triton's own key for its restricted protocols, a proxy's `authorization` otherwise.

    Raises:
        GrpcStatus: It is missing or wrong.
    """
    if not settings.api_keys or (ways.key == "openvino" and not settings.protect_all):
        return
    own = ways.key == "triton" and not settings.protect_all
    if own and path.rsplit("/", 1)[1] in _OPEN:
        return
    scheme, _, token = metadata.get(RESTRICTED if own else "authorization", "").partition(" ")
    given = token.encode("utf-8", "replace")
    if scheme.lower() == "bearer" and any(hmac.compare_digest(given, key.encode()) for key in settings.api_keys):
        return
    if own:
        msg = f"This protocol is restricted, expecting header '{RESTRICTED}'"
        raise GrpcStatus(code="UNAVAILABLE", details=msg)
    raise GrpcStatus(code="UNAUTHENTICATED", details="Unauthorized")


class Service:
    """Answers over gRPC.

    Args:
        settings: The server.
        ways: Its dialect.
        repository: Its models.
    """

    def __init__(self, settings: Settings, ways: Ways, repository: Repository) -> None:
        self._settings = settings
        self._ways = ways
        self._repository = repository

    def methods(self) -> list[GrpcMethod]:
        """Everything this server answers."""
        types, ways = messages.inference, self._ways
        table: list[tuple[str, Any]] = [
            ("ServerLive", lambda *_: types.ServerLiveResponse(live=True)),
            ("ServerReady", self._server_ready),
            ("ModelReady", self._model_ready),
            ("ServerMetadata", self._server_metadata),
            ("ModelMetadata", self._model_metadata),
            ("ModelInfer", self._infer),
        ]
        if ways.config:
            table.append(("ModelConfig", self._config))
        if ways.repository:
            table += [
                ("RepositoryIndex", self._index),
                ("RepositoryModelLoad", self._load),
                ("RepositoryModelUnload", self._unload),
            ]
        made = [
            GrpcMethod(
                path=service + name,
                request=getattr(types, f"{name}Request"),
                response=getattr(types, f"{name}Response"),
                handler=partial(_answered, handler),
            )
            for name, handler in table
            for service in self._services(name)
        ]
        if ways.wrapped_stream is not None:
            wrapped = ways.wrapped_stream
            made.append(
                GrpcMethod(
                    path=f"{SERVICE}ModelStreamInfer",
                    request=types.ModelInferRequest,
                    response=types.ModelStreamInferResponse if wrapped else types.ModelInferResponse,
                    handler=self._wrapped if wrapped else self._bare,
                    stream=True,
                    takes_stream=True,
                    failure=_failure if wrapped else None,
                )
            )
        return made

    def _services(self, method: str) -> tuple[str, ...]:
        """Where a method is found: MLServer has those of its repository in a service of their own as well."""
        own = self._ways.key == "mlserver" and method.startswith("Repository")
        return (SERVICE, "/inference.model_repository.ModelRepositoryService/") if own else (SERVICE,)

    # -- about the server

    def _server_ready(self, _: Any, __: GrpcContext) -> Any:
        models = self._repository.models.values()
        ready = self._ways.key != "mlserver" or all(model.ready for model in models)
        return messages.inference.ServerReadyResponse(ready=ready)

    def _model_ready(self, request: messages.inference.ModelReadyRequest, _: GrpcContext) -> Any:
        try:
            ready = request.name in self._repository.graphs
            ready = ready or self._repository.find(request.name, self._version(request.version)).ready
        except V2Error as error:
            if self._ways.key == "mlserver":
                msg = f"Unexpected <class 'mlserver.errors.ModelNotFound'>: {error.message}"
                raise V2Error(msg, "UNKNOWN") from error
            if self._ways.key != "triton":
                raise
            ready = False
        return messages.inference.ModelReadyResponse(ready=ready)

    def _server_metadata(self, _: Any, __: GrpcContext) -> Any:
        ways = self._ways
        return messages.inference.ServerMetadataResponse(
            name=ways.name, version=self._settings.version, extensions=ways.extensions or ()
        )

    def _model_metadata(self, request: messages.inference.ModelMetadataRequest, _: GrpcContext) -> Any:
        version = self._version(request.version)
        find = self._repository.find if self._ways.key == "mlserver" else self._repository.loaded
        model = find(request.name, version)
        made = messages.inference.ModelMetadataResponse(
            name=model.name,
            versions=info.versions(model, version, self._ways) or (),
            platform=info.PLATFORMS[self._ways.key],
        )
        for listed, specs in ((made.inputs, model.inputs), (made.outputs, model.outputs)):
            for spec in specs:
                listed.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return made

    def _config(self, request: messages.inference.ModelConfigRequest, _: GrpcContext) -> Any:
        model = self._repository.loaded(request.name, request.version or None)
        made = messages.inference.ModelConfigResponse()
        made.config.name, made.config.backend = model.name, "python"
        made.config.max_batch_size = model.max_batch_size
        for spec in model.inputs:
            made.config.input.add(name=spec.name, optional=spec.optional)
        if model.decoupled:
            made.config.model_transaction_policy.decoupled = True
        return made

    def _index(self, request: messages.inference.RepositoryIndexRequest, _: GrpcContext) -> Any:
        made = messages.inference.RepositoryIndexResponse()
        for entry in info.entries(self._repository, self._ways, ready_only=request.ready):
            if self._ways.key == "mlserver":
                entry["state"] = f"State.{entry['state']}"
            made.models.add(**entry)
        return made

    def _load(self, request: messages.inference.RepositoryModelLoadRequest, _: GrpcContext) -> Any:
        self._repository.load(request.model_name)
        return messages.inference.RepositoryModelLoadResponse()

    def _unload(self, request: messages.inference.RepositoryModelUnloadRequest, _: GrpcContext) -> Any:
        self._repository.unload(request.model_name)
        return messages.inference.RepositoryModelUnloadResponse()

    def _version(self, given: str) -> str | None:
        """The version of a request; MLServer takes an empty one for a version when it cannot find the model."""
        if self._ways.versions == "none":
            return None
        return given if self._ways.key == "mlserver" else given or None

    # -- inference

    def _infer(self, request: messages.inference.ModelInferRequest, context: GrpcContext) -> Any:
        asked = self._asked(request)
        model = self._repository.loaded(asked.model, asked.version)
        if model.decoupled:
            msg = f"ModelInfer RPC doesn't support models with decoupled transaction policy, model '{model.name}'"
            raise V2Error(msg, "UNIMPLEMENTED")
        (answered,) = self._repository.answers(asked)
        if self._settings.pace:
            context.sleep(self._settings.pace * answered.tokens)
        return self._response(asked, answered)

    def _wrapped(self, requests: Iterator[messages.inference.ModelInferRequest], context: GrpcContext) -> Iterator[Any]:
        """Triton's stream: errors are messages, and the stream goes on behind them."""
        wrap = messages.inference.ModelStreamInferResponse
        for request in requests:
            try:
                yield from self._streamed(request, context)
            except V2Error as error:  # noqa: PERF203 - of one request among several
                refused = messages.inference.ModelInferResponse(id=request.id)
                yield wrap(error_message=error.message, infer_response=refused)

    def _streamed(self, request: messages.inference.ModelInferRequest, context: GrpcContext) -> Iterator[Any]:
        asked = self._asked(request)
        asked.listens = True
        wrap = messages.inference.ModelStreamInferResponse
        model = self._repository.loaded(asked.model, asked.version)
        for answered in self._repository.answers(asked):
            if self._settings.pace:
                context.sleep(self._settings.pace * answered.tokens)
            response = self._response(asked, answered)
            response.parameters["triton_final_response"].bool_param = not model.decoupled
            yield wrap(infer_response=response)
        if model.decoupled and request.parameters[_FINAL].bool_param:
            last = messages.inference.ModelInferResponse(
                model_name=asked.model, model_version=asked.version or "", id=asked.id or ""
            )
            last.parameters["triton_final_response"].bool_param = True
            yield wrap(infer_response=last)

    def _bare(self, requests: Iterator[messages.inference.ModelInferRequest], context: GrpcContext) -> Iterator[Any]:
        """MLServer's stream: errors end it, and every answer carries the first request's id."""
        first: str | None = None
        try:
            for request in requests:
                asked = self._asked(request)
                asked.listens = True
                first = asked.id = asked.id if first is None else first
                for answered in self._repository.answers(asked):
                    if self._settings.pace:
                        context.sleep(self._settings.pace * answered.tokens)
                    yield self._response(asked, answered)
        except V2Error as error:
            raise _status(error) from error

    def _asked(self, request: messages.inference.ModelInferRequest) -> Asked:
        version = self._version(request.model_version)
        raw = list(request.raw_input_contents)
        asked = Asked(request.model_name, version, id=request.id or None, raw=bool(raw))
        asked.parameters = self._parameters(request.parameters)
        typed = [tensor.name for tensor in request.inputs if tensor.HasField("contents")]
        if raw and typed and self._ways.key != "mlserver":
            where = f"'{typed[0]}' for model '{request.model_name}'"
            msg = f"contents field must not be specified when using raw_input_contents for {where}"
            raise V2Error(msg)
        if raw and len(raw) != len(request.inputs):
            msg = f"expected {len(request.inputs)} raw input contents, got {len(raw)}"
            raise V2Error(msg)
        for at, tensor in enumerate(request.inputs):
            asked.inputs[tensor.name] = self._input(tensor, raw[at] if raw else None)
        asked.outputs = {output.name: None for output in request.outputs}
        return asked

    def _input(self, tensor: Any, raw: bytes | None) -> Tensor:
        ways, name, datatype, shape = self._ways, tensor.name, tensor.datatype, list(tensor.shape)
        if (datatype not in CODES and datatype != "BYTES") or (datatype == "BF16" and ways.fastapi):
            msg = f"'{datatype}' is not a known datatype for input '{name}'"
            raise V2Error(msg, "INTERNAL" if ways.key == "mlserver" else "INVALID_ARGUMENT")
        if raw is None and datatype in RAW_ONLY:
            msg = f"{datatype} of input '{name}' must be sent as raw_input_contents"
            raise V2Error(msg, "INTERNAL" if ways.fastapi else "INVALID_ARGUMENT")
        try:
            made = (
                from_contents(name, datatype, shape, tensor.contents, strict=ways.key != "mlserver")
                if raw is None
                else from_raw(name, datatype, shape, raw)
            )
        except V2Error as error:
            if ways.fastapi:
                raise V2Error(error.message, "INTERNAL") from error
            raise
        made.parameters.update(self._parameters(tensor.parameters))
        return made

    def _parameters(self, given: Any) -> dict[str, Any]:
        """Values of parameters; those of numbers with a fraction exist in Triton's messages only."""
        made = {}
        for name, value in given.items():
            kind = value.WhichOneof("parameter_choice")
            if kind is None or (kind in {"double_param", "uint64_param"} and self._ways.fastapi):
                continue
            made[name] = getattr(value, kind)
        return made

    def _response(self, asked: Asked, answered: Answered) -> messages.inference.ModelInferResponse:
        ways = self._ways
        made = messages.inference.ModelInferResponse(
            model_name=asked.model, model_version=asked.version or "", id=asked.id or ""
        )
        typed = ways.echoes_kind and not asked.raw
        for tensor in answered.outputs:
            entry = made.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if ways.key == "mlserver":
                if "content_type" in tensor.parameters:
                    entry.parameters["content_type"].string_param = tensor.parameters["content_type"]
                entry.contents.SetInParent()
            if typed:
                tensor.fill(entry.contents)
                continue
            raw = tensor.raw()
            made.raw_output_contents.append(raw)
            if ways.key == "kserve":
                entry.parameters["binary_data_size"].int64_param = len(raw)
        return made


def _answered(handler: Any, request: Any, context: GrpcContext) -> Any:
    """The handler's answer, or its error as a status."""
    try:
        return handler(request, context)
    except V2Error as error:
        raise _status(error) from error


def _status(error: V2Error) -> GrpcStatus:
    return GrpcStatus(error.code, error.message)


def _failure(fault: Fault) -> Any:
    """A scripted failure in the middle of Triton's stream."""
    said = (fault.error or {}).get("message") or "the model failed in the middle of its answer"
    return messages.inference.ModelStreamInferResponse(error_message=str(said))
