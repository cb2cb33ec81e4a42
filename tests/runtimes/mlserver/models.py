"""The models as MLServer wants them: a class of its own runtime, named in each model's settings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from mlserver import MLModel, types
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError, MLServerError, ModelNotFound
from runtimes.v2.behaviour import Answer, Arrays, RefusedError, make, minilm, texts
from runtimes.v2.speech import DEFAULT_TOKENS, answer


class _Base(MLModel):
    def reply(self, request: types.InferenceRequest, *outputs: types.ResponseOutput) -> types.InferenceResponse:
        """An answer of this model."""
        return types.InferenceResponse(
            model_name=self.name, model_version=self.version, id=request.id, outputs=list(outputs)
        )


class Served(_Base):
    """A model that behaves the same in every server."""

    async def load(self) -> bool:
        """Loads it."""
        self._behaviour = make(self.name, self.version or "1")
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """The whole answer."""
        try:
            return self.reply(payload, *_outputs(self._behaviour.answer(_arrays(payload), parameters(payload))))
        except RefusedError as error:
            raise InferenceError(str(error)) from None

    async def predict_stream(
        self, payloads: AsyncIterator[types.InferenceRequest]
    ) -> AsyncIterator[types.InferenceResponse]:
        """The answer in pieces."""
        async for payload in payloads:
            try:
                inputs = _arrays(payload)
                pause = 0.01 if self._behaviour.slow(inputs) else 0
                for found in self._behaviour.stream(inputs, {**parameters(payload), "stream": True}):
                    yield self.reply(payload, *_outputs(found))
                    await asyncio.sleep(pause)
            except RefusedError as error:
                raise InferenceError(str(error)) from None


class Echo(_Base):
    """Each `in_x` as `out_x`, as it came, and the request's parameters as JSON."""

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """The echo."""
        outputs = [
            types.ResponseOutput(
                name=one.name.replace("in_", "out_"),
                datatype=one.datatype,
                shape=one.shape,
                data=one.data,
                parameters=one.parameters,
            )
            for one in payload.inputs
        ]
        told = json.dumps(parameters(payload), default=str)
        return self.reply(payload, *outputs, StringCodec.encode_output("params", [told]))


class Fails(_Base):
    """The error that is asked for."""

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Nothing, but for `OK` and, after five seconds, `SLEEP`."""
        code = texts(_arrays(payload), "code")[0]
        if code == "RAISE":
            msg = "model raised"
            raise RuntimeError(msg)
        if code == "INFERENCE":
            raise InferenceError("bad input")
        if code == "NOT_FOUND":
            raise ModelNotFound(self.name, "9")
        if code.isdigit():
            raise MLServerError(f"asked for {code}", status_code=int(code))
        if code == "SLEEP":
            await asyncio.sleep(5)
        return self.reply(payload, StringCodec.encode_output("out", ["ok"]))


class Broken(_Base):
    """Never gets ready. (If it raised, the whole server would stop.)"""

    async def load(self) -> bool:
        """Fails."""
        return False


class HuggingFaceText(_Base):
    """Text generation with the tensors of MLServer's Hugging Face runtime: JSON in the elements of one output."""

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Prompt and continuation, one element a prompt."""
        found = []
        for prompt in texts(_arrays(payload), "args"):
            limit = _argument(payload, "max_new_tokens", DEFAULT_TOKENS)
            found.append({"generated_text": prompt + answer(prompt, max_tokens=limit).text})
        return self.reply(payload, _json_list(found))


class HuggingFaceFeatures(_Base):
    """Features with the tensors of MLServer's Hugging Face runtime: token states of the first text."""

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """One element, however many texts came."""
        (ids,) = minilm().token_ids(texts(_arrays(payload), "args")[:1])
        states = minilm().states(np.array([ids]), np.ones((1, len(ids)), np.int64))
        return self.reply(payload, _json_list([states[0].tolist()]))


def _argument(payload: types.InferenceRequest, name: str, otherwise: int) -> int:
    for one in payload.inputs:
        if one.name == name:
            value = next(iter(one.data))
            return int(json.loads(value) if isinstance(value, str | bytes) else value)
    return otherwise


def _json_list(found: list[Any]) -> types.ResponseOutput:
    return types.ResponseOutput(
        name="output",
        datatype="BYTES",
        shape=[len(found), 1],
        data=[json.dumps(one).encode() for one in found],
        parameters=types.Parameters(content_type="hg_jsonlist"),
    )


def parameters(payload: types.InferenceRequest) -> dict[str, Any]:
    """The request's parameters. A list of stops may come as JSON: gRPC has no lists."""
    found = payload.parameters.model_dump(exclude_none=True) if payload.parameters else {}
    stop = found.get("stop")
    return {**found, "stop": json.loads(stop)} if isinstance(stop, str) and stop.startswith("[") else found


def _arrays(payload: types.InferenceRequest) -> Arrays:
    return {one.name: _array(one) for one in payload.inputs}


def _array(given: types.RequestInput) -> np.ndarray:
    if given.datatype == "BYTES":
        return np.array(StringCodec.decode_input(given), dtype=np.object_)
    return NumpyCodec.decode_input(given)


def _outputs(found: Answer) -> list[types.ResponseOutput]:
    return [
        StringCodec.encode_output(name, [one.decode() for one in array.reshape(-1)])
        if array.dtype == np.object_
        else NumpyCodec.encode_output(name, array)
        for name, array in found.items()
    ]
