"""A thread-safe record of what clients sent and how each exchange ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import orjson

_MISSING = object()


@dataclass(eq=False)
class RequestRecord:
    """One request as the server saw it.

    Times are seconds of `time.monotonic()`.

    Attributes:
        index: Running number since the server started, unaffected by `RequestLog.clear`.
        method: Upper-case verb; `GRPC` for a gRPC call.
        path: Path as it was sent, without the query; a gRPC method's full name.
        query: Text after the question mark.
        headers: Request headers (gRPC: metadata with text values), names in lower case.
        body: Raw request body; of a gRPC call the request message's bytes.
        connection: Number of the TCP connection that carried it; equal numbers mean reuse.
        started: When the request was read completely.
        finished: When the last byte of the answer was handed to the socket, or None.
        cancelled: When the client went away before the answer was complete, or None.
        status: HTTP status, or number of the gRPC status; None when none was sent.
        pieces: Stream pieces handed to the socket.
    """

    index: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    connection: int
    started: float = field(repr=False)
    finished: float | None = field(default=None, repr=False)
    cancelled: float | None = field(default=None, repr=False)
    status: int | None = None
    pieces: int = 0
    _json: Any = field(default=_MISSING, repr=False, init=False)

    @property
    def json(self) -> Any:
        """The body as JSON, or None when it is not JSON."""
        if self._json is _MISSING:
            try:
                self._json = orjson.loads(self.body)
            except orjson.JSONDecodeError:
                self._json = None
        return self._json

    @property
    def is_open(self) -> bool:
        """Whether the answer is still being written."""
        return self.finished is None and self.cancelled is None

    def to_json(self) -> dict[str, Any]:
        """A JSON form for the control route; the credentials are left out."""
        hidden = {"authorization", "cookie", "x-api-key"}
        return {
            "index": self.index,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": {k: ("(hidden)" if k in hidden else v) for k, v in self.headers.items()},
            "json": self.json,
            "connection": self.connection,
            "status": self.status,
            "pieces": self.pieces,
            "finished": self.finished is not None,
            "cancelled": self.cancelled is not None,
            "seconds": round((self.finished or self.cancelled or time.monotonic()) - self.started, 6),
        }


class RequestLog(Sequence[RequestRecord]):
    """The requests so far, oldest first; safe to read while the server runs.

    Attributes:
        finished: How many were answered to the end since the server started, those that were cleared included.
        cancelled: The same for those whose client went away.
    """

    def __init__(self) -> None:
        self._records: list[RequestRecord] = []
        self._count = 0
        self.finished = 0
        self.cancelled = 0
        self._changed = threading.Condition()

    def open(
        self, *, connection: int, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> RequestRecord:
        """Add a request that was just read."""
        with self._changed:
            record = RequestRecord(
                index=self._count,
                method=method,
                path=path,
                query=query,
                headers=headers,
                body=body,
                connection=connection,
                started=time.monotonic(),
            )
            self._count += 1
            self._records.append(record)
            self._changed.notify_all()
        return record

    def close(self, record: RequestRecord, *, cancelled: bool) -> None:
        """Note how an exchange ended; only the first end counts."""
        with self._changed:
            if not record.is_open:
                return
            if cancelled:
                record.cancelled = time.monotonic()
                self.cancelled += 1
            else:
                record.finished = time.monotonic()
                self.finished += 1
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget everything recorded so far."""
        with self._changed:
            self._records.clear()

    @property
    def opened(self) -> int:
        """How many came since the server started, those that were cleared included."""
        return self._count

    @property
    def last(self) -> RequestRecord:
        """The newest request.

        Raises:
            IndexError: Nothing was recorded.
        """
        return self[-1]

    def to(self, path: str) -> list[RequestRecord]:
        """The requests whose path ends with `path`."""
        return [record for record in self if record.path.endswith(path)]

    def wait(self, count: int = 1, *, closed: bool = False, timeout: float = 5.0) -> list[RequestRecord]:
        """Wait until `count` requests were recorded.

        Args:
            count: How many are needed.
            closed: Whether they must also have ended (finished or cancelled).
            timeout: Seconds to wait.

        Raises:
            TimeoutError: They did not arrive in time.
        """

        def ready() -> bool:
            seen = [record for record in self._records if not (closed and record.is_open)]
            return len(seen) >= count

        with self._changed:
            if not self._changed.wait_for(ready, timeout):
                msg = f"{len(self._records)} requests recorded after {timeout:g} s, {count} wanted"
                raise TimeoutError(msg)
            return list(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RequestRecord]: ...
    def __getitem__(self, index: int | slice) -> RequestRecord | list[RequestRecord]:
        with self._changed:
            return self._records[index]

    def __iter__(self) -> Iterator[RequestRecord]:
        with self._changed:
            return iter(list(self._records))

    def __repr__(self) -> str:
        return f"RequestLog({len(self)} requests)"
