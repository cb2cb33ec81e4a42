"""What servers answered, kept as bytes, spoilt and played to the classes again without a network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from kserve_core import grpc_transport, http_pool, http_sockets
from kserve_core.http1 import ResponseParser


@dataclass
class Recording:
    """The answers to one use of a class, in the order they came.

    Attributes:
        http: Status line with headers, and body, of each answer.
        grpc: The messages of each call.
    """

    http: list[tuple[bytes, bytes]] = field(default_factory=list)
    grpc: list[list[bytes]] = field(default_factory=list)


@contextmanager
def recording() -> Iterator[Recording]:
    """Keeps what the blocking transports are answered meanwhile."""
    kept = Recording()
    send, connect = http_pool.SyncPool.send, grpc_transport.SyncChannel.method
    read = http_sockets.SyncStream.read

    def sending(pool: Any, request: Any) -> Any:
        kept.http.append((b"", b""))
        return send(pool, request)

    def reading(stream: Any, deadline: Any) -> bytes:
        data = read(stream, deadline)
        if kept.http:
            head, body = kept.http[-1]
            joined = head + body + data
            head, found, body = joined.partition(b"\r\n\r\n")
            kept.http[-1] = (head + found, body) if found else (joined, b"")
        return data

    def connecting(channel: Any, name: str, *, streamed: bool) -> Any:
        method = connect(channel, name, streamed=streamed)
        messages: list[bytes] = []
        kept.grpc.append(messages)

        def call(payload: bytes, **options: Any) -> Any:
            answer = method(payload, **options)
            if not streamed:
                messages.append(answer)
            return answer

        return call

    stream_read = grpc_transport.SyncStream.read

    def streaming(stream: Any) -> bytes | None:
        data = stream_read(stream)
        if data is not None:
            kept.grpc[-1].append(data)
        return data

    with (
        mock.patch.object(http_pool.SyncPool, "send", sending),
        mock.patch.object(http_sockets.SyncStream, "read", reading),
        mock.patch.object(grpc_transport.SyncChannel, "method", connecting),
        mock.patch.object(grpc_transport.SyncStream, "read", streaming),
    ):
        yield kept
    kept.http = [(head, _unchunked(head, body)) for head, body in kept.http]


@contextmanager
def replaying(recorded: Recording) -> Iterator[None]:
    """Plays it, each answer in its turn and the last one for all further requests."""
    http, grpc = iter(recorded.http), iter(recorded.grpc)
    last_http, last_grpc = recorded.http[-1:], recorded.grpc[-1:]

    def send(_: Any, request: Any) -> _Answer:
        return _Answer(*next(http, *last_http))

    def method(_: Any, __: str, *, streamed: bool) -> Callable[..., Any]:
        messages = next(grpc, *last_grpc)
        return lambda *_, **__: list(messages) if streamed else (messages[0] if messages else b"")

    with (
        mock.patch.object(http_pool.SyncPool, "send", send),
        mock.patch.object(grpc_transport.SyncChannel, "method", method),
        mock.patch.object(grpc_transport, "SyncStream", _Messages),
    ):
        yield


class _Answer:
    """An answer from bytes, in place of `SyncAnswer`."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self._parser = ResponseParser()
        kept = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(_FRAMING)]
        first = self._parser.feed(b"\r\n".join([*kept, b"connection: close", b"", b""]))
        self._parts = [first, *(body[at : at + 700] for at in range(0, len(body), 700))]

    @property
    def status(self) -> int:
        return self._parser.status

    @property
    def headers(self) -> dict[str, str]:
        return self._parser.headers

    def read(self) -> bytes | None:
        while self._parts:
            if part := self._parts.pop(0):
                return part
        return None

    def drain(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass


class _Messages:
    """A stream from messages, in place of `SyncStream`."""

    def __init__(self, messages: list[bytes], *_: Any) -> None:
        self._messages = messages

    def read(self) -> bytes | None:
        return self._messages.pop(0) if self._messages else None

    def hurry(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass


_FRAMING = (b"transfer-encoding", b"content-length", b"connection")


def _unchunked(head: bytes, body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    parser = ResponseParser()
    return parser.feed(head + body)


# Spoiling

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1e308, -1e-300, 0.5),
    *("", "x", "\x00", "\ud800", "NaN", "error", "é" * 50, "9" * 400, "[DONE]"),
    *([], {}, [[]], [{}], {"": None}, [None] * 3, {"error": "x"}, {"error": {"message": 5}}, [1, "2", [3.5]]),
    {"lc": 1, "type": "secret", "id": ["KSERVE_API_KEY"]},
)


def spoilt(body: bytes, rng: random.Random) -> bytes:
    """A body with a few things wrong with it."""
    if rng.random() < 0.7:
        events = body.split(b"\n\n")
        if b"data:" in body:
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(events))
                events[at] = _spoilt_event(events[at], rng)
            return b"\n\n".join(events)
        with suppress(ValueError):
            return _dumped(_spoilt_value(json.loads(body), rng))
    return spoilt_bytes(body, rng)


def spoilt_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with some cut off, flipped, put in or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del out[at:]
        elif kind == 1 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            out[at:at] = out[max(0, at - 40) : at] * rng.randint(1, 3)
        else:
            del out[at : at + rng.randint(1, 30)]
    return bytes(out)


def _spoilt_event(event: bytes, rng: random.Random) -> bytes:
    start, found, data = event.partition(b"data: ")
    if not found or rng.random() < 0.2:
        return rng.choice(
            (b"", event + event, b"data: [DONE]", b": comment", b"event: x\nid: 1", b"data: []", b"data: {}")
        )
    with suppress(ValueError):
        return start + found + _dumped(_spoilt_value(json.loads(data), rng))
    return spoilt_bytes(event, rng)


def _spoilt_value(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    return value


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.2 and isinstance(value, list):
            value.insert(key, value[key])
        elif kind < 0.25 and isinstance(value, dict):
            value[rng.choice(("error", "object", "choices", "data", "usage"))] = deepcopy(rng.choice(JUNK))
        else:
            value[key] = _changed(value[key], rng)
        return value
    return deepcopy(rng.choice(JUNK))


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()
