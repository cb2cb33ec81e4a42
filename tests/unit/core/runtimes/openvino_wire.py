"""An OpenVINO Model Server without sockets; its bodies are in the forms of its documentation."""

from __future__ import annotations

from typing import Any

import orjson
from unit.core.runtimes.vllm_wire import Server

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.runtimes.openvino import OpenVINORuntime

BASE = "https://model.example.com"


def error(status: int, said: str) -> tuple[int, bytes]:
    """An error answer: the text is the whole error."""
    return status, orjson.dumps({"error": said})


def listed(*names: str) -> tuple[int, bytes]:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "OVMS"} for name in names]
    return 200, orjson.dumps({"object": "list", "data": data})


def metadata(name: str, datatype: str = "BYTES") -> tuple[int, bytes]:
    """What `/v2/models/<name>` says; of a graph the datatype is none of the protocol's."""
    inputs = [{"name": "text", "datatype": datatype, "shape": [-1]}]
    outputs = [{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}]
    body = {"name": name, "versions": ["1"], "platform": "OpenVINO", "inputs": inputs, "outputs": outputs}
    return 200, orjson.dumps(body)


def events(*values: dict[str, Any]) -> tuple[int, bytes]:
    """A stream with its end marker."""
    return 200, b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values) + b"data: [DONE]\n\n"


class OpenVINO(Server):
    """Answers by path."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = {"/v3/models": listed("qwen")}

    def at(self, base_url: str = BASE, **options: Any) -> RuntimeClient[OpenVINORuntime]:
        """A client of a base URL."""
        endpoint = Endpoint.create(base_url, api_key="a-token")
        runtime = OpenVINORuntime(base_path=endpoint.base_path, **options)
        return RuntimeClient(endpoint, runtime, transport=self)
