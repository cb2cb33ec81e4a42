"""What the servers' errors mean, beyond what any server's would.

They carry no codes but the status, so their sentences are what is told apart. Where a sentence or a status comes from
a real server, that was Triton 2.51, MLServer 1.7.1 or KServe's SDK server 0.21; OpenVINO Model Server's are documented.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import orjson

from kserve_core import hints
from kserve_core.calls import ErrorReader, GrpcErrorReader, GrpcFailure, Response
from kserve_core.error_bodies import read_error_body, tidy
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    ErrorResponse,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    RequestTooLargeError,
    ServerError,
)
from kserve_core.failures import error_from_response
from kserve_core.grpc_failures import CODES
from kserve_core.names import listed
from kserve_core.runtimes.model_names import known_models, no_such_model
from kserve_core.runtimes.open_inference.dialects import OPENVINO, TRITON, Dialect
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec

What = Literal["infer", "stream", "metadata", "config", "ready", "repository", "load", "server"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of whom, as far as it helps to read an error.

    Attributes:
        dialect: The server's ways.
        what: The kind of request.
        model: The model it was about.
        version: The version asked for.
        known: Names of the models the server is known to have.
        declared: The model's metadata, where it is known.
        binary: Whether raw tensors were sent over REST.
    """

    dialect: Dialect
    what: What
    model: str | None = None
    version: str | None = None
    known: Sequence[str] = ()
    declared: ModelMetadata | None = None
    binary: bool = False


_UNKNOWN_MODEL = re.compile(
    r"unknown model|model\b.{0,200}?(is )?not found|no such model|model with (requested )?(name|version)|"
    r"does not exist|failed to poll from model repository|\bnot (loaded|served)\b",
    re.IGNORECASE | re.DOTALL,
)
_UNKNOWN_VERSION = re.compile(
    r"\bversion '?[^'\s]{1,80}'? (is )?(not found|does not exist|is not at ready|not available)|with requested version",
    re.IGNORECASE,
)
_NOT_READY = re.compile(
    r"no available versions|\bModelNotReady\b|not (yet )?ready|is not at ready|still loading|being loaded",
    re.IGNORECASE,
)
_NO_VERSIONS = re.compile(r"versioning (is )?not supported", re.IGNORECASE)
_BATCH = re.compile(
    r"batch[ -]?size must be <= ?(?P<limit>\d+)|batch[ -]?size[^.]{0,60}(exceed|larger|greater|maximum|must be <=)|"
    r"(exceed|larger|greater)[^.]{0,60}max(imum)?[ _]batch[ _]?size",
    re.IGNORECASE,
)
_DECOUPLED = re.compile(r"decoupled transaction policy|expects model to produce exactly 1 response", re.IGNORECASE)
_OVERFLOW = re.compile(
    r"maximum (context|sequence|input|model) length|context (window|length)|max(imum)?[ _]input[ _](length|tokens)|"
    r"max_model_len|max_seq_len|\b(prompt|input|text)\b[^.]{0,60}\b(is )?too long\b",
    re.IGNORECASE,
)
_REQUEST_AT_FAULT = re.compile(
    r"\b(invalid|illegal|must|should be|expect(s|ed)|unexpected|not (allowed|supported|permitted)|unsupported|required|"
    r"missing|out of range|too (long|large|many|small|short)|cannot be)\b",
    re.IGNORECASE,
)
_NOT_PARSED = re.compile(
    r"failed to parse|unable to parse|attempt to access JSON|must be (an array|specified) |"
    r"JSON (parse|parsing) error|unexpected end of JSON",
    re.IGNORECASE,
)
_TENSORS = re.compile(
    r"\b(input|inputs|shape|datatype|data-type|dtype|output|outputs|tensor|precision|byte[ _]size|element)\b",
    re.IGNORECASE,
)
_RAW_ONLY = re.compile(r"\b(FP16|BF16)\b.{0,60}\bJSON\b|\bJSON\b.{0,60}\b(FP16|BF16)\b", re.IGNORECASE | re.DOTALL)
_NO_RAW = re.compile(r"received byte inputs|binary (data|tensor)s? .{0,40}not (supported|allowed)", re.IGNORECASE)
_RESTRICTED = re.compile(r"\brestricted\b", re.IGNORECASE)
_LOADING_OFF = re.compile(r"explicit model load ?/ ?unload is not allowed", re.IGNORECASE)
_BAD_KEY = re.compile(r"unauthori[sz]ed|(invalid|missing|wrong) (api[ _-]?key|authorization)", re.IGNORECASE)
_NO_ROUTE = frozenset({"not found", "method not allowed"})
_TRACEBACK = re.compile(r"^[ +|]*(Exception Group )?Traceback \(most recent call last\)", re.MULTILINE)
_EXCEPTION = re.compile(
    r"^[ |]*(?P<name>[A-Za-z_]\w*(\.\w+)+|[A-Z]\w*(Error|Exception|Exit|Interrupt))(: (?P<said>.*))?$", re.MULTILINE
)
_REQUEST_ID = re.compile(r"^\[request id: [^\]]{0,200}\] ?")

