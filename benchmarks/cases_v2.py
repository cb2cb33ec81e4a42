"""V2 tensors: 256 texts to [256, 384] and [256, 4096] FP32, as lists (embeddings) and as arrays (inference)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
from harness import Case, Contestant

from kserve_core.inference_client import InferenceClient
from kserve_core.protos import messages
from langchain_kserve import TritonEmbeddings
from llamaindex_kserve import TritonEmbedding

TEXTS = [f"text number {number}" for number in range(256)]
DIMENSIONS = (384, 4096)
BINARY_HEADER = "Inference-Header-Content-Length"
REST, RPC = "httpx, binary", "grpcio stub, raw"


class RawRest:
    """httpx, one JSON document in, raw floats out; what any client over httpx pays."""

    def __init__(self, url: str, dimension: int) -> None:
        self.url = f"{url}/v2/models/null-{dimension}/infer"
        self.client = httpx.Client(timeout=60, headers={"accept-encoding": "identity"})

    def post(self, *, binary: bool) -> httpx.Response:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
        output = {"name": "embedding", "parameters": {"binary_data": binary}}
        body = orjson.dumps({"id": "1", "inputs": [tensor], "outputs": [output]})
        return self.client.post(self.url, content=body, headers={"content-type": "application/json"})

    def array(self) -> Any:
        answer = self.post(binary=True)
        size = int(answer.headers[BINARY_HEADER])
        shape = orjson.loads(answer.content[:size])["outputs"][0]["shape"]
        return np.frombuffer(answer.content, "<f4", offset=size).reshape(shape)

    def json(self) -> Any:
        output = orjson.loads(self.post(binary=False).content)["outputs"][0]
        return np.array(output["data"], "f4").reshape(output["shape"])


class RawGrpc:
    """grpcio and the message classes, nothing else."""

    def __init__(self, target: str, dimension: int) -> None:
        inference = messages.inference
        self.model = f"null-{dimension}"
        channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])
        self.call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=inference.ModelInferRequest.SerializeToString,
            response_deserializer=inference.ModelInferResponse.FromString,
        )

    def array(self) -> Any:
        inference = messages.inference
        raw = b"".join(len(data).to_bytes(4, "little") + data for data in map(str.encode, TEXTS))
        tensor = inference.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)])
        request = inference.ModelInferRequest(model_name=self.model, inputs=[tensor], raw_input_contents=[raw])
        answer = self.call(request)
        return np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(tuple(answer.outputs[0].shape))


def peers(url: str, target: str, model: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """tritonclient over both protocols, where it is installed."""
    try:
        import tritonclient.grpc as by_grpc
        import tritonclient.http as by_http
    except ImportError:
        return
    texts = np.array(TEXTS, dtype=object)

    def infer(library: Any, client: Any) -> Any:
        tensor = library.InferInput("text", [len(TEXTS)], "BYTES")
        tensor.set_data_from_numpy(texts)
        output = library.InferRequestedOutput("embedding")
        return client.infer(model, [tensor], outputs=[output]).as_numpy("embedding")

    http_client = by_http.InferenceServerClient(url.removeprefix("http://"))
    grpc_client = by_grpc.InferenceServerClient(target)
    yield "tritonclient.http, binary", lambda: infer(by_http, http_client)
    yield "tritonclient.grpc", lambda: infer(by_grpc, grpc_client)


def once(work: Callable[[], Any], dimension: int) -> Callable[[], int]:
    """Runs it several times and checks the last answer; one unit is one call."""
    times = 20 if dimension < 1000 else 5

    def run() -> int:
        for _ in range(times):
            answer = work()
        assert len(answer) == len(TEXTS)
        assert len(answer[0]) == dimension
        return times

    return run


def cases(url: str, grpc_port: int) -> Iterator[Case]:
    """For each width, arrays and lists."""
    target = f"127.0.0.1:{grpc_port}"
    for dimension in DIMENSIONS:
        model = f"null-{dimension}"
        rest, rpc = RawRest(url, dimension), RawGrpc(target, dimension)
        others = dict(peers(url, target, model))
        by_rest = InferenceClient(url, server="triton", model=model)
        by_grpc = InferenceClient(f"grpc://{target}", server="triton", model=model)

        def inferred(client: InferenceClient) -> Callable[[], Any]:
            return lambda: client.infer({"text": TEXTS}, outputs=["embedding"])["embedding"]

        rows = {
            REST: rest.array,
            RPC: rpc.array,
            **others,
            "InferenceClient, REST": inferred(by_rest),
            "InferenceClient, gRPC": inferred(by_grpc),
            "httpx, JSON": rest.json,
        }
        bars: dict[str, tuple[tuple[str, ...], float]] = {}
        if others:
            bars = {
                "InferenceClient, REST": (("tritonclient.http, binary",), 1.0),
                "InferenceClient, gRPC": (("tritonclient.grpc",), 1.0),
            }
        contestants = [Contestant(name, once(work, dimension)) for name, work in rows.items()]
        yield Case(f"V2 tensors: arrays of [256, {dimension}]", "call", contestants, REST, 9, bars)

        options = {"model": model, "tokenizer": None}
        ours = TritonEmbeddings(base_url=url, batch_size=256, **options)
        ours_grpc = TritonEmbeddings(base_url=f"grpc://{target}", batch_size=256, **options)
        other = TritonEmbedding(base_url=url, embed_batch_size=256, **options)

        def listed(work: Callable[[], Any]) -> Callable[[], Any]:
            return lambda: work().tolist()

        lists = {
            REST: listed(rest.array),
            RPC: listed(rpc.array),
            **{name: listed(work) for name, work in others.items()},
            "TritonEmbeddings, REST": lambda model=ours: model.embed_documents(TEXTS),
            "TritonEmbeddings, gRPC": lambda model=ours_grpc: model.embed_documents(TEXTS),
            "TritonEmbedding (LlamaIndex), REST": lambda model=other: model.get_text_embedding_batch(TEXTS),
            "httpx, JSON": listed(rest.json),
        }
        if others:
            bars = {
                "TritonEmbeddings, REST": (("tritonclient.http, binary",), 1.0),
                "TritonEmbeddings, gRPC": (("tritonclient.grpc",), 1.0),
            }
        contestants = [Contestant(name, once(work, dimension)) for name, work in lists.items()]
        yield Case(f"V2 tensors: vectors of [256, {dimension}]", "call", contestants, REST, 9, bars)
