"""gRPC: the same tasks, as methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kserve_core.devserver.grpc_exchange import GrpcContext
from kserve_core.devserver.grpc_host import GrpcMethod
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.caikit.errors import CaikitError
from kserve_core.devserver.wires.caikit.schema import SHAPES
from kserve_core.devserver.wires.caikit.tasks import GENERATE, STREAM, Tasks
from kserve_core.devserver.wires.caikit.wire import VERSION
from kserve_core.protos import messages

_SERVICE = "caikit.runtime.Nlp"
_INFO = "caikit.runtime.info.InfoService"
_RUNTIME = "caikit_data_model.common.runtime"
_NLP = "caikit_data_model.nlp"
_CAIKIT_NLP = "caikit_data_model.caikit_nlp"

# Task: stem of the method's and the request's name, answer.
_METHODS = {
    GENERATE: ("TextGenerationTask", f"{_NLP}.GeneratedTextResult"),
    STREAM: ("ServerStreamingTextGenerationTask", f"{_NLP}.GeneratedTextStreamResult"),
    "embedding": ("EmbeddingTask", f"{_CAIKIT_NLP}.EmbeddingResult"),
    "embedding-tasks": ("EmbeddingTasks", f"{_CAIKIT_NLP}.EmbeddingResults"),
    "sentence-similarity": ("SentenceSimilarityTask", f"{_CAIKIT_NLP}.SentenceSimilarityResult"),
    "sentence-similarity-tasks": ("SentenceSimilarityTasks", f"{_CAIKIT_NLP}.SentenceSimilarityResults"),
    "rerank": ("RerankTask", f"{_CAIKIT_NLP}.RerankResult"),
    "rerank-tasks": ("RerankTasks", f"{_CAIKIT_NLP}.RerankResults"),
    "tokenization": ("TokenizationTask", f"{_NLP}.TokenizationResults"),
}


def methods(settings: Settings) -> list[GrpcMethod]:
    """Everything a server of this kind answers over gRPC."""
    service = _Service(settings)
    found = [
        GrpcMethod(
            path=f"/{_SERVICE}.NlpService/{stem}Predict",
            request=messages.get(f"{_SERVICE}.{stem}Request"),
            response=messages.get(response),
            handler=service.stream if name == STREAM else service.handler(name),
            stream=name == STREAM,
        )
        for name, (stem, response) in _METHODS.items()
    ]
    infos = (("GetModelsInfo", "ModelInfo", service.models), ("GetRuntimeInfo", "RuntimeInfo", service.runtime))
    return found + [
        GrpcMethod(
            path=f"/{_INFO}/{name}",
            request=messages.get(f"{_RUNTIME}.{stem}Request"),
            response=messages.get(f"{_RUNTIME}.{stem}Response"),
            handler=handler,
        )
        for name, stem, handler in infos
    ]


class _Service:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks(settings)

    def handler(self, name: str) -> Callable[[Any, GrpcContext], Any]:
        """What answers a task."""

        def handle(request: Any, context: GrpcContext) -> Any:
            try:
                answer = self._tasks.run(name, _model(context), *_read(name, request))
            except CaikitError as error:
                raise error.grpc() from error
            if name == GENERATE:
                context.sleep(self._settings.pace * answer.get("generated_tokens", 0))
            return _message(answer)

        return handle

    def stream(self, request: Any, context: GrpcContext) -> Iterator[Any]:
        """Answers streaming text generation."""
        try:
            job = self._tasks.stream(_model(context), *_read(STREAM, request), grpc=True)
        except CaikitError as error:
            raise error.grpc() from error
        for at, piece in enumerate(job.pieces()):
            if at:
                context.sleep(self._settings.pace)
            yield _filled(messages.get(f"{_NLP}.GeneratedTextStreamResult")(), piece)

    def models(self, request: Any, _: GrpcContext) -> Any:
        """Answers which models there are."""
        try:
            listed = self._tasks.models.info(list(request.model_ids))
        except CaikitError as error:
            raise error.grpc() from error
        return _filled(messages.get(f"{_RUNTIME}.ModelInfoResponse")(), {"models": listed})

    def runtime(self, request: Any, _: GrpcContext) -> Any:  # noqa: ARG002
        """Answers which versions are installed."""
        return _filled(messages.get(f"{_RUNTIME}.RuntimeInfoResponse")(), VERSION)


def _model(context: GrpcContext) -> str:
    return context.metadata.get("mm-model-id", "")


def _read(name: str, request: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the parameters that are present in a request."""
    inputs: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for field, value in request.ListFields():
        into = inputs if field.name in SHAPES[name].inputs else parameters
        into[field.name] = _plain(field.name, value)
    return inputs, parameters


def _plain(name: str, value: Any) -> Any:
    if name == "documents":
        return [_document(struct) for struct in value]
    if name == "exponential_decay_length_penalty":
        return {"start_index": value.start_index, "decay_factor": value.decay_factor}
    return list(value) if hasattr(value, "extend") else value


def _document(struct: Any) -> dict[str, Any]:
    return {key: getattr(value, value.WhichOneof("kind") or "null_value") for key, value in struct.fields.items()}


def _message(answer: Mapping[str, Any]) -> Any:
    """The message of an answer, chosen by its shape: a model without the task gives another one."""
    if "generated_text" in answer:
        return _filled(messages.get(f"{_NLP}.GeneratedTextResult")(), answer)
    if "token_count" in answer:
        return _filled(messages.get(f"{_NLP}.TokenizationResults")(), answer)
    one = answer.get("result")
    kind = "EmbeddingResult"
    if one is None:
        several = answer["results"]
        if isinstance(several, dict):
            kind = "EmbeddingResults"
        else:
            kind = "RerankResults" if "query" in several[0] else "SentenceSimilarityResults"
    elif "scores" in one:
        kind = "RerankResult" if "query" in one else "SentenceSimilarityResult"
    return _filled(messages.get(f"{_CAIKIT_NLP}.{kind}")(), answer)


def _filled(message: Any, value: Mapping[str, Any]) -> Any:
    """The message with the values of a JSON object; a vector takes the member for 32-bit numbers."""
    fields = message.DESCRIPTOR.fields_by_name
    for name, item in value.items():
        if name == "data":
            message.data_npfloat32sequence.values.extend(item["values"])
        elif item is not None:
            _fill(message, fields[name], name, item)
    return message


def _fill(message: Any, field: Any, name: str, item: Any) -> None:
    kind = field.message_type
    if kind is not None and (kind.full_name == "google.protobuf.Struct" or kind.GetOptions().map_entry):
        getattr(message, name).update(item)
    elif isinstance(item, dict):
        part = getattr(message, name)
        part.SetInParent()
        _filled(part, item)
    elif isinstance(item, list):
        target = getattr(message, name)
        for entry in item:
            if isinstance(entry, dict):
                _filled(target.add(), entry)
            else:
                target.append(entry)
    elif field.enum_type is not None:
        setattr(message, name, field.enum_type.values_by_name[item].number)
    else:
        setattr(message, name, item)