_HIDDEN = (
    "The server hides what its model says; its log tells. An input's name, datatype or shape that the model does not "
    "expect ends like this as well."
)
_TOO_LONG = (
    "Send less text, or ask for fewer tokens: the model takes no more at once. Embedding and reranking classes cut "
    "texts when `truncate` is set."
)
_MODEL_SAID = "This is what the model itself answers; its author, or the server's log, knows why."
_STREAM = "Ask for the answer in pieces: the class's stream methods, or stream_infer() over gRPC (protocol='grpc')."


def explain(asked: Asked) -> ErrorReader:
    """A reader for REST's error answers to a request."""
    return partial(_read_http, asked)


def explain_grpc(asked: Asked) -> GrpcErrorReader:
    """The same for gRPC's statuses."""
    return partial(_read_grpc, asked)


def stream_failure(asked: Asked, said: str, *, partial_text: str = "") -> KServeError:
    """The error that a message of a stream stands for; the status was a good one by then.

    Args:
        asked: What was asked.
        said: The server's words.
        partial_text: Text delivered before.
    """
    said = _clean(said)
    status = 404 if said.startswith("Request for unknown model") else 400  # Triton's words before any model is asked
    error = _meaning(asked, status, said, said) or ServerError(said or "The model failed.", hint=hints.SERVER_FAILED)
    error.layer = "model" if error.layer == "runtime" else error.layer
    error.server_message = said
    error.partial_text = partial_text
    return error


def needs_raw(error: KServeError) -> bool:
    """Whether a request failed because a tensor has a datatype that the server sends or takes raw only."""
    return isinstance(error, InvalidRequestError) and _RAW_ONLY.search(error.server_message) is not None


def refuses_raw(error: KServeError) -> bool:
    """Whether a request failed because the server takes no raw tensors."""
    return isinstance(error, InvalidRequestError) and (
        error.status == 422 or _NO_RAW.search(error.server_message) is not None
    )


def is_decoupled(error: KServeError) -> bool:
    """Whether a request failed because the model answers in pieces."""
    return _DECOUPLED.search(error.server_message) is not None


def is_missing_route(error: KServeError) -> bool:
    """Whether an error says that the server (or what is in front of it) lacks the operation, not the model."""
    return isinstance(error, NotFoundError) and not isinstance(error, ModelNotFoundError)


def model_not_found(
    model: str | None, known: Sequence[str] = (), *, said: str = "", status: int | None = 404
) -> ModelNotFoundError:
    """The error for a model that is not there; it tells which ones are, where known."""
    hint = known_models_hint(model, known)
    return no_such_model("The server does not serve", model, hint=hint, said=said, status=status)


def known_models_hint(model: str | None, known: Sequence[str]) -> str:
    """What to say about the names that would have worked."""
    if model in known:
        return "The server's repository has it, but it is not loaded; load_model() does that where it is allowed."
    return known_models("The server has", model, known, otherwise=hints.MODEL)


def declared_hint(declared: ModelMetadata | None) -> str:
    """The inputs a model declares, as a hint; nothing if they are not known."""
    if declared is None or not declared.inputs:
        return ""
    shown = ", ".join(shown_spec(spec) for spec in declared.inputs[:12])
    return f"The model declares {shown}{', ...' if len(declared.inputs) > 12 else ''}."


def shown_spec(spec: TensorSpec) -> str:
    """An input or output as a sentence shows it: `text BYTES[-1, 1]`."""
    return f"{spec.name[:100]} {spec.datatype[:20]}{list(spec.shape)}{' (optional)' if spec.optional else ''}"


