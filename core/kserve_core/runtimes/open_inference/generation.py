"""Text generation by models that take tensors: whole answers and streams, over every way the servers have.

========== ============================== =======================================
server     whole answer                   pieces
========== ============================== =======================================
Triton     `generate`; `ModelInfer`       `generate_stream`; `ModelStreamInfer`
- decoupled  as pieces, put together      the same
MLServer   `infer`; `ModelInfer`          `infer_stream`; `ModelStreamInfer`
========== ============================== =======================================

A model that answers once (Triton's plain ones) streams as one piece. So does MLServer's Hugging Face runtime, which
cannot stream: it is asked for the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from kserve_core.batching import joined
from kserve_core.calls import Flow, Given, Parallel
from kserve_core.capabilities import Params, TextRequest
from kserve_core.errors import ConfigurationError, KServeError, UnsupportedParameterError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.open_inference.answers import Reading, TextPieces, together, whole
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.bodies import result_of
from kserve_core.runtimes.open_inference.errors import Asked, is_decoupled, stream_failure
from kserve_core.runtimes.open_inference.generate import generate_call, generate_stream_call
from kserve_core.runtimes.open_inference.given import Value
from kserve_core.runtimes.open_inference.params import Beside, beside
from kserve_core.runtimes.open_inference.presets import PLACES, SAMPLING, TextModel, text_model
from kserve_core.runtimes.open_inference.streams import ASK_FINAL, EventStream, MessageStream
from kserve_core.runtimes.open_inference.values import InferRequest, TensorSpec
from kserve_core.tensors import Tensor
from kserve_core.types import GenerationChunk, TextResult


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a request is sent.

    Attributes:
        name: The model's name.
        model: How it takes text.
        asked: The same for errors.
        sent: What goes beside the prompt.
        request: The request.
        streamed: Whether the model's answers are read as a stream.
    """

    name: str
    model: TextModel
    asked: Asked
    sent: Beside
    request: TextRequest = field(repr=False)
    streamed: bool


