"""Where telemetry takes hold of calls: one switch, which is off until `kserve_core.telemetry` turns it on.

Nothing here imports OpenTelemetry. While it is off, a call costs a look at `active` and a streamed piece nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kserve_core.endpoint import check_headers
from kserve_core.errors import KServeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Named:
    """What an exchange is about, where there is no request object that says it.

    Attributes:
        operation: What is done, in one word (`inference`).
        model: The model it is asked of, as far as is known.
        inputs: How many inputs it has.
    """

    operation: str
    model: str | None = None
    inputs: int | None = None


class Watch(Protocol):
    """Is told of one operation's requests, from whichever thread sends them."""

    def failed(self, error: KServeError, attempt: int, wait: float, *, cold: bool = False) -> None:
        """A request failed and is sent again.

        Args:
            error: How it failed.
            attempt: Which request of its call it was, from 1.
            wait: Seconds until the next one.
            cold: Whether a model being started is waited for.
        """

    def sent(self, count: int) -> None:
        """A call is over, after so many requests."""

    def answered(self, request_id: str | None) -> None:
        """An answer came, with the id the server (or else the client) gave the request."""


class Operation(Protocol):
    """One operation under way: a span, and what is measured of it."""

    def __enter__(self) -> Operation: ...

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: Any) -> None: ...

    def result(self, value: T) -> T:
        """Notes what came of it, and returns that."""

    def pieces(self, pieces: Generator[T, None, None]) -> Generator[T, None, None]:
        """A stream as it is, noted; the operation begins with the first piece asked for and ends with the stream."""

    def apieces(self, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """As `pieces`, from an event loop."""

    def first_piece(self) -> None:
        """A piece of an answer that is handed out whole has come."""


class Telemetry(Protocol):
    """What is told of operations."""

    def operation(self, client: Any, about: Any, *, streamed: bool = False) -> Operation:
        """The operation of a client that a request is about."""

    def watch(self) -> Watch | None:
        """Who is to be told of the requests that are sent now; None outside of operations."""

    def headers(self) -> Mapping[str, str]:
        """What a request carries so that the server's spans become children of this one's."""

    def batched(self, call: Callable[[Any], T], count: int) -> Callable[[Any], T]:
        """The function that runs one of several parallel calls, noted."""

    def abatched(self, call: Callable[[Any], Any], count: int) -> Callable[[Any], Any]:
        """As `batched`, of a coroutine function."""


active: Telemetry | None = None
"""Who is told; None while telemetry is off."""

make_request_id: Callable[[], str] | None = None
"""Makes the `x-request-id` of calls that have none; None while that is off."""


def watch() -> Watch | None:
    """See `Telemetry.watch`."""
    return None if active is None else active.watch()


def add_headers(headers: dict[str, str]) -> None:
    """Adds what is sent for tracing to a call's headers (or metadata, by lower-case name); what is set stays.

    Raises:
        ConfigurationError: If a request id or a propagator's header cannot be sent.
    """
    if active is not None:
        for name, value in check_headers(active.headers()).items():
            headers.setdefault(name, value)
    if make_request_id is not None and "x-request-id" not in headers:
        headers.update(check_headers({"x-request-id": make_request_id()}))
