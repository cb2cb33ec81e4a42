"""The requests that are watched."""

from __future__ import annotations

from typing import Any

from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.client import RuntimeClient
from kserve_core.devserver import DevServer
from kserve_core.endpoint import Endpoint
from kserve_core.runtimes.vllm import VLLMRuntime

PROMPT = "canary-prompt"
CHAT = ChatRequest(
    messages=[{"role": "user", "content": PROMPT}],
    model="dev-model",
    params={"temperature": 0.5, "max_tokens": 7, "seed": 3, "stop": ["END"], "top_p": 0.9},
)
TEXT = TextRequest(prompts=[PROMPT], model="dev-model", params={"max_tokens": 5})


def client(server: DevServer, **options: Any) -> RuntimeClient[VLLMRuntime]:
    return RuntimeClient(Endpoint.create(f"{server.url}/v1", **options), VLLMRuntime(base_path="/v1"))


def sent(server: DevServer, name: str) -> list[str | None]:
    return [request.headers.get(name) for request in server.requests if request.method == "POST"]
