"""Which handler answers which path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply

Handler = Callable[[Request], Awaitable["Reply | StreamReply"]]


@dataclass(frozen=True, slots=True)
class Route:
    """A handler at a verb and a path."""

    method: str
    path: str
    handler: Handler


class Router:
    """Exact paths below a base path; misses answer the way a FastAPI application does."""

    def __init__(self, routes: Iterable[Route], *, base_path: str = "", scheme: str = "http") -> None:
        self.base_path = "/" + base_path.strip("/") if base_path.strip("/") else ""
        self.scheme = scheme
        self._routes: dict[str, dict[str, Handler]] = {}
        for route in routes:
            self._routes.setdefault(route.path, {})[route.method] = route.handler

    def local_path(self, raw_path: str) -> str:
        """The path below the base path; empty when it lies elsewhere."""
        if not self.base_path:
            return raw_path
        if raw_path == self.base_path or raw_path.startswith(self.base_path + "/"):
            return raw_path[len(self.base_path) :] or "/"
        return ""

    async def __call__(self, request: Request) -> Reply | StreamReply:
        """Answer with the matching handler, a 404, a 405 or the trailing-slash redirect."""
        methods = self._routes.get(request.path)
        if methods is None:
            if request.path.endswith("/") and request.path.rstrip("/") in self._routes:
                where = f"{self.scheme}://{request.headers.get('host', '')}{request.raw_path.rstrip('/')}"
                return Reply(307, b"", None, {"location": where})
            return json_reply({"detail": "Not Found"}, status=404)
        handler = methods.get(request.method)
        if handler is None:
            return json_reply(
                {"detail": "Method Not Allowed"}, status=405, headers={"allow": ", ".join(sorted(methods))}
            )
        return await handler(request)
