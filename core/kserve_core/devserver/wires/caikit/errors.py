"""Errors in the runtime's three shapes, and as gRPC statuses."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from kserve_core.devserver.grpc_exchange import GrpcStatus
from kserve_core.devserver.messages import Reply, json_reply

_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 500: "INTERNAL", 501: "UNAVAILABLE"}


class CaikitError(Exception):
    """An exception of the runtime.

    Args:
        status: The HTTP status.
        details: What went wrong.
    """

    def __init__(self, status: int, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details

    def body(self) -> dict[str, Any]:
        """The body over REST, and the data of an error event."""
        return {"details": self.details, "code": self.status, "id": secrets.token_hex(16)}

    def reply(self) -> Reply:
        """The answer over REST; it has no content type at all."""
        return Reply(self.status, json.dumps(self.body()).encode(), None)

    def grpc(self) -> GrpcStatus:
        """The answer over gRPC."""
        return GrpcStatus(_CODES.get(self.status, "UNKNOWN"), self.details)


class InvalidError(Exception):
    """A request that does not fit the schema; REST only."""

    def __init__(self, problems: Sequence[dict[str, Any]]) -> None:
        super().__init__(problems[0]["msg"])
        self.problems = list(problems)

    def reply(self) -> Reply:
        """The answer over REST."""
        body = {
            "details": self.problems[0]["msg"],
            "additional_info": self.problems,
            "code": 422,
            "id": secrets.token_hex(16),
        }
        return json_reply(body, status=422)


def problem(kind: str, where: Sequence[str | int], message: str, given: Any) -> dict[str, Any]:
    """One entry of a schema error: `where` is the path to the field."""
    url = f"https://errors.pydantic.dev/2.14/v/{kind}"
    return {"type": kind, "loc": list(where), "msg": message, "input": given, "url": url}


def not_loaded(name: str) -> CaikitError:
    """A model that is not there."""
    return CaikitError(404, f"Model '{name}' not loaded")


def missing(*, name: str, of: str) -> CaikitError:
    """A required input that is not there, or empty; `of` is the method that needs it."""
    return CaikitError(400, f"{of}() missing 1 required positional argument: '{name}'")
