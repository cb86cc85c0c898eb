"""OpenTelemetry's SDK, set up for a run; the exporters read the rest of their variables themselves.

The providers are ours alone and not the process's: Prefect's own spans, which name what they like, stay out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from prometheus_client import CollectorRegistry, start_http_server

from wanbatch.errors import UsageError
from wanbatch.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from contextlib import ExitStack

    from wanbatch.settings import Exporters

_NAME = "wanbatch"


def provide(asked: Exporters, closing: ExitStack) -> Recorder:
    """Give a recorder whose records go where they are asked for; `closing` sends the last of them.

    Raises `UsageError` when the port that is to be scraped is taken.
    """
    resource = Resource.create() if asked.named else Resource.create({"service.name": _NAME})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    closing.callback(traces.shutdown)
    for name in asked.traces:
        exporter = ConsoleSpanExporter() if name == "console" else OTLPSpanExporter()
        traces.add_span_processor(BatchSpanProcessor(exporter))
    readers = [_reader(name, asked, closing) for name in asked.metrics]
    metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    closing.callback(metrics.shutdown)
    return Recorder(traces.get_tracer(_NAME), metrics.get_meter(_NAME))


def _reader(name: str, asked: Exporters, closing: ExitStack) -> MetricReader:
    if name == "prometheus":
        return _served(*asked.prometheus, closing)
    exporter = ConsoleMetricExporter() if name == "console" else OTLPMetricExporter()
    return PeriodicExportingMetricReader(exporter)


def _served(host: str, port: int, closing: ExitStack) -> MetricReader:
    """Serve metrics as Prometheus text, with a registry of their own."""
    registry = CollectorRegistry()
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(
            f"metrics can't be served on {host}:{port} ({error.strerror}); choose another --metrics-port"
        ) from None

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    closing.callback(close)
    return PrometheusMetricReader(registry=registry)
