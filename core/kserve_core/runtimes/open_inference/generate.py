"""Triton's generate extension: flat JSON in and out, at `/generate` and, as events, at `/generate_stream`.

A member named like an input becomes that input, a bare value or a flat list; any other is a request parameter and has
to be a single value. The answer has the outputs in the same way, all of them. `generate` wants a model to answer
exactly once: if it does not, the answer is an error under status 200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from kserve_core._json import decode_object, encode
from kserve_core.calls import Call, Response, StreamCall
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.answers import Reading, TextPieces, of_object, whole
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.errors import Asked, explain, stream_failure
from kserve_core.runtimes.open_inference.given import Value
from kserve_core.runtimes.open_inference.naming import Paths
from kserve_core.runtimes.open_inference.parameters import json_value
from kserve_core.runtimes.open_inference.streams import EventStream
from kserve_core.tensors import Tensor
from kserve_core.types import GenerationChunk

_WHAT = "an answer of the generate extension"
_TAKEN = frozenset({"id", "model_name", "model_version", "parameters"})


def generate_call(
    paths: Paths,
    asked: Asked,
    *,
    inputs: Mapping[str, Value],
    parameters: Mapping[str, Any],
    reading: Reading,
    headers: Mapping[str, str],
) -> Call[Sequence[GenerationChunk]]:
    """A whole answer, as the pieces it makes.

    Args:
        paths: The server's paths.
        asked: The model and its version.
        inputs: The inputs, the prompt among them.
        parameters: Request parameters.
        reading: How to read the answer.
        headers: Extra headers.

    Raises:
        ConfigurationError: If something cannot be said in flat JSON.
    """
    return Call(
        method="POST",
        path=f"{paths.model(asked.model or '', asked.version)}/generate",
        body=flat_body(inputs, parameters),
        headers=headers,
        read=partial(_read, asked=asked, reading=reading),
        explain=explain(asked),
    )


def generate_stream_call(
    paths: Paths,
    asked: Asked,
    *,
    inputs: Mapping[str, Value],
    parameters: Mapping[str, Any],
    reading: Reading,
    headers: Mapping[str, str],
) -> StreamCall[GenerationChunk]:
    """An answer in pieces; arguments and errors as of `generate_call`."""
    return StreamCall(
        method="POST",
        path=f"{paths.model(asked.model or '', asked.version)}/generate_stream",
        body=flat_body(inputs, parameters),
        headers=headers,
        decoder=lambda: EventStream(TextPieces(reading), of_object, partial(stream_failure, asked)),
        explain=explain(asked),
    )


def flat_body(inputs: Mapping[str, Value], parameters: Mapping[str, Any]) -> bytes:
    """The request's JSON object.

    Raises:
        ConfigurationError: If a parameter is no single value, an input is named like something else in the object, or
            JSON cannot hold it.
    """
    body: dict[str, Any] = {}
    for name, given in inputs.items():
        if name in _TAKEN:
            msg = f"An input named {name!r} cannot be sent to Triton's generate extension."
            raise ConfigurationError(msg, hint="Use protocol='grpc'.")
        tensor = Tensor.of(name, list(given.values), datatype=given.spec.datatype)
        try:
            values = tensor.json_data()
        except ConfigurationError as error:  # FP16, NaN, bytes that are no text
            raise ConfigurationError(error.message, hint="Use protocol='grpc'.") from None
        body[name] = values[0] if len(values) == 1 else values
    if parameters:
        body["parameters"] = {name: json_value(name, value, TRITON) for name, value in parameters.items()}
    return encode(body)


def _read(response: Response, *, asked: Asked, reading: Reading) -> Sequence[GenerationChunk]:
    value = _object(response)
    said = value.get("error")
    if said:
        # Under status 200 there is no code to tell whose fault it is, as in a stream.
        words = said if isinstance(said, str) else orjson.dumps(said).decode()
        raise stream_failure(replace(asked, what="stream"), words)
    return whole(reading, of_object(value))


def _object(response: Response) -> dict[str, Any]:
    """Triton writes text that is no UTF-8 into JSON as it is."""
    body = response.body
    try:
        body.decode()
    except UnicodeDecodeError:
        response = Response(response.status, response.headers, body.decode("utf-8", "replace").encode())
    return decode_object(response, _WHAT)
