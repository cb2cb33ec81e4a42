"""What goes wrong, independent of how a server words it over REST or gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class V2Error(Exception):
    """An error a server answers.

    Args:
        message: What it says.
        code: Name of the gRPC status.
        status: The HTTP status, where it does not follow from the code.
        raised: Whether it is an exception of the model that nobody thought of.

    Attributes:
        executed: Whether the model was running when it happened.
    """

    def __init__(
        self, message: str, code: str = "INVALID_ARGUMENT", *, status: int | None = None, raised: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.raised = raised
        self.executed = False


class UnprocessableError(Exception):
    """A body that does not fit a FastAPI server's schema; the answer repeats what was given, as those servers do."""

    def __init__(self, kind: str, where: Sequence[str | int], message: str, given: Any) -> None:
        super().__init__(message)
        self.problems: list[dict[str, Any]] = [{"type": kind, "loc": list(where), "msg": message, "input": given}]
