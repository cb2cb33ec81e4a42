"""Server-sent events out of bytes, however the bytes were cut.

The decoder is incremental and does no I/O. Servers that send one `data: {...}` line per event followed by an empty
line (vLLM, Triton) take a path of two `find`s and a slice per event.
"""

from __future__ import annotations

from typing import NamedTuple

from kserve_core.errors import BadResponseError

MAX_EVENT = 64 * 1024 * 1024
"""The most bytes one event may have."""

_BOM = b"\xef\xbb\xbf"
_LF = 10
_CR = 13
_new = tuple.__new__  # what a NamedTuple's own constructor does, without the call in between


class SSEEvent(NamedTuple):
    """One event.

    Attributes:
        event: Its type; `message` where the server named none.
        data: The data lines, joined by line feeds, undecoded.
        id: The last event id the server set so far, `""` for none.
    """

    event: str
    data: bytes
    id: str = ""


class SSEDecoder:
    """Cuts a byte stream into events; one per stream.

    Args:
        max_line: The most bytes one event (and so one line) may have.
    """

    __slots__ = (
        "_buffer",
        "_clean",
        "_data",
        "_event",
        "_held",
        "_id",
        "_max",
        "_parts",
        "_size",
        "_skip_lf",
        "_started",
    )

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        self._max = max_line
        self._buffer = b""
        self._parts: list[bytes] = []  # what follows the buffer, as long as there is no line end in it
        self._held = 0
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id = ""
        self._skip_lf = False
        self._started = False
        self._clean = True  # nothing of the next event was taken yet

    def feed(self, data: bytes) -> list[SSEEvent]:
        """Takes the next bytes and returns the events they complete.

        Raises:
            BadResponseError: If an event is larger than allowed.
        """
        events: list[SSEEvent] = []
        position = 0
        if self._started and self._clean and not self._buffer and not self._skip_lf:
            position = self._fast(data, 0, events)
            if position == len(data):
                return events
        if self._skip_lf and data:
            self._skip_lf = False
            if data[:1] == b"\n":
                data = data[1:]
        if self._buffer:
            if self._started and b"\n" not in data and b"\r" not in data:
                self._parts.append(data)
                self._held += len(data)
                if len(self._buffer) + self._held + self._size > self._max:
                    self._too_large()
                return []
            buffer = b"".join((self._buffer, *self._parts, data))
            if self._parts:
                self._parts = []
                self._held = 0
        else:
            buffer = data
        if not self._started:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            self._started = True
            if buffer.startswith(_BOM):
                buffer = buffer[3:]
        if position == 0 and self._clean:
            position = self._fast(buffer, 0, events)
        if position < len(buffer):
            position = self._lines(buffer, position, events)
        self._buffer = buffer[position:] if position else buffer
        if len(self._buffer) + self._size > self._max:
            self._too_large()
        return events

    def close(self) -> list[SSEEvent]:
        """Called when the stream has ended: returns the event whose closing empty line is missing, if there is one."""
        rest = b"".join((self._buffer, *self._parts))
        self._buffer = b""
        self._parts = []
        if rest:
            self._line(rest)
        event = self._dispatch()
        return [] if event is None else [event]

    def _fast(self, buffer: bytes, position: int, events: list[SSEEvent]) -> int:
        """Takes whole `data: ...` events ended by two line feeds; returns where it stopped."""
        if not buffer.startswith(b"data: ", position) or b"\r" in buffer:
            return position
        find, starts, append, last, stop = buffer.find, buffer.startswith, events.append, self._id, len(buffer) - 1
        while starts(b"data: ", position):
            end = find(b"\n", position)
            if end < 0 or end >= stop or buffer[end + 1] != _LF:
                break
            if end - position > self._max:
                self._too_large()
            append(_new(SSEEvent, ("message", buffer[position + 6 : end], last)))
            position = end + 2
        return position

    def _lines(self, buffer: bytes, position: int, events: list[SSEEvent]) -> int:
        """Takes whole lines of any ending; returns where the incomplete rest begins."""
        length = len(buffer)
        while position < length:
            end = _line_end(buffer, position)
            if end < 0:
                break
            line = buffer[position:end]
            position = end + 1
            if buffer[end] == _CR:
                if position == length:
                    self._skip_lf = True
                elif buffer[position] == _LF:
                    position += 1
            if line:
                self._line(line)
            else:
                event = self._dispatch()
                if event is not None:
                    events.append(event)
                position = self._fast(buffer, position, events)
        return position

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._clean = False
            self._size += len(value) + 1
            if self._size > self._max:
                self._too_large()
            self._data.append(value)
        elif name == b"event":
            self._clean = False
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _dispatch(self) -> SSEEvent | None:
        event = None
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            event = SSEEvent(self._event or "message", data, self._id)
            self._data = []
        self._event = ""
        self._size = 0
        self._clean = True
        return event

    def _too_large(self) -> None:
        self._buffer = b""
        msg = f"The server sent an event of more than {self._max} bytes."
        raise BadResponseError(msg, hint="No runtime sends such; something else answers at this URL.")


def _line_end(buffer: bytes, position: int) -> int:
    feed = buffer.find(b"\n", position)
    carriage = buffer.find(b"\r", position, feed if feed >= 0 else len(buffer))
    return carriage if carriage >= 0 else feed
