"""A Caikit server without sockets that gives recorded answers over either protocol, and remembers what was asked."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from kserve_core.calls import Call, GrpcCall, GrpcFailure, GrpcStreamCall, Response
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.failures import error_from_response
from kserve_core.grpc_failures import error_from_failure
from kserve_core.protos import messages
from kserve_core.runtimes.caikit import CaikitRuntime, tasks

FIXTURES = Path(__file__).parent / "fixtures" / "caikit"
TASK = "/api/v1/task/"
NO_ROUTE = Response(404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')

INFO = "caikit_data_model.common.runtime"
ANSWERS = {
    "/caikit.runtime.info.InfoService/GetModelsInfo": f"{INFO}.ModelInfoResponse",
    "/caikit.runtime.info.InfoService/GetRuntimeInfo": f"{INFO}.RuntimeInfoResponse",
    **{task.method: task.response for task in vars(tasks).values() if isinstance(task, tasks.Task)},
}


@cache
def recorded(kind: str) -> Mapping[str, Any]:
    return orjson.loads((FIXTURES / f"{kind}.json").read_bytes())


def answer(name: str) -> Response:
    """A recorded answer over REST."""
    found = recorded("http")[name]
    headers = {"server": "uvicorn"}
    if found["content_type"]:
        headers["content-type"] = found["content_type"]
    return Response(found["status"], headers, found["body"].encode())


def json_answer(value: Any, status: int = 200) -> Response:
    """An answer as the server writes one."""
    return Response(status, {"content-type": "application/json"}, orjson.dumps(value))


def models(*names: str, **fields: Any) -> Response:
    return json_answer({"models": [{"name": name, "loaded": True, **fields} for name in names]})


def parsed(method: str, value: Any) -> bytes:
    """The bytes of an answer over gRPC."""
    return ParseDict(value, messages.get(ANSWERS[method])()).SerializeToString()


class Server:
    """Answers by path or method.

    Over REST an answer is a `Response` (or makes one of the request's body), or the chunks of an event stream; over
    gRPC the name of a recorded case, a message's bytes (or several), or a `GrpcFailure`.
    """

    def __init__(self, **routes: Any) -> None:
        self.routes: dict[str, Any] = {"/info/models": models("minilm"), **routes}
        self.calls: list[Any] = []

    def route(self, path: str, found: Any) -> Server:
        self.routes[path] = found
        return self

    def task(self, name: str, found: Any) -> Server:
        return self.route(TASK + name, found)

    @property
    def asked(self) -> list[str]:
        return [
            call.path if isinstance(call, Call) else getattr(call, "path", None) or call.method for call in self.calls
        ]

    @property
    def body(self) -> dict[str, Any]:
        return orjson.loads(self.calls[-1].body)

    @property
    def message(self) -> Any:
        return self.calls[-1].request

    def client(self, **options: Any) -> RuntimeClient[CaikitRuntime]:
        return RuntimeClient(Endpoint.create("https://model.example.com"), CaikitRuntime(**options), transport=self)

    # what a transport does

    def run(self, call: Any) -> Any:
        self.calls.append(call)
        if isinstance(call, Call):
            return call.read(self._response(call))
        (data,) = self._messages(call)
        return call.read(call.response_type.FromString(data))

    def stream(self, call: Any) -> Generator[Any, None, None]:
        self.calls.append(call)
        decoder = call.decoder()
        pieces: Iterable[Any]
        if isinstance(call, GrpcStreamCall):
            pieces = map(call.response_type.FromString, self._messages(call))
        else:
            found = self.routes[call.path]
            pieces = [found] if isinstance(found, bytes) else [chunk.encode() for chunk in found]
        for piece in pieces:
            yield from decoder.feed(piece)
            if decoder.finished:
                return
        yield from decoder.close()

    def close(self) -> None: ...

    async def aclose(self) -> None: ...

    def _response(self, call: Call[Any]) -> Response:
        response = self.routes.get(call.path, NO_ROUTE)
        if callable(response):
            response = response(orjson.loads(call.body) if call.body else {})
        error = error_from_response(response, path=call.path, explain=call.explain)
        if error is not None:
            raise error
        return response

    def _messages(self, call: GrpcCall[Any] | GrpcStreamCall[Any]) -> Generator[bytes, None, None]:
        found = self.routes.get(call.method, GrpcFailure("UNIMPLEMENTED", "Method not found!"))
        failure = found if isinstance(found, GrpcFailure) else None
        if isinstance(found, str):
            case = recorded("grpc")[found]
            for piece in case["answers"]:
                yield parsed(case["method"], piece["message"])
            if case["error"]:
                failure = GrpcFailure(case["error"]["code"], case["error"]["details"])
        elif isinstance(found, bytes):
            yield found
        elif isinstance(found, list):
            yield from found
        if failure is not None:
            endpoint = Endpoint.create("grpcs://model.example.com")
            raise error_from_failure(failure, endpoint=endpoint, method=call.method, explain=call.explain)
