"""Text over REST: Triton's flat `/generate` and `/generate_stream`, MLServer's `/infer_stream`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import orjson

from kserve_core.devserver.messages import BrokenOffError, Reply, Request, StreamReply, json_reply
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.v2 import bodies
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.repository import Repository
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import RAW_ONLY, Tensor, dumps, elements, flat
from kserve_core.devserver.wires.v2.ways import MLSERVER, TRITON

_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various "
    "number of responses"
)


async def generate(
    request: Request, settings: Settings, repository: Repository, model: Served, version: str | None, *, stream: bool
) -> Reply | StreamReply:
    """One of Triton's two routes.

    Raises:
        V2Error: The request is refused.
    """
    asked = flat_request(request.body, model, version)
    asked.listens = stream
    answers = repository.answers(asked)
    if stream:
        return _streamed(asked, answers, settings)
    found = list(answers)
    if settings.pace:
        await asyncio.sleep(settings.pace * sum(answered.tokens for answered in found))
    if len(found) != 1:
        return json_reply({"error": _ONE})
    return Reply(200, dumps(_flat_answer(asked, found[0])))


def flat_request(body: bytes, model: Served, version: str | None) -> Asked:
    """The request behind a flat object: members named like inputs, everything else a parameter.

    Raises:
        V2Error: It is not an object, or a value does not fit.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = f"failed to parse the request JSON buffer: Invalid value. at {error.pos}"
        raise V2Error(msg, "INTERNAL") from error
    if not isinstance(given, dict):
        msg = "attempt to access JSON non-object as object"
        raise V2Error(msg, "INTERNAL")
    identity = given.pop("id", None)
    asked = Asked(model.name, version, id=None if identity is None else str(identity))
    nested = given.pop("parameters", None)
    members = {**given, **nested} if isinstance(nested, dict) else given
    declared = {spec.name: spec for spec in model.inputs}
    asked.parameters = bodies.parameters({k: v for k, v in members.items() if k not in declared}, TRITON)
    for name, value in members.items():
        if name in declared:
            asked.inputs[name] = _tensor(declared[name], value, model)
    return asked


def infer_stream(asked: Asked, settings: Settings, repository: Repository) -> StreamReply:
    """MLServer's: from here on an error, even an unknown model, only breaks the body off."""
    asked.listens = True

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for answered in repository.answers(asked):
                if settings.pace:
                    await asyncio.sleep(settings.pace * answered.tokens)
                body, _ = bodies.write(asked, answered, MLSERVER)
                value = orjson.loads(body)
                value["parameters"] = {"headers": _cloud_event(asked)}
                yield _event(value)
        except V2Error as error:
            raise BrokenOffError(error.message) from error

    return StreamReply(pieces(), failure=_broken_off)


def _cloud_event(asked: Asked) -> dict[str, str]:
    return {
        "Ce-Specversion": "0.3",
        "Ce-Source": "io.seldon.serving.deployment.mlserver",
        "Ce-Type": "io.seldon.serving.inference.response",
        "Ce-Modelid": asked.model,
        "Ce-Inferenceservicename": "mlserver",
        "Ce-Endpoint": asked.model,
        "Ce-Id": asked.id or "",
        "Ce-Requestid": asked.id or "",
    }


def _streamed(asked: Asked, answers: Iterator[Answered], settings: Settings) -> StreamReply:
    """Triton's stream; an error before the first answer decides the status, a later one is the last event."""
    try:
        first = next(answers, None)
    except V2Error as error:
        status = TRITON.statuses.get(error.code, 500)
        return StreamReply(_only(_event({"error": error.message})), status=status, failure=_failure)

    async def pieces() -> AsyncIterator[bytes]:
        answered = first
        try:
            while answered is not None:
                if settings.pace:
                    await asyncio.sleep(settings.pace * answered.tokens)
                yield _event(_flat_answer(asked, answered))
                answered = next(answers, None)
        except V2Error as error:
            yield _event({"error": error.message})

    return StreamReply(pieces(), failure=_failure)


def _flat_answer(asked: Asked, answered: Answered) -> dict[str, Any]:
    body = bodies.describe(asked, TRITON)
    for tensor in answered.outputs:
        if tensor.datatype in RAW_ONLY:
            raise bodies.half(tensor, TRITON)
        data = tensor.json_data()
        body[tensor.name] = data[0] if len(data) == 1 else data
    return dict(sorted(body.items()))


def _tensor(spec: Spec, value: Any, model: Served) -> Tensor:
    """A member as the input it is named like."""
    values = elements(spec.name, spec.datatype, flat(value), strict=True)
    shape = [len(values)]
    if model.max_batch_size:
        shape = [1, len(values)]
    elif len(spec.shape) > 1:
        shape = [1] * (len(spec.shape) - 1) + shape
    return Tensor(spec.name, spec.datatype, shape, values)


def _event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def _failure(scripted: Mapping[str, Any] | None) -> bytes:
    """A scripted failure in the middle of Triton's stream."""
    return _event({"error": str((scripted or {}).get("message") or "the model failed in the middle of its answer")})


def _broken_off(scripted: Mapping[str, Any] | None) -> bytes:
    raise BrokenOffError(str((scripted or {}).get("message") or "scripted failure"))


async def _only(event: bytes) -> AsyncIterator[bytes]:
    yield event
