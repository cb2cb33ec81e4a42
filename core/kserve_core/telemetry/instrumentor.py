"""The entry point that `opentelemetry-instrument` starts, so that a program is traced without a line in it."""

from __future__ import annotations

from typing import Any

from kserve_core import telemetry


class KServeInstrumentor:
    """Turns this package's telemetry on and off in the way OpenTelemetry's instrumentors do."""

    def instrument(self, **options: Any) -> None:
        """See `kserve_core.telemetry.instrument`; options it does not know are those of the agent itself."""
        known = ("tracer_provider", "meter_provider", "capture_content", "propagator")
        telemetry.instrument(**{name: options[name] for name in known if name in options})

    def uninstrument(self, **_options: Any) -> None:
        """See `kserve_core.telemetry.uninstrument`."""
        telemetry.uninstrument()
