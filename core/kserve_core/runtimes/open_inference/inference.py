"""How requests for tensors are sent, and what is learnt of their answers about how to send the next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kserve_core.calls import AnyCall, AnyStreamCall, Call, Exchange, Flow
from kserve_core.errors import ResponseError
from kserve_core.runtimes.open_inference.bodies import HEADER_LENGTH, Binary
from kserve_core.runtimes.open_inference.dialects import TRITON
from kserve_core.runtimes.open_inference.errors import needs_raw, refuses_raw
from kserve_core.runtimes.open_inference.foundation import Foundation
from kserve_core.runtimes.open_inference.naming import checked_version
from kserve_core.runtimes.open_inference.results import results_decoder
from kserve_core.runtimes.open_inference.values import InferRequest, InferResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What a model's answers over REST have shown; None where nothing has.

    Attributes:
        send: Whether it takes raw tensors.
        ask: Whether it may be asked for raw ones.
    """

    send: bool | None = None
    ask: bool | None = None


class Inference(Foundation):
    """Requests for tensors; see `base.OpenInferenceRuntime`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._learnt: Mapping[str, _Learnt] = {}

    def request(
        self,
        inputs: Sequence[Any],
        *,
        model: str,
        outputs: Sequence[str] = (),
        version: str | int | None = None,
        id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InferRequest:
        """A request to a model, with the runtime's own version and parameters where none are given.

        Raises:
            ConfigurationError: If the server can have no such version.
        """
        chosen = self.model_version if version is None else checked_version(version, self.dialect)
        return InferRequest(
            inputs=inputs,
            outputs=outputs,
            model=model,
            version=chosen,
            id=id,
            parameters={**self.options.parameters, **(parameters or {})},
            headers=headers or {},
        )

    def infer(self, request: InferRequest) -> Flow[InferResult]:
        """Tensors for one answer. How the model takes raw tensors over REST is learnt where the server refuses it.

        Raises:
            KServeError: What went wrong.
        """
        return (yield from self._infer(request, _same, self.infer_call(request, _same)))

    def infer_exchange(self, request: InferRequest, read: Callable[[InferResult], T]) -> Exchange[T]:
        """As `infer_call` once it is certain how the model takes raw tensors; before, a flow that finds out.

        Args:
            request: The tensors.
            read: Turns the answer into the result.

        Raises:
            ConfigurationError: If a tensor or a parameter has no form that the server takes.
        """
        call = self.infer_call(request, read)
        return self._infer(request, read, call) if self._unsure(request.model, call) else call

    def infer_call(self, request: InferRequest, read: Callable[[InferResult], T]) -> AnyCall[T]:
        """The call for tensors with one answer, as far as it is known how to send it.

        Args:
            request: The tensors.
            read: Turns the answer into the result.

        Raises:
            ConfigurationError: If a tensor or a parameter has no form that the server takes.
        """
        return self.wire.infer(
            request,
            read=read,
            known=self.known_names(),
            declared=self.known_model(request.model, request.version),
            binary=self._ways(request.model),
        )

    def stream_infer_call(self, request: InferRequest, decoder: Callable[[], Any]) -> AnyStreamCall[Any]:
        """The call for tensors with an answer in pieces; `decoder` is called once for every run of it.

        Raises:
            UnsupportedParameterError: If the server does not stream tensors over this protocol.
        """
        declared = self.known_model(request.model, request.version)
        return self.wire.stream_infer(request, decoder=decoder, known=self.known_names(), declared=declared)

    def stream_results(self, request: InferRequest, make: Callable[[InferResult], T]) -> AnyStreamCall[T]:
        """The call for tensors with any number of answers, each given out as it comes.

        Args:
            request: The tensors.
            make: Turns an answer into what is given out.

        Raises:
            UnsupportedParameterError: If the server does not stream tensors over this protocol.
        """
        return self.stream_infer_call(request, results_decoder(request, make, self.dialect, self.protocol))

    def _infer(self, request: InferRequest, read: Callable[[InferResult], T], call: AnyCall[T]) -> Flow[T]:
        model, before = request.model, self._learnt
        while True:  # there are two things to learn, each once
            try:
                result = yield from self.send(call, model)
            except ResponseError as error:
                if not self._learn(model, error, call):
                    self._learnt = before  # it was not that
                    raise
            else:
                self._settle(model, call)
                return result
            call = self.infer_call(request, read)

    def _forget(self, model: str) -> None:
        super()._forget(model)
        self._learnt = {name: learnt for name, learnt in self._learnt.items() if name != model}

    def _ways(self, model: str) -> Binary:
        learnt = self._learnt.get(model, _Learnt())
        return Binary(
            self.dialect.binary_input if learnt.send is None else learnt.send,
            self.dialect.binary_output if learnt.ask is None else learnt.ask,
        )

    def _unsure(self, model: str, call: AnyCall[Any]) -> bool:
        if self.protocol != "rest" or self.dialect == TRITON:  # which takes them for every model
            return False
        learnt = self._learnt.get(model, _Learnt())
        asks = learnt.ask is None and (self.dialect.binary_output or not self.dialect.json_halves)
        return asks or (learnt.send is None and _is_raw(call))

    def _learn(self, model: str, error: ResponseError, call: AnyCall[Any]) -> bool:
        """Whether the error says how to send the request instead."""
        if self.protocol != "rest":
            return False
        learnt = self._learnt.get(model, _Learnt())
        if learnt.send is None and _is_raw(call) and refuses_raw(error):
            learnt = replace(learnt, send=False)
        elif learnt.ask is None and (refuses_raw if self.dialect.binary_output else needs_raw)(error):
            learnt = replace(learnt, ask=not self.dialect.binary_output)
        else:
            return False
        self._learnt = {**self._learnt, model: learnt}
        return True

    def _settle(self, model: str, call: AnyCall[Any]) -> None:
        """Keeps that a request was answered in the way it was sent."""
        if self.protocol != "rest":
            return
        learnt, ways = self._learnt.get(model, _Learnt()), self._ways(model)
        known = replace(learnt, send=ways.send if _is_raw(call) else learnt.send, ask=ways.ask)
        if known != learnt:
            self._learnt = {**self._learnt, model: known}


def _is_raw(call: AnyCall[Any]) -> bool:
    return isinstance(call, Call) and HEADER_LENGTH in call.headers


def _same(result: InferResult) -> InferResult:
    return result
