"""HTTP/1.1 as bytes: request heads out, one response in. No I/O.

The parser is strict where leniency has been abused (framing, header names, line folding) and bounded everywhere. It
hands on a body as it comes, the chunks that arrive together in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from kserve_core.errors import ConfigurationError

MAX_HEAD = 128 * 1024
"""The most bytes a response's head, or a chunked body's trailer, may have."""
MAX_CHUNK_LINE = 4096
"""The most bytes the line before a chunk may have."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?\Z")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_TARGET = re.compile(r"/[!-~]*\Z")


class ProtocolError(Exception):
    """The server sent something that is not HTTP/1.1, or broke off."""


class DisconnectedError(ProtocolError):
    """The server closed the connection before the response was complete."""


def request_head(method: str, path: str, host: str, headers: Mapping[str, str], size: int | None) -> bytes:
    """The bytes before a request's body.

    Args:
        method: The method.
        path: Path and query.
        host: The `Host` header's value, unless `headers` has one.
        headers: The other headers; their names are in lower case, and they have been checked for line breaks.
        size: The body's length, or None for no body.

    Raises:
        ConfigurationError: If method or path cannot stand in a request line.
    """
    if not (method.isascii() and method.isalpha()) or _TARGET.match(path) is None:
        msg = "The path of a request has a character that no URL may have."
        raise ConfigurationError(msg, hint="Quote special characters in names that become part of the path as %XX.")
    lines = [f"{method} {path} HTTP/1.1"]
    if "host" not in headers:
        lines.append(f"host: {host}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if size is not None:
        lines.append(f"content-length: {size}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")


class ResponseParser:
    """Reads one response.

    Attributes:
        status: Its status; 0 until the head is complete.
        headers: Its headers by lower-case name, repeated ones joined by commas.
        done: Whether it is complete.
        reusable: Whether the connection can carry another request after it.
    """

    __slots__ = ("_buffer", "_left", "_state", "done", "headers", "reusable", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.done = False
        self.reusable = False
        self._buffer = b""
        self._left = 0
        self._state = self._head

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; returns what of the body is in them.

        Raises:
            ProtocolError: If they are not what HTTP says.
        """
        if self.done:
            if data:
                self.reusable = False
            return b""
        return self._state(data)

    def eof(self) -> None:
        """The server closed the connection.

        Raises:
            DisconnectedError: If the response is not complete.
        """
        self.reusable = False
        if self._state == self._until_close:
            self.done = True
        if not self.done:
            msg = "the server closed the connection in the middle of an answer" if self.status else "no answer came"
            raise DisconnectedError(msg)

    def _head(self, data: bytes) -> bytes:
        buffer = self._buffer + data
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > MAX_HEAD:
                    _fail("the head of the answer is too long")
                if len(buffer) >= 5 and not buffer.startswith(b"HTTP/"):
                    _fail("the answer is not HTTP")
                self._buffer = buffer
                return b""
            lines = buffer[:end].split(b"\r\n")
            buffer = buffer[end + 4 :]
            match = _STATUS_LINE.match(lines[0])
            if match is None:
                _fail("the answer does not begin with an HTTP/1.1 status line")
            status = int(match[2])
            if status == 101:
                _fail("the server switched protocols")
            if status >= 200:
                break  # answers of 1xx are followed by the real one
        self._buffer = b""
        self.headers = _headers(lines[1:])
        self.status = status
        # After an exception that nothing caught, servers such as uvicorn say 500 and close the connection right behind.
        self.reusable = status != 500 and _kept(self.headers, version_1_1=match[1] == b"1")
        self._frame()
        return self.feed(buffer) if buffer or self.done else b""

    def _frame(self) -> None:
        """Finds out how the body ends."""
        headers = self.headers
        if self.status in {204, 304}:
            self.done = True
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].strip().lower() != "chunked":
                _fail("the body has an unknown transfer encoding")
            if "content-length" in headers:
                self.reusable = False
            self._state = self._chunk_line
        elif "content-length" in headers:
            lengths = {part.strip() for part in headers["content-length"].split(",")}
            length = lengths.pop()
            if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
                _fail("the length of the body is not a number")
            self._left = int(length)
            self._state = self._counted
            self.done = self._left == 0
        else:
            self.reusable = False
            self._state = self._until_close

    def _counted(self, data: bytes) -> bytes:
        if len(data) > self._left:
            self.reusable = False
            data = data[: self._left]
        self._left -= len(data)
        self.done = self._left == 0
        return data

    def _until_close(self, data: bytes) -> bytes:
        return data

    def _chunk_line(self, data: bytes) -> bytes:
        """Reads chunks from the line before one on."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        parts: list[bytes] = []
        position = 0
        length = len(data)
        while True:
            end = data.find(b"\r\n", position)
            if end < 0:
                if length - position > MAX_CHUNK_LINE:
                    _fail("the line before a chunk is too long")
                self._buffer = data[position:]
                self._state = self._chunk_line
                break
            match = _CHUNK_LINE.match(data, position, end)
            if match is None or end - position > MAX_CHUNK_LINE:
                _fail("the line before a chunk is not a length")
            size = int(match[1], 16)
            position = end + 2
            if size == 0:
                self._state = self._trailer
                self._trailer(data[position:])
                break
            stop = position + size
            if stop + 2 > length:
                parts.append(data[position:stop])
                # what is missing of the chunk, and of the line break after it
                self._left = max(stop - length, 0)
                self._buffer = data[stop:]
                self._state = self._chunk
                break
            if data[stop : stop + 2] != b"\r\n":
                _fail("a chunk does not end where it should")
            parts.append(data[position:stop])
            position = stop + 2
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _chunk(self, data: bytes) -> bytes:
        """Reads the rest of a chunk and what follows it."""
        if self._left >= len(data):
            self._left -= len(data)
            return data
        part = data[: self._left]
        rest = self._buffer + data[self._left :]
        self._left = 0
        if len(rest) < 2:
            if rest != b"\r":
                _fail("a chunk does not end where it should")
            self._buffer = rest
            return part
        if rest[:2] != b"\r\n":
            _fail("a chunk does not end where it should")
        self._buffer = b""
        following = self._chunk_line(rest[2:])
        return part + following if following else part

    def _trailer(self, data: bytes) -> bytes:
        """Reads, and drops, the lines after the last chunk."""
        buffer = self._buffer + data
        if buffer.startswith(b"\r\n"):
            rest = buffer[2:]
        else:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > MAX_HEAD:
                    _fail("the trailer of the answer is too long")
                self._buffer = buffer
                return b""
            rest = buffer[end + 4 :]
        self._buffer = b""
        self.done = True
        if rest:
            self.reusable = False
        return b""


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.match(name) is None or b"\n" in value or b"\r" in value or b"\0" in value:
            _fail("a header of the answer is not valid")
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _kept(headers: dict[str, str], *, version_1_1: bool) -> bool:
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    return "close" not in options and (version_1_1 or "keep-alive" in options)


def _fail(text: str) -> NoReturn:
    raise ProtocolError(text)