class TensorGeneration(OpenInferenceRuntime):
    """Completes prompts by a model with text tensors; a `TextRuntime`.

    The metadata says which input takes the prompt, where parameters go and which output is the answer; see
    `presets` and `params`. Answers are the same whole and streamed: without the prompt, if the model repeats it, and
    cut at the first stop text, whether the server knows stop texts or not.

    Args:
        default_max_tokens: `max_tokens` of requests that set none, to models that have a place for it; backends often
            stop after few tokens otherwise. None leaves it to the server.
        **options: See `OpenInferenceRuntime`.
    """

    supports_constraints: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, default_max_tokens: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.default_max_tokens = default_max_tokens
        self._decoupled: frozenset[str] = frozenset()  # models that turned out to answer in pieces

    def generate(self, request: TextRequest) -> Flow[TextResult]:
        """All prompts of the request, each sent by itself and side by side; Triton batches them as configured.

        Raises:
            UnsupportedParameterError: If the model has no place for a parameter.
            ConfigurationError: If the request cannot be right, or it is not clear how the model takes text.
        """
        check_texts("prompt", request.prompts)
        return self._generate(request, request.prompts)

    def stream_generate(self, request: TextRequest) -> Flow[Any]:
        """One prompt's completion in pieces; raises as `generate`."""
        prompts = request.prompts
        check_texts("prompt", prompts)
        if len(prompts) != 1:
            msg = f"A stream takes one prompt, not {len(prompts)}."
            raise ConfigurationError(msg)
        return self._stream(request, prompts[0])

    # --- whole answers ------------------------------------------------------------------------------------------

    def _generate(self, request: TextRequest, prompts: Sequence[str]) -> Flow[TextResult]:
        plan = yield from self._plan(request, pieces=False)
        try:
            answers = yield from self._answers(plan, prompts)
        except KServeError as error:
            if plan.streamed or not is_decoupled(error) or not self._can_stream(plan.model):
                raise
            self._decoupled |= {plan.name}
            plan = yield from self._plan(request, pieces=False)
            answers = yield from self._answers(plan, prompts)
        return joined(answers)

    def _answers(self, plan: _Plan, prompts: Sequence[str]) -> Flow[list[TextResult]]:
        name = plan.name
        calls = [
            replace(self._stream_call(plan, each), together=True) if plan.streamed else self._call(plan, each)
            for each in prompts
        ]
        if len(calls) == 1:
            return [together((yield from self.send(calls[0], name)))]
        outcomes: list[Any] = yield Parallel(calls=calls)
        for outcome in outcomes:
            if isinstance(outcome, KServeError):
                raise outcome
        return [together(outcome) for outcome in outcomes]

    def _call(self, plan: _Plan, prompt: str) -> Any:
        """A call whose result is the pieces of the answer."""
        reading = self._reading(plan, prompt)
        if self.protocol == "rest" and self.dialect.rest_generation == "generate":
            return self._flat(generate_call, plan, prompt, reading)
        return self.infer_call(self._infer_request(plan, prompt), partial(whole, reading))

    def _flat(self, make: Callable[..., Any], plan: _Plan, prompt: str, reading: Reading) -> Any:
        call = make(
            self._rest.paths,
            plan.asked,
            inputs=_inputs(plan, prompt),
            parameters=plan.sent.parameters,
            reading=reading,
            headers=plan.request.headers,
        )
        return replace(call, probe=self._rest.model_ready(plan.name, self.model_version))

    # --- streams ------------------------------------------------------------------------------------------------

    def _stream(self, request: TextRequest, prompt: str) -> Flow[Any]:
        plan = yield from self._plan(request, pieces=True)
        if plan.streamed:
            return self._stream_call(plan, prompt)
        pieces: Sequence[GenerationChunk] = yield from self.send(self._call(plan, prompt), plan.name)
        return Given(pieces)

    def _stream_call(self, plan: _Plan, prompt: str) -> Any:
        reading = self._reading(plan, prompt, streamed=True)
        fail = partial(stream_failure, plan.asked)
        if self.protocol == "rest" and self.dialect.rest_generation == "generate":
            return self._flat(generate_stream_call, plan, prompt, reading)
        decoder: Any
        if self.protocol == "rest":

            def decoder() -> EventStream[GenerationChunk]:
                return EventStream(TextPieces(reading), result_of, fail, log=True)

        else:
            from kserve_core.runtimes.open_inference.grpc import read_infer_message

            wrapped = self.dialect.wrapped_stream
            marked = plan.sent.parameters.get(ASK_FINAL) is not False

            def decoder() -> MessageStream[GenerationChunk]:
                return MessageStream(TextPieces(reading), read_infer_message, fail, wrapped=wrapped, marked=marked)

        return self.stream_infer_call(self._infer_request(plan, prompt), decoder)

    # --- shared -------------------------------------------------------------------------------------------------

    def _plan(self, request: TextRequest, *, pieces: bool) -> Flow[_Plan]:
        """Finds out how to ask the model.

        Args:
            request: The request.
            pieces: Whether the caller wants pieces; an answer may be read as a stream all the same.
        """
        name = yield from self._name_of(request.model)
        metadata = yield from self.describe_model(name)
        yield from self.heard_of(name)
        with self.choosing(metadata):
            model = text_model(metadata, self.options, self.dialect)
        if request.constraint is not None:
            msg = f"{self.name} cannot hold an answer to a form."
            raise UnsupportedParameterError(msg, hint="Ask for the form in the prompt, and check the answer.")
        decoupled = metadata.decoupled or name in self._decoupled
        streamed = self._can_stream(model) and (pieces or decoupled)
        place = partial(
            beside,
            model,
            self._limited(request, model),
            extra_body=request.extra_body,
            extra_inputs=self.options.extra_inputs,
            parameters=self.options.parameters,
            include_usage=request.include_usage or not pieces,
        )
        sent = place(streaming=pieces and streamed)
        if streamed and not pieces and sent.stops and not sent.server_stops:
            sent = place(streaming=True)  # so that the model can be stopped where the answer ends
        _check_required(model, sent)
        asked = Asked(
            self.dialect,
            "stream" if streamed else "infer",
            name,
            self.model_version,
            known=self.known_names(),
            declared=metadata,
        )
        return _Plan(name, model, asked, sent, request, streamed)

    def _limited(self, request: TextRequest, model: TextModel) -> Params:
        """The parameters, with a length where none is set."""
        limits = ("max_tokens", "max_completion_tokens")
        if self.default_max_tokens is None or any(request.params.get(name) is not None for name in limits):
            return request.params
        own = {*limits, *PLACES["max_tokens"], SAMPLING}
        if own & {*request.extra_body, *self.options.extra_inputs, *self.options.parameters}:
            return request.params  # the user says it in the model's own words
        takes = model.kind != "tensors" or model.place("max_tokens") is not None
        return {**request.params, "max_tokens": self.default_max_tokens} if takes else request.params

    def _can_stream(self, model: TextModel) -> bool:
        if self.protocol == "grpc":
            return self.dialect.grpc_stream and model.kind != "huggingface"
        return self.dialect.rest_generation != "none" and model.kind != "huggingface"

    def _reading(self, plan: _Plan, prompt: str, *, streamed: bool = False) -> Reading:
        sent = plan.sent
        return Reading(
            kind=plan.model.kind,
            model=plan.name,
            prompt=prompt,
            output=plan.model.output,
            stops=sent.stops,
            keep_stop=sent.keep_stop,
            echo=sent.echo,
            cumulative=streamed and bool(self.options.cumulative),
            logprobs=sent.logprobs,
            usage=plan.request.include_usage or not streamed,
        )

    def _infer_request(self, plan: _Plan, prompt: str) -> InferRequest:
        model = plan.model
        outputs = () if model.output is None or model.kind == "huggingface" else (model.output, *plan.sent.outputs)
        return InferRequest(
            inputs=[_tensor(name, value, self.dialect.text_column) for name, value in _inputs(plan, prompt).items()],
            outputs=outputs,
            model=plan.name,
            version=self.model_version,
            parameters=plan.sent.parameters,
            headers=plan.request.headers,
        )


