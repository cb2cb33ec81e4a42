"""What a Caikit server's errors mean, beyond what any server's would."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kserve_core.calls import ErrorReader, GrpcErrorReader, GrpcFailure, Response
from kserve_core.error_bodies import ErrorBody, read_error_body, tidy
from kserve_core.errors import (
    BadResponseError,
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    ServerError,
)
from kserve_core.failures import describe, error_from_response
from kserve_core.runtimes.caikit.tasks import Task
from kserve_core.runtimes.model_names import known_models, no_such_model

_UNKNOWN_MODEL = re.compile(r"^Model '?(?P<name>.*?)'? (is )?not loaded\b")
_OVERFLOW = re.compile(r"exceeds the maximum sequence length|plus prefix length|must have less than \d+ tokens")
_NO_STREAM = re.compile(r"does not support ServerStreaming|'NoneType' object has no attribute 'method_name'")
# Of whole answers, and of streams: there the words are those of the library that Caikit connects with.
_BACKEND_DOWN = re.compile(r"underlying TCP connection is closed|connections to all backends failing", re.IGNORECASE)
_OTHER_ARGUMENTS = re.compile(r"\(\) got an unexpected keyword argument '(\w+)'")
_WRONG_MESSAGE = re.compile(r"(exception|error) (deserializing|parsing) (response|message)|DecodeError", re.IGNORECASE)

# Words of a refusal, and what to do about it.
_HINTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (
            r"model_id in payload|required model ID",
            "Give the model's name as model=...; models() lists what is served.",
        ),
        (
            r"model_kwargs.{0,10} are not used by the model",
            "This model runs inside the Caikit server, without TGIS: it has no token details (logprobs).",
        ),
        (
            r"TextEncodeInput must be",
            "This model runs inside the Caikit server, without TGIS: it takes no stop sequences.",
        ),
        (r"aren't applicable in greedy decoding", "Set a temperature above 0, or decoding_method='SAMPLING'."),
        (r"not JSON serializable", "The server cannot write this model's tokens as JSON; use protocol='grpc'."),
        (r"Cannot rerank without", "Give a query and at least one document."),
    )
)


def explain(task: Task | None, *, model: str | None = None, known: Sequence[str] = ()) -> ErrorReader:
    """A reader for REST's error answers to one request.

    Args:
        task: What was asked for; None for what is not a task.
        model: The model it was asked of.
        known: Names of the models the server is known to have.
    """

    def read(response: Response) -> KServeError | None:
        body = read_error_body(response.body)
        if body.kind != "json" or not isinstance(body.value, dict):
            return None
        if "details" in body.value:
            return _meaning(response.status, body, task, model, known)
        if response.status in {404, 405} and "detail" in body.value:
            return NotFoundError(describe(response.status, body), hint=_route_hint(task))
        return None

    return read


def explain_grpc(task: Task | None, *, model: str | None = None, known: Sequence[str] = ()) -> GrpcErrorReader:
    """The same for gRPC's statuses."""
    statuses = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNKNOWN": 500, "UNAVAILABLE": 501}

    def read(failure: GrpcFailure) -> KServeError | None:
        if failure.code == "UNIMPLEMENTED":
            return NotFoundError(f"{failure.code}: {tidy(failure.details)}", hint=_method_hint(task), status=404)
        if task is not None and _WRONG_MESSAGE.search(failure.details):
            return wrong_task(task, model, "another kind of message came back")
        if failure.code not in statuses or (
            failure.code == "UNAVAILABLE" and not _BACKEND_DOWN.search(failure.details)
        ):
            return None
        status = statuses[failure.code]
        error = _meaning(status, ErrorBody(tidy(failure.details), "json"), task, model, known)
        if error is not None and not isinstance(error, ModelNotFoundError):
            error.message = error.message.replace(f"HTTP {status}", failure.code, 1)
            error.args = (error.message,)
        return error

    return read


def stream_error(
    event: Mapping[str, Any], task: Task, *, model: str | None, known: Sequence[str], partial_text: str
) -> KServeError:
    """The error that an event of a stream stands for; the HTTP status was 200 by then, the code in it counts."""
    code = event.get("code")
    status = code if type(code) is int and 400 <= code < 600 else 500
    said = event.get("details")
    if isinstance(said, str):  # the exception as Python shows it: ValueError("...")
        match = re.fullmatch(r"\w+\((['\"])(.*)\1,?\)", said, re.DOTALL)
        event = {**event, "details": match[2] if match else said}
    response = Response(status, {"content-type": "application/json"}, orjson.dumps(event))
    error = error_from_response(response, explain=explain(task, model=model, known=known))
    if error is None:  # pragma: no cover - a status of 400 or more always makes one
        error = ServerError("The server broke off the answer.", status=status)
    error.partial_text = partial_text
    return error


