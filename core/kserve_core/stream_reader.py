"""What happens between two chunks of a streamed answer; shared by the blocking and the async transport."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from kserve_core import hints
from kserve_core.calls import Decoder, Headers, StreamCall
from kserve_core.deadline import Deadline
from kserve_core.errors import BadResponseError, EndpointTimeoutError, KServeError, StreamIdleError, StreamInterrupted
from kserve_core.failures import request_id
from kserve_core.secrecy import without_secrets

T = TypeVar("T")


class NoStreamError(BadResponseError):
    """A stream was asked for, and something whole was answered."""


class StreamReader(Generic[T]):
    """Feeds one stream's decoder, keeps its deadline, and completes the errors that come up.

    Until the first piece the call's time budget holds; from then on `idle_timeout` does, counted from when the next
    piece is asked for, so the time its reader takes for a piece does not count.

    Args:
        call: The call.
        idle_timeout: Seconds without a piece, or None.
        deadline: The deadline of the connection's reads; moved as pieces come.
        status: The answer's HTTP status.
        headers: The answer's headers.
        attempt: Which request of the call this is.
        sent_id: The request id that was sent, if one was.
        strict: Whether a clean end without the runtime's end marker is an error.
        secrets: Texts that must not appear in an error.

    Attributes:
        count: How many pieces have come.
        size: Of how many bytes, as far as they were read.
        first: When the first of them had come, on the monotonic clock; None before.
        broken: Whether it ended in an error.
    """

    def __init__(
        self,
        call: StreamCall[T],
        *,
        idle_timeout: float | None,
        deadline: Deadline,
        status: int,
        headers: Headers,
        attempt: int,
        sent_id: str | None = None,
        strict: bool = True,
        secrets: Sequence[str] = (),
    ) -> None:
        self.decoder: Decoder[T] = call.decoder()
        self.ended = False
        self.count = 0
        self.size = 0
        self.first: float | None = None
        self.broken = False
        self._idle = idle_timeout
        self._deadline = deadline
        self._begun = False
        self._status = status
        self._headers = headers
        self._attempt = attempt
        self._sent_id = sent_id
        self._strict = strict
        self._secrets = secrets
        self._limit = deadline.at if call.together else None

    def feed(self, chunk: bytes) -> Sequence[T]:
        """The pieces that a chunk completes."""
        try:
            pieces = self.decoder.feed(chunk)
        except StreamInterrupted as exc:
            return self._unmarked(exc)
        if pieces:
            if not self.count:
                self.first = time.monotonic()
            self.count += len(pieces)
        if self.decoder.finished:
            self.ended = True
        elif not pieces and self._deadline.passed():
            raise TimeoutError
        return pieces

    def finish(self) -> Sequence[T]:
        """The body has ended: the pieces held back till now."""
        self.ended = True
        try:
            pieces = self.decoder.close()
        except StreamInterrupted as exc:
            return self._unmarked(exc)
        self.count += len(pieces)
        return pieces

    def wait(self) -> None:
        """The next piece is being asked for: the idle limit counts from now."""
        self._begun = True
        self._deadline.set(self._idle)
        if self._limit is not None and (self._deadline.at is None or self._deadline.at > self._limit):
            self._deadline.at = self._limit

    def rest(self) -> None:
        """Nobody waits for a piece: only the time budget of pieces wanted together goes on."""
        self._deadline.at = self._limit

    def failed(self, exc: Exception, *, timed_out: bool, broken: bool) -> KServeError:
        """The error for an exception, with what this stream knows added.

        Args:
            exc: The exception.
            timed_out: Whether the deadline passed while reading.
            broken: Whether the connection broke.
        """
        error: KServeError
        self.broken = True
        if isinstance(exc, KServeError):
            error = exc
        elif timed_out and not self._begun:
            msg = "The stream's first piece did not come within the time budget."
            error = EndpointTimeoutError(msg, hint=hints.TIMEOUT)
        elif timed_out and self._limit is not None and self._deadline.at == self._limit:
            msg = "The answer was not complete when the time budget ran out."
            error = EndpointTimeoutError(msg, hint=hints.TIMEOUT)
        elif timed_out:
            error = StreamIdleError(f"The stream was silent for {self._idle:g} s.", hint=hints.IDLE)
        elif broken:
            hint = getattr(self.decoder, "broken_hint", "") or hints.TRUNCATED  # a server may have its own ways
            error = StreamInterrupted("The connection broke in the middle of the stream.", hint=hint)
            error.retryable = getattr(self.decoder, "resend", True)
        else:
            error = BadResponseError("The server sent a stream that cannot be understood.", hint=hints.STRANGE)
        error.partial_text = error.partial_text or self._text()
        error.status = error.status or self._status
        error.attempts = error.attempts or self._attempt
        error.request_id = error.request_id or request_id(self._headers) or self._sent_id
        return without_secrets(error, self._secrets)

    def _unmarked(self, exc: StreamInterrupted) -> Sequence[T]:
        """What a stream that ended without its marker still held back.

        Raises:
            StreamInterrupted: If that is not taken for its end.
        """
        if self._strict or not exc.clean_end:
            if exc.clean_end:
                exc.hint = f"{exc.hint} {hints.NO_END_MARKER}".strip()
            raise exc
        self.ended = True
        return exc.rest

    def _text(self) -> str:
        text: Any = self.decoder.partial_text
        return text if isinstance(text, str) else ""
