"""What to send and how to read the answer, as values.

A runtime codec makes these, a transport runs them. Neither knows the other: a codec never opens a socket, a
transport never looks into a body.

An *exchange* is either a single call or a *flow*, a generator that yields calls, is sent each call's result (or
has its error thrown in) and returns the final value. So "ask which model is served, then send the request" or
"try the next path when this one is not there" is written once and runs blocking as well as async.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from kserve_core.deadline import Deadline
from kserve_core.errors import KServeError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Headers: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read to its end. Header names are lower case."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


ErrorReader: TypeAlias = Callable[[Response], "KServeError | None"]
"""Reads a runtime's own meaning out of an error answer; None leaves it to the general rules."""


class Decoder(Protocol[T_co]):
    """Turns the bytes of a streamed answer into pieces; made anew for every run."""

    def feed(self, data: bytes) -> Sequence[T_co]:
        """Takes the next bytes, however they were cut, and returns the pieces they complete.

        Raises:
            KServeError: If the server reported an error in the stream or sent something unreadable.
        """

    def close(self) -> Sequence[T_co]:
        """Called when the answer's body has ended cleanly; returns what was still held back.

        Raises:
            StreamInterrupted: If the runtime's own end marker was not seen.
        """

    @property
    def finished(self) -> bool:
        """True once the runtime's end marker was seen; the transport then stops reading."""

    @property
    def partial_text(self) -> str:
        """All text delivered so far, for an error raised in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One HTTP request with one answer.

    Attributes:
        method: `GET` or `POST`.
        path: Absolute path on the endpoint's origin, with its query if any (`/openai/v1/models`).
        read: Turns a 2xx answer into the result; raises `BadResponseError` if it cannot.
        body: The body's bytes; None for none.
        headers: Sent in addition to the endpoint's own.
        explain: Reads the runtime's error answers; see `ErrorReader`.
        retry: False for a call that must be sent once only.
        deadline: When to give up, where that is before the endpoint's time budget is over; for one of several calls
            that have to be done by then. None for the endpoint's budget alone.
        probe: A cheap call that tells whether the model can answer this one, True or False; while a model is being
            started it is sent instead. None leaves that to the runtime (`capabilities.ReadinessRuntime`).
    """

    method: str
    path: str
    read: Callable[[Response], T]
    body: bytes | None = field(default=None, repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    explain: ErrorReader | None = None
    retry: bool = True
    deadline: Deadline | None = None
    probe: Call[bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(Generic[T]):
    """One HTTP request answered in pieces; `decoder` is called once for every run of it.

    The fields of a `Call`, and `together`: whether the pieces are wanted together only, so that the time budget holds
    to the end of the answer and not up to its first piece.
    """

    method: str
    path: str
    decoder: Callable[[], Decoder[T]]
    body: bytes | None = field(default=None, repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    explain: ErrorReader | None = None
    retry: bool = True
    deadline: Deadline | None = None
    probe: Call[bool] | None = None
    together: bool = False


@dataclass(frozen=True, slots=True)
class GrpcFailure:
    """A gRPC status that is not OK.

    Attributes:
        code: Its name (`INVALID_ARGUMENT`).
        details: The text that came with it.
        metadata: Trailing metadata with text values, by lower-case key.
    """

    code: str
    details: str
    metadata: Headers = field(default_factory=dict, repr=False)


GrpcErrorReader: TypeAlias = Callable[[GrpcFailure], "KServeError | None"]
"""Reads a runtime's own meaning out of a gRPC status; None leaves it to the general rules."""


class MessageDecoder(Protocol[T_co]):
    """As `Decoder`, for a stream of messages: `feed` takes one message, `close` is called when the status is OK."""

    def feed(self, message: Any) -> Sequence[T_co]:
        """Takes the next message and returns the pieces it completes."""

    def close(self) -> Sequence[T_co]:
        """See `Decoder.close`."""

    @property
    def finished(self) -> bool:
        """See `Decoder.finished`."""

    @property
    def partial_text(self) -> str:
        """See `Decoder.partial_text`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCall(Generic[T]):
    """One gRPC request with one answer.

    Attributes:
        method: Full name (`/fmaas.GenerationService/Generate`).
        request: The message to send, of a class of `kserve_core.protos.messages`.
        response_type: The answer's message class.
        read: Turns the answer into the result; raises `BadResponseError` if it cannot.
        metadata: Sent in addition to the endpoint's headers; lower-case keys.
        explain: Reads the runtime's error statuses; see `GrpcErrorReader`.
        retry: False for a call that must be sent once only.
        deadline: As in `Call`.
        probe: As in `Call`.
        token_keys: Metadata keys that carry the token as well, besides `authorization`.
    """

    method: str
    request: Any = field(repr=False)
    response_type: Any
    read: Callable[[Any], T]
    metadata: Headers = field(default_factory=dict, repr=False)
    explain: GrpcErrorReader | None = None
    retry: bool = True
    deadline: Deadline | None = None
    token_keys: tuple[str, ...] = ()
    probe: GrpcCall[bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStreamCall(Generic[T]):
    """One gRPC request answered by a stream of messages; `decoder` is called once for every run of it.

    The fields of a `GrpcCall`, and `together` as in `StreamCall`.
    """

    method: str
    request: Any = field(repr=False)
    response_type: Any
    decoder: Callable[[], MessageDecoder[T]]
    metadata: Headers = field(default_factory=dict, repr=False)
    explain: GrpcErrorReader | None = None
    retry: bool = True
    deadline: Deadline | None = None
    token_keys: tuple[str, ...] = ()
    probe: GrpcCall[bool] | None = None
    together: bool = False


AnyCall: TypeAlias = "Call[T] | GrpcCall[T]"
AnyStreamCall: TypeAlias = "StreamCall[T] | GrpcStreamCall[T]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel(Generic[T]):
    """Several calls of a flow to run at once. The flow is sent a list: each call's result, or its error.

    Attributes:
        calls: The calls; results come back in this order. A streamed call's result is the list of its pieces.
        limit: How many may be in flight together.
        on_done: Called with a call's position when it has an answer (progress bars).
    """

    calls: Sequence[AnyCall[T] | AnyStreamCall[Any]]
    limit: int = 8
    on_done: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Given(Generic[T]):
    """What the flow of a stream returns where the pieces are there already: of a runtime that cannot stream."""

    pieces: Sequence[T]


Flow: TypeAlias = Generator["Call[Any] | GrpcCall[Any] | StreamCall[Any] | GrpcStreamCall[Any] | Parallel[Any]", Any, T]
"""A flow that yields a streamed call is sent the list of its pieces."""
Exchange: TypeAlias = "Call[T] | GrpcCall[T] | Flow[T]"
StreamExchange: TypeAlias = (
    "StreamCall[T] | GrpcStreamCall[T] | Flow[StreamCall[T]] | Flow[GrpcStreamCall[T]] | Flow[Given[T]]"
)
