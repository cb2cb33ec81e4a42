"""gRPC: a TGIS stream against the bare stub, and Caikit's vectors over REST and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
from floors import LangChainFloor
from harness import Case, Contestant
from stub_grpc import TOKENS

from kserve_core import Endpoint, RuntimeClient
from kserve_core.capabilities import TextRequest
from kserve_core.protos import messages
from kserve_core.runtimes.tgis import TGISRuntime
from langchain_kserve import CaikitEmbeddings, ChatTGIS

PROMPT = "hello"
TEXTS = [f"text number {number}" for number in range(10_000)]


class RawStub:
    """grpcio and the message classes, nothing else."""

    method = "/fmaas.GenerationService/GenerateStream"

    def __init__(self, target: str) -> None:
        self.target = target
        fmaas = messages.fmaas
        self.request = fmaas.SingleGenerationRequest(request=fmaas.GenerationRequest(text=PROMPT))
        self.reads = {
            "request_serializer": fmaas.SingleGenerationRequest.SerializeToString,
            "response_deserializer": fmaas.GenerationResponse.FromString,
        }
        self.call = grpc.insecure_channel(target).unary_stream(self.method, **self.reads)

    def stream(self) -> int:
        for message in self.call(self.request):
            _ = message.text
        return TOKENS

    def astream(self) -> int:
        async def main() -> None:
            async with grpc.aio.insecure_channel(self.target) as channel:
                async for message in channel.unary_stream(self.method, **self.reads)(self.request):
                    _ = message.text

        asyncio.run(main())
        return TOKENS


def cases(url: str, grpc_port: int) -> Iterator[Case]:
    """Streams, sync and async; then 10,000 vectors."""
    target = f"127.0.0.1:{grpc_port}"
    raw = RawStub(target)
    client = RuntimeClient(Endpoint.create(f"grpc://{target}"), TGISRuntime())
    request = TextRequest(prompts=[PROMPT])
    chat = ChatTGIS(base_url=f"grpc://{target}", chat_template="chatml")
    floor = LangChainFloor(count=TOKENS)

    def drained(pieces: Any) -> int:
        for _ in pieces:
            pass
        return TOKENS

    def adrained(start: Any) -> int:
        async def main() -> None:
            async for _ in start():
                pass

        asyncio.run(main())
        return TOKENS

    stub, alone = "grpcio stub", "langchain-core alone"
    for mode, contestants in (
        (
            "sync",
            [
                Contestant(stub, raw.stream),
                Contestant(alone, lambda: drained(floor.stream("hi"))),
                Contestant("core client", lambda: drained(client.stream(client.runtime.stream_generate(request)))),
                Contestant("ChatTGIS", lambda: drained(chat.stream("hi"))),
            ],
        ),
        (
            "async",
            [
                Contestant(stub, raw.astream),
                Contestant(alone, lambda: adrained(lambda: floor.astream("hi"))),
                Contestant(
                    "core client", lambda: adrained(lambda: client.astream(client.runtime.stream_generate(request)))
                ),
                Contestant("ChatTGIS", lambda: adrained(lambda: chat.astream("hi"))),
            ],
        ),
    ):
        bars = {"core client": ((stub,), 1.5), "ChatTGIS": ((stub, alone), 1.5)}
        yield Case(f"gRPC: TGIS stream, {mode}", "token", contestants, stub, 7, bars)

    def embedded(model: Any) -> Any:
        return lambda: len(model.embed_documents(TEXTS))

    rest = CaikitEmbeddings(base_url=url, model="m")
    rpc = CaikitEmbeddings(base_url=f"grpc://{target}", model="m")
    yield Case(
        "gRPC: Caikit, 10,000 texts of 384 values",
        "text",
        [
            Contestant("CaikitEmbeddings, REST", embedded(rest)),
            Contestant("CaikitEmbeddings, gRPC", embedded(rpc)),
        ],
        "CaikitEmbeddings, REST",
        5,
    )
