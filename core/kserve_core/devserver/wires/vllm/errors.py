"""Errors in the runtime's own shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kserve_core.devserver.messages import Reply, json_reply
from kserve_core.devserver.settings import Settings


class ApiError(Exception):
    """An error answer of the runtime."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        param: str | None = None,
        value: Any = None,
        names_param: bool = True,
    ) -> None:
        if param is not None and kind == "BadRequestError" and names_param:
            shown = "" if value is None else f", value={value}"
            message = f"{message} (parameter={param}{shown})"
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param

    def reply(self, settings: Settings) -> Reply:
        """The answer on the wire: nested from 0.10 on, flat before."""
        body: dict[str, Any] = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        flat = settings.release < (0, 10)
        return json_reply({"object": "error", **body} if flat else {"error": body}, status=self.status)


def problem(kind: str, where: tuple[str | int, ...], message: str, given: Any) -> dict[str, Any]:
    """One entry of a schema error: `where` is the path to the field; what was given is shown shortened."""
    shown = str(given)
    if isinstance(given, dict | list):
        shown = f"<{type(given).__name__} of {len(given)} items>"
    return {"type": kind, "loc": ".".join(map(str, where)), "msg": message, "input": shown}


def schema_error(*problems: dict[str, Any]) -> ApiError:
    """A request that does not fit the schema."""
    lines = [f"{len(problems)} validation error{'s' if len(problems) > 1 else ''}:"]
    lines += [f"  {entry}" for entry in problems]
    return ApiError("\n".join(lines), kind="Bad Request", param=problems[0]["loc"])


def missing(where: tuple[str | int, ...], given: Any) -> ApiError:
    """A required field that is not there."""
    return schema_error(problem("missing", where, "Field required", given))


def wrong_type(where: tuple[str | int, ...], kind: str, given: Any) -> ApiError:
    """A field of another type than `kind`."""
    code = "dict" if kind == "dictionary" else kind
    return schema_error(problem(f"{code}_type", where, f"Input should be a valid {kind}", given))


def unknown_model(name: str, served: Iterable[str], *, param: str | None = "model") -> ApiError:
    """A model that is not served."""
    text = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
    return ApiError(text, status=404, kind="NotFoundError", param=param)


def too_long(limit: int, tokens: int, *, requested: int = 0) -> ApiError:
    """A prompt that does not fit into the context window."""
    text = f"This model's maximum context length is {limit} tokens. However, "
    if tokens > limit:
        tokens = limit + 1  # counting stops there
        text += (
            f"your prompt contains at least {tokens} input tokens, which exceeds this limit even without any output "
            "tokens. Please reduce the length of the input prompt."
        )
    else:
        text += (
            f"you requested {requested} output tokens and your prompt contains {tokens} input tokens, for a total of "
            f"{requested + tokens} tokens. Please reduce one of them."
        )
    return ApiError(text, param="input_tokens", value=tokens)
