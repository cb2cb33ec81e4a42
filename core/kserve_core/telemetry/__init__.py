"""OpenTelemetry spans and metrics of everything this package sends, by the conventions for generative AI.

    from kserve_core import telemetry

    telemetry.instrument()

Needs the extra `otel`; where the spans go is up to the OpenTelemetry SDK the application sets up. Nothing is recorded,
sent or imported before `instrument` is called (or `opentelemetry-instrument` calls it). Prompts and answers are left
out unless they are asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from kserve_core import observe
from kserve_core.errors import ConfigurationError
from kserve_core.telemetry.content import captures_content

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "is_instrumented", "send_request_ids", "uninstrument"]


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
    propagator: TextMapPropagator | None = None,
) -> None:
    """Turns spans, metrics and trace headers on, for all clients of this process.

    Called again, it starts over with what it is given then. Operations that are under way are not touched.

    Args:
        tracer_provider: Where spans go; the global one if not given, also if that is set later.
        meter_provider: Where measurements go; likewise.
        capture_content: Whether spans hold prompts, answers and tool definitions. None:
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides (`true`, `span_only`, `span_and_event`).
        propagator: Makes the headers that carry the trace to the server; W3C's `traceparent` and `tracestate` if not
            given, and no baggage.

    Raises:
        ConfigurationError: If OpenTelemetry's API is not installed.
    """
    try:
        from kserve_core.telemetry.spans import Recorder
    except ImportError as exc:
        if not (exc.name or "").startswith("opentelemetry"):
            raise
        msg = "Telemetry needs the package opentelemetry-api."
        raise ConfigurationError(msg, hint="pip install 'kserve-integrations[otel]'") from None
    content = captures_content() if capture_content is None else capture_content
    observe.active = Recorder(tracer_provider, meter_provider, capture_content=content, propagator=propagator)


def uninstrument() -> None:
    """Turns spans, metrics and trace headers off again; operations that are under way are still recorded."""
    observe.active = None


def is_instrumented() -> bool:
    """Whether `instrument` is in force."""
    return observe.active is not None


def send_request_ids(make: Callable[[], str] | bool = True) -> None:
    """Has every call without an `x-request-id` of its own send one, for all clients of this process.

    A call keeps its id when it is sent again; the requests of a list that is cut have one each. Servers write it to
    their logs, and this package's errors and log lines name it. Needs no OpenTelemetry.

    Args:
        make: Makes the ids; True for random ones, False to turn this off.

    Raises:
        ConfigurationError: If it is neither a function nor a bool.
    """
    if not isinstance(make, bool) and not callable(make):
        msg = "send_request_ids takes a function without arguments, True or False."
        raise ConfigurationError(msg)
    observe.make_request_id = (_random_id if make else None) if isinstance(make, bool) else make


def _random_id() -> str:
    return str(uuid.uuid4())
