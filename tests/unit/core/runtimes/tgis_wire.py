"""A TGIS server without sockets: canned messages per method, and a record of what was asked.

The messages are those the wire facts describe. They go through bytes, as they do on a connection.
"""

from __future__ import annotations

from kserve_core.calls import GrpcFailure
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.grpc_failures import error_from_failure
from kserve_core.protos import messages
from kserve_core.runtimes.tgis import TGISRuntime

M = messages.fmaas
REASON = M.StopReason
ENDPOINT = Endpoint.create("grpc://tgis.example.svc:8033")


class Server:
    """Answers a method with messages, or with a status given as `(code, details)`."""

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []

    def client(self, **options):
        return RuntimeClient(ENDPOINT, TGISRuntime(**options), transport=self)

    @property
    def request(self):
        """The last request, as the server reads it."""
        call = self.calls[-1]
        return type(call.request).FromString(call.request.SerializeToString())

    @property
    def asked(self):
        return [call.method.rpartition("/")[2] for call in self.calls]

    def run(self, call):
        return call.read(self._answer(call))

    def stream(self, call):
        decoder = call.decoder()
        for message in self._answer(call):
            yield from decoder.feed(call.response_type.FromString(message.SerializeToString()))
            if decoder.finished:
                return
        yield from decoder.close()

    def close(self): ...

    def _answer(self, call):
        self.calls.append(call)
        answer = self.answers.get(call.method.rpartition("/")[2], ("UNIMPLEMENTED", "Method not found!"))
        if isinstance(answer, tuple):
            raise error_from_failure(GrpcFailure(*answer), endpoint=ENDPOINT, method=call.method, explain=call.explain)
        if isinstance(answer, list):
            return answer
        return call.response_type.FromString(answer.SerializeToString())


def batch(*responses):
    return M.BatchedGenerationResponse(responses=list(responses))


def done(text="ok", reason="EOS_TOKEN", **fields):
    """One finished answer; its counts are those of a prompt of two tokens and an answer of three."""
    fields = {"input_token_count": 2, "generated_token_count": 3, **fields}
    return M.GenerationResponse(text=text, stop_reason=REASON.Value(reason), **fields)


def piece(text="", count=0, **fields):
    return M.GenerationResponse(text=text, generated_token_count=count, **fields)


# The example of the wire facts: three new tokens, the prompt's message first.
EXAMPLE = [
    piece(input_token_count=2),
    piece("ike", 1),
    piece("[", 2),
    piece("<think>", 3, stop_reason=REASON.MAX_TOKENS),
]
