"""Servers of the Open Inference Protocol without sockets: recorded or given answers, and what was asked of them."""

from __future__ import annotations

import base64
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from kserve_core.calls import Call, GrpcCall, GrpcFailure, GrpcStreamCall, Response
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.failures import error_from_response
from kserve_core.grpc_failures import error_from_failure
from kserve_core.protos import messages
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.bodies import HEADER_LENGTH
from kserve_core.runtimes.open_inference.dialects import DIALECTS, Dialect

FIXTURES = Path(__file__).parent / "fixtures" / "v2"
SERVERS = ("triton", "mlserver", "kserve")
SERVICE = "/inference.GRPCInferenceService/"


@cache
def recorded(server: str, kind: str) -> dict[str, Any]:
    return orjson.loads((FIXTURES / server / f"{kind}.json").read_bytes())["exchanges"]


def data_of(value: Any) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def answer(server: str, name: str) -> Response:
    """A recorded answer over REST."""
    found = recorded(server, "http")[name]["response"]
    headers = {key.lower(): value for key, value in found["headers"].items()}
    return Response(found["status"], headers, data_of(found["body"]))


def messages_of(server: str, name: str) -> list[bytes] | GrpcFailure:
    """A recorded answer over gRPC: messages, or the status that came instead."""
    found = recorded(server, "grpc")[name]
    if found["code"] != "OK":
        return GrpcFailure(found["code"], found["details"])
    return [base64.b64decode(item["base64"] if isinstance(item, dict) else item) for item in found["responses"]]


def json_answer(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, {"content-type": "application/json", **headers}, orjson.dumps(value))


def raw_answer(head: Any, *parts: bytes, length: str | None = None) -> Response:
    """An answer with raw tensors behind its JSON."""
    data = head if isinstance(head, bytes) else orjson.dumps(head)
    return Response(200, {HEADER_LENGTH: str(len(data)) if length is None else length}, b"".join((data, *parts)))


def vectors(*rows: list[float], name: str = "embedding") -> dict[str, Any]:
    """A JSON answer with a matrix."""
    flat = [number for row in rows for number in row]
    output = {"name": name, "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": flat}
    return {"model_name": "m", "model_version": "1", "outputs": [output]}


class Server:
    """Answers by `METHOD path` or gRPC method; what is not routed is not there.

    Over REST an answer is a `Response`, or a function of the body; over gRPC a message, bytes, a list of them for a
    stream, or a `GrpcFailure`. A list of answers over REST is given out one after the other, the last one again.
    """

    def __init__(self, **_: Any) -> None:
        self.routes: dict[str, Any] = {}
        self.calls: list[Any] = []

    def route(self, path: str, found: Any) -> Server:
        self.routes[path] = found
        return self

    @property
    def asked(self) -> list[str]:
        return [
            f"{call.method} {call.path}" if isinstance(call, Call) else call.method.removeprefix(SERVICE)
            for call in self.calls
        ]

    @property
    def sent(self) -> dict[str, Any]:
        """The JSON of the last request."""
        call = self.calls[-1]
        length = call.headers.get(HEADER_LENGTH)
        return orjson.loads(call.body[: int(length)] if length else call.body)

    @property
    def behind(self) -> bytes:
        """What came behind the JSON of the last request."""
        call = self.calls[-1]
        return call.body[int(call.headers[HEADER_LENGTH]) :]

    def client(
        self, server: str | Dialect = "triton", protocol: str = "rest", **options: Any
    ) -> RuntimeClient[OpenInferenceRuntime]:
        dialect = server if isinstance(server, Dialect) else DIALECTS[server]
        runtime = OpenInferenceRuntime(dialect=dialect, protocol=protocol, **options)
        return RuntimeClient(ENDPOINT, runtime, transport=self)

    def run(self, call: Any) -> Any:
        self.calls.append(call)
        if isinstance(call, GrpcCall):
            return call.read(self._message(call, self._grpc(call)))
        found = self.routes.get(f"{call.method} {call.path}", NO_ROUTE)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(call.body)
        error = error_from_response(found, path=call.path, explain=call.explain)
        if error is not None:
            raise error
        return call.read(found)

    async def arun(self, call: Any) -> Any:
        return self.run(call)

    def stream(self, call: Any) -> Generator[Any, None, None]:
        self.calls.append(call)
        decoder = call.decoder()
        if isinstance(call, GrpcStreamCall):
            for item in self._grpc(call):
                yield from decoder.feed(self._message(call, item))
        else:
            yield from decoder.feed(self.routes[f"{call.method} {call.path}"].body)
        yield from decoder.close()

    async def astream(self, call: Any) -> Any:
        for piece in self.stream(call):
            yield piece

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def _grpc(self, call: Any) -> Any:
        found = self.routes.get(call.method.removeprefix(SERVICE), GrpcFailure("UNIMPLEMENTED", "Method not found!"))
        if isinstance(found, GrpcFailure):
            raise error_from_failure(found, endpoint=ENDPOINT, method=call.method, explain=call.explain)
        return found

    def _message(self, call: Any, found: Any) -> Any:
        if isinstance(found, list):
            found = found[0]
        return call.response_type.FromString(found if isinstance(found, bytes) else found.SerializeToString())


ENDPOINT = Endpoint.create("grpc://127.0.0.1:1")
NO_ROUTE = Response(404, {"content-type": "application/json"}, b'{"error":"Not Found"}')
INDEX_ROUTE = "POST /v2/repository/index"
types = messages.inference
