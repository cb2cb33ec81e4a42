"""What a vLLM server's error answers mean, beyond what any server's would."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import orjson

from kserve_core.calls import ErrorReader, Response
from kserve_core.error_bodies import ErrorBody, read_error_body
from kserve_core.errors import (
    ContextOverflowError,
    InvalidRequestError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    ResponseError,
    ServerError,
)
from kserve_core.failures import describe, error_from_response
from kserve_core.runtimes.model_names import known_models, no_such_model

Task = Literal["chat", "completion", "embedding", "rerank", "tokenize", "info"]

_TASKS: dict[Task, str] = {
    "chat": "chat completions",
    "completion": "text completions",
    "embedding": "embeddings",
    "rerank": "reranking",
}

_UNKNOWN_MODEL = re.compile(r"\bmodel\b.*\bdoes not exist", re.IGNORECASE)

# 0.32 says "maximum context length is N tokens", the engine itself "longer than the maximum model length of N".
_OVERFLOW = re.compile(r"maximum context length|than the maximum model length|max_model_len", re.IGNORECASE)

# Words of a refusal, and what to do about it.
_HINTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (
            r"trust-request-chat-template",
            (
                "The server takes chat templates only at its own start: have it started with "
                "--trust-request-chat-template or with --chat-template, or use the text-completion class."
            ),
        ),
        (
            r"(must provide|not define|does not have|no) a chat template|default chat template is no longer",
            (
                "The served model has no chat template, so it takes no conversations. Pass chat_template=... (a "
                "built-in format such as 'chatml', Jinja text or a file; --trust-request-chat-template is not needed), "
                "have the server started with --chat-template, or use the text-completion class."
            ),
        ),
        (
            r"enable-auto-tool-choice|tool-call-parser",
            (
                "Tool calling is not switched on: the server must be started with --enable-auto-tool-choice and the "
                "--tool-call-parser that fits the model."
            ),
        ),
        (r"matryoshka", "This model's vectors have one length only: leave `dimensions` out."),
        (
            r"not a multimodal model|at most 0 (image|audio|video)|does not support (image|audio|video|multimodal)",
            "The served model takes text only.",
        ),
        (r"at most \d+ (image|audio|video)", "The server sets the limit with --limit-mm-per-prompt."),
        (r"greedy sampling|n must be 1", "Several answers need a temperature above 0, or use_beam_search=True."),
        (
            r"does not support (the )?(chat completions|completions|embeddings|rerank|score|tokenize)",
            "The served model is of another kind than the one this needs.",
        ),
    )
)

_ENGINE_DEAD = re.compile(r"engine ?core|engine (is )?dead|engine process", re.IGNORECASE)


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


def stream_error(event: dict[str, Any], task: Task, *, model: str | None, partial_text: str) -> ResponseError:
    """The error that an event in the middle of a stream stands for.

    The HTTP status was 200 by then; the one in the event counts.
    """
    inner = event.get("error")
    code = inner.get("code") if isinstance(inner, dict) else event.get("code")
    status = int(code) if isinstance(code, (int, str)) and str(code).isdigit() else 500
    if not 400 <= status < 600:
        status = 500
    response = Response(status, {"content-type": "application/json"}, orjson.dumps(event))
    error = error_from_response(response, explain=explain(task, model=model))
    if not isinstance(error, ResponseError):  # pragma: no cover - a status of 400 or more always makes one
        error = ServerError("The server broke off the answer.", status=status)
    error.partial_text = partial_text
    return error


def is_error(event: dict[str, Any]) -> bool:
    """Whether an event of a stream reports an error, in the shape of any version."""
    return bool(event.get("error")) or event.get("object") == "error" or "detail" in event


def model_not_found(model: str | None, known: Sequence[str], *, said: str = "") -> ModelNotFoundError:
    """The error for a name the endpoint does not serve; it tells the names it does serve, where known."""
    hint = known_models_hint(model, known)
    return no_such_model("The endpoint does not serve", model, hint=hint, said=said)


def known_models_hint(model: str | None, known: Sequence[str]) -> str:
    """What to say about the names that would have worked."""
    otherwise = "The name is the one the server lists under /v1/models; leave `model` out if it serves one model only."
    return known_models("It serves", model, known, otherwise=otherwise)


def _explain(status: int, body: ErrorBody, task: Task, model: str | None, known: Sequence[str]) -> KServeError | None:
    if body.kind != "json" or not isinstance(body.value, dict):
        return None
    said = body.message
    routing = "detail" in body.value and "error" not in body.value and body.value.get("object") != "error"
    if status in {404, 405} and routing:
        return NotFoundError(describe(status, body), hint=_route_hint(task))
    if status in {400, 404} and not routing and _UNKNOWN_MODEL.search(said):
        return model_not_found(model, known, said=said)
    if status in {400, 422} and (body.param == "input_tokens" or _OVERFLOW.search(said)):
        return ContextOverflowError(describe(status, body), hint=_overflow_hint(task), layer="model")
    hint = next((hint for pattern, hint in _HINTS if pattern.search(said)), "")
    if hint and status in {400, 422}:
        return InvalidRequestError(describe(status, body), hint=hint)
    if status >= 500:
        if _ENGINE_DEAD.search(said):
            hint = "The server's engine has stopped; requests work again once its pod has been restarted."
        if hint:
            return ServerError(describe(status, body), hint=hint)
    return None


def _route_hint(task: Task) -> str:
    path = "the path of the base URL is wrong (it usually ends in /v1)"
    if task == "info":
        return f"Either {path}, or a gateway does not pass this route on."
    if task == "tokenize":
        return f"Either {path}, or a gateway passes on only what is under /v1; tokens are counted outside of it."
    return f"Either the served model is not one for {_TASKS[task]}, or {path}."


def _overflow_hint(task: Task) -> str:
    if task in {"embedding", "rerank"}:
        return "Split the text, or have the server cut it by setting `truncate` (-1: to what the model takes)."
    return "Send less, ask for fewer tokens, or set truncate_prompt_tokens; model_info() tells the context window."