def _read_http(asked: Asked, response: Response) -> KServeError | None:
    body = read_error_body(response.body)
    status = response.status
    if status == 400 and asked.what == "ready":  # Triton's sentence is about the version, MLServer says nothing
        who = "The server" if asked.model is None else f"The model {asked.model!r}"
        return NotReadyError(f"{who} is not ready.", hint=_loading_hint(asked), layer="model")
    if body.kind == "text" and status >= 500:
        return _uncaught(asked, response)
    if body.kind != "json":
        return None
    said = _clean(body.message)
    if status in {404, 405} and said.lower() in _NO_ROUTE:
        return NotFoundError(f"HTTP {status}: {said}", hint=_route_hint(asked))
    error = _meaning(asked, status, said, f"HTTP {status}: {said}")
    if error is not None:
        error.server_message = error.server_message or said
    return error


def _read_grpc(asked: Asked, failure: GrpcFailure) -> KServeError | None:
    said = _clean(tidy(failure.details))
    status = CODES.get(failure.code, (2, 500))[1]
    if failure.code == "UNIMPLEMENTED" and not (_DECOUPLED.search(said) or _NO_VERSIONS.search(said)):
        if asked.what == "infer" and asked.dialect == TRITON:  # which has the method: it is what the model said
            return InvalidRequestError(f"{failure.code}: {said}", hint=_MODEL_SAID, layer="model", server_message=said)
        return NotFoundError(
            f"{failure.code}: {said or 'the server has no such method'}", hint=_route_hint(asked), server_message=said
        )
    error = _meaning(asked, status, said, f"{failure.code}: {said}" if said else failure.code)
    if error is None and failure.code == "INTERNAL" and said.lower() == "internal server error":
        error = ServerError(f"{failure.code}: {said}", hint=_HIDDEN, layer="model")
    if error is not None:
        error.server_message = error.server_message or said
    return error


def _meaning(asked: Asked, status: int, said: str, message: str) -> KServeError | None:
    if _RESTRICTED.search(said) and status in {403, 503}:
        return PermissionDeniedError(message, hint=hints.RESTRICTED, layer="runtime", status=403)
    if status == 500 and asked.dialect == OPENVINO and _BAD_KEY.search(said):
        return AuthenticationError(message, hint=hints.NOT_ACCEPTED, status=401)
    if _DECOUPLED.search(said):
        return InvalidRequestError(message, hint=_STREAM, layer="model")
    if _NO_VERSIONS.search(said):
        return InvalidRequestError(message, hint="The server has no model versions: leave model_version out.")
    if _LOADING_OFF.search(said):
        return InvalidRequestError(
            message, hint="Triton loads on request only if it was started with --model-control-mode=explicit."
        )
    if asked.model is not None and (error := _no_model(asked, status, said, message)) is not None:
        return error
    if (match := _BATCH.search(said)) is not None and status < 500:
        limit = match["limit"]
        hint = f"The model takes at most {limit} rows in one request." if limit else hints.TOO_LARGE
        return RequestTooLargeError(message, hint=hint, layer="model")
    if asked.what in {"infer", "stream"} and status in {400, 422, 500} and _overflows(said):
        return ContextOverflowError(message, hint=_TOO_LONG, layer="model")
    if status == 500 and _NOT_PARSED.search(said):
        return InvalidRequestError(message, hint=declared_hint(asked.declared) or "The request was not understood.")
    if status == 412 or (status in {400, 422} and asked.what in {"infer", "stream"}):
        if isinstance(_general(status, said), RequestTooLargeError):
            return None
        return _refused(asked, status, said, message)
    if status == 406:
        return NotFoundError(message, hint=_route_hint(asked))
    if asked.what == "infer" and status in {404, 409, 499, 501}:
        return InvalidRequestError(message, hint=_MODEL_SAID, layer="model")
    if asked.what == "infer" and status == 503:
        return ServerError(message, hint=hints.SERVER_FAILED, layer="model")
    if status == 500 and asked.what == "infer":
        hidden = said.lower() in {"", "internal server error"}
        said_why = " ".join(filter(None, (hints.SERVER_FAILED, declared_hint(asked.declared))))
        return ServerError(message, hint=_HIDDEN if hidden else said_why, layer="model")
    return None


