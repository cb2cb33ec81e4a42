"""Writes an answer to a connection, with or without a fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from kserve_core.devserver.connection import Connection, chunk, date, head
from kserve_core.devserver.faults import Fault
from kserve_core.devserver.log import RequestRecord
from kserve_core.devserver.messages import BrokenOffError, Reply, StreamReply

_ENGINE_ERROR = {
    "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "type": "InternalServerError",
    "param": None,
    "code": 500,
}
_NO_FAULT = Fault()


async def deliver(reply: Reply | StreamReply, to: Connection, record: RequestRecord, fault: Fault | None) -> None:
    """Send `reply` as `fault` wants it."""
    fault = fault or _NO_FAULT
    if fault.delay:
        await asyncio.sleep(fault.delay)
    if fault.reset == "before-headers":
        to.reset()
        return
    if fault.content_type is not None:
        reply = replace(reply, content_type=fault.content_type)
    if isinstance(reply, Reply):
        await _whole(reply, to, record, fault)
    else:
        await _stream(reply, to, record, fault)
    if fault.drop:
        to.keep_alive = False


def _headers(reply: Reply | StreamReply, to: Connection, fault: Fault) -> dict[str, str]:
    headers = {"date": date(), "server": "uvicorn"}
    if isinstance(reply, Reply):
        headers["content-length"] = str(len(reply.body))
    if reply.content_type is not None:
        headers["content-type"] = reply.content_type
    headers.update(reply.headers)
    headers["vary"] = "Origin"
    headers.update(fault.headers)
    if isinstance(reply, StreamReply):
        headers["transfer-encoding"] = "chunked"
    if fault.close:
        to.keep_alive = False
    if not to.keep_alive:
        headers["connection"] = "close"
    return headers


def send(reply: Reply, to: Connection) -> None:
    """Send an answer as it is."""
    to.write(head(reply.status, _headers(reply, to, _NO_FAULT)) + reply.body)


async def _send_head(data: bytes, to: Connection, fault: Fault) -> None:
    if not fault.slow_headers:
        to.write(data)
        return
    for line in data.splitlines(keepends=True):
        to.write(line)
        await asyncio.sleep(fault.slow_headers)


async def _whole(reply: Reply, to: Connection, record: RequestRecord, fault: Fault) -> None:
    body = reply.body
    if fault.long_line:
        body = b'"' + b"x" * fault.long_line + b'"'
        reply = replace(reply, body=body)
    if fault.status is not None and not fault.replaces_answer:
        reply = replace(reply, status=fault.status)
    record.status = reply.status
    start = head(reply.status, _headers(reply, to, fault))
    if record.method == "HEAD":
        to.write(start)
        return
    plain = not (fault.slow_headers or fault.slow_body or fault.reset) and fault.cut_after is None
    if plain and fault.idle_after is None:
        to.write(start + body)
        return
    await _send_head(start, to, fault)
    if fault.reset == "after-headers":
        await asyncio.sleep(0.02)
        to.reset()
        return
    stop = len(body)
    for limit in (fault.cut_after, fault.idle_after):
        if limit is not None:
            stop = min(stop, limit)
    step = max(1, stop // 10) if fault.slow_body else max(1, stop)
    for at in range(0, stop, step):
        if fault.slow_body:
            await asyncio.sleep(fault.slow_body)
        to.write(body[at : min(at + step, stop)])
    if fault.idle_after is not None:
        await _idle(to, fault)
        to.write(body[stop:])
    elif fault.cut_after is not None:
        await _break(to, fault, streaming=False)


async def _stream(reply: StreamReply, to: Connection, record: RequestRecord, fault: Fault) -> None:
    record.status = reply.status
    await _send_head(head(reply.status, _headers(reply, to, fault)), to, fault)
    if fault.reset == "after-headers":
        await asyncio.sleep(0.02)
        to.reset()
        return
    pieces = reply.pieces
    if fault is not _NO_FAULT:
        pieces = _spoiled(reply, to, fault)
    try:
        async for piece in pieces:
            record.pieces += 1
            to.write(chunk(piece))
            await to.drain()
    except BrokenOffError:
        to.close()
        return
    if not to.lost:
        to.write(b"0\r\n\r\n")


async def _spoiled(reply: StreamReply, to: Connection, fault: Fault) -> AsyncIterator[bytes]:
    """The pieces, with what the fault adds or takes away."""
    sent = 0
    if fault.long_line:
        yield b"data: " + b"x" * fault.long_line + b"\n\n"
    async for piece in reply.pieces:
        if fault.cut_after == sent:
            if fault.cut == "mid-piece":
                to.write(chunk(piece)[: len(piece) // 2])
            await _break(to, fault, streaming=True)
            return
        if fault.error_after == sent and reply.failure is not None:
            yield reply.failure(fault.error)
            return
        if fault.error_after == sent:
            yield b"data: " + _spaced({"error": dict(fault.error or _ENGINE_ERROR)}) + b"\n\n"
            yield b"data: [DONE]\n\n"
            return
        if fault.malformed_after == sent:
            yield b'data: {"choices": [{"index": 0, "del\n\n'
        if fault.idle_after == sent:
            await _idle(to, fault, comment=reply.comment)
        if fault.slow_body:
            await asyncio.sleep(fault.slow_body)
        for _ in range(fault.keepalive):
            yield reply.comment()
        yield piece
        sent += 1


async def _idle(to: Connection, fault: Fault, *, comment: Callable[[], bytes] | None = None) -> None:
    left = fault.idle
    while left is None or left > 0:
        step = 0.05 if left is None else min(0.05, left)
        await asyncio.sleep(step)
        if comment is not None and fault.keepalive:
            to.write(chunk(comment()))
        if left is not None:
            left -= step


async def _break(to: Connection, fault: Fault, *, streaming: bool) -> None:
    if fault.cut == "clean":
        to.keep_alive = to.keep_alive and streaming
        return
    await asyncio.sleep(0.02)  # lets the client read what was sent: a reset discards unread data
    to.reset()


def _spaced(value: object) -> bytes:
    """JSON with a space after colons and commas, as the runtime's in-stream errors have it."""
    return json.dumps(value).encode()
