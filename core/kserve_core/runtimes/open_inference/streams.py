"""Streamed answers: events over REST and messages over gRPC, each turned into results.

Only Triton's gRPC stream has an end marker: each message says whether it is the last one. The others end with the
clean end of the body (the last chunk of a chunked body, or gRPC's status OK), and a transport raises
`StreamInterrupted` for a body that breaks off. Triton reports an error as a message of the stream, under a good status;
MLServer just breaks off.

What a result means is up to a `ResultDecoder`. These here cut the stream and find its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import orjson

from kserve_core._json import unreadable
from kserve_core.errors import KServeError, StreamInterrupted
from kserve_core.runtimes.open_inference.values import InferResult
from kserve_core.sse import SSEDecoder

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)

Fail = Callable[..., KServeError]
"""Makes an error of a server's words: `fail(said, partial_text=...)`; see `errors.stream_failure`."""

FINAL = "triton_final_response"
"""The parameter of an answer that tells whether it is the last one (Triton, gRPC)."""

ASK_FINAL = "triton_enable_empty_final_response"
"""The parameter of a request that asks for an empty answer as the last one, so that there always is one."""

_WHAT = "a piece of an answer"
_SERVER_LOG = (
    "MLServer breaks a stream off when the model fails, or when it cannot stream; the server's log tells why. As the "
    "model may have run, the request was not sent again."
)


class Pieces(Protocol[R_contra, T_co]):
    """Turns the results of one stream into pieces, whatever they came in."""

    def take(self, result: R_contra) -> Sequence[T_co]:
        """Takes the next result and returns the pieces it completes."""

    def end(self) -> Sequence[T_co]:
        """Called once when the stream has ended cleanly; returns what was still held back."""

    @property
    def finished(self) -> bool:
        """True when no more results are wanted; the transport then stops reading."""

    @property
    def partial_text(self) -> str:
        """All text delivered so far."""


class ResultDecoder(Pieces[InferResult, T_co], Protocol[T_co]):
    """Takes the results of a stream of V2 answers."""


class _Stream(Generic[T]):
    """What all streams share: they end cleanly, and not before something came."""

    broken_hint = ""
    """What to say when the connection breaks; asked by the transports."""
    resend = True
    """Whether a request whose answer breaks off before its first piece is sent again; asked by the transports."""

    def __init__(self, inner: Pieces[Any, T], fail: Fail) -> None:
        self._inner = inner
        self._fail = fail
        self._begun = False

    @property
    def finished(self) -> bool:
        """See `Decoder.finished`."""
        return self._inner.finished

    @property
    def partial_text(self) -> str:
        """See `Decoder.partial_text`."""
        return self._inner.partial_text

    def close(self) -> Sequence[T]:
        """See `Decoder.close`.

        Raises:
            StreamInterrupted: If there was no result at all.
        """
        if not self._begun:
            msg = "The stream ended before the model answered."
            hint = "Something between here and the server ended the call, or the model gave no answer at all."
            raise self._interrupted(msg, self.broken_hint or hint)
        return () if self._inner.finished else self._inner.end()

    def _take(self, result: Any) -> Sequence[T]:
        self._begun = True
        return self._inner.take(result)

    def _interrupted(self, msg: str, hint: str) -> StreamInterrupted:
        error = StreamInterrupted(msg, hint=hint, partial_text=self.partial_text)
        error.retryable = self.resend
        return error

    def _failed(self, said: str) -> KServeError:
        return self._fail(said, partial_text=self.partial_text)


