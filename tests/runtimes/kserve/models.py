"""The models as KServe's SDK wants them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InferenceError, InvalidInput
from kserve.utils.utils import generate_uuid
from runtimes.v2.behaviour import Answer, RefusedError, make, strings, texts
from runtimes.v2.catalogue import DATATYPES, MODELS, Tensor

SERVED = (
    *("embed", "minilm", "embed_ids", "embed_states", "embed_fp16", "embed_int8", "null_embed"),
    *("rerank", "rerank_ids", "rerank_ids_two", "tiny", "generate"),
)
_OTHER_NAMES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "BYTES"}


class _Base(Model):
    def load(self) -> bool:
        """Loads it."""
        self.ready = True
        return True

    def reply(self, request: InferRequest, found: Answer) -> InferResponse:
        """An answer, in the form that was asked for."""
        outputs = []
        for name, array in found.items():
            output = InferOutput(name=name, shape=list(array.shape), datatype=_datatype(array))
            output.set_data_from_numpy(array, binary_data=_binary(request, name))
            outputs.append(output)
        return InferResponse(
            response_id=request.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )


class Served(_Base):
    """A model that behaves the same in every server."""

    def load(self) -> bool:
        """Loads it."""
        self._behaviour = make(self.name)
        return super().load()

    async def get_input_types(self) -> list[dict[str, Any]]:
        """What the metadata says of the inputs."""
        return [_described(one) for one in MODELS[self.name].inputs]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """What the metadata says of the outputs."""
        return [_described(one) for one in MODELS[self.name].outputs]

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """The answer."""
        inputs = {one.name: one.as_numpy() for one in payload.inputs}
        try:
            return self.reply(payload, self._behaviour.answer(inputs, _parameters(payload)))
        except RefusedError as error:
            raise InvalidInput(str(error)) from None


class Echo(_Base):
    """Each `in_x` as `out_x`."""

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """The echo."""
        return self.reply(payload, {one.name.replace("in_", "out_"): one.as_numpy() for one in payload.inputs})


class Fails(_Base):
    """The error that is asked for."""

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """Nothing, but for `OK` and, after five seconds, `SLEEP`."""
        code = texts({one.name: one.as_numpy() for one in payload.inputs}, "code")[0]
        if code == "RAISE":
            msg = "model raised"
            raise RuntimeError(msg)
        if code == "INVALID":
            raise InvalidInput("bad input")
        if code == "INFERENCE":
            raise InferenceError("inference failed")
        if code == "SLEEP":
            await asyncio.sleep(5)
        return self.reply(payload, {"out": strings("ok")})


class Broken(_Base):
    """Never gets ready."""

    def load(self) -> bool:
        """Fails."""
        self.ready = False
        return False


def all_models() -> list[Model]:
    """All of them, not loaded yet."""
    return [*(Served(name) for name in SERVED), Echo("echo_types"), Fails("fails"), Broken("broken")]


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _datatype(array: np.ndarray) -> str:
    name = array.dtype.name
    return _OTHER_NAMES.get(name) or DATATYPES[name]


def _binary(request: InferRequest, name: str) -> bool:
    if request.from_grpc:
        return True
    for one in request.request_outputs or []:
        if one.name == name and one.binary_data is not None:
            return bool(one.binary_data)
    return bool(request.use_binary_outputs)


def _parameters(request: InferRequest) -> dict[str, Any]:
    """The request's parameters as plain values; over gRPC they come as messages."""
    found = {}
    for name, value in dict(request.parameters or {}).items():
        kind = value.WhichOneof("parameter_choice") if hasattr(value, "WhichOneof") else None
        found[name] = getattr(value, kind) if kind else value
    return found
