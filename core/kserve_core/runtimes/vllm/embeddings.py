"""Embeddings."""

from __future__ import annotations

import math
import sys
from array import array
from binascii import a2b_base64
from typing import Any

from kserve_core._json import decode_object, unexpected
from kserve_core.calls import Response
from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.vllm.usage import read_usage
from kserve_core.types import EmbeddingResult

_WHAT = "a list of embeddings"


def embeddings_body(request: EmbeddingRequest, *, model: str | None, encoding: str) -> dict[str, Any]:
    """The request's body.

    Vectors are asked for as base64 of little-endian float32: a quarter of the bytes of decimal numbers and faster to
    read. `extra_body` may choose `float` instead.

    Raises:
        ConfigurationError: If there is no text, something is not a text, or `extra_body` asks for a form that cannot
            be read here.
    """
    texts = list(request.texts)
    check_texts("text", texts)
    body: dict[str, Any] = {"input": texts, "encoding_format": encoding}
    if model:
        body["model"] = model
    if request.dimensions is not None:
        if request.dimensions < 1:
            msg = f"dimensions must be at least 1, not {request.dimensions}."
            raise ConfigurationError(msg)
        body["dimensions"] = request.dimensions
    body.update(truncation(request.truncate))
    body.update(request.extra_body)
    for name, readable in (
        ("encoding_format", {"base64", "float"}),
        ("embed_dtype", {"float32"}),
        ("endianness", {"little", "native"}),
    ):
        if name in body and body[name] not in readable:
            msg = f"Vectors with {name}={body[name]!r} cannot be read here."
            raise ConfigurationError(msg, hint=f"Leave {name} out of extra_body.")
    return body


def truncation(tokens: int | None) -> dict[str, int]:
    """The field that has the server cut over-long texts.

    Raises:
        ConfigurationError: If it is neither a length nor -1.
    """
    if tokens is None:
        return {}
    if tokens < -1 or tokens == 0:
        msg = f"truncate must be a number of tokens, or -1 for what the model takes, not {tokens}."
        raise ConfigurationError(msg)
    return {"truncate_prompt_tokens": tokens}


def read_embeddings(response: Response, *, count: int, dimensions: int | None) -> EmbeddingResult:
    """Reads the vectors, in the order of the texts.

    Args:
        response: The server's answer.
        count: How many texts were sent.
        dimensions: The length that was asked for.

    Raises:
        BadResponseError: If vectors are missing, of different lengths, or hold values that are no numbers.
    """
    raw = decode_object(response, _WHAT)
    data = raw.get("data")
    if not isinstance(data, list):
        raise unexpected(_WHAT, "it has no `data`", status=response.status)
    if len(data) != count:
        raise unexpected(_WHAT, f"{len(data)} vectors came for {count} texts", status=response.status)
    vectors: list[list[float] | None] = [None] * count
    for position, entry in enumerate(data):
        index = entry.get("index", position) if isinstance(entry, dict) else -1
        if type(index) is not int or not 0 <= index < count or vectors[index] is not None:
            raise unexpected(_WHAT, "its indices do not match the texts", status=response.status)
        vectors[index] = _vector(entry.get("embedding"), response.status)
    found: list[list[float]] = [vector for vector in vectors if vector is not None]
    length = dimensions if dimensions is not None else len(found[0])
    if any(len(vector) != length for vector in found):
        lengths = sorted({len(vector) for vector in found})
        wanted = f"vectors of length {length} were expected" if dimensions is not None else "vectors differ in length"
        raise unexpected(_WHAT, f"{wanted} ({', '.join(map(str, lengths))})", status=response.status)
    return EmbeddingResult(found, usage=read_usage(raw.get("usage")), model=raw.get("model"))


def _floats(packed: bytes) -> list[float]:
    if sys.byteorder == "little":
        values: list[Any] = memoryview(packed).cast("f").tolist()
        return values
    numbers = array("f", packed)
    numbers.byteswap()
    return numbers.tolist()


def _vector(value: Any, status: int) -> list[float]:
    if isinstance(value, str):
        try:
            vector = _floats(a2b_base64(value))
        except (ValueError, TypeError):
            raise unexpected(_WHAT, "a vector is not base64 of 32-bit numbers", status=status) from None
    elif isinstance(value, list):
        try:
            vector = array("d", value).tolist()
        except (TypeError, OverflowError):
            raise unexpected(_WHAT, "a vector holds something other than numbers", status=status) from None
    else:
        raise unexpected(_WHAT, "an entry has no vector", status=status)
    if not vector or not math.isfinite(sum(vector)):
        problem = "a vector holds values that are not numbers (NaN or infinite)" if vector else "a vector is empty"
        raise unexpected(_WHAT, problem, status=status)
    return vector