def is_error(event: Mapping[str, Any], name: str) -> bool:
    """Whether an event reports an error. Older servers do not name it so; a piece's `details` is an object."""
    return name == "error" or ("generated_text" not in event and isinstance(event.get("details"), str))


def wrong_task(task: Task, model: str | None, problem: str, *, status: int | None = None) -> BadResponseError:
    """The error for an answer of another task: a server runs whatever the model has when asked for what it has not."""
    which = f"The model {model!r}" if model else "The model"
    return BadResponseError(
        f"The answer is not one of {task.title}: {problem}. {which} most likely does not have this task.",
        hint=f"Name a model that is made for {task.title}; models() tells what each model is.",
        status=status,
        layer="model",
    )


def failed_answer(model: str | None, partial_text: str) -> ServerError:
    """The error for an answer whose finish reason says that the generation failed."""
    return ServerError(
        f"The generation by {model!r} failed in the middle (finish reason ERROR).",
        hint="The reason is in the logs of the Caikit server and of the TGIS server behind it.",
        partial_text=partial_text,
        layer="model",
    )


def model_not_found(model: str | None, known: Sequence[str], *, said: str = "") -> ModelNotFoundError:
    """The error for a model that is not loaded; it tells which ones are, where known."""
    return no_such_model("The server has not loaded", model, hint=known_hint(model, known), said=said)


def known_hint(model: str | None, known: Sequence[str]) -> str:
    """What to say about the names that would have worked."""
    otherwise = "A model's name is that of its folder on the server; models() lists them."
    return known_models("It has", model, known, otherwise=otherwise)


def _meaning(
    status: int, body: ErrorBody, task: Task | None, model: str | None, known: Sequence[str]
) -> KServeError | None:
    said = body.message
    if status == 404 and (match := _UNKNOWN_MODEL.search(said)):
        return model_not_found(match["name"] or model, known, said=said)
    if status in {400, 422} and _OVERFLOW.search(said):
        return ContextOverflowError(describe(status, body), hint=_overflow_hint(task), layer="model")
    if task is not None and (match := _OTHER_ARGUMENTS.search(said)):
        # The parameter is one of the task's, or validation would have refused it: so the module is another task's.
        return wrong_task(task, model, f"the model does not know the parameter {match[1]!r}", status=status)
    if _NO_STREAM.search(said):
        msg = f"The model {model!r} cannot stream."
        hint = "Ask for whole answers. Caikit streams what a TGIS server generates, not what runs inside of it."
        return NotFoundError(msg, hint=hint, layer="model")
    if status == 501 or (status >= 500 and _BACKEND_DOWN.search(said)):
        return NotReadyError(
            describe(status, body),
            hint="The Caikit server cannot reach the TGIS server behind it, or got no answer in time (60 s unless "
            "configured otherwise). It may still be loading the model.",
            status=501,  # the same over gRPC
        )
    hint = next((hint for pattern, hint in _HINTS if pattern.search(said)), "")
    if status == 422:
        return InvalidRequestError(_validation(body), hint=hint or _validation_hint(body))
    if status == 400:
        return InvalidRequestError(describe(status, body), hint=hint)
    if status >= 500 and hint:
        return ServerError(describe(status, body), hint=hint)
    return None


def _problems(body: ErrorBody) -> list[dict[str, Any]]:
    listed = body.value.get("additional_info") if isinstance(body.value, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _validation(body: ErrorBody) -> str:
    """What is wrong, with the place of each problem; the server's own sentence has the first one's words only."""
    found = []
    for entry in _problems(body)[:5]:
        where = entry.get("loc")
        name = ".".join(map(str, where)) if isinstance(where, list) else ""
        found.append(f"{name}: {entry.get('msg')}" if name else str(entry.get("msg")))
    return f"HTTP 422: {tidy('; '.join(found))}" if found else describe(422, body)


def _validation_hint(body: ErrorBody) -> str:
    extra = [entry for entry in _problems(body) if entry.get("type") == "extra_forbidden"]
    if not extra:
        return ""
    return "The server does not know the parameter: its version may be older, or the name may be wrong."


def _route_hint(task: Task | None) -> str:
    path = "the path of the base URL is wrong, or the server has another route_prefix than api/v1"
    if task is None:
        return f"Either {path}, or the server is older than this route (/info/models came with caikit 0.26.2)."
    return f"Either the server has no module for {task.title}, or {path}."


def _method_hint(task: Task | None) -> str:
    if task is None:
        return "The server may be older than its info service, or this is not a Caikit server's gRPC port."
    return f"Either the server has no module for {task.title}, or this is not a Caikit server's gRPC port."


def _overflow_hint(task: Task | None) -> str:
    if task is not None and task.kind == "embed":
        return "Split the text, or have the server cut it by setting `truncate` (-1: to what the model takes)."
    return "Send less, ask for fewer tokens (max_tokens), or set truncate_prompt_tokens."
