"""Requests over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from kserve_core.calls import GrpcCall, GrpcStreamCall
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.grpc_health import health_call
from kserve_core.protos import messages
from kserve_core.runtimes.caikit import plain
from kserve_core.runtimes.caikit.errors import explain_grpc, wrong_task
from kserve_core.runtimes.caikit.generation import Reading
from kserve_core.runtimes.caikit.stream import MessagesDecoder
from kserve_core.runtimes.caikit.tasks import MODEL_KEY, Task
from kserve_core.types import GenerationChunk

T = TypeVar("T")

_INFO = "/caikit.runtime.info.InfoService"
_INFO_PACKAGE = "caikit_data_model.common.runtime"


class Grpc:
    """Makes gRPC calls; paths do not exist there, so the base URL's path does not matter."""

    def call(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str,
        read: Callable[[dict[str, Any]], T],
        headers: Mapping[str, str],
        known: Sequence[str] = (),
    ) -> GrpcCall[T]:
        """A task with one answer."""
        return GrpcCall(
            method=task.method,
            request=_request(task, inputs, parameters),
            response_type=_Answer(task),
            read=partial(_read_task, task, model, read),
            metadata=_metadata(headers, model),
            explain=explain_grpc(task, model=model, known=known),
        )

    def stream(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str,
        reading: Reading,
        headers: Mapping[str, str],
        known: Sequence[str] = (),
    ) -> GrpcStreamCall[GenerationChunk]:
        """A task answered in pieces."""
        return GrpcStreamCall(
            method=task.method,
            request=_request(task, inputs, parameters),
            response_type=_Answer(task),
            decoder=partial(MessagesDecoder, task, reading, known=known),
            metadata=_metadata(headers, model),
            explain=explain_grpc(task, model=model, known=known),
        )

    def models(self, read: Callable[[dict[str, Any]], T]) -> GrpcCall[T]:
        """Asks which models there are."""
        return _info("GetModelsInfo", "ModelInfo", partial(_read, plain.models, read))

    def about(self, read: Callable[[dict[str, Any]], T], *, older: bool = False) -> GrpcCall[T]:  # noqa: ARG002
        """Asks for the server's versions; there is one place for them."""
        return _info("GetRuntimeInfo", "RuntimeInfo", partial(_read, plain.runtime, read))

    def health(self) -> GrpcCall[bool]:
        """Asks whether the server is up."""
        return health_call(explain=explain_grpc(None))


class _Answer:
    """An answer's message class for which the bytes of another task's message are None instead of an exception.

    A server runs whatever the model has when asked for what it has not, so the reader knows better what such bytes
    mean than the transport does.
    """

    def __init__(self, task: Task) -> None:
        self._parse = messages.get(task.response).FromString

    def FromString(self, data: bytes) -> Any:  # noqa: N802 - what a message class calls it
        try:
            return self._parse(data)
        except DecodeError:
            return None


def _request(task: Task, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
    message = messages.get(task.request)()
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in (*inputs.items(), *parameters.items()):
        if name not in fields:
            msg = f"Caikit's gRPC request for {task.title} has no field {name!r}."
            raise UnsupportedParameterError(msg, hint="REST sends any name: protocol='rest'.")
        try:
            _set(message, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            msg = f"{name} cannot be sent: {error}."
            raise ConfigurationError(msg) from None
    return message


def _set(message: Any, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        part = getattr(message, name)
        part.SetInParent()  # present even if all its values are zero
        for key, item in value.items():
            setattr(part, key, item)
    elif isinstance(value, (list, tuple)):
        getattr(message, name).extend([_struct(item) if isinstance(item, Mapping) else item for item in value])
    else:
        setattr(message, name, value)


def _struct(document: Mapping[str, str]) -> messages.google_protobuf.Struct:
    """A document; only text is ever sent."""
    struct = messages.google_protobuf.Struct()
    for key, value in document.items():
        struct.fields[key].string_value = value
    return struct


def _metadata(headers: Mapping[str, str], model: str) -> dict[str, str]:
    return {**{name.lower(): value for name, value in headers.items()}, MODEL_KEY: model}


def _info(method: str, stem: str, read: Callable[[Any], T]) -> GrpcCall[T]:
    return GrpcCall(
        method=f"{_INFO}/{method}",
        request=messages.get(f"{_INFO_PACKAGE}.{stem}Request")(),
        response_type=messages.get(f"{_INFO_PACKAGE}.{stem}Response"),
        read=read,
        explain=explain_grpc(None),
    )


def _read_task(task: Task, model: str, read: Callable[[dict[str, Any]], T], message: Any) -> T:
    if message is None:
        raise wrong_task(task, model, "another kind of message came back")
    return read(task.plain(message))


def _read(to_plain: Callable[[Any], dict[str, Any]], read: Callable[[dict[str, Any]], T], message: Any) -> T:
    return read(to_plain(message))
