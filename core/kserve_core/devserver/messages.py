"""What a handler receives and answers, independent of how bytes reach the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream; charset=utf-8"


class BrokenOffError(Exception):
    """Raised by the pieces of a stream: the connection is closed there, without a proper end of the body."""


@dataclass(slots=True)
class Request:
    """One parsed HTTP request.

    Attributes:
        method: Upper-case verb.
        path: Path without the query and without the server's base path.
        raw_path: Path as it was sent.
        query: Text after the question mark, or an empty string.
        headers: Names in lower case; of a repeated header the last value.
        body: The whole request body.
    """

    method: str
    path: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return orjson.loads(self.body)


@dataclass(slots=True)
class Reply:
    """A whole answer, sent in one write."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class StreamReply:
    """An answer whose pieces are sent one by one, each as one chunk and one write.

    Attributes:
        pieces: The pieces.
        content_type: The content type.
        headers: Further headers.
        status: The status.
        failure: What a scripted failure in the middle looks like on this wire, if not as in vLLM's; given the
            scripted error. It may raise `BrokenOffError`.
        comment: What a comment that keeps the connection alive looks like.
    """

    pieces: AsyncIterator[bytes]
    content_type: str | None = SSE_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    failure: Callable[[Mapping[str, Any] | None], bytes] | None = None
    comment: Callable[[], bytes] = lambda: b": keepalive\n\n"


def json_reply(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer in the compact form the real servers use."""
    return Reply(status=status, body=orjson.dumps(value), headers=dict(headers or {}))
