"""The methods of `fmaas.GenerationService`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from kserve_core.devserver import tokens
from kserve_core.devserver.grpc_exchange import GrpcContext
from kserve_core.devserver.grpc_host import GrpcMethod
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.tgis.checks import MAX_NEW_TOKENS, check_adapters, check_parameters, crash
from kserve_core.devserver.wires.tgis.job import Job, make
from kserve_core.protos import messages

_SERVICE = "/fmaas.GenerationService/"


def methods(settings: Settings) -> list[GrpcMethod]:
    """Everything one server of this kind answers."""
    types = messages.fmaas
    return [
        GrpcMethod(
            path=f"{_SERVICE}Generate",
            request=types.BatchedGenerationRequest,
            response=types.BatchedGenerationResponse,
            handler=partial(_generate, settings),
        ),
        GrpcMethod(
            path=f"{_SERVICE}GenerateStream",
            request=types.SingleGenerationRequest,
            response=types.GenerationResponse,
            handler=partial(_stream, settings),
            stream=True,
        ),
        GrpcMethod(
            path=f"{_SERVICE}Tokenize",
            request=types.BatchedTokenizeRequest,
            response=types.BatchedTokenizeResponse,
            handler=_tokenize,
        ),
        GrpcMethod(
            path=f"{_SERVICE}ModelInfo",
            request=types.ModelInfoRequest,
            response=types.ModelInfoResponse,
            handler=partial(_model_info, settings),
        ),
    ]


def _generate(
    settings: Settings, request: messages.fmaas.BatchedGenerationRequest, context: GrpcContext
) -> messages.fmaas.BatchedGenerationResponse:
    check_adapters(settings, request)
    check_parameters(request.params)
    jobs = [make(one.text, request.params, settings) for one in request.requests]
    if settings.pace and jobs:
        context.sleep(settings.pace * max(job.output.token_count for job in jobs))
    return messages.fmaas.BatchedGenerationResponse(responses=[_whole(job) for job in jobs])


def _whole(job: Job) -> messages.fmaas.GenerationResponse:
    return messages.fmaas.GenerationResponse(
        text=(job.prompt if job.params.response.input_text else "") + job.output.raw,
        input_token_count=len(job.ids),
        generated_token_count=job.output.token_count,
        tokens=job.tokens(job.output.ids),
        input_tokens=job.input_tokens(),
        seed=job.seed,
        **job.end,
    )


def _stream(
    settings: Settings, request: messages.fmaas.SingleGenerationRequest, context: GrpcContext
) -> Iterator[messages.fmaas.GenerationResponse]:
    """The prompt's message first, then one per step with the new text and the tokens so far."""
    check_adapters(settings, request)  # type: ignore[arg-type] # both kinds of request have these fields
    check_parameters(request.params)
    if not request.HasField("request"):
        crash("The decoder prompt cannot be empty")
    job = make(request.request.text, request.params, settings)
    answer = messages.fmaas.GenerationResponse
    yield answer(
        input_token_count=len(job.ids),
        seed=job.seed,
        text=job.prompt if request.params.response.input_text else "",
        input_tokens=job.input_tokens(),
    )
    limit = request.params.stopping.time_limit_millis / 1000
    began = time.monotonic()
    pieces, made = job.output.pieces, 0
    at_end = job.output.token_count == sum(len(piece.ids) for piece in pieces)
    for position, piece in enumerate(pieces):
        if settings.pace:
            context.sleep(settings.pace * len(piece.ids))
        made += len(piece.ids)
        message = answer(text=piece.text, generated_token_count=made, tokens=job.tokens(piece.ids))
        if limit and time.monotonic() - began > limit:
            message.stop_reason = messages.fmaas.StopReason.TIME_LIMIT
            yield message
            return
        if at_end and position == len(pieces) - 1:
            message.MergeFrom(answer(**job.end))
        yield message
    if not at_end or not pieces:
        yield answer(generated_token_count=job.output.token_count, **job.end)


def _tokenize(request: messages.fmaas.BatchedTokenizeRequest, _: GrpcContext) -> messages.fmaas.BatchedTokenizeResponse:
    answer = messages.fmaas.BatchedTokenizeResponse()
    for one in request.requests:
        ids = tokens.encode(one.text)
        offsets = _offsets(ids)
        if request.truncate_input_tokens:
            ids, offsets = ids[-request.truncate_input_tokens :], offsets[-request.truncate_input_tokens :]
        made = answer.responses.add(token_count=len(ids))
        if request.return_tokens:
            made.tokens.extend(tokens.raw_piece(number) for number in ids)
        if request.return_offsets:
            for start, end in offsets:
                made.offsets.add(start=start, end=end)
    return answer


def _offsets(ids: list[int]) -> list[tuple[int, int]]:
    """Where each token is in the text, in characters; tokens that share a character share its place."""
    found: list[tuple[int, int]] = []
    at, waiting, waiting_for = 0, b"", 0
    for number in ids:
        waiting += tokens.piece_of(number)
        waiting_for += 1
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            continue
        found += [(at, at + len(text))] * waiting_for
        at, waiting, waiting_for = at + len(text), b"", 0
    return found + [(at, at + 1)] * waiting_for


def _model_info(
    settings: Settings, _: messages.fmaas.ModelInfoRequest, __: GrpcContext
) -> messages.fmaas.ModelInfoResponse:
    return messages.fmaas.ModelInfoResponse(
        model_kind=messages.fmaas.ModelInfoResponse.ModelKind.DECODER_ONLY,
        max_sequence_length=settings.models[0].max_model_len,
        max_new_tokens=MAX_NEW_TOKENS,
    )
