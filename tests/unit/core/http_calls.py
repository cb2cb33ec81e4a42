"""Runs calls over the HTTP transport, blocking or async."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from kserve_core.endpoint import Endpoint
from kserve_core.http_transport import HttpTransport
from tests.unit.core.scripted import (
    ServerSide,
)

TOKEN = "sha256~canary-token-that-must-not-leak"
MODES = ["sync", "async"]


def transport(server: ServerSide, **options: Any) -> HttpTransport:
    return HttpTransport(Endpoint.create(server.url, **options))


def run(mode: str, transport: HttpTransport, call: Any) -> Any:
    if mode == "sync":
        return transport.run(call)
    return asyncio.run(transport.arun(call))


def collect(mode: str, transport: HttpTransport, call: Any) -> list[Any]:
    if mode == "sync":
        return list(transport.stream(call))

    async def pieces() -> list[Any]:
        async with aclosing(transport.astream(call)) as stream:
            return [piece async for piece in stream]

    return asyncio.run(pieces())
