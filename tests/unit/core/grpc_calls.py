"""Runs calls over the gRPC transport, blocking or async."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from kserve_core.endpoint import Endpoint
from kserve_core.grpc_transport import GrpcTransport
from tests.unit.core.grpc_scripted import (
    GrpcServer,
    piece,
    tokens,
)

TOKEN = "sha256~canary-token-that-must-not-leak"
CORE = Path(__file__).parents[3] / "core"


def transport(server: GrpcServer, **options: Any) -> GrpcTransport:
    return GrpcTransport(Endpoint.create(server.url, **options))


def run(mode: str, transport: GrpcTransport, call: Any) -> Any:
    if mode == "sync":
        return transport.run(call)
    return asyncio.run(transport.arun(call))


def collect(mode: str, transport: GrpcTransport, call: Any) -> list[Any]:
    if mode == "sync":
        return list(transport.stream(call))

    async def pieces() -> list[Any]:
        async with aclosing(transport.astream(call)) as stream:
            return [piece async for piece in stream]

    return asyncio.run(pieces())


def count(_: bytes, __: Any, number: int) -> bytes:
    return tokens(number)


def words(*texts: str | float) -> Any:
    """A stream of texts; a number is a pause in seconds."""

    def answer(_: bytes, __: Any, ___: int) -> Any:
        for text in texts:
            if isinstance(text, float):
                time.sleep(text)
            else:
                yield piece(text)

    return answer