def _inputs(plan: _Plan, prompt: str) -> dict[str, Value]:
    spec = plan.model.prompt
    return {spec.name: Value(spec, [prompt]), **plan.sent.inputs}


def _tensor(name: str, given: Value, column: bool) -> Tensor:
    count, rank = len(given.values), len(given.spec.shape)
    row = (1,) * (rank - 1) + (count,) if rank else ((count, 1) if column else (count,))
    shape = row if given.shape is None else given.shape
    return Tensor.of(
        name, list(given.values), datatype=given.spec.datatype, shape=shape, parameters=given.parameters or None
    )


def _check_required(model: TextModel, sent: Beside) -> None:
    """Raises if an input is missing that the model cannot do without, as far as the server tells."""
    if model.metadata.decoupled is None:
        return  # no configuration: nothing is known about it
    missing = [
        spec
        for spec in model.metadata.inputs
        if not spec.optional and spec.name != model.prompt.name and spec.name not in sent.inputs
    ]
    if missing:
        names = ", ".join(repr(spec.name) for spec in missing)
        msg = f"The model {model.metadata.name!r} cannot do without {names}."
        raise ConfigurationError(msg, hint=" ".join(_how(spec) for spec in missing))


def _how(spec: TensorSpec) -> str:
    for parameter, names in PLACES.items():
        if spec.name in names:
            return f"Set {parameter}=... ({spec.datatype})."
    return f"Give extra_inputs={{{spec.name!r}: ...}} ({spec.datatype})."
