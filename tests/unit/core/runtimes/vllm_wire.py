"""A vLLM server without sockets: canned answers per route, and a record of what was asked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from kserve_core.calls import Call, Decoder, Response, StreamCall
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.failures import error_from_response
from kserve_core.runtimes.vllm import VLLMRuntime

FIXTURES = Path(__file__).parent / "fixtures" / "vllm"

Answer = tuple[int, bytes] | Callable[[dict[str, Any]], tuple[int, bytes]]

NO_ROUTE = (404, b'{"detail":"Not Found"}')


def fixture(name: str) -> bytes:
    """The bytes of a recorded body."""
    return (FIXTURES / name).read_bytes()


def ok(name: str) -> tuple[int, bytes]:
    """A recorded body as a good answer."""
    return 200, fixture(name)


def models(*names: str) -> tuple[int, bytes]:
    """A list of models that share nothing."""
    data = [{"id": name, "root": f"/mnt/{name}", "parent": None, "max_model_len": 1024} for name in names]
    return 200, orjson.dumps({"object": "list", "data": data})


class Server:
    """Answers by path; what is not routed is a 404 as the web framework words it."""

    def __init__(self, **routes: Answer) -> None:
        self.routes: dict[str, Answer] = {"/v1/models": models("granite")}
        self.calls: list[Call[Any] | StreamCall[Any]] = []
        self.chunk = 0  # bytes per chunk of a stream; 0 for all at once

    def route(self, path: str, answer: Answer) -> Server:
        self.routes[path] = answer
        return self

    @property
    def asked(self) -> list[str]:
        """Method and path of every request, in order."""
        return [f"{call.method} {call.path}" for call in self.calls]

    @property
    def body(self) -> dict[str, Any]:
        """The last request's body."""
        return self.bodies[-1]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of all requests that had one."""
        return [orjson.loads(call.body) for call in self.calls if call.body is not None]

    def client(self, **options: Any) -> RuntimeClient[VLLMRuntime]:
        endpoint = Endpoint.create("https://model.example.com", api_key="a-token")
        return RuntimeClient(endpoint, VLLMRuntime(**options), transport=self)

    # what a transport does

    def run(self, call: Call[Any]) -> Any:
        return call.read(self._answer(call))

    async def arun(self, call: Call[Any]) -> Any:
        return self.run(call)

    def stream(self, call: StreamCall[Any]) -> Generator[Any, None, None]:
        body = self._answer(call).body
        size = self.chunk or len(body)
        decoder = call.decoder()
        for start in range(0, len(body), size):
            yield from decoder.feed(body[start : start + size])
            if decoder.finished:
                return
        yield from decoder.close()

    async def astream(self, call: StreamCall[Any]) -> Any:
        for piece in self.stream(call):
            yield piece

    def close(self) -> None: ...

    async def aclose(self) -> None: ...

    def _answer(self, call: Call[Any] | StreamCall[Any]) -> Response:
        self.calls.append(call)
        answer = self.routes.get(call.path, NO_ROUTE)
        if callable(answer):
            answer = answer(orjson.loads(call.body) if call.body else {})
        status, body = answer
        response = Response(status, {"content-type": "application/json", "server": "uvicorn"}, body)
        error = error_from_response(response, path=call.path, explain=call.explain)
        if error is not None:
            raise error
        return response


def feed(decoder: Decoder[Any], data: bytes, cuts: Sequence[int] = ()) -> list[Any]:
    """Everything a decoder makes of a body that arrives cut at the given places."""
    edges = [0, *cuts, len(data)]
    pieces: list[Any] = []
    for start, stop in pairwise(edges):
        pieces += decoder.feed(data[start:stop])
    pieces += decoder.close()
    return pieces
