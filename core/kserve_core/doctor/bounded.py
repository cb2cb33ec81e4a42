"""Work that may hang, bounded in time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from kserve_core.deadline import Deadline
from kserve_core.errors import EndpointTimeoutError

T = TypeVar("T")

_GRACE = 0.5
"""Seconds after the end in which work may still say itself what it was waiting for."""


def bounded(work: Callable[[], T], deadline: Deadline, *, what: str = "the endpoint") -> T:
    """Does something in a thread of its own, for hardly longer than there is time; what hangs is left behind.

    Args:
        work: What to do. What it raises is raised here.
        deadline: When it has to be over.
        what: Who is waited for, in words.

    Raises:
        EndpointTimeoutError: If it was not over in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # noqa: BLE001 - handed to the caller
            errors.append(exc)

    context = contextvars.copy_context()
    worker = threading.Thread(target=lambda: context.run(run), name="kserve-doctor", daemon=True)
    worker.start()
    left = deadline.left()
    worker.join(None if left is None else left + _GRACE)
    if errors:
        raise errors[0]
    if not results:
        msg = f"There was no answer from {what} within the time for everything."
        raise EndpointTimeoutError(msg, hint="Give more time (--timeout SECONDS).")
    return results[0]
