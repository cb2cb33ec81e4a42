"""Scripted faults: what goes wrong, for which requests, how often."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

import orjson

from kserve_core.devserver.messages import Reply
from kserve_core.devserver.pages import PAGES

Reset = Literal["before-headers", "after-headers"]
Cut = Literal["abrupt", "clean", "mid-piece"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong. Fields combine: a delay and a cut, say.

    Attributes:
        status: Answer with this status; from 300 on with an error body, below with the real one.
        body: Replaces the body: the name of a page (see `devserver.pages`), other text, or a JSON value.
            A named page brings its own status and content type unless they are given.
        content_type: Replaces the content type, also of an otherwise real answer.
        headers: Added to the answer, for example `{"retry-after": "1"}`.
        delay: Seconds before the status line.
        slow_headers: Seconds between two header lines.
        slow_body: Seconds before every stream piece, or between tenths of a whole body.
        reset: Reset the connection before or after the headers.
        cut_after: Stop after this many stream pieces (or bytes of a whole body).
        cut: How to stop: `abrupt` (connection reset), `clean` (a proper end of the HTTP body, without the
            protocol's end marker) or `mid-piece` (half of the next piece, then a reset).
        error_after: After this many pieces send an error event and `[DONE]`.
        error: The error object of that event.
        malformed_after: After this many pieces send one that is not JSON, then go on.
        keepalive: Comment lines before every piece.
        idle_after: After this many pieces send nothing more (comments, if `keepalive` is set) for `idle` seconds.
        idle: Seconds of silence; None hangs until the client leaves.
        redirect: Answer with a redirect to this URL (status 307 unless `status` is given).
        gzip_bomb: Answer with this many zero bytes, compressed (about a thousandth on the wire).
        long_line: Put a line of this many bytes before the first piece, or in place of a whole body.
        close: Close the connection after the answer, announced by a header.
        drop: Close the connection after the answer, unannounced, as a server with a short keep-alive does.
        code: For gRPC, the name of the status to end with (`UNAVAILABLE`), at once or where `cut_after` or
            `error_after` say.
        details: The text of that status.
        method: Only requests with this verb; `GRPC` for gRPC.
        path: Only paths that match this pattern (`*` and `?`); a pattern without them matches the end of a path.
        skip: Matching requests to leave alone first.
        times: Requests to hit; None for all.
    """

    status: int | None = None
    body: str | dict[str, Any] | list[Any] | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    slow_headers: float = 0.0
    slow_body: float = 0.0
    reset: Reset | None = None
    cut_after: int | None = None
    cut: Cut = "abrupt"
    error_after: int | None = None
    error: Mapping[str, Any] | None = None
    malformed_after: int | None = None
    keepalive: int = 0
    idle_after: int | None = None
    idle: float | None = None
    redirect: str | None = None
    gzip_bomb: int = 0
    long_line: int = 0
    close: bool = False
    drop: bool = False
    code: str | None = None
    details: str = ""
    method: str | None = None
    path: str | None = None
    skip: int = 0
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.reset not in {None, "before-headers", "after-headers"}:
            msg = f"reset is 'before-headers' or 'after-headers', not {self.reset!r}"
            raise ValueError(msg)
        if self.cut not in {"abrupt", "clean", "mid-piece"}:
            msg = f"cut is 'abrupt', 'clean' or 'mid-piece', not {self.cut!r}"
            raise ValueError(msg)

    @classmethod
    def from_json(cls, value: Any) -> Fault:
        """A fault from its JSON form (the fields as keys).

        Raises:
            TypeError: Not an object.
            ValueError: An unknown key or value.
        """
        if not isinstance(value, dict):
            msg = "a fault is a JSON object"
            raise TypeError(msg)
        unknown = set(value) - {f.name for f in fields(cls)}
        if unknown:
            msg = f"unknown fault fields: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        return cls(**value)

    @classmethod
    def from_header(cls, text: str) -> Fault:
        """A fault from the `x-devserver-fault` header.

        Raises:
            TypeError: The header is not an object.
            ValueError: The header is not JSON or not a fault.
        """
        return cls.from_json(orjson.loads(text))

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from the defaults."""
        plain = asdict(Fault())
        return {key: value for key, value in asdict(self).items() if value != plain[key]}

    def matches(self, method: str, path: str) -> bool:
        """Whether the fault is meant for such a request (counts aside)."""
        if self.method is not None and self.method.upper() != method:
            return False
        if self.path is None:
            return True
        if "*" in self.path or "?" in self.path:
            return fnmatchcase(path, self.path)
        return path.endswith(self.path)

    @property
    def replaces_answer(self) -> bool:
        """Whether the real handler need not run at all."""
        failed = self.status is not None and self.status >= 300
        return bool(failed or self.body is not None or self.redirect or self.gzip_bomb)

    def replacement(self) -> Reply:
        """The whole answer to give instead of the real one."""
        if self.redirect is not None:
            reply = Reply(self.status or 307, b"", None, {"location": self.redirect})
        elif self.gzip_bomb:
            reply = Reply(self.status or 200, _bomb(self.gzip_bomb), headers={"content-encoding": "gzip"})
        elif isinstance(self.body, str):
            page = PAGES.get(self.body)
            if page is not None:
                reply = Reply(self.status or page.status, page.text.encode(), page.content_type)
            else:
                reply = Reply(self.status or 500, self.body.encode(), "text/plain; charset=utf-8")
        elif self.body is not None:
            reply = Reply(self.status or 500, orjson.dumps(self.body))
        else:
            status = self.status or 500
            text = {
                "error": {
                    "message": f"Scripted fault {status}.",
                    "type": "DevServerFault",
                    "param": None,
                    "code": status,
                }
            }
            reply = Reply(status, orjson.dumps(text))
        if self.content_type is not None:
            reply.content_type = self.content_type
        return reply


class FaultPlan:
    """The faults still to come; the oldest one that matches a request hits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []

    def add(self, fault: Fault) -> Fault:
        """Queue a fault."""
        with self._lock:
            self._entries.append(_Entry(fault, fault.skip, fault.times))
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for a request that just arrived, counted as used."""
        with self._lock:
            for entry in self._entries:
                if not entry.fault.matches(method, path):
                    continue
                if entry.skip > 0:
                    entry.skip -= 1
                    continue
                if entry.left is not None:
                    entry.left -= 1
                    if entry.left <= 0:
                        self._entries.remove(entry)
                return entry.fault
        return None

    def clear(self) -> None:
        """Forget all faults still to come."""
        with self._lock:
            self._entries.clear()

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter([entry.fault for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True, eq=False)
class _Entry:
    fault: Fault
    skip: int
    left: int | None


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"\0" * min(size, 1 << 20)
    parts = []
    while size > 0:
        parts.append(packer.compress(block[:size]))
        size -= len(block)
    parts.append(packer.flush())
    return b"".join(parts)
