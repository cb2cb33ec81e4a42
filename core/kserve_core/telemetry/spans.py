"""Operations as OpenTelemetry spans and measurements; the only module here that imports OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, closing
from typing import Any, TypeVar

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kserve_core import observe
from kserve_core._version import __version__
from kserve_core.errors import KServeError
from kserve_core.telemetry import content, conventions
from kserve_core.telemetry.tally import Tally
from kserve_core.types import Usage

T = TypeVar("T")

logger = logging.getLogger("kserve_core.telemetry")

_SCOPE = "kserve_core"
_WATCH = contexts.create_key("kserve-watch")
_END: Any = object()


class Recorder:
    """Records every operation; see `observe.Telemetry`.

    Args:
        tracer_provider: Where spans go.
        meter_provider: Where measurements go.
        capture_content: Whether spans hold prompts and answers.
        propagator: Makes the trace headers.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        *,
        capture_content: bool,
        propagator: TextMapPropagator | None,
    ) -> None:
        self.content = capture_content
        self.tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, conventions.SCHEMA_URL)
        self._propagator = propagator or TraceContextTextMapPropagator()
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider, conventions.SCHEMA_URL)
        self.duration = _histogram(
            meter, "gen_ai.client.operation.duration", "s", "GenAI operation duration.", conventions.DURATION_BOUNDARIES
        )
        self.first_chunk = _histogram(
            meter,
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk of a streamed answer.",
            conventions.DURATION_BOUNDARIES,
        )
        self.tokens = _histogram(
            meter,
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            conventions.TOKEN_BOUNDARIES,
        )

    def operation(self, client: Any, about: Any, *, streamed: bool = False) -> SpanOperation:
        """See `observe.Telemetry.operation`."""
        return SpanOperation(self, client, about, streamed=streamed)

    def watch(self) -> observe.Watch | None:
        """See `observe.Telemetry.watch`."""
        found: Any = contexts.get_value(_WATCH)
        return found  # type: ignore[no-any-return]

    def headers(self) -> Mapping[str, str]:
        """See `observe.Telemetry.headers`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return {name.lower(): value for name, value in carrier.items()}

    def batched(self, call: Callable[[Any], T], count: int) -> Callable[[Any], T]:
        """See `observe.Telemetry.batched`."""
        parent: Any = contexts.get_value(_WATCH)
        if count < 2 or not isinstance(parent, _Noted):
            return call

        def noted(each: Any) -> T:
            with _Batch(self, parent):
                return call(each)

        return noted

    def abatched(self, call: Callable[[Any], Any], count: int) -> Callable[[Any], Any]:
        """See `observe.Telemetry.abatched`."""
        parent: Any = contexts.get_value(_WATCH)
        if count < 2 or not isinstance(parent, _Noted):
            return call

        async def noted(each: Any) -> Any:
            with _Batch(self, parent):
                return await call(each)

        return noted


class _Noted:
    """A span that is told of the requests sent for it; see `observe.Watch`."""

    def __init__(self, recorder: Recorder, parent: _Noted | None = None) -> None:
        self.recorder = recorder
        self.name: str = "" if parent is None else parent.name
        self.server: dict[str, Any] = {} if parent is None else parent.server
        self.span: trace.Span = trace.INVALID_SPAN
        self._parent = parent
        self._context: Any = None
        self._token: Any = None
        self._sent: list[int] = []  # appended to by several threads

    def open(self, name: str, attributes: dict[str, Any]) -> None:
        """Starts the span as a child of the current one."""
        self.span = self.recorder.tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
        self._context = contexts.set_value(_WATCH, self, trace.set_span_in_context(self.span))

    def attach(self) -> None:
        """Makes the span the current one, for as long as `detach` is not called."""
        self._token = contexts.attach(self._context)

    def detach(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            contexts.detach(token)

    def failed(self, error: KServeError, attempt: int, wait: float, *, cold: bool = False) -> None:
        """See `observe.Watch.failed`."""
        if self.span.is_recording():
            facts = {"kserve.attempt": attempt, "kserve.wait": wait, "kserve.cold_start": cold}
            self.span.add_event("kserve.retry", {**conventions.error_attributes(error), **facts})

    def sent(self, count: int) -> None:
        """See `observe.Watch.sent`."""
        self._sent.append(count)
        if self._parent is not None:
            self._parent.sent(count)

    def answered(self, request_id: str | None) -> None:
        """See `observe.Watch.answered`."""
        if request_id:
            self.span.set_attribute("kserve.request_id", request_id)

    def close(self, exc: BaseException | None) -> None:
        """Ends the span, with the kind of the error if it ended in one."""
        span = self.span
        if span.is_recording():
            if self._sent:
                span.set_attribute("kserve.requests", sum(self._sent))
            if _given_up(exc):
                span.set_attribute("kserve.abandoned", value=True)
            elif exc is not None:
                span.set_attributes(conventions.error_attributes(exc))
                span.set_status(trace.StatusCode.ERROR, type(exc).__name__)
                if isinstance(exc, KServeError):
                    self.answered(exc.request_id)
        span.end()


class _Batch(_Noted):
    """One of several parallel requests of an operation, as a child of its span."""

    def __enter__(self) -> None:
        self.open(f"{self.name} batch", self.server)
        self.attach()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: Any) -> None:
        self.detach()
        self.close(exc)


class SpanOperation(_Noted):
    """See `observe.Operation`."""

    def __init__(self, recorder: Recorder, client: Any, about: Any, *, streamed: bool) -> None:
        super().__init__(recorder)
        self.name = conventions.operation_name(about)
        self.server = {"server.address": client.endpoint.host, "server.port": client.endpoint.port}
        self._client = client
        self._about = about
        self._streamed = streamed
        self._began = 0.0
        self._response_model: str | None = None
        self._usage: Usage | None = None
        self._first: float | None = None

    def begin(self) -> None:
        """Starts the span and the clock."""
        self._began = time.monotonic()
        model = self._model()
        attributes = {**self._kind(), **self.server}
        if model:
            attributes["gen_ai.request.model"] = model
        self.open(f"{self.name} {model}" if model else self.name, attributes)
        if self.span.is_recording():
            self._tell(lambda: conventions.request_attributes(self._about, streamed=self._streamed))
            if self.recorder.content:
                self._tell(lambda: content.input_content(self._about))

    def __enter__(self) -> SpanOperation:
        self.begin()
        self.attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: Any) -> None:
        self.detach()
        self.finish(exc)

    def result(self, value: T) -> T:
        """See `observe.Operation.result`."""
        self._usage = conventions.result_usage(value)
        model = getattr(value, "model", None)
        self._response_model = model if isinstance(model, str) else None
        if self.span.is_recording():
            self._tell(lambda: conventions.result_attributes(value))
            if self.recorder.content:
                self._tell(lambda: content.output_content(value))
        return value

    def first_piece(self) -> None:
        """See `observe.Operation.first_piece`."""
        if self._first is None:
            self._first = time.monotonic() - self._began
            self._streamed = True
            self.span.set_attribute("gen_ai.request.stream", value=True)

    def pieces(self, pieces: Generator[T, None, None]) -> Generator[T, None, None]:
        """See `observe.Operation.pieces`."""
        self.begin()
        tally = Tally(content=self.recorder.content)
        error: BaseException | None = None
        try:
            with closing(pieces):
                # Only the first piece is waited for inside of the span's context: all requests are sent by then, and
                # between two pieces the context is the reader's.
                self.attach()
                try:
                    piece = next(pieces, _END)
                finally:
                    self.detach()
                if piece is _END:
                    return
                self.first_piece()
                tally.take(piece)
                yield piece
                for piece in pieces:
                    tally.take(piece)
                    yield piece
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._finish_stream(tally, error)

    async def apieces(self, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """See `observe.Operation.apieces`."""
        self.begin()
        tally = Tally(content=self.recorder.content)
        error: BaseException | None = None
        try:
            async with aclosing(pieces):
                self.attach()
                try:
                    piece = await pieces.__anext__()
                except StopAsyncIteration:
                    return
                finally:
                    self.detach()
                self.first_piece()
                tally.take(piece)
                yield piece
                async for piece in pieces:
                    tally.take(piece)
                    yield piece
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._finish_stream(tally, error)

    def _finish_stream(self, tally: Tally, error: BaseException | None) -> None:
        self._usage = tally.usage
        found = tally.attributes()
        self._response_model = found.get("gen_ai.response.model")
        self.span.set_attributes({**found, "kserve.response.pieces": tally.count})
        self.finish(error)

    def _tell(self, attributes: Callable[[], Mapping[str, Any]]) -> None:
        """Adds to the span; what cannot be told, such as arguments the call is going to refuse, is left out."""
        try:
            self.span.set_attributes(attributes())
        except Exception as exc:  # noqa: BLE001 - a call must not fail because it is watched
            logger.debug("an operation's span lacks attributes (%s)", type(exc).__name__)

    def finish(self, exc: BaseException | None) -> None:
        """Measures the operation and ends its span."""
        took = time.monotonic() - self._began
        model = self._model()
        models = {"gen_ai.request.model": model, "gen_ai.response.model": self._response_model}
        kind = {**self._kind(), **self.server, **{name: value for name, value in models.items() if value}}
        if model and self.span.is_recording():
            # The name may have been asked for meanwhile.
            self.span.update_name(f"{self.name} {model}")
            self.span.set_attribute("gen_ai.request.model", model)
        if self._usage is not None:
            self._count(self._usage, kind)
        if self._first is not None:
            self.span.set_attribute("gen_ai.response.time_to_first_chunk", self._first)
            self.recorder.first_chunk.record(self._first, kind)
        ended = {**kind, "error.type": type(exc).__name__} if exc is not None and not _given_up(exc) else kind
        self.recorder.duration.record(took, ended)
        self.close(exc)

    def _count(self, usage: Usage, kind: dict[str, Any]) -> None:
        generates = conventions.generates(self._about)
        self.span.set_attributes(conventions.usage_attributes(usage, generates=generates))
        self.recorder.tokens.record(usage.prompt_tokens, {**kind, "gen_ai.token.type": "input"})
        if generates:
            self.recorder.tokens.record(usage.completion_tokens, {**kind, "gen_ai.token.type": "output"})

    def _kind(self) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": self.name,
            "gen_ai.provider.name": conventions.provider_name(self._client.runtime),
        }

    def _model(self) -> str | None:
        model = getattr(self._about, "model", None) or getattr(self._client.runtime, "model", None)
        return model if isinstance(model, str) else None


def _given_up(exc: BaseException | None) -> bool:
    """Whether the caller ended it: by leaving a stream, or cancelling."""
    return isinstance(exc, (GeneratorExit, asyncio.CancelledError))


def _histogram(
    meter: metrics.Meter, name: str, unit: str, description: str, boundaries: tuple[float, ...]
) -> metrics.Histogram:
    try:
        return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)
    except TypeError:  # before 1.30, and of providers that do not know them
        return meter.create_histogram(name, unit, description)
