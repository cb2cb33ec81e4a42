"""Models as metadata describes them, and a runtime that shows what it would send and takes answers as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kserve_core.calls import Call
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.rerank import TensorReranking
from kserve_core.runtimes.open_inference.values import InferRequest, InferResult, ModelMetadata, TensorSpec
from kserve_core.tensors import Tensor


def spec(name: str, datatype: str, *shape: int, **more: Any) -> TensorSpec:
    return TensorSpec(name, datatype, shape, **more)


def model(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (), **more: Any) -> ModelMetadata:
    return ModelMetadata("m", inputs=inputs, outputs=outputs, **more)


TEXT = spec("text", "BYTES", -1)
VECTORS = spec("embedding", "FP32", -1, 2)
IDS = (spec("input_ids", "INT64", -1, -1), spec("attention_mask", "INT64", -1, -1))
STATES = spec("last_hidden_state", "FP32", -1, -1, 2)
SCORE = spec("score", "FP32", -1, 1)


class Fake(TensorEmbeddings, TensorReranking):
    """A runtime for one described model; `sent` are its requests, and an answer's `read` takes the outputs."""

    dialect = TRITON

    def __init__(self, metadata: ModelMetadata, **options: Any) -> None:
        super().__init__(model="m", **options)
        self.metadata = metadata
        self.sent: list[InferRequest] = []

    def describe_model(self, model: str | None = None, version: str | None = None) -> Any:
        return self.metadata
        yield

    def known_model(self, model: str | None = None, version: str | None = None) -> ModelMetadata:
        return self.metadata

    def infer_call(self, request: InferRequest, read: Callable[[InferResult], Any]) -> Any:
        self.sent.append(request)

        def read_outputs(outputs: Any) -> Any:
            return read(InferResult({tensor.name: tensor for tensor in outputs}))

        return Call(method="POST", path="/", read=read_outputs)


def shown(request: InferRequest) -> dict[str, Any]:
    """A request's inputs: each with its datatype, its shape and its values, texts as text."""
    return {
        tensor.name: (
            tensor.datatype,
            list(tensor.shape),
            tensor.texts() if tensor.datatype == "BYTES" else tensor.flat(),
        )
        for tensor in request.inputs
    }


def out(name: str, value: Any, datatype: str = "FP32") -> list[Tensor]:
    return [Tensor.of(name, value, datatype=datatype)]
