"""Large answers over gRPC, read without copying their tensors.

protobuf copies raw contents twice: into the message, and out of it at every access. For a megabyte of vectors that is
most of what reading an answer costs, so here the raw contents stay where they arrived, and protobuf parses the rest.
"""

from __future__ import annotations

from typing import Any

from kserve_core.protos import messages

SMALL = 32 * 1024
"""Answers below this many bytes are parsed as they are; cutting them up would cost more."""

_MOST = 1024
"""More raw contents than any model has outputs: views of very many tiny ones would take many times their bytes."""

_RAW = 6 << 3 | 2  # the key of `raw_output_contents`: its number, and that it has a length


class RawAnswer:
    """A `ModelInferResponse` whose `raw_output_contents` are views of the bytes that came."""

    __slots__ = ("_message", "raw_output_contents")

    def __init__(self, message: Any, raw: list[memoryview]) -> None:
        self._message = message
        self.raw_output_contents = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    @classmethod
    def FromString(cls, data: bytes) -> Any:  # noqa: N802 - as message classes have it
        """Parses an answer.

        Raises:
            DecodeError: If it is no such message (protobuf's error).
        """
        response = messages.inference.ModelInferResponse
        cut = cut_raw(data) if len(data) >= SMALL else None
        if cut is None:
            return response.FromString(data)
        rest, raw = cut
        return cls(response.FromString(rest), raw)


def cut_raw(data: bytes) -> tuple[bytes, list[memoryview]] | None:
    """A serialized answer without its raw contents, and these; None if it is not plainly a message.

    Only fields at the top are looked at. What is malformed is left to protobuf, which says what is wrong.
    """
    view = memoryview(data)
    end = len(data)
    kept: list[memoryview] = []
    raw: list[memoryview] = []
    at = since = 0
    try:
        while at < end:
            start = at
            key, at = _varint(data, at)
            kind = key & 7
            if kind == 2:
                size, at = _varint(data, at)
                body, at = at, at + size
                if at > end:
                    return None
                if key == _RAW:
                    kept.append(view[since:start])
                    raw.append(view[body:at])
                    if len(raw) > _MOST:
                        return None
                    since = at
            elif kind == 0:
                _, at = _varint(data, at)
            elif kind in {1, 5}:
                at += 8 if kind == 1 else 4
            else:
                return None
    except (IndexError, OverflowError):
        return None
    kept.append(view[since:])
    return (b"".join(kept), raw) if at == end else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise OverflowError
