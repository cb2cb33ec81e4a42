"""Lines in the log that all protocols write alike: kinds, sizes, times and ids, never a header's value or content."""

from __future__ import annotations

import logging
import time
from typing import Any

from kserve_core.errors import KServeError
from kserve_core.stream_reader import StreamReader


def named(identity: str | None) -> str:
    """A request's id, for the end of a line in the log."""
    return f", request id {identity}" if identity else ""


def log_failure(log: logging.Logger, name: str, error: KServeError) -> None:
    """One line for a call that is given up: its error's kind, not its words, which may be the server's."""
    if log.isEnabledFor(logging.DEBUG):
        status = f", status {error.status}" if error.status else ""
        kind = type(error).__name__
        log.debug("%s: %s%s, requests sent: %d%s", name, kind, status, error.attempts, named(error.request_id))


def log_stream(log: logging.Logger, name: str, reader: StreamReader[Any], began: float) -> None:
    """One line for a stream that is over.

    Args:
        log: Where to write it.
        name: What was called.
        reader: What read the stream.
        began: When the request was sent, on the monotonic clock.
    """
    if log.isEnabledFor(logging.DEBUG):
        how = "broken" if reader.broken else "complete" if reader.ended else "left"
        took = time.monotonic() - began
        first = "none" if reader.first is None else f"the first after {reader.first - began:.3f} s"
        text = "%s: stream %s after %.3f s, %d pieces (%s), %d bytes"
        log.debug(text, name, how, took, reader.count, first, reader.size)
