"""POST /v1/embeddings and /pooling."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.features import embed, normalized
from kserve_core.devserver.messages import Reply, Request, json_reply
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires.vllm import fields
from kserve_core.devserver.wires.vllm.context import Context, answer_id
from kserve_core.devserver.wires.vllm.errors import ApiError, problem, schema_error, too_long
from kserve_core.devserver.wires.vllm.usage import usage

_FIELDS = {
    "model": "str",
    "encoding_format": "str",
    "dimensions": "int",
    "user": "str",
    "truncate_prompt_tokens": "int",
    "truncation_side": "str",
    "add_special_tokens": "bool",
    "embed_dtype": "str",
    "endianness": "str",
}
_FORMATS = {"float", "base64", "bytes", "bytes_only"}
_DTYPES = {"float32": "f", "float16": "e"}


class Embeddings:
    """The embedding endpoint."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Reply:
        """POST /v1/embeddings."""
        return self._answer(request, pooling=False)

    async def pooling(self, request: Request) -> Reply:
        """POST /pooling: the same vectors under another name."""
        return self._answer(request, pooling=True)

    def _answer(self, request: Request, *, pooling: bool) -> Reply:
        body = fields.body_of(request)
        fields.check(body, _FIELDS, required=("input",))
        model, name = self._context.model(body, param=None)
        wanted = _dimensions(body, model)
        encoding = _choice(body, "encoding_format", _FORMATS, "float")
        if "normalize" in body and self._context.settings.release >= (0, 32):
            msg = "The `normalize` parameter is no longer supported; use `use_activation`."
            raise ApiError(msg)
        prompts = [truncated(ids, body, model) for ids in _inputs(body["input"])]
        vectors = [self._vector(ids, model, wanted) for ids in prompts]
        count = sum(map(len, prompts))
        head = {
            "id": answer_id("embd" if not pooling else "pool", request, body),
            "object": "list",
            "created": int(time.time()),
            "model": name,
        }
        counted = usage(count, 0)
        if encoding in {"bytes", "bytes_only"}:
            return _octets(head, vectors, counted, body, with_metadata=encoding == "bytes")
        key, kind = ("data", "pooling") if pooling else ("embedding", "embedding")
        data: list[dict[str, Any]] = [
            {"index": at, "object": kind, key: _encoded(vector, encoding, body)} for at, vector in enumerate(vectors)
        ]
        return json_reply({**head, "data": data, "usage": counted})

    def _vector(self, ids: list[int], model: Model, wanted: int | None) -> Sequence[float]:
        vector = embed(tokens.decode(ids), model.dimensions)
        return vector if wanted is None else normalized(vector[:wanted])


def truncated(ids: list[int], body: Mapping[str, Any], model: Model, *, beside: int = 0) -> list[int]:
    """The prompt, shortened as asked.

    Raises:
        ApiError: It does not fit, or the wanted length does not.
    """
    limit = body.get("truncate_prompt_tokens")
    if limit is not None:
        if limit < -1:
            msg = f"truncate_prompt_tokens must be an integer greater than or equal to -1, got {limit}."
            raise ApiError(msg, param="truncate_prompt_tokens")
        if limit > model.max_model_len:
            msg = (
                f"truncate_prompt_tokens value ({limit}) is greater than max_model_len ({model.max_model_len}). "
                "Please, select a smaller truncation size."
            )
            raise ApiError(msg, param="truncate_prompt_tokens")
        limit = max(0, (model.max_model_len if limit == -1 else limit) - beside)
        if len(ids) > limit:
            ids = ids[len(ids) - limit :] if body.get("truncation_side") == "left" else ids[:limit]
    if len(ids) + beside > model.max_model_len:
        raise too_long(model.max_model_len, len(ids) + beside)
    return ids


def _inputs(given: Any) -> list[list[int]]:
    if isinstance(given, str):
        return [tokens.encode(given)]
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return [tokens.encode(item) for item in given]
        lists = [given] if all(isinstance(item, int) for item in given) else given
        if all(isinstance(ids, list) and all(isinstance(number, int) for number in ids) for ids in lists):
            for ids in lists:
                if any(not 0 <= number < tokens.VOCABULARY_SIZE for number in ids):
                    msg = f"Token id {max(ids)} is out of vocabulary"
                    raise ApiError(msg)
            return [list(ids) for ids in lists]
    if given == []:
        msg = "input must not be empty."
        raise ApiError(msg, param="input")
    text = "Input should be a valid string, list of strings or lists of token ids"
    raise schema_error(problem("string_type", ("body", "input"), text, given))


def _dimensions(body: Mapping[str, Any], model: Model) -> int | None:
    wanted = body.get("dimensions")
    if wanted is None:
        return None
    if not model.matryoshka:
        msg = (
            f'Model "{model.name}" does not support matryoshka representation, changing output dimensions will '
            "lead to poor results."
        )
        raise ApiError(msg)
    if not 1 <= wanted <= model.dimensions:
        msg = f"Invalid value for dimensions: {wanted}, must be between 1 and {model.dimensions}."
        raise ApiError(msg)
    return int(wanted)


def _choice(body: Mapping[str, Any], field: str, known: set[str], default: str) -> str:
    value = body.get(field)
    if value is None:
        return default
    if value not in known:
        text = f"Input should be one of {', '.join(sorted(known))}"
        raise schema_error(problem("literal_error", ("body", field), text, value))
    return str(value)


def _packed(vector: Sequence[float], body: Mapping[str, Any]) -> bytes:
    code = _DTYPES[_choice(body, "embed_dtype", set(_DTYPES), "float32")]
    order = ">" if body.get("endianness") == "big" else "<"
    return struct.pack(f"{order}{len(vector)}{code}", *vector)


def _encoded(vector: Sequence[float], encoding: str, body: Mapping[str, Any]) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(_packed(vector, body)).decode()
    return list(vector)


def _octets(
    head: dict[str, Any],
    vectors: list[Sequence[float]],
    counted: dict[str, Any],
    body: Mapping[str, Any],
    *,
    with_metadata: bool,
) -> Reply:
    parts = [_packed(vector, body) for vector in vectors]
    headers = {}
    if with_metadata:
        data, start = [], 0
        for at, part in enumerate(parts):
            data.append(
                {
                    "index": at,
                    "embed_dtype": body.get("embed_dtype") or "float32",
                    "endianness": body.get("endianness") or "native",
                    "start": start,
                    "end": start + len(part),
                    "shape": [len(vectors[at])],
                }
            )
            start += len(part)
        headers["metadata"] = orjson.dumps({**head, "data": data, "usage": counted}).decode()
    return Reply(200, b"".join(parts), "application/octet-stream", headers)
