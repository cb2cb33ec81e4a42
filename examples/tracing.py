"""What a program's calls look like in OpenTelemetry: spans and measurements, printed.

    python examples/tracing.py [--content]
    python examples/tracing.py --base-url https://llm-demo.apps.example.com/v1 --api-key …

Needs the packages `opentelemetry-sdk` and `langchain-core`. Without `--base-url` (or `KSERVE_BASE_URL`) an embedded
stand-in endpoint answers. A real program would give the SDK an exporter of its own, over OTLP for example.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from kserve_core import telemetry
from kserve_core.errors import KServeError


def show(spans: Any, reader: Any) -> None:
    """Prints what was recorded, children under their parents."""
    children: dict[Any, list[Any]] = {}
    for span in spans:
        children.setdefault(span.parent and span.parent.span_id, []).append(span)

    def print_below(parent: Any, depth: int) -> None:
        for span in children.get(parent, ()):
            took = (span.end_time - span.start_time) / 1e6
            print(f"{'  ' * depth}{span.name}  {took:.1f} ms")
            for name, value in sorted(span.attributes.items()):
                print(f"{'  ' * depth}    {name} = {value}")
            print_below(span.context.span_id, depth + 1)

    print_below(None, 0)
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                print(f"{metric.name}: {sum(point.count for point in metric.data.data_points)} measured")


def main(arguments: list[str] | None = None) -> int:
    """Runs the example; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--api-key")
    parser.add_argument("--content", action="store_true", help="record prompts and answers too")
    args = parser.parse_args(arguments)

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from langchain_kserve import ChatVLLM

    exporter, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(
        tracer_provider=provider,
        meter_provider=MeterProvider(metric_readers=[reader]),
        capture_content=args.content,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(telemetry.uninstrument)
        url = args.base_url
        if not url:
            from kserve_core.devserver import DevServer

            url = f"{stack.enter_context(DevServer()).url}/v1"
            print("No --base-url: an embedded stand-in endpoint answers.\n")
        try:
            model = ChatVLLM(base_url=url, api_key=args.api_key, max_tokens=64)
            with provider.get_tracer("example").start_as_current_span("a user's question"):
                model.invoke("What is a trace?")
                for _ in model.stream("And a span?"):
                    pass
        except KServeError as error:
            print(error, file=sys.stderr)
            return 1
    show(exporter.get_finished_spans(), reader)
    return 0


if __name__ == "__main__":
    sys.exit(main())
