"""REST: routes, the check of the token, and the shapes of errors."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.router import Route, Router
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.caikit import generation
from kserve_core.devserver.wires.caikit.errors import CaikitError, InvalidError
from kserve_core.devserver.wires.caikit.models import GENERATION, has
from kserve_core.devserver.wires.caikit.schema import SHAPES, read
from kserve_core.devserver.wires.caikit.tasks import GENERATE, STREAM, Tasks

PREFIX = "/api/v1/task/"
VERSION = {
    "runtime_version": "devserver",
    "python_packages": {"caikit": "0.28.3", "caikit_nlp": "0.5.15", "caikit_tgis_backend": "0.1.39"},
}

_PING_EVERY = 15.0
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class CaikitWire:
    """Everything a server of this kind answers over REST."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks(settings)

    def forget(self) -> None:
        """Nothing is remembered."""

    def routes(self) -> list[Route]:
        """The routes that exist."""
        routes = [
            Route("GET", "/health", self._health),
            Route("GET", "/info/version", self._version),
            Route("GET", "/info/models", self._models),
        ]
        return routes + [Route("POST", PREFIX + name, partial(self._task, name)) for name in SHAPES]

    async def answer(self, request: Request, router: Router) -> Reply | StreamReply:
        """Check the token, then route; errors get the runtime's shapes.

        The runtime has no tokens of its own: what asks for them is the proxy in front of it, on every path.
        """
        if not self._allowed(request):
            return Reply(401, b"Unauthorized\n", "text/plain; charset=utf-8")
        try:
            return await router(request)
        except (CaikitError, InvalidError) as error:
            return error.reply()

    def failed(self, fault: Fault, reply: Reply) -> Reply:
        """A scripted failure in the runtime's own shape, unless its body was scripted as well."""
        if fault.body is None and not fault.redirect and not fault.gzip_bomb and reply.status >= 400:
            return CaikitError(reply.status, f"Scripted fault {reply.status}.").reply()
        return reply

    def _allowed(self, request: Request) -> bool:
        keys = self._settings.api_keys
        if not keys:
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.encode("utf-8", "replace")
        return scheme.lower() == "bearer" and any(hmac.compare_digest(given, key.encode()) for key in keys)

    async def _health(self, request: Request) -> Reply:  # noqa: ARG002
        return Reply(200, b"OK", "text/plain; charset=utf-8")

    async def _version(self, request: Request) -> Reply:  # noqa: ARG002
        return json_reply(VERSION)

    async def _models(self, request: Request) -> Reply:
        return json_reply({"models": self._tasks.models.info(parse_qs(request.query).get("model_ids", []))})

    async def _task(self, name: str, request: Request) -> Reply | StreamReply:
        kind = request.headers.get("content-type")
        if kind is not None and kind != "application/json":
            return json_reply({"detail": f"Unsupported media type: {kind}."}, status=415)
        task = read(request, name)
        if name == STREAM:
            return self._stream(task.model, task.inputs, task.parameters)
        model = self._tasks.models.find(task.model)
        self._tasks.require(name, task.inputs)
        if name == "tokenization" and not has(model, GENERATION):
            said = "Object of type <class 'torch.Tensor'> is not JSON serializable"
            raise CaikitError(500, f"Unhandled exception: {said}")
        answer = self._tasks.run(name, task.model, task.inputs, task.parameters)
        if name == GENERATE and self._settings.pace:
            await asyncio.sleep(self._settings.pace * answer.get("generated_tokens", 0))
        return Reply(200, json.dumps(answer).encode())

    def _stream(self, model: str | None, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> StreamReply:
        """From here on errors are events: the status was sent."""
        try:
            pieces = self._pieces(self._tasks.stream(model, inputs, parameters, grpc=False))
        except CaikitError as error:
            said = f'ValueError("{error.details}")' if error.details.startswith("value check") else error.details
            pieces = _only(_event("error", CaikitError(error.status, said).body()))
        return StreamReply(pieces, headers=dict(_HEADERS), failure=_failure, comment=_ping)

    async def _pieces(self, job: generation.Job) -> AsyncIterator[bytes]:
        for at, piece in enumerate(job.pieces()):
            left = self._settings.pace if at else 0.0
            while left > 0:
                await asyncio.sleep(min(left, _PING_EVERY))
                left -= _PING_EVERY
                if left > 0:
                    yield _ping()
            yield _event("message", piece)


async def _only(event: bytes) -> AsyncIterator[bytes]:
    yield event


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {name}\r\ndata: {json.dumps(value)}\r\n\r\n".encode()


def _failure(scripted: Mapping[str, Any] | None) -> bytes:
    """The event of a failure in the middle."""
    body = CaikitError(500, "injected failure mid-stream").body()
    return _event("error", {**body, **(scripted or {})})


def _ping() -> bytes:
    return f": ping - {datetime.now(timezone.utc)}\r\n\r\n".encode()
