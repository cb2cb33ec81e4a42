"""A V2 server without sockets: recorded answers by path or method, and a record of what was asked.

The bytes are those of `fixtures/v2` (Triton 2.51, MLServer 1.7.1) unless a test says otherwise.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from kserve_core.calls import Call, GrpcFailure, GrpcStreamCall, Response, StreamCall
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import KServeError
from kserve_core.failures import error_from_response
from kserve_core.grpc_failures import error_from_failure
from kserve_core.protos import messages
from kserve_core.runtimes.open_inference.dialects import MLSERVER, TRITON, Dialect
from kserve_core.runtimes.open_inference.generation import TensorGeneration

FIXTURES = Path(__file__).parent / "fixtures" / "v2"
M = messages.inference
GRPC = "/inference.GRPCInferenceService/"


class Triton(TensorGeneration):
    name = "Triton"
    dialect: Dialect = TRITON


class MLServer(TensorGeneration):
    name = "MLServer"
    dialect: Dialect = MLSERVER


@cache
def recorded(server: str, protocol: str) -> Any:
    return orjson.loads((FIXTURES / server / f"{protocol}.json").read_bytes())["exchanges"]


def http(server: str, name: str) -> Response:
    """A recorded answer over REST; of a broken one, what came."""
    found = recorded(server, "http")[name]["response"]
    body = found["body"]
    data = base64.b64decode(body["base64"]) if isinstance(body, dict) else (body or "").encode()
    return Response(found["status"], found["headers"], data)


def grpc(server: str, name: str) -> list[Any]:
    """A recorded answer over gRPC: the messages' bytes, then the status if it is not OK."""
    found = recorded(server, "grpc")[name]
    answers: list[Any] = [base64.b64decode(message) for message in found["responses"]]
    if found["code"] != "OK":
        answers.append(GrpcFailure(found["code"], found["details"]))
    return answers


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, orjson.dumps(value))


def events(*values: Any) -> Response:
    data = b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)
    return Response(200, {"content-type": "text/event-stream; charset=utf-8"}, data)


def tensor(name: str, datatype: str = "BYTES", *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape or (1,))}


def model(
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]] | None = None,
    *,
    decoupled: bool | None = False,
    required: tuple[str, ...] = (),
    name: str = "m",
) -> dict[str, Response]:
    """Metadata, and unless `decoupled` is None a configuration, of a model that nobody recorded."""
    outputs = [tensor("text_output")] if outputs is None else outputs
    metadata = {"name": name, "versions": ["1"], "platform": "python", "inputs": inputs, "outputs": outputs}
    routes = {f"/v2/models/{name}": json_answer(metadata)}
    if decoupled is not None:
        config = {
            "name": name,
            "max_batch_size": 0,
            "input": [
                {"name": each["name"], "optional": index > 0 and each["name"] not in required}
                for index, each in enumerate(inputs)
            ],
            "model_transaction_policy": {"decoupled": decoupled},
        }
        routes[f"/v2/models/{name}/config"] = json_answer(config)
    return routes


class Server:
    """Answers a path (or the name of a method) with a `Response`, or a list of messages and a status.

    Args:
        routes: The answers.
        size: How many bytes of an event stream come at once.
    """

    def __init__(self, routes: dict[str, Any], *, size: int = 1 << 16) -> None:
        self.routes = routes
        self.size = size
        self.calls: list[Any] = []
        self.stopped_reading = False

    def client(self, kind: type[TensorGeneration] = Triton, **options: Any) -> RuntimeClient[Any]:
        scheme = "grpc" if options.get("protocol") == "grpc" else "http"
        options.setdefault("model", "m")
        return RuntimeClient(Endpoint.create(f"{scheme}://v2.example.svc:8000"), kind(**options), transport=self)

    @property
    def asked(self) -> list[str]:
        return [self._name(call) for call in self.calls]

    @property
    def body(self) -> Any:
        """The last REST request's JSON."""
        return orjson.loads(self.calls[-1].body)

    @property
    def request(self) -> Any:
        """The last gRPC request, as the server reads it."""
        call = self.calls[-1]
        return type(call.request).FromString(call.request.SerializeToString())

    def sent(self, name: str) -> Any:
        """An input of the last gRPC request: its datatype, its shape and its bytes."""
        request = self.request
        index = [each.name for each in request.inputs].index(name)
        found = request.inputs[index]
        return found.datatype, list(found.shape), request.raw_input_contents[index]

    def run(self, call: Any) -> Any:
        found = self._answer(call)
        if isinstance(call, Call):
            self._check(call, found)
            return call.read(found)
        for message in found:
            if isinstance(message, GrpcFailure):
                raise self._status(call, message)
            return call.read(call.response_type.FromString(message))
        raise AssertionError("no answer")

    def stream(self, call: Any) -> Any:
        found = self._answer(call)
        decoder = call.decoder()
        if isinstance(call, StreamCall):
            self._check(call, found)
            for at in range(0, len(found.body), self.size):
                yield from decoder.feed(found.body[at : at + self.size])
                if decoder.finished:
                    self.stopped_reading = True
                    return
            yield from decoder.close()
            return
        assert isinstance(call, GrpcStreamCall)
        for message in found:
            if isinstance(message, GrpcFailure):
                error = self._status(call, message)
                error.partial_text = decoder.partial_text
                raise error
            yield from decoder.feed(call.response_type.FromString(message))
            if decoder.finished:
                self.stopped_reading = True
                return
        yield from decoder.close()

    def _answer(self, call: Any) -> Any:
        self.calls.append(call)
        name = self._name(call)
        found = self.routes.get(name)
        if found is None:
            if isinstance(call, (Call, StreamCall)):
                return json_answer({"error": f"Request for unknown model: '{name}' is not found"}, 404)
            return [GrpcFailure("NOT_FOUND", "unknown model")]
        return found(call) if callable(found) else found

    @staticmethod
    def _name(call: Any) -> str:
        return call.path if isinstance(call, (Call, StreamCall)) else call.method.removeprefix(GRPC)

    @staticmethod
    def _check(call: Any, found: Response) -> None:
        error = error_from_response(found, path=call.path, explain=call.explain)
        if error is not None:
            raise error

    @staticmethod
    def _status(call: Any, failure: GrpcFailure) -> KServeError:
        return error_from_failure(
            failure,
            endpoint=Endpoint.create("grpc://v2.example.svc:8001"),
            method=call.method,
            explain=call.explain,
        )
