"""The gRPC side of the stub: TGIS streams, Caikit and V2 vectors, serialized once and sent as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from functools import cache
from typing import Any, ClassVar

import grpc
import stub_v2

from kserve_core.protos import messages

TOKENS = 500
DIMENSION = 384


@cache
def stream_pieces() -> tuple[bytes, ...]:
    fmaas = messages.fmaas
    first = fmaas.GenerationResponse(input_token_count=5)
    rest = [fmaas.GenerationResponse(generated_token_count=n + 1, text=" word") for n in range(TOKENS)]
    last = fmaas.GenerationResponse(generated_token_count=TOKENS, stop_reason=1)
    return tuple(message.SerializeToString() for message in (first, *rest, last))


@cache
def vectors(count: int) -> bytes:
    common = messages.caikit_data_model_common
    values = common.NpFloat32Sequence(values=[0.01 * number for number in range(DIMENSION)])
    rows = [common.Vector1D(data_npfloat32sequence=values) for _ in range(count)]
    result = messages.caikit_data_model_caikit_nlp.EmbeddingResults(
        results=common.ListOfVector1D(vectors=rows), input_token_count=count
    )
    return bytes(result.SerializeToString())


def _embed(request: bytes, _: Any) -> bytes:
    return vectors(len(messages.caikit_runtime_nlp.EmbeddingTasksRequest.FromString(request).texts))


def _generate(_: bytes, __: Any) -> Iterator[bytes]:
    yield from stream_pieces()


class _Handlers(grpc.GenericRpcHandler):
    table: ClassVar[dict[str, tuple[Callable[..., Any], bool]]] = {
        "/fmaas.GenerationService/GenerateStream": (_generate, True),
        "/caikit.runtime.Nlp.NlpService/EmbeddingTasksPredict": (_embed, False),
        **stub_v2.HANDLERS,
    }

    def service(self, handler_call_details: Any) -> Any:
        found = self.table.get(handler_call_details.method)
        if found is None:
            return None
        answer, streamed = found
        make = grpc.unary_stream_rpc_method_handler if streamed else grpc.unary_unary_rpc_method_handler
        return make(answer)


def start() -> int:
    """Starts serving in threads; returns the port."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((_Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _running.append(server)
    return port


_running: list[grpc.Server] = []
