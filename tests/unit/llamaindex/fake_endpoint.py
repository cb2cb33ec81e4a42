"""An endpoint without sockets: a transport that answers vLLM's embedding and rerank calls and keeps count."""

from __future__ import annotations

import asyncio
import base64
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from kserve_core.calls import Call, Response
from kserve_core.client import RuntimeClient
from kserve_core.errors import KServeError

BASE_URL = "https://models.example.com/v1"
TOKEN = "sha256~a-very-secret-token"


def vector_of(text: str, dimensions: int = 4) -> list[float]:
    """The vector the endpoint has for a text; exact in float32."""
    seed = zlib.crc32(text.encode())
    return [float((seed >> (3 * place)) % 997) for place in range(dimensions)]


def score_of(query: str, document: str) -> float:
    """How many of the query's words the document has."""
    return float(len(set(query.lower().split()) & set(document.lower().split())))


class FakeEndpoint:
    """Answers calls, one after `delay` seconds; `reverse` sends the vectors in reverse order of their index."""

    def __init__(self, *, delay: float = 0.0, reverse: bool = False, served: str = "served-model") -> None:
        self.delay = delay
        self.reverse = reverse
        self.served = served
        self.slow: Callable[[dict[str, Any]], float] = lambda body: 0.0
        self.fail: Callable[[dict[str, Any]], KServeError | None] = lambda body: None
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.in_flight = 0
        self.peak = 0
        self._lock = threading.Lock()

    # -- what tests ask ---------------------------------------------------------------------------------

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [body for path, body in self.requests if path.endswith(f"/{kind}")]

    @property
    def batches(self) -> list[list[str]]:
        return [body["input"] for body in self.bodies("embeddings")]

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    # -- a transport -------------------------------------------------------------------------------------

    def run(self, call: Call[Any]) -> Any:
        body = self._enter(call)
        try:
            time.sleep(self.delay + self.slow(body))
            return self._answer(call, body)
        finally:
            self._leave()

    async def arun(self, call: Call[Any]) -> Any:
        body = self._enter(call)
        try:
            await asyncio.sleep(self.delay + self.slow(body))
            return self._answer(call, body)
        finally:
            self._leave()

    def stream(self, call: Any) -> Any:
        raise NotImplementedError

    def astream(self, call: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def _enter(self, call: Call[Any]) -> dict[str, Any]:
        body = orjson.loads(call.body) if call.body else {}
        with self._lock:
            self.requests.append((call.path, body))
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        return body

    def _leave(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _answer(self, call: Call[Any], body: dict[str, Any]) -> Any:
        error = self.fail(body)
        if error is not None:
            raise error
        kind = call.path.rsplit("/", 1)[-1]
        answer = {"models": self._models, "embeddings": self._embeddings, "rerank": self._rerank}[kind](body)
        return call.read(Response(status=200, headers={"content-type": "application/json"}, body=orjson.dumps(answer)))

    def _models(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.served, "object": "model", "max_model_len": 512}]}

    def _embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        data = []
        for index, text in enumerate(body["input"]):
            vector: Any = vector_of(text, body.get("dimensions", 4))
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            data.append({"index": index, "object": "embedding", "embedding": vector})
        if self.reverse:
            data.reverse()
        usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
        return {"id": "embd-1", "object": "list", "model": body["model"], "data": data, "usage": usage}

    def _rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        results = [
            {"index": index, "document": {"text": text}, "relevance_score": score_of(body["query"], text)}
            for index, text in enumerate(body["documents"])
        ]
        results.sort(key=lambda result: -result["relevance_score"])
        results = results[: body.get("top_n") or None]
        return {"id": "score-1", "model": body.get("model"), "results": results, "usage": {"total_tokens": 1}}


def connect(model: Any, endpoint: FakeEndpoint) -> Any:
    """Puts the endpoint behind a LlamaIndex object."""
    where = model.endpoint
    model._cell.client = RuntimeClient(where, model._make_runtime(where), transport=endpoint)
    return model


class Recorder:
    """Attaches to the root dispatcher and keeps events and spans by name, in order."""

    def __enter__(self) -> Recorder:
        from llama_index.core.instrumentation import get_dispatcher
        from llama_index.core.instrumentation.event_handlers import BaseEventHandler
        from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

        self.events: list[Any] = []
        self.spans: list[str] = []
        recorder = self

        class Events(BaseEventHandler):
            def handle(self, event: Any, **kwargs: Any) -> None:
                recorder.events.append(event)

        class Spans(SimpleSpanHandler):
            def new_span(self, id_: str, *args: Any, **kwargs: Any) -> Any:
                recorder.spans.append(id_.rsplit("-", 5)[0])
                return super().new_span(id_, *args, **kwargs)

        self._dispatcher = get_dispatcher()
        self._handlers = (Events(), Spans())
        self._dispatcher.add_event_handler(self._handlers[0])
        self._dispatcher.add_span_handler(self._handlers[1])
        return self

    def __exit__(self, *exc: object) -> None:
        self._dispatcher.event_handlers.remove(self._handlers[0])
        self._dispatcher.span_handlers.remove(self._handlers[1])

    @property
    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]