def _no_model(asked: Asked, status: int, said: str, message: str) -> KServeError | None:
    """The error for a model or a version that is not there, or not yet."""
    if status not in {400, 404, 500, 503}:
        return None
    if asked.version is not None and status == 404 and (_UNKNOWN_VERSION.search(said) or _served(asked)):
        versions = asked.declared.versions if asked.declared is not None else ()
        return ModelNotFoundError(
            f"The server does not serve version {asked.version!r} of the model {asked.model!r}.",
            hint=f"It has {listed(versions)}." if versions else "model_metadata() tells the versions there are.",
            layer="model",
            server_message=said,
        )
    if _NOT_READY.search(said):
        return NotReadyError(message, hint=_loading_hint(asked), layer="model")
    unknown = _UNKNOWN_MODEL.search(said) is not None
    if unknown and (status == 404 or asked.what == "load" or (status == 500 and asked.what == "ready")):
        return model_not_found(asked.model, asked.known, said=said, status=status)
    return None


def _served(asked: Asked) -> bool:
    return asked.model in asked.known


def _refused(asked: Asked, status: int, said: str, message: str) -> KServeError:
    if asked.what == "stream" and not (_TENSORS.search(said) or _REQUEST_AT_FAULT.search(said)):
        # A stream's errors have no code of their own: Triton says 400 before the first piece, whatever went wrong.
        return ServerError(message, hint=hints.SERVER_FAILED, layer="model")
    if _RAW_ONLY.search(said):
        hint = "FP16 and BF16 travel raw only: use protocol='grpc', or a server that takes binary tensors over REST."
    elif status == 422 and asked.binary:
        hint = "The server may take no raw tensors over REST; use protocol='grpc'."
    elif status == 412 or _TENSORS.search(said):
        hint = declared_hint(asked.declared)
    else:
        hint = ""
    return InvalidRequestError(message, hint=hint, layer="model" if status == 400 else "runtime")


def _uncaught(asked: Asked, response: Response) -> KServeError | None:
    """The error for an exception nobody caught: its traceback repeats what the model was given, so little is kept."""
    status = response.status
    text = response.body.decode("utf-8", "replace")
    if not _TRACEBACK.search(text):
        if text.strip().lower() != "internal server error":
            return None
        return ServerError(f"HTTP {status}: {text.strip()}", hint=_HIDDEN, layer="model")
    raised = [(match["name"][:100], match["said"] or "") for match in _EXCEPTION.finditer(text)]
    names = [name for name, told in raised if not told.startswith("Caught handled exception")]
    name = names[-1] if names else "its kind is not told"
    said = f"an exception was not caught ({name})"
    error: KServeError
    if asked.model is not None and any(name.endswith("ModelNotFound") for name in names):
        error = model_not_found(asked.model, asked.known, status=status)
    elif any(name.endswith("ModelNotReady") for name in names):
        error = NotReadyError(f"HTTP {status}: {said}.", hint=_loading_hint(asked), layer="model")
    elif any(_overflows(told) for _, told in raised):
        error = ContextOverflowError(f"HTTP {status}: the text is too long ({name}).", hint=_TOO_LONG, layer="model")
    else:
        error = ServerError(f"HTTP {status}: {said}.", hint=_HIDDEN, layer="model")
    error.server_message = said
    error.response = ErrorResponse(status, {}, said.encode())
    return error


def _overflows(said: str) -> bool:
    return _OVERFLOW.search(said) is not None or isinstance(_general(400, said), ContextOverflowError)


def _general(status: int, said: str) -> KServeError | None:
    """What the rules for any server make of the words."""
    body = orjson.dumps({"error": said})
    return error_from_response(Response(status, {"content-type": "application/json"}, body))


def _clean(said: str) -> str:
    """A server's words without its note of the request's id, which is ours."""
    return _REQUEST_ID.sub("", tidy(said))


def _loading_hint(asked: Asked) -> str:
    return (
        "The model is being loaded, was unloaded, or failed to load; the server's log tells. A longer timeout=... "
        "waits for it." + ("" if asked.version is None else " It may also be this version only.")
    )


def _route_hint(asked: Asked) -> str:
    words: dict[Any, str] = {
        "metadata": "tell about a model's tensors",
        "config": "tell a model's configuration",
        "ready": "tell whether it is ready",
        "repository": "list its models",
        "load": "load and unload models",
        "server": "tell about itself",
        "stream": "stream",
        "infer": "answer such requests",
    }
    what = words[asked.what]
    only = "" if asked.what == "infer" else " (ModelMesh, for one, only infers)"
    return f"What serves this may not {what}{only}, or base_url is of another path or server. {hints.DOCTOR}"
