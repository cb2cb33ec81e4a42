"""Routes, authentication and headers of this wire."""

from __future__ import annotations

import hmac
import secrets

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.router import Handler, Route, Router
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.vllm.chat import Chat
from kserve_core.devserver.wires.vllm.completions import Completions
from kserve_core.devserver.wires.vllm.context import Context
from kserve_core.devserver.wires.vllm.embeddings import Embeddings
from kserve_core.devserver.wires.vllm.errors import ApiError
from kserve_core.devserver.wires.vllm.info import Info
from kserve_core.devserver.wires.vllm.ranking import Ranking

_PROTECTED = ("/v1", "/v2", "/inference", "/cohere")


class VLLMWire:
    """Everything one server of this kind answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = Context(settings)

    def failed(self, fault: Fault, reply: Reply) -> Reply:  # noqa: ARG002
        """A scripted failure; faults have this runtime's shape already."""
        return reply

    def forget(self) -> None:
        """Forget cached prompts."""
        self._context.cache.clear()

    def routes(self) -> list[Route]:
        """The routes a server with these tasks registers."""
        context, tasks = self._context, self._settings.tasks
        info, ranking = Info(context), Ranking(context)
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/version", info.version),
            ("GET", "/health", info.health),
            ("GET", "/ping", info.health),
            ("POST", "/ping", info.health),
            ("GET", "/load", info.load),
            ("GET", "/metrics", info.metrics),
            ("GET", "/v1/models", info.models),
            ("POST", "/tokenize", info.tokenize),
            ("POST", "/detokenize", info.detokenize),
        ]
        if "generate" in tasks:
            table += [
                ("POST", "/v1/chat/completions", Chat(context)),
                ("POST", "/v1/completions", Completions(context)),
            ]
        if "embed" in tasks:
            embeddings = Embeddings(context)
            table += [("POST", "/v1/embeddings", embeddings), ("POST", "/pooling", embeddings.pooling)]
        if tasks & {"embed", "score"}:
            table += [("POST", path, ranking.score) for path in ("/score", "/v1/score")]
            table += [("POST", path, ranking.rerank) for path in ("/rerank", "/v1/rerank", "/v2/rerank")]
        return [Route(*row) for row in table]

    async def answer(self, request: Request, router: Router) -> Reply | StreamReply:
        """Check the token, then route; errors become the runtime's shapes."""
        if not self._allowed(request):
            reply: Reply | StreamReply = json_reply({"error": "Unauthorized"}, status=401)
        else:
            try:
                reply = await router(request)
            except ApiError as error:
                reply = error.reply(self._settings)
        if self._settings.request_id_headers:
            reply.headers["x-request-id"] = request.headers.get("x-request-id") or secrets.token_hex(16)
        return reply

    def _allowed(self, request: Request) -> bool:
        if not self._settings.api_keys or request.method == "OPTIONS":
            return True
        protected = _PROTECTED if self._settings.release >= (0, 32) else _PROTECTED[:1]
        if not self._settings.protect_all and not request.path.startswith(protected):
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.encode("utf-8", "replace")
        return scheme.lower() == "bearer" and any(
            hmac.compare_digest(given, key.encode()) for key in self._settings.api_keys
        )
