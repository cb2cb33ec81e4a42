"""REST: which path means what, the check of the token, and the shapes of errors."""

from __future__ import annotations

import asyncio
import hmac
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property
from urllib.parse import unquote

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.grpc_host import GrpcMethod
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.router import Route, Router
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.v2 import bodies, info, text
from kserve_core.devserver.wires.v2.errors import UnprocessableError, V2Error
from kserve_core.devserver.wires.v2.repository import Repository
from kserve_core.devserver.wires.v2.request import Asked, Served
from kserve_core.devserver.wires.v2.ways import WAYS

_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>[a-z_]+))?/?")
_RESTRICTED = re.compile(r"/v2(?!/health)(?:/|$)")
_OCTETS = "application/octet-stream"


class V2Wire:
    """Everything a server of the Open Inference Protocol answers, but OpenVINO's `/v3`.

    Args:
        settings: The server; its `runtime` says which.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ways = WAYS[settings.runtime]
        self.repository = Repository(settings, self.ways)

    @cached_property
    def methods(self) -> list[GrpcMethod]:
        """What it answers over gRPC."""
        from kserve_core.devserver.wires.v2.service import Service

        return Service(self._settings, self.ways, self.repository).methods()

    def authorize(self, path: str, metadata: Mapping[str, str]) -> None:
        """Check the token of a gRPC call.

        Raises:
            GrpcStatus: It is missing or wrong.
        """
        from kserve_core.devserver.wires.v2.service import authorize

        authorize(path, metadata, self._settings, self.ways)

    def forget(self) -> None:
        """Load what was unloaded."""
        self.repository.reset()

    def routes(self) -> list[Route]:
        """None: the paths hold model names, and are taken apart here."""
        return []

    def failed(self, fault: Fault, reply: Reply) -> Reply:
        """A scripted failure in the server's own shape, unless its body was scripted as well."""
        if fault.body is None and not fault.redirect and not fault.gzip_bomb and reply.status >= 400:
            return json_reply({"error": f"Scripted fault {reply.status}."}, status=reply.status)
        return reply

    async def answer(self, request: Request, router: Router) -> Reply | StreamReply:
        """Check the token, then answer; errors get the server's shapes."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            return await self._answer(request, router)
        except V2Error as error:
            return self._error(error)
        except UnprocessableError as error:
            return json_reply({"detail": error.problems}, status=422)

    # -- who may

    def _refused(self, request: Request) -> Reply | None:
        """The answer to a request without the token.

        Triton guards its own routes; in front of the others stands a proxy, which guards every path. OpenVINO's
        server guards `/v3` only, which is not answered here.
        """
        settings, ways = self._settings, self.ways
        proxied = settings.protect_all or ways.fastapi
        if not settings.api_keys or not (proxied or ways.key == "triton") or _allowed(request, settings):
            return None
        if proxied:
            return Reply(401, b"Unauthorized\n", "text/plain; charset=utf-8")
        if not _RESTRICTED.match(request.path):
            return None
        return Reply(403, b'{"error":"This API is restricted, expecting header \'authorization\'"}', "text/plain")

    # -- what there is

    async def _answer(self, request: Request, router: Router) -> Reply | StreamReply:
        path, ways = request.path, self.ways
        if path in {"/v2", "/v2/"}:
            if path == "/v2/" and ways.fastapi:
                where = f"{router.scheme}://{request.headers.get('host', '')}{request.raw_path.rstrip('/')}"
                return Reply(307, b"", None, {"location": where})
            return self._get(request, info.server(self._settings, ways)) if path == "/v2" else self._unknown()
        if path in {"/v2/health/live", "/v2/health/ready"}:
            return self._get(request, self._health(path.rsplit("/", 1)[1]))
        if path == "/v2/models" and ways.model_list:
            return self._get(request, json_reply({"models": [m.name for m in self._ready()]}))
        if path.startswith("/v2/repository/models/" if ways.key == "kserve" else "/v2/repository/") and (
            ways.repository or ways.key == "kserve"
        ):
            return self._stored(request)
        found = _MODEL.fullmatch(path)
        if found is None or (path.endswith("/") and ways.key != "openvino"):
            return self._unknown()
        name = unquote(found["model"]) if ways.fastapi else found["model"]
        return await self._model(request, name, found["version"], found["verb"])

    async def _model(self, request: Request, name: str, version: str | None, verb: str | None) -> Reply | StreamReply:
        ways = self.ways
        if version is not None and ways.versions == "numbers" and not version.isdigit():
            return self._unknown()
        if version is not None and ways.versions == "none":
            raise V2Error(ways.unknown_version, "UNIMPLEMENTED")
        if verb is None:
            find = self.repository.find if ways.key == "mlserver" else self.repository.loaded
            return self._get(request, self._told(lambda: info.model(find(name, version), version, ways)))
        if verb == "ready":
            return self._get(request, self._model_ready(name, version))
        if verb in {"config", "stats"} and ways.config:
            tell = info.config if verb == "config" else info.stats
            return self._get(request, self._told(lambda: tell(self.repository.loaded(name, version))))
        streams = {"generate_stream"} if ways.flat_generate else {"generate_stream", "infer_stream"}
        texts = ways.flat_generate or ways.infer_stream
        if verb != "infer" and not (texts and (verb == "generate" or verb in streams)):
            return self._unknown()
        if request.method != "POST":
            return self._not_allowed("POST")
        if ways.flat_generate and verb != "infer":
            try:
                model = self.repository.loaded(name, version)
            except V2Error as error:
                return json_reply({"error": error.message}, status=self.ways.statuses[error.code])
            stream = verb == "generate_stream"
            return await text.generate(request, self._settings, self.repository, model, version, stream=stream)
        asked = bodies.read(request, ways, name, version)
        if verb in streams:
            return text.infer_stream(asked, self._settings, self.repository)
        return await self._infer(request, asked)

    async def _infer(self, request: Request, asked: Asked) -> Reply | StreamReply:
        """One request, one answer."""
        model = self.repository.loaded(asked.model, asked.version)
        if model.decoupled:
            msg = "HTTP end point doesn't support models with decoupled transaction policy"
            raise V2Error(msg, "UNIMPLEMENTED")
        (answered,) = self.repository.answers(asked)
        if self._settings.pace:
            await asyncio.sleep(self._settings.pace * answered.tokens)
        body, length = bodies.write(asked, answered, self.ways)
        if length is None:
            return _packed(Reply(200, body), request)
        headers = {bodies.LENGTH: str(length)}
        if self.ways.key == "kserve":
            return StreamReply(_only(body), content_type=None, headers=headers)
        return _packed(Reply(200, body, _OCTETS, headers), request)

    def _ready(self) -> list[Served]:
        return [model for model in self.repository.models.values() if model.ready]

    def _health(self, what: str) -> Reply:
        ways, models = self.ways, self.repository.models.values()
        fine = what == "live" or ways.key == "triton" or all(model.ready for model in models)
        if ways.key == "kserve":
            return json_reply({what: True})
        kind = "text/plain" if ways.key == "triton" else None
        return Reply(200 if fine or ways.key == "openvino" else 400, b"", kind)

    def _model_ready(self, name: str, version: str | None) -> Reply:
        ways = self.ways
        if ways.key == "triton":
            try:
                self.repository.loaded(name, version)
            except V2Error:
                return Reply(400, b'{"error":"Model version not ready"}', "text/plain")
            return Reply(200, b"", "text/plain")
        if name in self.repository.graphs:
            return Reply(200, b"", None)
        model = self.repository.find(name, version)
        if ways.key == "kserve":
            return json_reply({"name": name, "ready": True})
        if ways.key == "openvino" and not model.ready:
            raise V2Error(ways.not_ready[0], "NOT_FOUND")
        return Reply(200 if model.ready else 400, b"", None)

    def _stored(self, request: Request) -> Reply:
        """The repository's routes."""
        parts = request.path.split("/")[3:]
        if parts == ["index"]:
            return self._post(request) or json_reply(info.index(self.repository, self.ways, request.body))
        if len(parts) == 3 and parts[0] == "models" and parts[2] in {"load", "unload"}:
            refused = self._post(request)
            if refused is None:
                act = self.repository.load if parts[2] == "load" else self.repository.unload
                act(unquote(parts[1]) if self.ways.fastapi else parts[1])
            if self.ways.key == "kserve":
                return refused or json_reply({"name": parts[1], "unload": True})
            return refused or Reply(200, b"", "application/json" if self.ways.key == "triton" else None)
        return self._unknown()

    # -- shapes

    def _told(self, tell: Callable[[], Reply]) -> Reply:
        """What is told about a model; here Triton declares its errors as JSON, unlike those of requests."""
        try:
            return tell()
        except V2Error as error:
            return json_reply({"error": error.message}, status=self.ways.statuses[error.code])

    def _get(self, request: Request, reply: Reply) -> Reply:
        return reply if request.method in {"GET", "HEAD"} else self._not_allowed("GET")

    def _post(self, request: Request) -> Reply | None:
        return None if request.method == "POST" else self._not_allowed("POST")

    def _not_allowed(self, allow: str) -> Reply:
        if self.ways.fastapi:
            return json_reply({"detail": "Method Not Allowed"}, status=405, headers={"allow": allow})
        if self.ways.key == "openvino":
            return json_reply({"error": "Unsupported method"}, status=406)
        return Reply(405, b'{"error":"Method Not Allowed"}', "text/plain")

    def _unknown(self) -> Reply:
        if self.ways.fastapi:
            return json_reply({"detail": "Not Found"}, status=404)
        if self.ways.key == "openvino":
            return json_reply({"error": "Invalid request URL"}, status=404)
        return Reply(404, b'{"error":"Not Found"}', "text/plain")

    def _error(self, error: V2Error) -> Reply:
        status = error.status or self.ways.statuses.get(error.code, 500)
        if self.ways.key == "mlserver" and error.raised:
            traced = f'Traceback (most recent call last):\n  File "model.py", line 1, in predict\n{error.message}\n'
            return Reply(500, traced.encode(), "text/plain; charset=utf-8")
        said = error.message.replace(": ", " : ", 1) if error.raised and self.ways.key == "kserve" else error.message
        reply = json_reply({"error": said}, status=status)
        if self.ways.key == "triton" and (error.executed or error.code in {"NOT_FOUND", "UNIMPLEMENTED"}):
            reply.content_type = "text/plain"
        return reply


def _allowed(request: Request, settings: Settings) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = token.encode("utf-8", "replace")
    return scheme.lower() == "bearer" and any(hmac.compare_digest(given, key.encode()) for key in settings.api_keys)


def _packed(reply: Reply, request: Request) -> Reply:
    """The answer compressed, if the client takes that."""
    accepted = request.headers.get("accept-encoding", "").lower()
    for name, bits in (("gzip", 31), ("deflate", 15)):
        if name in accepted:
            packer = zlib.compressobj(6, zlib.DEFLATED, bits)
            reply.body = packer.compress(reply.body) + packer.flush()
            reply.headers["content-encoding"] = name
            return reply
    return reply


async def _only(body: bytes) -> AsyncIterator[bytes]:
    yield body
