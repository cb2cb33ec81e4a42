"""What OpenVINO Model Server's error answers mean; they are `{"error": "<text>"}`.

The texts are those of its documentation and sources; none was seen on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from kserve_core import hints
from kserve_core.calls import ErrorReader, Response
from kserve_core.error_bodies import ErrorBody, read_error_body
from kserve_core.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    NotReadyError,
    RequestTooLargeError,
    ServerError,
)
from kserve_core.failures import describe
from kserve_core.runtimes.model_names import known_models, no_such_model

Task = Literal["chat", "completion", "embedding", "rerank", "tokenize", "info"]

_KEY = re.compile(r"api[- _]?key|unauthori[sz]ed", re.IGNORECASE)
_LOADING = re.compile(r"not loaded yet|not ready|is loading|being loaded", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"(model|graph|servable|definition|pipeline)\b.*\b(not found|does not exist|retired|not loaded)|unknown model",
    re.IGNORECASE,
)
_OVERFLOW = re.compile(
    r"(length|tokens?)\b.*\b(longer than|exceeds?|greater than|above)\b.*"
    r"\b(allowed|maximum|max|context|limit|length)|model context|max_position|"
    r"maximum context length",  # as OpenAI-style servers say it
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"(number|amount|count) of (input )?(documents|inputs?|strings|chunks)\b.*\b(exceed|limit|max)|"
    r"\b(request )?body\b.*\b(larger|exceeds?|too large)|max_batch_size|batch size|input tensors? .*exceed",
    re.IGNORECASE,
)
_TASKS: dict[Task, str] = {
    "chat": "chat completions",
    "completion": "text completions",
    "embedding": "embeddings",
    "rerank": "reranking",
    "tokenize": "counting tokens",
}


def explain(task: Task, *, model: str | None = None, known: Sequence[str] = ()) -> ErrorReader:
    """A reader for the error answers to one request.

    Args:
        task: What was asked for.
        model: The model it was asked of.
        known: Names of the models the endpoint is known to serve.
    """

    def read(response: Response) -> KServeError | None:
        return _explain(response.status, read_error_body(response.body), task, model, known)

    return read


def known_models_hint(model: str | None, known: Sequence[str]) -> str:
    """What to say about the names that would have worked."""
    otherwise = "The name is the one the server lists under /v3/models."
    return known_models("It serves", model, known, otherwise=otherwise)


def model_not_found(model: str | None, known: Sequence[str], *, said: str = "") -> ModelNotFoundError:
    """The error for a name the endpoint does not serve; it tells the names it does serve, where known."""
    hint = known_models_hint(model, known)
    return no_such_model("The endpoint does not serve", model, hint=hint, said=said)


def _explain(status: int, body: ErrorBody, task: Task, model: str | None, known: Sequence[str]) -> KServeError | None:
    if body.kind != "json" or not isinstance(body.value, dict):
        return None
    said, message = body.message, describe(status, body)
    if status in {401, 403, 500} and _KEY.search(said):  # a bad key is 500 where its status has no HTTP number
        hint = f"{hints.NOT_ACCEPTED} The server checks its key under /v3 and /v1 only."
        return AuthenticationError(message, hint=hint)
    if status in {404, 500, 503} and _LOADING.search(said):
        return NotReadyError(message, hint=hints.LOADING, layer="model")
    if status in {400, 404, 500} and _NO_MODEL.search(said):
        return _missing(model, known, task, said)
    if status in {404, 405, 406}:
        what = _TASKS.get(task)
        lead = f"Either the model is not one for {what}, or the" if what else "Perhaps the"
        wrong = "path of the base URL is wrong (it usually ends in /v3), or another kind of server answers."
        return NotFoundError(message, hint=f"{lead} {wrong} {hints.DOCTOR}")
    if status in {400, 413, 422} and _TOO_LARGE.search(said):
        return RequestTooLargeError(message, hint=hints.TOO_LARGE)
    if status in {400, 422, 500} and _OVERFLOW.search(said):
        hint = "Split the text; this server cuts none." if task in {"embedding", "rerank"} else hints.CONTEXT
        return ContextOverflowError(message, hint=hint, layer="model")
    if status in {400, 412, 422}:
        return InvalidRequestError(message)
    return ServerError(message, hint=hints.SERVER_FAILED) if status == 500 else None


def _missing(model: str | None, known: Sequence[str], task: Task, said: str) -> KServeError:
    error = model_not_found(model, known, said=said)
    if model in known:  # it is listed, but not as what this needs
        error = ModelNotFoundError(
            f"The model {model!r} is not one for {_TASKS.get(task, 'this')} on this server.",
            hint="It may be served for another task, or as tensors under /v2 (api='v2').",
            layer="model",
            status=404,
            server_message=said,
        )
    return error
