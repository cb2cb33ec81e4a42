"""Which path means what, the check of the key, and the shapes of errors."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.grpc_host import GrpcMethod
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.router import Route, Router
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.openvino.generative import Generative
from kserve_core.devserver.wires.v2.wire import V2Wire
from kserve_core.devserver.wires.vllm.errors import ApiError

_PREFIXES = ("/v3/v1/", "/v3/", "/v1/")
_KEY = "Unauthorized request due to invalid or missing api-key"

Handler = Callable[[Request], Awaitable["Reply | StreamReply"]]


class OpenVINOWire:
    """Everything one server of this kind answers.

    Args:
        settings: The server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._v2 = V2Wire(settings)
        generative = Generative(replace(settings, version="0.32.0"))
        self._generative = generative
        self._started = int(time.time())
        self._posts: dict[str, Handler] = {
            "chat/completions": generative.chat,
            "completions": generative.completions,
            "embeddings": generative.embeddings,
            "rerank": generative.rerank,
            "tokenize": generative.tokenize,
        }

    @property
    def methods(self) -> list[GrpcMethod]:
        """What it answers over gRPC."""
        return self._v2.methods

    def authorize(self, path: str, metadata: Mapping[str, str]) -> None:
        """Check the token of a gRPC call: only a proxy asks for one.

        Raises:
            GrpcStatus: It is missing or wrong.
        """
        self._v2.authorize(path, metadata)

    def forget(self) -> None:
        """Forget cached prompts, load what was unloaded."""
        self._generative.forget()
        self._v2.forget()

    def routes(self) -> list[Route]:
        """None: the paths are taken apart here."""
        return []

    def failed(self, fault: Fault, reply: Reply) -> Reply:
        """A scripted failure in the server's own shape, unless its body was scripted as well."""
        return self._v2.failed(fault, reply)

    async def answer(self, request: Request, router: Router) -> Reply | StreamReply:
        """Answer; the key guards the routes under `/v3` and `/v1` only."""
        prefix = next((prefix for prefix in _PREFIXES if request.path.startswith(prefix)), None)
        if self._settings.protect_all and not self._allowed(request):
            return Reply(401, b"Unauthorized\n", "text/plain; charset=utf-8")
        if prefix is None:
            return await self._v2.answer(request, router)
        if not self._allowed(request):
            return json_reply({"error": _KEY}, status=500)  # the status its sources have no HTTP number for
        try:
            return await self._answer(request, request.path[len(prefix) :], prefix)
        except ApiError as error:
            return json_reply({"error": error.message}, status=error.status)

    async def _answer(self, request: Request, name: str, prefix: str) -> Reply | StreamReply:
        if name in self._posts:
            if request.method != "POST":
                return json_reply({"error": "Unsupported method"}, status=406)
            return await self._posts[name](request)
        if prefix == "/v1/" and name in {"config", "config/reload"}:
            return json_reply(self._config())
        if request.method == "GET" and name == "models":
            return json_reply({"object": "list", "data": [self._entry(served) for served in self._settings.by_name]})
        if request.method == "GET" and name.removeprefix("models/") in self._settings.by_name:
            return json_reply(self._entry(name.removeprefix("models/")))
        if name.startswith("models/"):
            return json_reply({"error": "Model not found"}, status=404)
        return json_reply({"error": "Invalid request URL"}, status=404)

    def _config(self) -> dict[str, object]:
        """Every model's versions and their states."""
        made: dict[str, object] = {}
        models = self._v2.repository.models
        for name in self._settings.by_name:
            model = models.get(name)
            available = model is None or model.ready
            status = {"error_code": "OK" if available else "UNKNOWN", "error_message": "OK" if available else "UNKNOWN"}
            versions = model.versions if model is not None else ("1",)
            state = "AVAILABLE" if available else "LOADING"
            made[name] = {
                "model_version_status": [{"version": number, "state": state, "status": status} for number in versions]
            }
        return made

    def _entry(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "OVMS"}

    def _allowed(self, request: Request) -> bool:
        keys = self._settings.api_keys
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.encode("utf-8", "replace")
        return not keys or (scheme == "Bearer" and any(hmac.compare_digest(given, key.encode()) for key in keys))
