"""An OpenTelemetry collector of our own on a loopback port: it takes OTLP over HTTP and keeps what came."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What was collected."""

    url: str
    payloads: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    points: dict[str, dict[tuple[tuple[str, Any], ...], Any]] = field(default_factory=dict)
    """The last point of each metric by its attributes: a number, or a histogram's count and sum."""
    units: dict[str, str] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        """Keep a request."""
        self.payloads.append(body)
        if path == "/v1/traces":
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(sent.resource.attributes))
                self.spans += [span for scope in sent.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (metric for scope in told.scope_metrics for metric in scope.metrics):
                    self._measure(metric)

    def _measure(self, metric: Any) -> None:
        self.units[metric.name] = metric.unit
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            if kind == "histogram":
                value: Any = (point.count, point.sum)
            else:
                value = getattr(point, point.WhichOneof("value"))
            of = tuple(sorted(attributes(point.attributes).items()))
            self.points.setdefault(metric.name, {})[of] = value

    def total(self, name: str, **where: Any) -> float:
        """Add up the points of a metric that have these attributes."""
        return sum(
            float(value)
            for of, value in self.points.get(name, {}).items()
            if where.items() <= dict(of).items()
        )


def attributes(pairs: Any) -> dict[str, Any]:
    """Give attributes as plain values."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect for a while."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collected.take(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collected = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