class EventStream(_Stream[T]):
    """Server-sent events, each a JSON object: Triton's `generate_stream` and MLServer's `infer_stream`.

    Args:
        inner: What takes the results.
        read: Turns an event's object into a result; it is MLServer's V2 answer or Triton's flat object.
        fail: Makes the error of an event that reports one.
        log: Whether the server breaks a stream off to say that the model failed, and tells in its log only why
            (MLServer). Such a request is not sent again: the model has run.
    """

    def __init__(
        self, inner: Pieces[Any, T], read: Callable[[dict[str, Any]], Any], fail: Fail, *, log: bool = False
    ) -> None:
        super().__init__(inner, fail)
        self._read = read
        self._sse = SSEDecoder()
        if log:
            self.broken_hint, self.resend = _SERVER_LOG, False

    def feed(self, data: bytes) -> Sequence[T]:
        """Takes the next bytes; see `Decoder.feed`."""
        out: list[T] = []
        for event in self._sse.feed(data):
            if self._inner.finished:
                break
            try:
                value = orjson.loads(event.data)
            except orjson.JSONDecodeError as error:
                value = _replaced(event.data)
                if value is None:
                    if not event.data.strip():
                        continue
                    raise self._unreadable(event.data, str(error)) from None
            out += self._event(value, event.data)
        return out

    def close(self) -> Sequence[T]:
        """Called at the clean end of the body; see `Decoder.close`."""
        out: list[T] = []
        for event in () if self._inner.finished else self._sse.close():
            # The last event may lack its empty line; if it is cut off in the middle, so is the stream.
            try:
                value = orjson.loads(event.data)
            except orjson.JSONDecodeError:
                raise self._cut() from None
            out += self._event(value, event.data)
        return [*out, *super().close()]

    def _event(self, value: Any, data: bytes) -> Sequence[T]:
        if type(value) is not dict:
            raise self._unreadable(data, "it is no JSON object")
        said = value.get("error")
        if said:
            raise self._failed(said if isinstance(said, str) else orjson.dumps(said).decode())
        return self._take(self._read(value))

    def _cut(self) -> StreamInterrupted:
        msg = "The stream broke off in the middle of a piece."
        hint = self.broken_hint or "Something between here and the server ended the answer. partial_text has its text."
        return self._interrupted(msg, hint)

    def _unreadable(self, data: bytes, problem: str) -> KServeError:
        error = unreadable(data, _WHAT, problem, status=200)
        error.server_message = ""  # it is the model's text
        error.partial_text = self.partial_text
        return error


class MessageStream(_Stream[T]):
    """gRPC messages: Triton's `ModelStreamInferResponse`, or MLServer's bare `ModelInferResponse`.

    Args:
        inner: What takes the results.
        read: Turns a `ModelInferResponse` into a result.
        fail: Makes the error of a message that reports one.
        wrapped: Whether messages are wrapped and may be errors (Triton).
        marked: Whether the server was asked to mark the end, so that a stream whose last message says that it is not
            the last one is incomplete.
    """

    def __init__(
        self,
        inner: Pieces[Any, T],
        read: Callable[[Any], InferResult],
        fail: Fail,
        *,
        wrapped: bool = True,
        marked: bool = True,
    ) -> None:
        super().__init__(inner, fail)
        self._read = read
        self._wrapped = wrapped
        self._marked = marked
        self._more = False

    def feed(self, message: Any) -> Sequence[T]:
        """Takes the next message; see `MessageDecoder.feed`."""
        if self._inner.finished:
            return ()
        if self._wrapped:
            if message.error_message:
                raise self._failed(message.error_message)
            message = message.infer_response
        result = self._read(message)
        self._more = self._marked and result.parameters.get(FINAL) is False
        if result.parameters.get(FINAL) is True and not result.outputs:
            self._begun = True  # the empty last answer that was asked for
            return ()
        return self._take(result)

    def close(self) -> Sequence[T]:
        """See `MessageDecoder.close`.

        Raises:
            StreamInterrupted: If the last message said that there are more, or there was no result at all.
        """
        if self._more and not self._inner.finished:
            msg = "The stream ended though the server had said that there is more to come."
            raise StreamInterrupted(
                msg,
                hint="Something between here and the server ended the call, or the server was stopped.",
                partial_text=self.partial_text,
                clean_end=True,
                rest=self._inner.end(),
            )
        return super().close()


def _replaced(data: bytes) -> Any:
    """Triton writes bytes that are no UTF-8 into JSON as they are: read with what is wrong replaced, or None."""
    try:
        data.decode()
    except UnicodeDecodeError:
        try:
            return orjson.loads(data.decode("utf-8", "replace"))
        except orjson.JSONDecodeError:
            return None
    return None
